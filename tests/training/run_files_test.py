"""Tests for run_files."""

import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.training import run_files

RECORDS = [
    {'step': 1, 'split': 'train', 'loss': 3.5},
    {'step': 2, 'split': 'eval', 'loss': float('inf')},
]


class MetricsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.path = self.folder / run_files.METRICS

  def read(self):
    """Returns the records, and what was said."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      return run_files.read_metrics(self.folder), stderr.getvalue()

  def test_round_trip(self):
    run_files.write_metrics(self.folder, RECORDS[:1])
    run_files.append_metrics(self.folder, RECORDS[1])
    self.assertEqual(self.read(), (RECORDS, ''))

  def test_records_of_older_versions(self):
    self.path.write_text(''.join(json.dumps(r) + '\n' for r in RECORDS))
    self.assertEqual(self.read(), (RECORDS, ''))

  @parameterized.parameters(
      ('3.5', '8.5'), ('"loss"', '"lose"'), ('"crc"', '"crb"'), ('{', '')
  )
  def test_a_damaged_line_is_left_out_and_said(self, old, new):
    run_files.write_metrics(self.folder, RECORDS)
    self.path.write_text(self.path.read_text().replace(old, new, 1))
    records, said = self.read()
    self.assertEqual(records, RECORDS[1:])
    self.assertRegex(
        said, 'metrics.jsonl is damaged or cut off in line 1: left out'
    )

  def test_half_a_line_of_a_killed_run_is_told(self):
    run_files.write_metrics(self.folder, RECORDS)
    self.path.write_text(self.path.read_text()[:-9])
    records, said = self.read()
    self.assertEqual(records, RECORDS[:1])
    self.assertRegex(said, 'cut off in line 2: left out')

  def test_a_line_that_has_no_room_leaves_no_half(self):
    run_files.write_metrics(self.folder, RECORDS[:1])
    before = self.path.read_bytes()

    class Full(io.FileIO):

      def write(self, data):
        return super().write(data[:5])

    with mock.patch.object(
        run_files, 'open', lambda path, *_, **__: Full(path, 'a'), create=True
    ):
      with self.assertRaisesRegex(errors.WriteError, 'no room'):
        run_files.append_metrics(self.folder, RECORDS[1])
    self.assertEqual(self.path.read_bytes(), before)


class ConfigTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_is_whole(self):
    with self.assertRaisesRegex(errors.NotFoundError, 'musiclm train. writes'):
      run_files.check_config(self.folder)
    run_files.write_config(self.folder, 'A = 1')
    run_files.check_config(self.folder)
    path = self.folder / run_files.CONFIG
    path.write_text(path.read_text().replace('A = 1', 'A = 2'))
    with self.assertRaisesRegex(
        errors.UserError, 'damaged, edited or of an old'
    ):
      run_files.check_config(self.folder)

  def test_files_that_a_new_run_may_replace(self):
    run_files.check_unused(self.folder)
    run_files.write_config(self.folder, 'A = 1')
    run_files.check_unused(self.folder)
    run_files.write_metrics(self.folder, [])
    run_files.check_unused(self.folder)

  @parameterized.parameters('s3://a', 'http://a/b', 'gs:/a/b', 'gs://', '')
  def test_places_that_are_no_folders(self, path):
    with self.assertRaisesRegex(errors.UserError, 'MODEL_DIR must'):
      run_files.check_place('MODEL_DIR', path)

  @parameterized.parameters(
      'a/b', '/a', 'C:/a', pathlib.Path('a:b'), 'gs://a/b'
  )
  def test_places(self, path):
    run_files.check_place('MODEL_DIR', path)


if __name__ == '__main__':
  absltest.main()
