"""Tests for averaging."""

import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.data import batches
from musiclm_jax.training import averaging
from musiclm_jax.training import checkpoints
from musiclm_jax.training import optimizers
from musiclm_jax.training import programs
from musiclm_jax.training import reports
from musiclm_jax.training import sharding
from musiclm_jax.training import trainer
import numpy as np

from tests.training import fake

DECAY = 0.9


def make_batches(count=37, **kwargs):
  return batches.Batches(fake.examples(count), fake.make_example, 8, **kwargs)


def train(model_dir, train_steps, average_decay=DECAY, train_batches=None):
  return trainer.train(
      fake.FakeModel(optimizers.adamw(0.01, 5, 20), dropout=0.1),
      model_dir,
      train_batches or make_batches(),
      make_batches(12, shuffle=False),
      trainer.Schedule(train_steps, 10, 5, log_period=5),
      tensorboard=False,
      average_decay=average_decay,
  )


def kept(model_dir):
  """Returns what the last checkpoint holds: parameters and their average."""
  [step] = checkpoints.complete_steps(model_dir)[-1:]
  program = make_program()
  saved = checkpoints.Checkpoints(model_dir)
  abstract = program.abstract_state
  optimizer = {
      'state': abstract.opt_state,
      'counts': (abstract.step,) * 3,
  }
  try:
    return saved.restore(step, abstract.kept, optimizer)[0]
  finally:
    saved.close()


def make_program(num_microbatches=1, decay=DECAY):
  model = fake.FakeModel(optimizers.adamw(0.01, 5, 20))
  batch = next(make_batches())
  mesh = sharding.make_mesh()
  return programs.Program(
      model, mesh, batch, num_microbatches, 0, average_decay=decay
  )


class AveragingTest(parameterized.TestCase):

  @parameterized.parameters(1, 2)
  def test_follows_the_parameters_by_hand(self, num_microbatches):
    program, batch = make_program(num_microbatches), next(make_batches())
    state = program.initial_state()
    expected = np.asarray(state.params['wide']['kernel'])
    for step in range(12):
      state, _, _ = program.train_step(state, batch)
      kernel = np.asarray(state.params['wide']['kernel'])
      share = min(DECAY, (1 + step) / (10 + step))
      expected = share * expected + (1 - share) * kernel
    np.testing.assert_allclose(
        state.average['wide']['kernel'], expected, rtol=1e-5
    )
    self.assertFalse(np.array_equal(expected, kernel))

  def test_skipped_steps_leave_it_as_it_is(self):
    program, batch = make_program(), next(make_batches())
    state = program.initial_state()
    before = np.asarray(state.average['wide']['kernel'])
    state, _, _ = program.train_step(
        state, {**batch, 'y': np.full_like(batch['y'], np.nan)}
    )
    np.testing.assert_array_equal(state.average['wide']['kernel'], before)

  def test_is_evaluated(self):
    program, batch = make_program(), next(make_batches())
    state = program.initial_state()
    for _ in range(12):
      state, _, _ = program.train_step(state, batch)
    variables = averaging.averaged(state.kept)
    model = fake.FakeModel(optimizers.adamw(0.01, 5, 20))
    mutables = {'statistics': variables['statistics']}
    rows = {k: jnp.asarray(x) for k, x in batch.items()}
    expected, _ = model.eval_fn(variables['params'], rows, mutables)
    found = program.eval_step(state, batch)['loss'].compute()
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_is_off_by_default(self):
    for decay in (None, 0.0):
      state = make_program(decay=decay).abstract_state
      self.assertIsNone(state.average)
      self.assertNotIn(averaging.COLLECTION, state.kept)

  @parameterized.parameters(1.0, -0.1)
  def test_rejects(self, decay):
    with self.assertRaisesRegex(ValueError, f'below 1, .*but is {decay}'):
      make_program(decay=decay)


class CheckpointsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.whole = cls.enterClassContext(tempfile.TemporaryDirectory())
    train(cls.whole, 20)

  def setUp(self):
    super().setUp()
    self.model_dir = self.enterContext(tempfile.TemporaryDirectory())

  def test_ends_the_same_after_a_break(self):
    breaking = make_batches()
    batch_at = breaking.batch_at
    breaking.batch_at = lambda i: batch_at(i) if i != 12 else 1 / 0
    with self.assertRaises(ZeroDivisionError):
      train(self.model_dir, 20, train_batches=breaking)
    train(self.model_dir, 20)
    jax.tree.map(
        np.testing.assert_array_equal, kept(self.model_dir), kept(self.whole)
    )
    losses = [
        [r['loss'] for r in reports.read_metrics(d) if r['split'] == 'eval']
        for d in (self.model_dir, self.whole)
    ]
    self.assertEqual(*losses)

  def test_the_average_is_exported(self):
    held = kept(self.whole)
    exported = checkpoints.restore_variables(self.whole)
    self.assertNotIn(averaging.COLLECTION, exported)
    jax.tree.map(
        np.testing.assert_array_equal,
        exported['params'],
        held[averaging.COLLECTION],
    )
    self.assertFalse(
        np.array_equal(
            exported['params']['wide']['kernel'],
            held['params']['wide']['kernel'],
        )
    )

  def test_begins_with_the_parameters_of_a_run_without_one(self):
    train(self.model_dir, 5, average_decay=None)
    before = checkpoints.restore_variables(self.model_dir)['params']
    train(self.model_dir, 6)
    held = kept(self.model_dir)
    expected = jax.tree.map(
        lambda old, new: old * 6 / 15 + new * 9 / 15, before, held['params']
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        held[averaging.COLLECTION],
        expected,
    )

  def test_is_not_lost_by_turning_it_off(self):
    with self.assertRaisesRegex(ValueError, 'AVERAGE_DECAY must be set'):
      train(self.whole, 25, average_decay=None)

  def test_begins_where_fine_tuning_does(self):
    state = make_program().initial_state()
    moved = jax.tree.map(lambda x: x + 1, state.params)
    state = averaging.restart(state.replace(params=moved))
    jax.tree.map(np.testing.assert_array_equal, state.average, moved)
    self.assertIsInstance(jax.tree.leaves(state.average)[0], jnp.ndarray)


if __name__ == '__main__':
  absltest.main()
