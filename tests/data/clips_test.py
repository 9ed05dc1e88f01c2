"""Tests for clips."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import clips
import numpy as np


def make_clip(audio=None, captions=('a waltz',), weights=()):
  if audio is None:
    audio = np.zeros(clips.SAMPLE_RATE, np.float32)
  return clips.Clip(
      audio=audio,
      captions=captions,
      caption_weights=weights,
      id='w/0',
      work='w',
      title='t',
      source='s',
  )


class ClipsTest(parameterized.TestCase):

  def test_audio_survives_as_an_example(self):
    audio = np.random.default_rng(0).uniform(-1, 1, 24000).astype(np.float32)
    audio[:2] = [1, -1]
    example = make_clip(audio).to_example()
    self.assertEqual(example['audio'].dtype, np.int16)
    np.testing.assert_array_equal(example['audio'][:2], [32767, -32767])
    np.testing.assert_allclose(
        clips.to_float(example['audio']), audio, atol=0.5 / 32767 + 1e-7
    )

  @parameterized.named_parameters(
      ('short', make_clip(np.zeros(23999, np.float32)), '1 s.*23999'),
      ('stereo', make_clip(np.zeros((24000, 2), np.float32)), 'mono.*24000, 2'),
      ('nan', make_clip(np.full(24000, np.nan)), "'w/0' must be finite"),
      ('no_caption', make_clip(captions=()), r'captions.*but has \(\)'),
      ('few_weights', make_clip(captions=('a', 'b'), weights=(1.0,)), '2 capt'),
      ('weight_below_0', make_clip(weights=(-1.0,)), r'at least 0.*\(-1.0,\)'),
      ('no_weight', make_clip(weights=(0.0,)), 'not 0 for all'),
      ('blank_caption', make_clip(captions=(' ',)), 'captions that are not'),
  )
  def test_rejects(self, clip, message):
    with self.assertRaisesRegex(ValueError, message):
      clips.check_clip(clip, clips.SAMPLE_RATE)

  def test_accepts(self):
    clips.check_clip(make_clip(), clips.SAMPLE_RATE)
    clip = make_clip(captions=('a', 'b'), weights=(0.0, 0.5))
    clips.check_clip(clip, clips.SAMPLE_RATE)

  def test_a_second_depends_on_the_sample_rate(self):
    clip = make_clip(np.zeros(24000, np.float32))
    with self.assertRaisesRegex(ValueError, '24000,. at 32000 Hz'):
      clips.check_clip(clip, 32000)

  def test_captions_weigh_the_same_by_default(self):
    example = make_clip(captions=('a', 'b')).to_example()
    np.testing.assert_array_equal(clips.caption_weights(example), [1, 1])
    example = make_clip(captions=('a', 'b'), weights=(2.0, 0.5)).to_example()
    np.testing.assert_array_equal(clips.caption_weights(example), [2, 0.5])
    del example['caption_weights']
    np.testing.assert_array_equal(clips.caption_weights(example), [1, 1])

  @parameterized.product(
      # seconds, and the start and seconds of the expected clips of 2 s
      case=(
          (5, [(0, 2), (2, 2), (4, 1)]),
          (4.5, [(0, 2), (2, 2)]),
          (0.5, [(0, 0.5)]),
          (0, [(0, 0)]),
      ),
      rate=(24000, 44100),
  )
  def test_split_audio(self, case, rate):
    seconds, expected = case
    audio = np.arange(seconds * rate, dtype=np.float32)
    split = list(clips.split_audio(audio, rate, clip_seconds=2.0))
    lengths = [(start, len(clip) / rate) for start, clip in split]
    self.assertEqual(lengths, expected)
    for start, clip in split:
      # Each sample is its own index.
      first = start * rate
      np.testing.assert_array_equal(clip, first + np.arange(len(clip)))


if __name__ == '__main__':
  absltest.main()
