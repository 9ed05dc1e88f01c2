"""Tests for records."""

import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import streams
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.data import records
from musiclm_jax.data import token_dataset
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import plan_streams
import numpy as np
from tests import fake_tokenizers

LENGTHS = (2.03, 1.5, 2.03)  # Seconds of the clips of each split.


class FakeMuLan(base.TextEmbedder):
  """Embeds each whole second by its mean, and a text by its length."""

  streams = (base.MULAN,)
  sample_rate = 16000
  window_seconds = 1.0
  codebooks = np.full((12, 1024, 4), 0.5, np.float32)
  sha256 = 'c' * 64

  def embed_audio(self, audio):
    seconds = audio[:, : audio.shape[1] // 16000 * 16000]
    means = seconds.reshape(len(audio), -1, 16000).mean(axis=-1)
    return np.repeat(means[..., np.newaxis], 4, axis=-1)

  def embed_text(self, texts, truncate=True):
    return np.repeat([[float(len(text))] for text in texts], 4, axis=-1)

  def _unused(self, *args):
    raise NotImplementedError(args)

  from_dir = streams_of = classmethod(_unused)
  check_text = quantize = tokenize = _unused


class FakeMelody(fake_tokenizers.FakeTokenizer):
  hears_hums = True


def make_tokenizers():
  tokenizers = {
      'soundstream': fake_tokenizers.FakeCodec(),
      'w2v_bert': fake_tokenizers.FakeTokenizer(base.SEMANTIC, 16000),
      'mulan': FakeMuLan(),
  }
  for tokenizer, letter in zip(tokenizers.values(), 'abc', strict=True):
    tokenizer.sha256 = letter * 64
  return tokenizers


def tokenize(*records_of_clips, tokenizers=None):
  tokenizers = tokenizers or make_tokenizers()
  return records.tokenize_clips(records_of_clips, tokenizers, 24000)


def make_record(name, seconds, num_captions=1):
  rng = np.random.default_rng(round(seconds * 100))
  clip = clips.Clip(
      audio=rng.uniform(-1, 1, int(seconds * 24000)).astype(np.float32),
      captions=('a', 'bcd')[:num_captions],
      id=f'{name}/0',
      work=name,
      title=name,
      source='noise',
  )
  return clip.to_example()


class TokenizeClipsTest(absltest.TestCase):

  def test_streams_cover_the_same_time(self):
    (example,) = tokenize(make_record('work', 1.5))
    # 37.5 semantic frames fit; coarse and fine lose the odd last frame.
    self.assertEqual(example['semantic'].shape, (37, 1))
    self.assertEqual(example['coarse'].shape, (74, 4))
    self.assertEqual(example['fine'].shape, (74, 8))

  def test_melody_is_of_models_that_have_it(self):
    record = make_record('work', 6.0)
    tokenizers = make_tokenizers()
    (example,) = tokenize(record, tokenizers=tokenizers)
    self.assertNoCommonElements(['melody', 'melody_hum'], example)
    self.assertNotIn('melody', records.lineage_of(tokenizers))
    tokenizers['melody'] = FakeMelody(base.MELODY, 16000)
    (example,) = tokenize(record, tokenizers=tokenizers)
    self.assertEqual(example['melody'].shape[1], 24)
    self.assertGreater(len(example['melody']), 0)
    self.assertIn('melody', records.lineage_of(tokenizers))
    # Nothing is known to hum.
    self.assertEqual(example['melody_hum'].shape, (0, 24))
    record['melody'] = np.repeat([60, 62, 64, -1], 75).astype(np.int8)
    (hummed,) = tokenize(record, tokenizers=tokenizers)
    np.testing.assert_array_equal(hummed['melody'], example['melody'])
    self.assertEqual(hummed['melody_hum'].shape, example['melody'].shape)
    self.assertTrue(np.any(hummed['melody_hum'] != hummed['melody']))
    (again,) = tokenize(record, tokenizers=tokenizers)
    np.testing.assert_array_equal(again['melody_hum'], hummed['melody_hum'])

  def test_conditions_of_any_rate_are_kept_whole(self):
    stream = streams.Stream(
        'beat', 2, 8, 12.5, is_conditioning=True, is_added=True
    )
    tokenizers = make_tokenizers()
    tokenizers['beat'] = fake_tokenizers.FakeTokenizer(stream, 8000)
    (example,) = tokenize(make_record('work', 1.5), tokenizers=tokenizers)
    self.assertEqual(example['beat'].shape, (19, 2))
    self.assertEqual(example['semantic'].shape, (37, 1))
    found = records._features_of(tokenizers)
    self.assertEqual(example.keys(), found.keys())

  def test_what_is_known_of_clips_becomes_streams(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    plan_streams.PlanStreams.write(folder)
    tokenizers = make_tokenizers()
    tokenizers['plan'] = plan_streams.PlanStreams.from_dir(folder)
    record = {**make_record('work', 1.5), 'key': 'A minor'}
    known, unknown = tokenize(
        record, make_record('other', 1.5), tokenizers=tokenizers
    )
    self.assertEqual(known['beat'].shape, (38, 2))
    self.assertEqual(known['chord'].shape, (8, 1))
    self.assertEqual(known['arrangement'].shape, (2, 16))
    self.assertEqual(known['key'].tolist(), [[21], [21]])
    self.assertEqual(unknown['key'].tolist(), [[streams.ABSENT]] * 2)
    self.assertEqual(known.keys(), records._features_of(tokenizers).keys())
    self.assertIn('plan', records.lineage_of(tokenizers))

  def test_tokens_are_those_of_the_codec(self):
    record = make_record('work', 2.0)
    (example,) = tokenize(record)
    audio = record['audio'][np.newaxis].astype(np.float32) / 32767
    tokens = fake_tokenizers.FakeCodec().tokenize(audio)
    np.testing.assert_array_equal(example['coarse'], tokens['coarse'][0])
    np.testing.assert_array_equal(example['fine'], tokens['fine'][0])

  def test_each_clip_keeps_its_own_captions(self):
    first, second = tokenize(
        make_record('one', 2.0, 1), make_record('two', 2.0, 2)
    )
    np.testing.assert_array_equal(first['mulan_text'][:, 0], [1])
    np.testing.assert_array_equal(second['mulan_text'][:, 0], [1, 3])

  def test_captions_keep_their_weights(self):
    record = make_record('one', 2.0, 2)
    record['caption_weights'] = np.array([2, 0.5], np.float32)
    (example,) = tokenize(record)
    np.testing.assert_array_equal(example['caption_weights'], [2, 0.5])

  def test_captions_without_weights_weigh_the_same(self):
    record = make_record('one', 2.0, 2)
    del record['caption_weights']
    (example,) = tokenize(record)
    np.testing.assert_array_equal(
        example['caption_weights'], np.ones(2, np.float32), strict=True
    )


class EqualLengthsTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 64)
  def test_groups_hold_every_clip_once(self, max_waiting):
    lengths = [3, 5, 3, 4, 3, 3, 5, 9]
    clips_of = [{'id': i, 'audio': np.zeros(n)} for i, n in enumerate(lengths)]
    groups = list(records.equal_lengths(iter(clips_of), 3, max_waiting))
    self.assertCountEqual([c['id'] for g in groups for c in g], range(8))
    for group in groups:
      self.assertLen({len(c['audio']) for c in group}, 1)
      self.assertIn(len(group), (1, 3))

  def test_a_full_group_does_not_wait(self):
    endless = ({'audio': np.zeros(3)} for _ in iter(int, 1))
    self.assertLen(next(records.equal_lengths(endless, 2)), 2)


class TokenizeCorpusTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data_dir = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.data_dir)
    splits = {
        split: [
            (f'{split}{i}', make_record(f'{split}{i}', seconds))
            for i, seconds in enumerate(LENGTHS)
        ]
        for split in token_dataset.SPLITS
    }
    datasets.write_dataset('music', cls.data_dir, splits, corpora.features())
    with mock.patch.object(records, 'load_tokenizers') as load:
      load.return_value = make_tokenizers()
      cls.written = records.tokenize_corpus(cls.data_dir, 'model')

  def tokenize_again(self, **changes):
    tokenizers = make_tokenizers()
    for name, sha256 in changes.items():
      tokenizers[name].sha256 = sha256
    with mock.patch.object(records, 'load_tokenizers') as load:
      load.return_value = tokenizers
      return records.tokenize_corpus(self.data_dir, 'model')

  def test_every_clip_has_its_tokens(self):
    self.assertTrue(self.written)
    for split in token_dataset.SPLITS:
      dataset = datasets.open_dataset('music_tokens', self.data_dir, split)
      frames = {example['id']: len(example['semantic']) for example in dataset}
      expected = {f'{split}0/0': 51, f'{split}1/0': 37, f'{split}2/0': 51}
      self.assertEqual(frames, expected)

  def test_records_are_those_of_the_clips(self):
    dataset = datasets.open_dataset('music_tokens', self.data_dir, 'test')
    example = next(e for e in dataset if e['id'] == 'test1/0')
    (expected,) = tokenize(make_record('test1', LENGTHS[1]))
    self.assertEqual(example.keys(), expected.keys())
    for name, value in expected.items():
      np.testing.assert_array_equal(example[name], value, name)

  def test_lineage_and_codebooks_are_kept(self):
    self.assertEqual(
        token_dataset.lineage(self.data_dir),
        {'soundstream': 'a' * 64, 'w2v_bert': 'b' * 64, 'mulan': 'c' * 64},
    )
    np.testing.assert_array_equal(
        datasets.read_array('music_tokens', self.data_dir, 'mulan_codebooks'),
        FakeMuLan.codebooks,
    )

  def test_nothing_is_done_twice(self):
    self.assertFalse(self.tokenize_again())

  def test_rejects_tokens_of_other_tokenizers(self):
    with self.assertRaisesRegex(ValueError, 'mulan.*dddddddddddd,.*cccccccc'):
      self.tokenize_again(mulan='d' * 64)

  def test_rejects_a_model_without_tokenizers(self):
    with self.assertRaisesRegex(FileNotFoundError, 'soundstream.json'):
      records.tokenize_corpus(self.data_dir, self.data_dir / 'no_model')


if __name__ == '__main__':
  absltest.main()
