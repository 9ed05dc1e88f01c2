"""Drills of training: files of users, damaged files, and full disks."""

import contextlib
import io
import json
import os
import pathlib
import resource
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.training import checkpoints
from musiclm_jax.training import gin_flags
from musiclm_jax.training import reports
import numpy as np

from tests.drills import training_drill

setUpModule = training_drill.setUpModule
tearDownModule = training_drill.tearDownModule


class NothingIsDeletedTest(training_drill.Drill):
  """What a user has is never deleted.

  Siblings: a folder, a file, a link, a folder or a file named like a step, a
  file in a checkpoint; config.gin and metrics.jsonl of something else.
  """

  def test_what_lies_among_checkpoints(self):
    training_drill.train(self.model_dir, train_steps=5)
    folder = self.model_dir / 'checkpoints'
    other = pathlib.Path(self.other_dir())
    (other / 'a').write_text('a')
    mine = ['100_backup/weights', 'notes.txt', '77/notes.txt', '007/a']
    mine.append('5/notes.txt')  # A checkpoint that would be old enough.
    for name in mine:
      (folder / name).parent.mkdir(exist_ok=True)
      (folder / name).write_text('mine')
    (folder / 'link').symlink_to(other)
    (folder / '88').symlink_to(other)
    # What killed runs leave.
    (folder / '10.orbax-checkpoint-tmp' / 'variables').mkdir(parents=True)
    (folder / '10' / 'variables').mkdir(parents=True)
    (folder / '10' / '_CHECKPOINT_METADATA').write_text('{}')
    _, stderr = training_drill.train(self.model_dir, train_steps=20)
    for name in mine:
      self.assertEqual((folder / name).read_text(), 'mine')
    self.assertEqual((other / 'a').read_text(), 'a')
    self.assertTrue((folder / 'link').is_symlink())
    self.assertFalse((folder / '10.orbax-checkpoint-tmp').exists())
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 15, 20])
    self.assertRegex(stderr, 'checkpoints/77 is no checkpoint .* left alone')

  def test_a_name_that_is_taken(self):
    folder = self.model_dir / 'checkpoints'
    folder.mkdir()
    (folder / '10').write_text('mine')
    with self.assertRaisesRegex(
        errors.UserError, 'checkpoints/10 must be free'
    ):
      training_drill.train(self.model_dir)
    self.assertEqual((folder / '10').read_text(), 'mine')

  @parameterized.parameters('config.gin', 'metrics.jsonl')
  def test_files_of_something_else(self, name):
    (self.model_dir / name).write_text('MODEL = 3\n')
    with self.assertRaisesRegex(errors.UserError, f'{name} must be free'):
      training_drill.train(self.model_dir, describe_config=lambda: 'a = 1')
    self.assertEqual((self.model_dir / name).read_text(), 'MODEL = 3\n')


class BitsTest(training_drill.Drill):
  """A damaged file of a run is refused by its name, or does no harm."""

  def damaged(self, path):
    """Yields after each flip of a bit and each cut of a file."""
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(len(good), size=6):
      bad = bytearray(good)
      bad[position] ^= 1 << rng.integers(8)
      path.write_bytes(bad)
      yield
    for size in (0, len(good) // 2, len(good) - 1):
      path.write_bytes(good[:size])
      yield
    path.write_bytes(good)

  def test_checkpoints(self):
    training_drill.train(self.model_dir, train_steps=10)
    step = self.model_dir / 'checkpoints' / '10'
    paths = [p for p in step.rglob('*') if p.is_file() and p.stat().st_size]
    self.assertIn(step / 'checksums.json', paths)
    for path in paths:
      for _ in self.damaged(path):
        with self.assertRaisesRegex(
            errors.UserError, f'{path.name}.*Delete .*/10 to go on from step 5'
        ):
          checkpoints.restore_variables(self.model_dir)
    checkpoints.restore_variables(self.model_dir)

  def test_checksums_of_older_versions(self):
    training_drill.train(self.model_dir, train_steps=5)
    path = self.model_dir / 'checkpoints' / '5' / 'checksums.json'
    path.write_text(json.dumps(json.loads(path.read_text())['files']))
    checkpoints.restore_variables(self.model_dir)

  def test_metrics(self):
    training_drill.train(self.model_dir, train_steps=10)
    good = reports.read_metrics(self.model_dir)
    for _ in self.damaged(self.model_dir / 'metrics.jsonl'):
      stderr = io.StringIO()
      with contextlib.redirect_stderr(stderr):
        told = reports.read_metrics(self.model_dir)
      for record in told:
        self.assertIn(record, good)
      if told != good[: len(told)]:
        self.assertIn(
            'metrics.jsonl is damaged or cut off in line', stderr.getvalue()
        )

  def test_config(self):
    training_drill.train(
        self.model_dir, train_steps=5, describe_config=lambda: 'A = 1\n' * 9
    )
    for _ in self.damaged(self.model_dir / 'config.gin'):
      with self.assertRaisesRegex(
          errors.UserError, 'config.gin must be as|read'
      ):
        gin_flags.parse_run(self.model_dir, {})


class FullDiskTest(training_drill.Drill):

  def test_the_last_checkpoint_stays(self):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():  # Less than an array of the checkpoint takes.
      training_drill.wait_for_checkpoint(self.model_dir)
      resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))

    try:
      with self.assertRaisesRegex(
          errors.WriteError,
          'checkpoint of step 10 must be written .*File too large. Step 5 is'
          ' safe.*run the same command',
      ):
        training_drill.train(self.model_dir, training_drill.Acting(7, fill))
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
    folder = self.model_dir / 'checkpoints'
    self.assertEqual(os.listdir(folder), ['5'])
    training_drill.train(self.model_dir)

  def test_a_save_that_failed_is_told_at_once(self):
    seal = 'musiclm_jax.training.step_folders.seal'
    batch = training_drill.Acting(100, None)
    with mock.patch(seal, side_effect=OSError(28, 'No space left on device')):
      with self.assertRaisesRegex(errors.WriteError, 'step 5 .*No step is sav'):
        training_drill.train(
            self.model_dir, batch, train_steps=4000, eval_batches=None
        )
    self.assertLess(batch.position, 4000)


if __name__ == '__main__':
  absltest.main()
