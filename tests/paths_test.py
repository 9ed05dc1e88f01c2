"""Tests for paths."""

import importlib.util
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import paths

from tests import bucket


class KindsTest(parameterized.TestCase):

  @parameterized.parameters('run', '/a/run', 'C:/run', pathlib.Path('a:b'))
  def test_this_machine(self, path):
    self.assertEqual(paths.to_path(path), pathlib.Path(path))
    self.assertFalse(paths.is_remote(path))

  @parameterized.parameters('s3://a', 'http://host/run', 'gs:/bucket/run')
  def test_other_storage(self, path):
    with self.assertRaisesRegex(
        errors.UserError, f"DATA must be on this machine, .* is '{path}'. Mount"
    ):
      paths.to_path(path, 'DATA')

  @parameterized.parameters('gs://', 'gs:///')
  def test_no_bucket(self, path):
    with self.assertRaisesRegex(errors.UserError, 'must name a bucket'):
      paths.check(path)

  def test_needs_the_extra(self):
    find = importlib.util.find_spec
    with mock.patch.object(
        importlib.util, 'find_spec', lambda n: None if n == 'gcsfs' else find(n)
    ):
      with self.assertRaisesRegex(
          errors.UserError, r"^MODEL_DIR .*pip install 'musiclm_jax\[gcs\]'\.$"
      ) as caught:
        paths.to_path('gs://bucket/run', 'MODEL_DIR')
      paths.to_path('run')
    self.assertNotIn('\n', str(caught.exception))

  def test_folders_of_this_machine_alone(self):
    paths.check_local('run', '--output')
    with self.assertRaisesRegex(
        errors.UserError, '--output must be on this machine'
    ):
      paths.check_local('gs://bucket/run', '--output')

  def test_absolute(self):
    self.assertEqual(paths.absolute('a'), pathlib.Path('a').resolve())
    self.assertEqual(str(paths.absolute('gs://bucket/a')), 'gs://bucket/a')


class ContentTest(absltest.TestCase):
  """What is asked of a folder has the same answers wherever it is."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.bucket = bucket.start(cls)
    cls.here = cls.enterClassContext(tempfile.TemporaryDirectory())

  def test_folders(self):
    for root in (self.here, self.bucket):
      folder = paths.to_path(root) / 'folder'
      self.assertFalse(paths.is_there(folder))
      for name in ('a/b.txt', 'c.txt'):
        file = folder / name
        if isinstance(file, pathlib.Path):
          file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('three')
      self.assertTrue(paths.is_there(folder))
      self.assertEqual(
          [x.relative_to(folder).as_posix() for x in paths.files_in(folder)],
          ['a/b.txt', 'c.txt'],
      )
      self.assertEqual(paths.size(folder / 'c.txt'), 5)
      paths.remove_tree(folder / 'a')
      self.assertFalse(paths.is_there(folder / 'a'))
      self.assertTrue(paths.is_there(folder / 'c.txt'))

  def test_what_others_write_is_seen(self):
    folder = paths.to_path(self.bucket) / 'shared'
    (folder / 'a').write_text('')
    self.assertLen(list(folder.iterdir()), 1)
    paths.upload(pathlib.Path(__file__), folder / 'b')
    client = paths.storage()
    client.call('DELETE', 'b/{}/o/{}', bucket.NAME, 'shared/a')
    self.assertEqual([x.name for x in folder.iterdir()], ['b'])


if __name__ == '__main__':
  absltest.main()
