"""Tests for examples."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import examples
from musiclm_jax.data import example_base
from musiclm_jax.data import renditions
from musiclm_jax.models import wordpiece
import numpy as np


class AudioExamplesTest(parameterized.TestCase):

  def test_crops_are_pieces_of_the_clip(self):
    audio = np.arange(1000, dtype=np.int16)
    for seed in range(20):
      crop = examples.crop_audio(
          audio, 10, (24000, 24000), np.random.default_rng(seed)
      )
      np.testing.assert_allclose(
          np.diff(crop), np.full(9, 1 / 32767), rtol=1e-2
      )

  def test_resampled_crop_keeps_a_tone(self):
    time = np.arange(24000) / 24000
    tone = np.round(np.sin(2 * np.pi * 1000 * time) * 16000).astype(np.int16)
    example = examples.TASKS['music_w2v_bert'](
        {'audio': tone},
        {'audio': 8000},
        np.random.default_rng(0),
        source_rate=24000,
        sample_rate=16000,
    )
    self.assertEqual(example['audio'].shape, (8000,))
    peak = np.abs(np.fft.rfft(example['audio'])).argmax() * 16000 / 8000
    self.assertEqual(peak, 1000)

  def test_short_clips_are_padded(self):
    example = examples.TASKS['music_soundstream'](
        {'audio': np.full(5, 32767, np.int16)},
        {'audio': 8},
        np.random.default_rng(0),
        source_rate=32000,
        sample_rate=32000,
    )
    np.testing.assert_array_equal(example['audio'], [1] * 5 + [0] * 3)

  def test_captions_are_all_used(self):
    vocab = wordpiece.WordPiece(
        wordpiece.train_wordpiece(['slow piano', 'fast drum'], 100)
    )
    record = {
        'audio': np.zeros(100, np.int16),
        'captions': ['slow piano', 'fast drum'],
    }
    seen = set()
    for seed in range(20):
      example = examples.TASKS['music_mulan'](
          record,
          {'audio': 10, 'text_ids': 16},
          np.random.default_rng(seed),
          source_rate=24000,
          vocab=vocab,
      )
      seen.add(tuple(example['text_ids']))
    expected = vocab.encode(record['captions'], 16)
    self.assertEqual(seen, {tuple(row) for row in expected})

  def test_captions_are_drawn_by_their_weights(self):
    record = {'caption_weights': np.array([1, 0, 4], np.float32)}
    rng = np.random.default_rng(0)
    drawn = [example_base.draw_caption(record, rng) for _ in range(2000)]
    shares = np.bincount(drawn, minlength=3) / 2000
    np.testing.assert_allclose(shares, [0.2, 0, 0.8], atol=0.03)
    self.assertEqual(shares[1], 0)

  def test_rejects_a_missing_vocabulary(self):
    with self.assertRaisesRegex(ValueError, 'gin.VOCAB'):
      examples.TASKS['music_mulan'].context('data')


class MelodyExamplesTest(absltest.TestCase):

  def test_pairs_of_a_phrase(self):
    phrase = renditions.Phrase(
        renditions=[
            renditions.Rendition('solo', 1.0, np.full(1000, level, np.float32))
            for level in (0.2, 0.4)
        ],
        melody=np.zeros(3, np.int8),
        id='a/0',
        work='a',
    )
    make = examples.TASKS['music_melody']
    record = phrase.to_example()
    lengths = {'anchor': 100, 'positive': 100, 'work_id': 1}
    example = make(record, lengths, np.random.default_rng(0))
    self.assertEqual(example.keys(), lengths.keys())
    self.assertEqual(example['anchor'].shape, (100,))
    self.assertEqual(example['positive'].dtype, np.float32)
    self.assertFalse(np.array_equal(example['anchor'], example['positive']))
    np.testing.assert_array_equal(example['work_id'], [renditions.work_id('a')])


if __name__ == '__main__':
  absltest.main()
