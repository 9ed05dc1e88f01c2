"""Tests for music."""

import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.data import examples
from musiclm_jax.data import mixtures
from musiclm_jax.data import token_dataset
from musiclm_jax.data import renditions
from musiclm_jax.models import wordpiece
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base as tokenizers
from musiclm_jax.tasks import music
from musiclm_jax.tasks import source as record_source
import numpy as np
import seqio
import tensorflow as tf

FRAMES = 100  # Of semantic tokens in a record: 4 s.
LENGTHS = {
    'music_codec': {'audio': 2400},
    'music_soundstream': {'audio': 2400},
    'music_w2v_bert': {'audio': 1600},
    'music_mulan': {'audio': 1600, 'text_ids': 8},
    'music_melody': {'anchor': 1600, 'positive': 1600, 'work_id': 1},
    **{
        f'music_{name}': stages.get_stage(name, 1.0).feature_lengths
        for name in stages.PAPER
    },
    'music_stage': stages.get_stage('coarse', 1.0).feature_lengths,
}


def write_music(data_dir, without=()):
  features = {
      name: feature
      for name, feature in corpora.features().items()
      if name not in without
  }

  def example(name):
    clip = clips.Clip(
        audio=np.linspace(-1, 1, 24000, dtype=np.float32),
        captions=('slow piano', 'a fast drum'),
        caption_weights=(0.0, 1.0),
        id=name,
        work=name,
        title=name,
        source='line',
    )
    made = clip.to_example()
    return name, {key: made[key] for key in features}

  splits = {
      s: [example(f'{s}{i}') for i in range(3)] for s in token_dataset.SPLITS
  }
  datasets.write_dataset('music', data_dir, splits, features)


def write_melodies(data_dir):
  def example(name):
    audio = np.linspace(-1, 1, 6000, dtype=np.float32)
    phrase = renditions.Phrase(
        [
            renditions.Rendition('solo', factor, audio[:length])
            for factor, length in ((0.8, 6000), (1.2, 4000))
        ],
        melody=np.zeros(15, np.int8),
        id=name,
        work=name,
    )
    return name, phrase.to_example()

  splits = {
      s: [example(f'{s}{i}') for i in range(3)] for s in token_dataset.SPLITS
  }
  datasets.write_dataset(
      renditions.NAME, data_dir, splits, renditions.features()
  )


def write_tokens(data_dir):
  rng = np.random.default_rng(0)

  def example(name):
    def tokens(frames, quantizers):
      return rng.integers(1024, size=(frames, quantizers), dtype=np.int32)

    return name, {
        'semantic': tokens(FRAMES, 1),
        'coarse': tokens(2 * FRAMES, 4),
        'fine': tokens(2 * FRAMES, 8),
        'melody': tokens(1, 24),
        'melody_hum': tokens(1, 24),
        'mulan': rng.normal(size=(3, 4)).astype(np.float32),
        'mulan_text': rng.normal(size=(1, 4)).astype(np.float32),
        'captions': ['piano'],
        'caption_weights': np.ones(1, np.float32),
        'id': name,
        'work': name,
    }

  datasets.write_dataset(
      'music_tokens',
      data_dir,
      {s: [example(f'{s}{i}') for i in range(3)] for s in token_dataset.SPLITS},
      token_dataset.features(tokenizers.PAPER, {'mulan': 4}, ('melody',)),
      metadata={'lineage': {}, 'mulan_window_seconds': 1.0},
      arrays={
          'mulan_codebooks': rng.normal(size=(12, 8, 4)).astype(np.float32)
      },
  )


class MusicTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data_dir = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.data_dir)
    write_music(cls.data_dir)
    write_tokens(cls.data_dir)
    write_melodies(cls.data_dir)
    cls.vocab = pathlib.Path(cls.data_dir) / 'vocab.txt'
    pieces = wordpiece.train_wordpiece(['slow piano', 'a fast drum'], 100)
    wordpiece.WordPiece(pieces).to_file(cls.vocab)

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    gin.bind_parameter('settings.data_dir', self.data_dir)

  def options(self, name):
    found = {
        'music_mulan': {'vocab': str(self.vocab)},
        'music_stage': {'stage': stages.get_stage('coarse', 1.0)},
    }
    return found.get(name, {})

  def get_dataset(self, name, **kwargs):
    gin.bind_parameter('settings.options', self.options(name))
    kwargs = {'split': 'train', 'shuffle': False, 'seed': 0, **kwargs}
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        LENGTHS[name], **kwargs
    )
    return list(dataset.as_numpy_iterator())

  @parameterized.parameters(*examples.TASKS)
  def test_examples_are_those_of_the_numpy_path(self, name):
    seeds = []
    default_rng = np.random.default_rng

    def remember(seed):
      seeds.append(seed)
      return default_rng(seed)

    with mock.patch.object(np.random, 'default_rng', remember):
      from_seqio = self.get_dataset(name)
    make = examples.TASKS[name]
    context = make.context(self.data_dir, **self.options(name))
    dataset = datasets.open_dataset(make.dataset, self.data_dir, 'train')
    self.assertLen(from_seqio, len(dataset))
    for record, example in zip(dataset, from_seqio, strict=True):
      # Threads may have drawn the seeds in any order.
      expected = [
          make(record, LENGTHS[name], default_rng(seed), **context)
          for seed in seeds
      ]
      self.assertEqual(example.keys(), make.output_features.keys())
      self.assertTrue(
          any(
              all(np.array_equal(example[k], e[k]) for k in example)
              for e in expected
          )
      )
      for feature, (rank, dtype) in make.output_features.items():
        self.assertEqual(example[feature].ndim, rank)
        self.assertEqual(example[feature].dtype, dtype)

  def test_crops_follow_from_the_seed(self):
    first, same, other = (
        np.stack([e['targets'] for e in self.get_dataset('music_fine', seed=s)])
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    self.assertFalse(np.array_equal(first, other))

  def test_every_epoch_has_new_crops(self):
    rows = self.get_dataset('music_fine', num_epochs=2)
    self.assertLen(rows, 6)
    self.assertFalse(np.array_equal(rows[0]['targets'], rows[3]['targets']))

  def test_shuffling_keeps_every_record_once(self):
    make = seqio.get_mixture_or_task('music_coarse')
    dataset = make.source.get_dataset('train', shuffle=True, seed=3)
    firsts = [r['coarse'][0, 0] for r in dataset.as_numpy_iterator()]
    records_of = datasets.open_dataset('music_tokens', self.data_dir, 'train')
    self.assertCountEqual(firsts, [r['coarse'][0, 0] for r in records_of])

  def test_what_is_cached_are_whole_records(self):
    task = seqio.get_mixture_or_task('music_coarse')
    self.assertTrue(task.supports_caching)
    dataset = task.preprocess_precache(
        task.source.get_dataset('train', shuffle=False), seed=0
    )
    record = next(dataset.as_numpy_iterator())
    shapes = {name: value.shape for name, value in record.items()}
    expected = {
        'mulan': (3, 4),
        'semantic': (FRAMES, 1),
        'coarse': (2 * FRAMES, 4),
        'mulan_text': (1, 4),
        'caption_weights': (1,),
    }
    self.assertEqual(shapes, expected)

  def test_captions_are_drawn_by_their_weights(self):
    expected = wordpiece.WordPiece.from_file(self.vocab).encode(
        ['a fast drum'], 8
    )
    for example in self.get_dataset('music_mulan', num_epochs=4):
      np.testing.assert_array_equal(example['text_ids'], expected[0])

  def test_captions_of_older_datasets_weigh_the_same(self):
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    write_music(data_dir, without=['caption_weights', 'facts'])
    gin.bind_parameter('settings.data_dir', data_dir)
    rows = self.get_dataset('music_mulan', num_epochs=8)
    self.assertLen({tuple(row['text_ids']) for row in rows}, 2)

  def test_a_cache_that_lacks_what_is_read_is_rejected(self):
    task = mixtures.get_task('music_mulan')
    record = {'audio': np.zeros((1, 9), np.int32), 'captions': [[b'piano']]}
    gin.bind_parameter('settings.options', self.options('music_mulan'))
    with self.assertRaisesRegex(
        ValueError, r"lacks \['caption_weights'\].*write it again"
    ):
      music._make_examples(
          tf.data.Dataset.from_tensor_slices(record),
          task,
          LENGTHS['music_mulan'],
      )

  def test_processes_share_out_the_records(self):
    shards = [
        self.get_dataset('music_fine', shard_info=seqio.ShardInfo(i, 2))
        for i in range(2)
    ]
    self.assertEqual([len(shard) for shard in shards], [2, 1])

  def test_vocabulary_is_that_of_the_stage(self):
    features = seqio.get_mixture_or_task('music_fine').output_features
    # 0 and 1, then 4 + 8 quantizers of 1024 codes.
    self.assertEqual(features['targets'].vocabulary.vocab_size, 2 + 12 * 1024)

  @parameterized.parameters(
      ('music_codec', {'audio': 24000}),
      ('music_w2v_bert', {'audio': 16000}),
      ('music_melody', {'anchor': 4000, 'positive': 4000, 'work_id': 1}),
      ('music_fine', {'inputs': 4 * 200, 'targets': 8 * 200}),
  )
  def test_without_lengths_examples_are_whole_records(self, name, expected):
    gin.bind_parameter('settings.options', self.options(name))
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        None, 'train', shuffle=False, seed=0
    )
    example = next(dataset.as_numpy_iterator())
    self.assertEqual({k: len(x) for k, x in example.items()}, expected)

  def test_without_lengths_no_caption_is_cut(self):
    gin.bind_parameter('settings.options', self.options('music_mulan'))
    dataset = seqio.get_mixture_or_task('music_mulan').get_dataset(
        None, 'train', shuffle=False, seed=0
    )
    pieces = wordpiece.WordPiece.from_file(self.vocab)
    longest = max(len(pieces.pieces(t)) for t in ('slow piano', 'a fast drum'))
    example = next(dataset.as_numpy_iterator())
    self.assertLen(example['text_ids'], longest + 2)

  @parameterized.parameters(('train[:2]', 2), ('train[1:]', 2), ('test', 3))
  def test_slices(self, split, count):
    task = seqio.get_mixture_or_task('music_fine')
    self.assertEqual(task.num_input_examples(split), count)
    self.assertLen(self.get_dataset('music_fine', split=split), count)
    self.assertIn(split, task.splits)
    self.assertNotIn('other', task.splits)

  @parameterized.parameters('train[5:]', 'train[x]', 'else[:1]')
  def test_rejects_bad_slices(self, split):
    with self.assertRaisesRegex(ValueError, r'split.*must'):
      self.get_dataset('music_fine', split=split)

  def test_a_shard_reads_its_own_records_only(self):
    read = []

    class Records(list):

      def __getitem__(self, index):
        read.append(index)
        return super().__getitem__(index)

    records = Records({'x': np.full(1, i)} for i in range(501))
    source = record_source.RecordSource(lambda split: records, list)
    shard = source.get_dataset(
        'train', shuffle=False, shard_info=seqio.ShardInfo(3, 8)
    )
    read.clear()  # One tells the types of the features.
    found = [int(r['x'][0]) for r in shard.as_numpy_iterator()]
    self.assertEqual(found, list(range(3, 501, 8)))
    self.assertCountEqual(read, found)

  def test_a_shuffled_order_is_new_each_epoch_and_the_same_after_a_restart(
      self,
  ):
    records = [{'x': np.full(1, i)} for i in range(50)]
    source = record_source.RecordSource(lambda split: records, list)

    def epochs():
      dataset = source.get_dataset('train', shuffle=True, seed=3).repeat(2)
      rows = [int(r['x'][0]) for r in dataset.as_numpy_iterator()]
      return rows[:50], rows[50:]

    first, second = epochs()
    self.assertCountEqual(first, second)
    self.assertNotEqual(first, second)
    self.assertEqual(epochs(), (first, second))

  def test_workers_that_cache_share_out_the_records(self):
    records = [{'x': np.full(1, i)} for i in range(600)]
    source = record_source.RecordSource(lambda split: records, list)
    self.assertLen(source.list_shards('train'), 3)

  def test_a_cache_of_any_stage_holds_all_streams(self):
    task = seqio.get_mixture_or_task('music_stage')
    record = next(
        task.source.get_dataset('train', shuffle=False).as_numpy_iterator()
    )
    self.assertContainsSubset(
        ['semantic', 'coarse', 'fine', 'melody_hum', 'mulan_text', 'captions'],
        record,
    )

  def test_gin_names_the_cache(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    found = pathlib.Path(folder, 'music_fine')
    found.mkdir()
    (found / 'COMPLETED').touch()
    self.addCleanup(seqio.set_global_cache_dirs, seqio.get_global_cache_dirs())
    gin.bind_parameter('cache.directory', folder)
    task = seqio.get_mixture_or_task('music_fine')
    self.addCleanup(setattr, task, '_cache_dir', None)
    self.assertEqual(task.cache_dir, str(found))

  def test_rejects_a_missing_data_dir(self):
    gin.clear_config()
    with self.assertRaisesRegex(ValueError, 'DATA_DIR.*--tfds_data_dir'):
      music.settings()

  def test_takes_the_data_dir_of_the_flag(self):
    gin.clear_config()
    self.addCleanup(seqio.set_tfds_data_dir_override, None)
    seqio.set_tfds_data_dir_override(self.data_dir)
    self.assertEqual(music.settings(), (self.data_dir, {}))


if __name__ == '__main__':
  absltest.main()
