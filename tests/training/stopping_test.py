"""Tests for stopping."""

import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax.data import batches
from musiclm_jax.training import checkpoints
from musiclm_jax.training import export
from musiclm_jax.training import optimizers
from musiclm_jax.training import reports
from musiclm_jax.training import stopping
from musiclm_jax.training import trainer
import numpy as np

from tests.training import fake

# Held-out losses of evaluations in turn.
LOSSES = (3.0, 1.0, 2.0, 1.5, 1.2, 0.5)


class FakeLosses(fake.FakeModel):
  """Its held-out loss is read from the examples."""

  def eval_fn(self, params, batch, flax_mutables=None):
    del params, flax_mutables
    return batch['y'][0], {}


class HeldOut(batches.Batches):
  """Batches of one evaluation after another."""

  def __init__(self, losses):
    records = [{'x': np.zeros(4, np.float32), 'y': np.float32(0)}] * 8
    super().__init__(records, fake.make_example, 8, shuffle=False)
    self.losses = losses

  def __next__(self):
    batch = super().__next__()
    return {**batch, 'y': np.full(8, self.losses.pop(0), np.float32)}


def train(model_dir, losses=LOSSES, patience=3, train_steps=60, **kwargs):
  train_batches = batches.Batches(fake.examples(37), fake.make_example, 8)
  return trainer.train(
      FakeLosses(optimizers.adamw(0.01, 5, 60), **kwargs),
      model_dir,
      train_batches,
      None if losses is None else HeldOut(list(losses)),
      trainer.Schedule(train_steps, 4, 2, log_period=2, patience=patience),
      tensorboard=False,
  )


def evaluations(model_dir):
  return [
      (r['step'], r['loss'])
      for r in reports.read_metrics(model_dir)
      if r['split'] == 'eval'
  ]


class PatienceTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.whole = cls.enterClassContext(tempfile.TemporaryDirectory())
    train(cls.whole)

  def setUp(self):
    super().setUp()
    self.model_dir = self.enterContext(tempfile.TemporaryDirectory())

  def test_counts_since_the_best(self):
    patience = stopping.Patience(2)
    told = []
    for step, loss in enumerate((3.0, 2.0, 2.0, 1.0, float('nan'), 4.0), 1):
      patience.add(step, {'loss': loss})
      told.append((patience.best, patience.is_over))
    expected = [(1, 0), (2, 0), (2, 0), (4, 0), (4, 0), (4, 1)]
    self.assertEqual(told, expected)

  def test_goes_by_what_a_codec_reconstructs(self):
    patience = stopping.Patience(2)
    patience.add(1, {'loss': 1.0, 'reconstruction_loss': 2.0})
    patience.add(2, {'loss': 5.0, 'reconstruction_loss': 1.0})
    self.assertEqual(patience.best, 2)

  def test_ends_early_and_keeps_the_best(self):
    # No better than at step 8 three times in a row.
    self.assertEqual(
        [step for step, _ in evaluations(self.whole)], [4, 8, 12, 16, 20]
    )
    self.assertEqual(checkpoints.complete_steps(self.whole), [8, 18, 20])
    self.assertEqual(stopping.best_step(self.whole), (8, 1.0))

  def test_a_run_that_ended_stays_so_unless_it_may_go_on(self):
    shutil.copytree(self.whole, self.model_dir, dirs_exist_ok=True)
    train(self.model_dir, losses=())
    self.assertEqual(evaluations(self.model_dir), evaluations(self.whole))
    train(self.model_dir, losses=[0.9], patience=4, train_steps=24)
    self.assertEqual(stopping.best_step(self.model_dir)[0], 24)

  def test_ends_the_same_after_a_break(self):
    train_batches = batches.Batches(fake.examples(37), fake.make_example, 8)
    batch_at = train_batches.batch_at
    train_batches.batch_at = lambda i: batch_at(i) if i != 17 else 1 / 0
    held_out = HeldOut(list(LOSSES))
    run = lambda given: trainer.train(
        FakeLosses(optimizers.adamw(0.01, 5, 60)),
        self.model_dir,
        given,
        held_out,
        trainer.Schedule(60, 4, 2, log_period=2, patience=3),
        tensorboard=False,
    )
    with self.assertRaises(ZeroDivisionError):
      run(train_batches)
    # Evaluations after the last checkpoint are made again.
    seen = len(evaluations(self.model_dir))
    held_out.losses = list(LOSSES)[seen:]
    run(batches.Batches(fake.examples(37), fake.make_example, 8))
    self.assertEqual(evaluations(self.model_dir), evaluations(self.whole))
    for step in checkpoints.complete_steps(self.whole):
      jax.tree.map(
          np.testing.assert_array_equal,
          checkpoints.restore_variables(self.model_dir, step),
          checkpoints.restore_variables(self.whole, step),
      )

  def test_export_takes_the_best(self):
    output = self.enterContext(tempfile.TemporaryDirectory())
    best = checkpoints.restore_variables(self.whole, 8)
    with absltest.mock.patch.object(
        export, 'read_audio', return_value=iter(())
    ), absltest.mock.patch.object(export, 'sources_of', return_value=None):
      model = FakeLosses(optimizers.adamw(0.01, 5, 60))
      kept = {}
      model.export = lambda variables, *_: kept.update(variables) or 'sha'
      export.export(model, self.whole, '', output, 'float32', best=True)
    jax.tree.map(np.testing.assert_array_equal, kept, best)

  def test_rejects_what_nothing_can_end(self):
    with self.assertRaisesRegex(ValueError, 'PATIENCE must be None where'):
      train(self.model_dir, losses=None)
    with self.assertRaisesRegex(ValueError, 'patience must be a whole number'):
      train(self.model_dir, patience=0)
    with self.assertRaisesRegex(ValueError, 'hold a checkpoint that was'):
      stopping.best_step(self.model_dir)


if __name__ == '__main__':
  absltest.main()
