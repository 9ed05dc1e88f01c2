"""A training that takes seconds, for drills of what goes wrong around it."""

import contextlib
import dataclasses
import io
import pathlib
import tempfile
import time

from absl.testing import parameterized
import jax
from jax.experimental.compilation_cache import compilation_cache
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
SCHEDULE = trainer.Schedule(
    20, eval_period=10, checkpoint_period=5, log_period=2
)


_cleanup = contextlib.ExitStack()


def setUpModule():
  """Compiles what the same tiny trainings have in common only once."""
  folder = _cleanup.enter_context(tempfile.TemporaryDirectory())
  for name, value in (
      ('jax_compilation_cache_dir', folder),
      ('jax_persistent_cache_min_compile_time_secs', 0.0),
  ):
    _cleanup.callback(jax.config.update, name, jax.config.values[name])
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def tearDownModule():
  _cleanup.close()
  compilation_cache.reset_cache()


def make_batches(count=37, batch_size=8, **options):
  return batches.Batches(
      fake.examples(count), lambda record, rng: record, batch_size, **options
  )


def make_model():
  return fake.FakeModel(optimizers.adamw(0.01, 5, 40), dropout=0.1)


def train(
    model_dir, train_batches=None, train_steps=20, log_period=2, **options
):
  """Trains; returns the last metrics and what was written to stderr."""
  options = {
      'model': make_model(),
      'eval_batches': make_batches(12, shuffle=False),
      'schedule': dataclasses.replace(
          SCHEDULE, train_steps=train_steps, log_period=log_period
      ),
      'tensorboard': False,
      **options,
  }
  stderr = io.StringIO()
  with contextlib.redirect_stderr(stderr):
    metrics = trainer.train(
        model_dir=model_dir,
        train_batches=train_batches or make_batches(),
        **options,
    )
  return metrics, stderr.getvalue()


def records(model_dir):
  return [
      {k: v for k, v in record.items() if k not in TIMES}
      for record in reports.read_metrics(model_dir)
  ]


class Acting(batches.Batches):
  """Does something once, when the batch at a position is asked for."""

  def __init__(self, position, action, **options):
    super().__init__(
        fake.examples(37), lambda record, rng: record, 8, **options
    )
    self._acts_at = position
    self._action = action

  def __next__(self):
    if self.position == self._acts_at:
      self._acts_at = None
      self._action()
    return super().__next__()


def wait_for_checkpoint(model_dir):
  while not checkpoints.complete_steps(model_dir):
    time.sleep(0.01)


class Drill(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.model_dir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())
    )

  def assert_same_run(self, one, other):
    self.assertEqual(records(one), records(other))
    jax.tree.map(
        np.testing.assert_array_equal,
        checkpoints.restore_variables(one),
        checkpoints.restore_variables(other),
    )

  def other_dir(self):
    return self.enterContext(tempfile.TemporaryDirectory())
