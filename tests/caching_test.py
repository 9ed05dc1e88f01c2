"""Tests for caching."""

import os
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import paths

from tests import bucket


class LocalTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = paths.to_path(bucket.start(self)) / 'music'
    self.cache = self.enterContext(tempfile.TemporaryDirectory())
    self.enterContext(
        mock.patch.dict(os.environ, {'XDG_CACHE_HOME': self.cache})
    )
    (self.folder / 'a.txt').write_text('a')
    (self.folder / 'more' / 'b.txt').write_text('b')

  def content(self, folder):
    return {
        p.relative_to(folder).as_posix(): p.read_text()
        for p in folder.rglob('*.txt')
    }

  def test_this_machine(self):
    self.assertEqual(caching.local('a/b'), pathlib.Path('a/b'))

  def test_a_folder(self):
    copy = caching.local(self.folder)
    self.assertEqual(copy.name, 'music')
    self.assertEqual(self.content(copy), {'a.txt': 'a', 'more/b.txt': 'b'})

  def test_a_file(self):
    copy = caching.local(self.folder / 'more' / 'b.txt')
    self.assertEqual((copy.name, copy.read_text()), ('b.txt', 'b'))

  def test_is_copied_once(self):
    copy = caching.local(self.folder)
    with mock.patch.object(caching, '_copy', side_effect=AssertionError):
      self.assertEqual(caching.local(f'{self.folder}/'), copy)

  def test_what_changed_is_copied_anew(self):
    before = caching.local(self.folder)
    (self.folder / 'a.txt').write_text('c')  # Of the same size.
    self.assertEqual(self.content(caching.local(self.folder))['a.txt'], 'c')
    self.assertEqual(self.content(before)['a.txt'], 'a')

  def test_what_was_cut_off_is_copied_anew(self):
    with mock.patch.object(os.path, 'getsize', return_value=0):
      with self.assertRaisesRegex(errors.UserError, 'cut off on the way'):
        caching.local(self.folder)
    self.assertLen(self.content(caching.local(self.folder)), 2)

  def test_what_a_killed_process_left_is_removed(self):
    copy = caching.local(self.folder)
    left = copy.parent.with_name(f'{copy.parent.name}.1.unfinished')
    copy.parent.rename(left)
    self.assertEqual(caching.local(self.folder), copy)
    self.assertFalse(left.exists())

  def test_a_full_disk(self):
    usage = mock.Mock(free=1)
    with mock.patch.object(shutil, 'disk_usage', return_value=usage):
      with self.assertRaisesRegex(errors.UserError, 'free .*XDG_CACHE_HOME'):
        caching.local(self.folder)

  def test_nothing_there(self):
    with self.assertRaisesRegex(errors.NotFoundError, 'music/none'):
      caching.local(self.folder / 'none')
    with self.assertRaisesRegex(errors.UserError, 'gs://nobody'):
      caching.local('gs://nobody/music')


if __name__ == '__main__':
  absltest.main()
