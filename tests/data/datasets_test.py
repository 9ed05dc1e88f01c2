"""Tests for datasets."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax.data import datasets
import numpy as np
import tensorflow_datasets as tfds

from tests import bucket

FEATURES = {
    'tokens': tfds.features.Tensor(
        shape=(None, 2), dtype=np.int32, encoding='bytes'
    ),
    'captions': tfds.features.Sequence(tfds.features.Text()),
    'id': tfds.features.Text(),
    'start': tfds.features.Scalar(np.float32),
}


def example(i):
  return {
      'tokens': np.full((i, 2), i, np.int32),
      'captions': ['Für Elise', f'piece {i}'],
      'id': f'{i}',
      'start': i / 2,
  }


def examples(indices):
  return ((f'{i}', example(i)) for i in indices)


class DatasetsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = self.enterContext(tempfile.TemporaryDirectory())

  def write(self, indices=range(5), **kwargs):
    splits = {'train': examples(indices), 'test': examples([7])}
    return datasets.write_dataset('pairs', self.dir, splits, FEATURES, **kwargs)

  def files(self):
    return [p.name for p in pathlib.Path(self.dir).rglob('*') if p.is_file()]

  def test_reads_what_it_wrote(self):
    self.assertTrue(self.write())
    self.assertEqual(os.listdir(self.dir), ['pairs'])
    train = datasets.open_dataset('pairs', self.dir, 'train')
    self.assertLen(train, 5)
    self.assertCountEqual([e['id'] for e in train], list('01234'))
    for record in train:
      expected = example(int(record['id']))
      np.testing.assert_array_equal(
          record.pop('tokens'), expected.pop('tokens'), strict=True
      )
      self.assertEqual(record, expected)

  def test_sample_rate(self):
    self.write(metadata={'sample_rate': 32000})
    self.assertEqual(datasets.sample_rate(self.dir, 'pairs'), 32000)

  def test_datasets_of_before_do_not_say_their_sample_rate(self):
    self.write()
    self.assertEqual(datasets.sample_rate(self.dir, 'pairs'), 24000)

  def test_random_access(self):
    self.write()
    train = datasets.open_dataset('pairs', self.dir, 'train')
    self.assertEqual(train[np.int64(3)]['id'], train[-2]['id'])
    with self.assertRaises(IndexError):
      _ = train[5]

  def test_metadata_and_arrays(self):
    codebooks = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    metadata = {'lineage': {'mulan': 'abc'}}
    self.write(metadata=metadata, arrays={'codebooks': codebooks})
    self.assertEqual(datasets.read_metadata('pairs', self.dir), metadata)
    np.testing.assert_array_equal(
        datasets.read_array('pairs', self.dir, 'codebooks'), codebooks
    )

  def test_a_dataset_that_exists_is_left_alone(self):
    self.write()
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      self.assertFalse(self.write(indices=[1]))
    self.assertRegex(
        stderr.getvalue(), 'pairs/1.0.0 exists: nothing .* without --overwrite'
    )
    self.assertLen(datasets.open_dataset('pairs', self.dir, 'train'), 5)

  def test_overwrite(self):
    self.write()
    self.assertTrue(self.write(indices=[1], overwrite=True))
    self.assertLen(datasets.open_dataset('pairs', self.dir, 'train'), 1)

  def test_an_error_leaves_nothing(self):
    def broken():
      yield from examples([0])
      raise ValueError('song.wav is broken')

    splits = {'test': examples([1]), 'train': broken()}
    with self.assertRaisesRegex(ValueError, 'song.wav is broken'):
      datasets.write_dataset('pairs', self.dir, splits, FEATURES)
    self.assertFalse(datasets.dataset_exists('pairs', self.dir))
    self.assertEmpty(self.files())

  def test_a_killed_build_is_cleared_away(self):
    killed = pathlib.Path(self.dir) / 'pairs' / 'incomplete.ABCDEF_1.0.0'
    killed.mkdir(parents=True)
    (killed / 'half').write_text('half')
    self.assertFalse(datasets.dataset_exists('pairs', self.dir))
    self.assertTrue(self.write())
    self.assertEqual([p.name for p in killed.parent.iterdir()], ['1.0.0'])

  def test_rejects_an_empty_split(self):
    with self.assertRaisesRegex(ValueError, "'train'.*'pairs'.*is empty. Add"):
      self.write(indices=[])
    self.assertEmpty(self.files())

  def test_rejects_a_missing_dataset(self):
    with self.assertRaisesRegex(
        FileNotFoundError, "must hold the dataset 'pairs'.*Build it first"
    ):
      datasets.open_dataset('pairs', self.dir, 'train')

  def test_rejects_an_unknown_split(self):
    self.write()
    with self.assertRaisesRegex(ValueError, r"\['test', 'train'\].*'valid'"):
      datasets.open_dataset('pairs', self.dir, 'valid')

  def test_needs_neither_tensorflow_nor_beam(self):
    program = f"""
