"""Tests for t5x_checkpoints, and for what reads and writes them."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax.training import checkpoints
from musiclm_jax.training import export
from musiclm_jax.training import fine_tuning
from musiclm_jax.training import programs
from musiclm_jax.training import sharding
from musiclm_jax.training import t5x_checkpoints
import numpy as np
import optax

from tests.training import fake


def make_variables(level):
  return {
      'params': {'layer': {'kernel': np.full((2, 3), level, np.float32)}},
      'codebooks': {'codes': np.full(4, -level, np.float32)},
  }


class T5xCheckpointsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  @parameterized.parameters(True, False)
  def test_what_is_written_can_be_read(self, has_mutables):
    variables = make_variables(0.5)
    if not has_mutables:
      del variables['codebooks']
    path = t5x_checkpoints.write(self.folder, variables)
    self.assertEqual(path.name, 'checkpoint_0')
    self.assertEqual(t5x_checkpoints.complete_steps(self.folder), [0])
    restored = t5x_checkpoints.restore_variables(self.folder)
    jax.tree.map(np.testing.assert_array_equal, restored, variables)

  def test_the_last_step_counts(self):
    for step, level in ((9, 1), (10, 2)):
      t5x_checkpoints.write(self.folder, make_variables(level)).rename(
          self.folder / f'checkpoint_{step}'
      )
    # One that was not finished.
    (self.folder / 'checkpoint_11.orbax-checkpoint-tmp').mkdir()
    self.assertEqual(t5x_checkpoints.complete_steps(self.folder), [9, 10])
    restored = t5x_checkpoints.restore_variables(self.folder)
    self.assertEqual(restored['codebooks']['codes'][0], -2)

  def test_none_is_not_overwritten(self):
    t5x_checkpoints.write(self.folder, make_variables(1))
    with self.assertRaisesRegex(OSError, 'checkpoint_0 must be free'):
      t5x_checkpoints.write(self.folder, make_variables(2))

  def test_rejects_a_folder_without_checkpoints(self):
    for folder in (self.folder, self.folder / 'nowhere'):
      with self.assertRaisesRegex(ValueError, 'must hold a checkpoint of t5x'):
        t5x_checkpoints.restore_variables(folder)

  def test_rejects_a_damaged_checkpoint(self):
    path = t5x_checkpoints.write(self.folder, make_variables(1))
    (pathlib.Path(path) / 'state' / '_METADATA').write_text('{')
    with self.assertRaisesRegex(ValueError, 'must be a checkpoint of t5x'):
      t5x_checkpoints.restore_variables(self.folder)

  def test_export_reads_runs_of_both_trainers(self):
    ours, theirs = self.folder / 'ours', self.folder / 'theirs'
    with contextlib.closing(checkpoints.Checkpoints(ours)) as saved:
      saved.save(3, make_variables(3), {'count': np.zeros(())}, {})
    t5x_checkpoints.write(theirs, export.restore_variables(ours))
    restored = export.restore_variables(theirs)
    jax.tree.map(np.testing.assert_array_equal, restored, make_variables(3))

  def test_training_goes_on_from_a_run_of_t5x(self):
    model = fake.FakeModel(optax.adam(0.1))
    rows = fake.examples(8)
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    program = programs.Program(model, sharding.make_mesh(1), batch, 1, 7)
    state = program.initial_state()
    trained = jax.tree.map(lambda x: np.asarray(x) + 1, state.variables)
    t5x_checkpoints.write(self.folder, trained)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      state = fine_tuning.begin(model, state, self.folder)
    self.assertIn('begins from fake', printed.getvalue())
    jax.tree.map(np.testing.assert_array_equal, state.variables, trained)
    state, _, _ = program.train_step(state, batch)
    self.assertEqual(int(state.step), 1)


if __name__ == '__main__':
  absltest.main()
