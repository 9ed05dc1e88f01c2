"""Tests for trainer."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax.data import batches
from musiclm_jax.training import checkpoints
from musiclm_jax.training import optimizers
from musiclm_jax.training import reports
from musiclm_jax.training import trainer
import numpy as np

from tests.training import fake

TIMES = (
    'steps_per_second',
    'examples_per_second',
    'flops_per_second',
    'waiting_for_data',
)

# Runs `train` in a process of its own, slowly enough to be killed halfway.
SCRIPT = """
import json, sys, time
import jax
from musiclm_jax.data import batches
from musiclm_jax.training import optimizers, trainer
from tests.training import fake

if len(sys.argv) > 2:
  address, count, index = sys.argv[2:]
  jax.distributed.initialize(address, int(count), int(index))

def make_example(record, rng):
  time.sleep(0.002)
  return record

def main(model_dir, train_steps, num_model_partitions):
  trainer.train(
      fake.FakeModel(optimizers.adamw(0.01, 5, 40), dropout=0.1),
      model_dir,
      batches.Batches(fake.examples(37), make_example, 8),
      batches.Batches(fake.examples(12), make_example, 8, shuffle=False),
      trainer.Schedule(train_steps, 10, 5, log_period=2),
      trainer.Partitioning(num_model_partitions),
      tensorboard=False)

for run in json.loads(sys.argv[1]):
  main(*run)
