"""Tests that mixtures are the same in seqio and without TensorFlow."""

import itertools
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
from musiclm_jax.data import batches
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.data import mixing
from musiclm_jax.data import mixtures
from musiclm_jax.data import token_dataset
from musiclm_jax.tasks import music
import numpy as np
import seqio

LENGTHS = {'audio': 4}
SIZES = {'music': 5, 'other': 8}


def write_music(data_dir, level, count):
  """Writes clips that are a constant, by which they are recognized."""
  splits = {
      split: [
          (
              f'{split}{i}',
              {
                  **{k: '' for k in ('title', 'source', 'license', 'key')},
                  **{k: np.zeros(0, np.int8) for k in ('melody', 'chords')},
                  'audio': np.full(8, level + i, np.int16),
                  'captions': ['x'],
                  'caption_weights': np.ones(1, np.float32),
                  'id': f'{split}{i}',
                  'work': f'{split}{i}',
                  'start': np.float32(0),
                  'beats': np.zeros((0, 3), np.float32),
                  'families': np.zeros(
                      (0, *corpora.features()['families'].shape[1:]), np.int8
                  ),
                  'facts': '',
              },
          )
          for i in range(count)
      ]
      for split in token_dataset.SPLITS
  }
  datasets.write_dataset('music', data_dir, splits, corpora.features())


def levels(rows):
  """Returns the level of each example: 1000 times its corpus + its record."""
  return [round(float(row['audio'][0]) * 32767) for row in rows]


class MixturesTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folders = {}
    for number, (name, count) in enumerate(SIZES.items()):
      cls.folders[name] = tempfile.mkdtemp()
      cls.addClassCleanup(shutil.rmtree, cls.folders[name])
      write_music(cls.folders[name], 1000 * number, count)
    cls.names = music.add_corpus('other', cls.folders['other'])
    music.add_mixture('both_codec', {'other_codec': 1, 'music_codec': 2})

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    gin.bind_parameter('settings.data_dir', self.folders['music'])

  def numpy_rows(self, name='both_codec', **kwargs):
    iterator = batches.task_batches(
        name, LENGTHS, 'train', 4, self.folders['music'], **kwargs
    )
    for batch in iterator:
      yield from ({'audio': audio} for audio in batch['audio'])

  def seqio_rows(self, name='both_codec', **kwargs):
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        LENGTHS, 'train', **{'seed': 0, **kwargs}
    )
    return dataset.as_numpy_iterator()

  def test_two_to_one_over_3000_examples_in_both_paths(self):
    orders = []
    for rows in (self.numpy_rows(), self.seqio_rows()):
      corpus = np.array(levels(itertools.islice(rows, 3000))) // 1000
      np.testing.assert_array_equal(np.bincount(corpus), [2000, 1000])
      orders.append(corpus)
    # Even the corpus of each single example is the same.
    np.testing.assert_array_equal(*orders)

  def test_an_epoch_without_shuffling_is_the_same_in_both_paths(self):
    expected = levels(self.seqio_rows(shuffle=False, num_epochs=1))
    found = levels(self.numpy_rows(shuffle=False))
    # The last batch is filled up from the start.
    self.assertEqual(found[: len(expected)], expected)
    self.assertLess(len(found) - len(expected), 4)
    self.assertLen(expected, mixing.Schedule((2, 1)).length((5, 8)))

  def test_the_trainer_reads_the_mixture_of_seqio(self):
    from_seqio = batches.SeqioBatches('both_codec', LENGTHS, 'train', 3)
    counts = np.zeros(2, int)
    for batch in itertools.islice(from_seqio, 20):
      rows = [{'audio': audio} for audio in batch['audio']]
      counts += np.bincount(np.array(levels(rows)) // 1000, minlength=2)
    np.testing.assert_array_equal(counts, [40, 20])

  def test_seqio_mixes_corpora_by_itself(self):
    name = 'plain_mixture'
    seqio.MixtureRegistry.add(name, [('music_codec', 1), ('other_codec', 1)])
    self.addCleanup(seqio.MixtureRegistry.remove, name)
    rows = levels(itertools.islice(self.seqio_rows(name), 40))
    self.assertLen({level // 1000 for level in rows}, 2)

  def test_a_corpus_has_every_task(self):
    self.assertContainsSubset(
        ['other_codec', 'other_mulan', 'other_stage', 'other_fine'], self.names
    )
    self.assertContainsSubset(self.names, seqio.TaskRegistry.names())
    rows = self.numpy_rows('other_codec', shuffle=False)
    found = levels(itertools.islice(rows, 8))
    self.assertCountEqual(found, range(1000, 1008))

  def test_adding_again_changes_nothing(self):
    self.assertEqual(
        music.add_corpus('other', self.folders['other']), self.names
    )
    music.add_mixture('both_codec', {'music_codec': 2, 'other_codec': 1})

  def test_rejects_another_corpus_of_the_same_name(self):
    with self.assertRaisesRegex(ValueError, 'must be free.*other_codec|taken'):
      music.add_corpus('other', '/elsewhere')
    with self.assertRaisesRegex(ValueError, "'both_codec' must be free"):
      music.add_mixture('both_codec', {'music_codec': 1, 'other_codec': 1})

  @parameterized.parameters('music', 'Jamendo', 'a b', '')
  def test_rejects_bad_names(self, name):
    with self.assertRaisesRegex(ValueError, 'small letters'):
      mixtures.add_corpus(name, '/data')

  @parameterized.parameters(
      ({}, 'rates above 0'),
      ({'music_codec': 0.0}, 'rates above 0'),
      ({'music_codec': 1, 'nowhere_codec': 1}, "but is 'nowhere_codec'"),
      ({'music_codec': 1, 'other_fine': 1}, 'same features'),
  )
  def test_rejects_bad_mixtures(self, rates, message):
    with self.assertRaisesRegex(ValueError, message):
      mixtures.add_mixture('bad', rates)

  def test_rejects_tokens_of_other_tokenizers(self):
    hashes = {self.folders['music']: 'a' * 64, self.folders['other']: 'b' * 64}
    lineage = lambda data_dir: {'soundstream': hashes[data_dir]}
    with mock.patch.object(token_dataset, 'lineage', lineage):
      with self.assertRaisesRegex(ValueError, 'tokens of the soundstream'):
        mixtures.check_lineage('other_stage', self.folders['music'])
      mixtures.check_lineage('other_stage', self.folders['other'])
      mixtures.check_lineage('music_stage', self.folders['music'])

  def test_rejects_a_missing_module(self):
    with self.assertRaisesRegex(ValueError, "no 'nowhere'.*PYTHONPATH"):
      mixtures.import_module('nowhere.at_all')


if __name__ == '__main__':
  absltest.main()
