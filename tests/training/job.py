"""What the processes of a job do in `jobs_test`."""

import json
import sys
import time
from unittest import mock

import jax
from jax.sharding import Mesh
from musiclm_jax import errors
from musiclm_jax.cli import common
from musiclm_jax.cli import running
from musiclm_jax.data import batches
from musiclm_jax.training import optimizers
from musiclm_jax.training import programs
from musiclm_jax.training import sharding
import numpy as np

from tests.training import fake

BATCH_SIZE = 16
# Devices on the model axis, whether parameters are split over the data axis,
# and slices of the devices: meshes of four devices.
MESHES = {
    'model': (2, False, 1),
    'fsdp': (1, True, 1),
    'hybrid': (2, False, 2),
}


class Sliced:
  """A device that says it is of a slice, as those of the CPU do not."""

  def __init__(self, device, slice_index):
    self.device, self.slice_index = device, slice_index

  def __getattr__(self, name):
    return getattr(self.device, name)


def make_mesh(num_model_partitions, num_slices):
  """Returns the mesh that `sharding` makes of so many slices.

  Slices are spread over processes, so that the rows of one are not contiguous,
  and a model axis spans two.
  """
  sliced = [Sliced(d, i % num_slices) for i, d in enumerate(jax.devices())]
  arranged = sharding.arrange(sliced, num_model_partitions)
  devices = np.vectorize(lambda d: d.device, otypes=[object])(arranged)
  return Mesh(devices, sharding.AXES)


def make_example(record, rng):
  """Adds noise, so that each row of each batch is another."""
  time.sleep(0.03)  # A job that is waited for takes few steps.
  noise = rng.normal(size=4).astype(np.float32)
  return {'x': record['x'] + noise, 'y': record['y']}


def make_batches():
  return batches.Batches(fake.examples(37), make_example, BATCH_SIZE)


def make_model():
  return fake.FakeModel(optimizers.adamw(0.01, 5, 40), dropout=0.1)


def two_steps(mesh, fsdp=False):
  """Returns the loss and the norm of the gradients of two steps."""
  made = make_batches()
  made.place(sharding.rows_of_processes(mesh, BATCH_SIZE))
  specs = {
      name: jax.ShapeDtypeStruct((BATCH_SIZE, *x.shape[1:]), x.dtype)
      for name, x in made.batch_at(0).items()
  }
  program = programs.Program(
      make_model(), mesh, specs, 1, 0, sharding.rules(fsdp)
  )
  state, found = program.initial_state(), []
  for position in range(2):
    state, metrics, _ = program.train_step(state, made.batch_at(position))
    found += [float(metrics[n].compute()) for n in ('loss', 'gradient_norm')]
  return found


def on_meshes():
  """Returns the result of `two_steps` on each mesh, and what `jobs` refuses."""
  from musiclm_jax.training import jobs  # pylint: disable=g-import-not-at-top

  found = {}
  for name, (partitions, fsdp, num_slices) in MESHES.items():
    found[name] = two_steps(make_mesh(partitions, num_slices), fsdp)
  index = jax.process_index()
  rows = {'x': np.array([[index]])}
  for name, check in (
      ('decided', lambda: jobs.decided(lambda: index)),
      ('same', lambda: jobs.check_same('a', 'not {}')),
      ('not_same', lambda: jobs.check_same(index, 'not {}')),
      ('rows', lambda: jobs.check_rows([index], rows, jax.process_count())),
      ('other_rows', lambda: jobs.check_rows([0], rows, 1)),
  ):
    try:
      found[name] = check()
    except ValueError as e:
      found[name] = str(e)
  return found


def train(model_dir, train_steps):
  """Trains, and saves only when it is told to end."""
  from musiclm_jax.training import trainer  # pylint: disable=g-import-not-at-top

  trainer.train(
      make_model(),
      model_dir,
      make_batches(),
      None,
      trainer.Schedule(train_steps, checkpoint_period=10_000, log_period=1),
      trainer.Partitioning(num_model_partitions=2),
      tensorboard=False,
  )


def work(verb, *arguments):
  """Does what the command line says; returns the exit status."""
  common.join_job()
  if verb == 'meshes':
    print(json.dumps(on_meshes()))
  else:
    model_dir, train_steps = arguments
    try:
      train(model_dir, int(train_steps))
    except errors.Preempted as e:
      print(e)
  return 0


if __name__ == '__main__':
  # As the command ends a process of a job.
  with mock.patch.object(running, 'main', lambda: work(*sys.argv[1:])):
    running.script()