import sys
import numpy as np
import tensorflow_datasets as tfds
from musiclm_jax.data import datasets
features = {{'id': tfds.features.Text()}}
splits = {{'train': [('a', {{'id': 'a'}})]}}
datasets.write_dataset('texts', {self.dir!r}, splits, features)
assert datasets.open_dataset('texts', {self.dir!r}, 'train')[0] == {{'id': 'a'}}
heavy = {{'tensorflow', 'apache_beam', 'seqio', 'jax'}}
print(sorted(heavy & set(sys.modules)))
"""
    output = subprocess.run(
        [sys.executable, '-c', program],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    self.assertEqual(output.stdout.strip(), '[]')


class BucketTest(absltest.TestCase):
  """Datasets in a bucket, where nothing can be renamed or read at random."""

  def setUp(self):
    super().setUp()
    self.dir = bucket.start(self) + '/data'
    cache = self.enterContext(tempfile.TemporaryDirectory())
    self.enterContext(mock.patch.dict(os.environ, {'XDG_CACHE_HOME': cache}))

  def write(self, indices, **options):
    splits = {'train': examples(indices), 'test': examples([7])}
    return datasets.write_dataset(
        'pairs',
        self.dir,
        splits,
        FEATURES,
        metadata={'sample_rate': 8000},
        arrays={'codes': np.arange(3)},
        **options,
    )

  def test_reads_what_it_wrote(self):
    self.assertFalse(datasets.dataset_exists('pairs', self.dir))
    self.assertTrue(self.write(range(5)))
    self.assertFalse(self.write(range(5)))
    train = datasets.open_dataset('pairs', self.dir, 'train')
    self.assertCountEqual([e['id'] for e in train], list('01234'))
    self.assertEqual(datasets.sample_rate(self.dir, 'pairs'), 8000)
    np.testing.assert_array_equal(
        datasets.read_array('pairs', self.dir, 'codes'), np.arange(3)
    )
    others = [p.name for p in paths.files_in(paths.to_path(self.dir))]
    self.assertNotIn('.musiclm.lock', others)
    self.assertTrue(self.write([1], overwrite=True))
    train = datasets.open_dataset('pairs', self.dir, 'train')
    self.assertEqual([e['id'] for e in train], ['1'])

  def test_is_whole_or_not_there(self):
    upload = paths.upload

    def fail(file, path):
      if path.name == 'dataset_info.json':
        raise OSError('the network is down')
      upload(file, path)

    with mock.patch.object(paths, 'upload', fail):
      with self.assertRaisesRegex(errors.WriteError, 'the network is down'):
        self.write([1])
    self.assertFalse(datasets.dataset_exists('pairs', self.dir))
    self.assertTrue(self.write([2]))

  def test_damage(self):
    self.write([1])
    file = datasets.dataset_dir('pairs', self.dir) / 'codes.npy'
    file.write_bytes(file.read_bytes()[:-1] + b'x')
    with self.assertRaisesRegex(errors.UserError, 'codes.npy'):
      datasets.open_dataset('pairs', self.dir, 'train')

  def test_runners_elsewhere(self):
    with self.assertRaisesRegex(errors.UserError, 'FnApiRunner.*Dataflow'):
      self.write([1], runner='DataflowRunner')


if __name__ == '__main__':
  absltest.main()
