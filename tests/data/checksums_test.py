"""Tests for checksums."""

import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from etils import epath
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax.data import checksums

from tests import bucket

RECORDS = 'music-train.array_record-00000-of-00001'


class ChecksumsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = epath.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (self.dir / 'info.json').write_text('{"a": 1}')
    (self.dir / RECORDS).write_bytes(b'records')
    checksums.write(self.dir)

  def test_what_was_written_passes(self):
    checksums.check(self.dir)
    self.assertEqual(checksums.read(self.dir)[RECORDS], {'bytes': 7})

  def test_files_of_others_do_not_matter(self):
    (self.dir / 'notes.txt').write_text('mine')
    checksums.check(self.dir)

  @parameterized.parameters(
      ('info.json', b'{"a": 2}', 'info.json .* content has changed'),
      ('info.json', b'{}', 'info.json .* has 2 bytes instead of 8'),
      (RECORDS, b'record', f'{RECORDS} .* has 6 bytes instead of 7'),
      (checksums.NAME, b'{}', f'{checksums.NAME} .* damaged or was edited'),
      (checksums.NAME, b'', f'{checksums.NAME} .* cannot be read'),
  )
  def test_names_what_was_damaged(self, name, content, message):
    (self.dir / name).write_bytes(content)
    with self.assertRaisesRegex(errors.UserError, message):
      checksums.check(self.dir)

  def test_names_what_is_missing(self):
    (self.dir / 'info.json').unlink()
    with self.assertRaisesRegex(FileNotFoundError, 'info.json .* not there'):
      checksums.check(self.dir)

  def test_records_are_checked_by_those_who_read_them(self):
    (self.dir / RECORDS).write_bytes(b'recorts')
    checksums.check(self.dir)
    with self.assertRaisesRegex(errors.UserError, f'{RECORDS} .* hash'):
      with checksums.reading(self.dir / RECORDS):
        raise RuntimeError('hash mismatch')

  def test_sizes_in_a_bucket_take_one_request(self):
    folder = paths.to_path(bucket.start(self)) / 'music'
    (folder / 'info.json').write_text('{"a": 1}')
    for i in range(3):
      (folder / f'music-train.array_record-{i:05d}-of-00003').write_text('x')
    checksums.write(folder)
    with mock.patch.object(paths, 'size', side_effect=AssertionError):
      checksums.check(folder)
      (folder / 'music-train.array_record-00001-of-00003').write_text('xy')
      with self.assertRaisesRegex(errors.UserError, '2 bytes instead of 1'):
        checksums.check(folder)

  def test_older_datasets_have_none(self):
    (self.dir / checksums.NAME).unlink()
    self.assertEmpty(checksums.read(self.dir))
    checksums.check(self.dir)


if __name__ == '__main__':
  absltest.main()