"""


def start(*runs, devices=1, job=()):
  """Starts a process that trains (model_dir, steps, model partitions).

  Args:
    *runs: To train, in turn.
    devices: Of the process.
    job: Address of the first process, number and index of this one.
  """
  return subprocess.Popen(
      [sys.executable, '-c', SCRIPT, json.dumps(runs), *map(str, job)],
      env={
          'PYTHONPATH': str(pathlib.Path(trainer.__file__).parents[2]),
          'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
          'JAX_PLATFORMS': 'cpu',
      },
      stderr=subprocess.PIPE,
  )


def finish(process):
  errors = process.communicate()[1].decode()
  assert process.returncode == 0, errors


class Broken(BaseException):
  """Nothing handles it."""


class BreakingBatches(batches.Batches):
  """Raises at a position, as a machine that is switched off."""

  def __init__(self, break_at, records, batch_size):
    super().__init__(records, lambda record, rng: record, batch_size)
    self._break_at = break_at

  def __next__(self):
    if self.position == self._break_at:
      raise Broken
    return super().__next__()


def make_batches(count=37, **kwargs):
  return batches.Batches(
      fake.examples(count), lambda record, rng: record, 8, **kwargs
  )


def train(
    model_dir,
    train_batches=None,
    train_steps=40,
    max_skipped_steps=10,
    **kwargs,
):
  return trainer.train(
      fake.FakeModel(optimizers.adamw(0.01, 5, 40), dropout=0.1),
      model_dir,
      train_batches or make_batches(),
      make_batches(12, shuffle=False),
      trainer.Schedule(
          train_steps,
          eval_period=10,
          checkpoint_period=5,
          log_period=2,
          max_skipped_steps=max_skipped_steps,
      ),
      tensorboard=False,
      **kwargs,
  )


def records(model_dir):
  return [
      {k: v for k, v in r.items() if k not in TIMES}
      for r in reports.read_metrics(model_dir)
  ]


class TrainTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.model_dir = self.enterContext(tempfile.TemporaryDirectory())

  def assert_same_run(self, one, other):
    self.assertEqual(records(one), records(other))
    jax.tree.map(
        np.testing.assert_array_equal,
        checkpoints.restore_variables(one),
        checkpoints.restore_variables(other),
    )

  def test_learns(self):
    metrics = train(self.model_dir, train_steps=100)
    losses = [r['loss'] for r in records(self.model_dir) if 'loss' in r]
    self.assertLess(metrics['eval/loss'], losses[0] / 3)
    self.assertEqual(metrics['eval/loss'], losses[-1])

  def test_reports_each_step_once(self):
    train(self.model_dir)
    steps = [(r['step'], r['split']) for r in records(self.model_dir)]
    # The first, every second step, those of checkpoints, and evaluations.
    logged = sorted({1, *range(2, 41, 2), *range(5, 41, 5)})
    expected = [(s, 'train') for s in logged]
    expected += [(s, 'eval') for s in (10, 20, 30, 40)]
    self.assertCountEqual(steps, expected)

  def test_ends_the_same_after_breaks(self):
    # Before a checkpoint, at one, and after it was gone past and resumed.
    whole = self.enterContext(tempfile.TemporaryDirectory())
    train(whole)
    for break_at in (3, 5, 28):
      breaking = BreakingBatches(break_at, fake.examples(37), 8)
      with self.assertRaises(Broken):
        train(self.model_dir, breaking)
    train(self.model_dir)
    self.assert_same_run(self.model_dir, whole)

  def test_ends_the_same_after_sigkill(self):
    whole = self.enterContext(tempfile.TemporaryDirectory())
    train(whole)
    rng = np.random.default_rng()
    for after_steps in (6, 22):
      process = start((self.model_dir, 40, 1))
      self.wait_for_step(process, after_steps)
      time.sleep(rng.uniform(0, 0.3))
      process.send_signal(signal.SIGKILL)
      process.communicate()
      self.assertEqual(process.returncode, -signal.SIGKILL)
    finish(start((self.model_dir, 40, 1)))
    self.assert_same_run(self.model_dir, whole)

  def wait_for_step(self, process, step):
    while process.poll() is None:
      told = reports.read_metrics(self.model_dir)
      if told and told[-1]['step'] >= step:
        return
      time.sleep(0.01)
    self.fail(process.communicate()[1].decode())

  def test_meshes_agree_and_restore_each_other(self):
    """8 devices as 8 × 1 and 4 × 2, and half a run each on 1 and 4 × 2."""
    dirs = [self.enterContext(tempfile.TemporaryDirectory()) for _ in range(3)]
    train(self.model_dir, train_steps=20)
    train(dirs[2], train_steps=10)
    runs = [(dirs[0], 20, 1), (dirs[1], 20, 2), (dirs[2], 20, 2)]
    finish(start(*runs, devices=8))
    expected = checkpoints.restore_variables(self.model_dir)
    for model_dir in dirs:
      jax.tree.map(
          lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
          checkpoints.restore_variables(model_dir),
          expected,
      )

  def test_two_processes_train_as_one_and_go_on_alone(self):
    whole = self.enterContext(tempfile.TemporaryDirectory())
    finish(start((whole, 10, 1), (whole, 20, 1), devices=2))
    with socket.socket() as free:
      free.bind(('localhost', 0))
      address = f'localhost:{free.getsockname()[1]}'
    run = (self.model_dir, 10, 1)
    job = [start(run, job=(address, 2, index)) for index in range(2)]
    for process in job:
      finish(process)
    finish(start((self.model_dir, 20, 1), devices=2))
    self.assert_same_run(self.model_dir, whole)

  def test_a_finished_run_says_so_and_reads_no_batch(self):
    metrics = train(self.model_dir, train_steps=10)
    nothing = BreakingBatches(0, fake.examples(1), 8)
    self.assertEqual(train(self.model_dir, nothing, train_steps=10), metrics)

  def test_train_steps_may_grow_but_not_shrink(self):
    train(self.model_dir, train_steps=10)
    with self.assertRaisesRegex(ValueError, 'at least 10, .*but is 9'):
      train(self.model_dir, train_steps=9)
    train(self.model_dir, train_steps=12)
    self.assertEqual(records(self.model_dir)[-1]['step'], 12)

  def test_half_a_line_of_metrics_is_dropped(self):
    train(self.model_dir, train_steps=10)
    path = pathlib.Path(self.model_dir) / reports.METRICS
    with open(path, 'a') as f:
      f.write('{"step": 12, "spl')
    train(self.model_dir, train_steps=12)
    lines = path.read_text().splitlines()
    self.assertEqual(json.loads(lines[-1])['step'], 12)

  def bad_batches(self, *bad):
    """Returns batches of which those at the positions `bad` hold a NaN."""
    source = make_batches()
    batch_at = source.batch_at

    def break_batch(position):
      batch = batch_at(position)
      if position in bad:
        batch['y'][0] = np.nan
      return batch

    source.batch_at = break_batch
    return source

  def test_skips_bad_steps_and_counts_them(self):
    train(self.model_dir, self.bad_batches(3, 4), train_steps=10)
    told = {
        r['step']: r for r in records(self.model_dir) if r['split'] == 'train'
    }
    self.assertEqual(told[4]['skipped_steps'], 1)
    self.assertEqual(told[5]['skipped_steps'], 1)
    self.assertEqual(told[6]['skipped_steps'], 0)
    self.assertNotIn('loss', told[5])
    self.assertTrue(np.isfinite(told[4]['loss']))

  def test_stops_after_too_many_bad_steps(self):
    with self.assertRaisesRegex(
        FloatingPointError, 'NaN or inf in 3 steps in a row.*learning rate'
    ):
      train(self.model_dir, self.bad_batches(11, 12, 13), max_skipped_steps=3)
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 10])
    # What stopped it can be read afterwards.
    skipped = [r.get('skipped_steps', 0) for r in records(self.model_dir)]
    self.assertEqual(sum(skipped), 3)

  def test_rejects_microbatches_of_a_contrastive_loss(self):
    model = fake.FakeModel(optimizers.adamw(0.01, 5, 40))
    model.supports_microbatches = False
    with self.assertRaisesRegex(ValueError, "must be 1 for 'fake'.*but is 2"):
      trainer.train(
          model,
          self.model_dir,
          make_batches(),
          None,
          trainer.Schedule(4),
          trainer.Partitioning(num_microbatches=2),
      )

  def test_rejects_a_batch_that_cannot_be_divided(self):
    with self.assertRaisesRegex(ValueError, 'multiple of 3 .*but is 8'):
      partitioning = trainer.Partitioning(num_microbatches=3)
      train(self.model_dir, partitioning=partitioning)

  def test_rejects_devices_that_cannot_be_divided(self):
    with self.assertRaisesRegex(ValueError, 'divide the 1 devices, but is 2'):
      train(self.model_dir, partitioning=trainer.Partitioning(2))

  def test_keeps_the_config(self):
    train(self.model_dir, train_steps=2, describe_config=lambda: 'a = 1\n')
    path = pathlib.Path(self.model_dir) / 'config.gin'
    self.assertRegex(path.read_text(), '^a = 1\n# sha256 of the above: .*\n$')


if __name__ == '__main__':
  absltest.main()
