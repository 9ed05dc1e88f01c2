"""Tests for renditions."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import renditions
import numpy as np

FACTORS = (0.8, 1.0, 1.25)
SECONDS = 8.0


def melody_times(factor):
  """Returns audio of which each sample tells its melody time."""
  samples = round(SECONDS / factor * 16000)
  return np.arange(samples) / 16000 * factor / SECONDS


def make_record(make_audio=melody_times):
  phrase = renditions.Phrase(
      renditions=[
          renditions.Rendition('hum', f, make_audio(f).astype(np.float32))
          for f in FACTORS
      ],
      melody=np.full(400, 60, np.int8),
      id='a/0',
      work='a',
  )
  return phrase.to_example()


def tone(factor):
  samples = round(SECONDS / factor * 16000)
  return 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / 16000)


def peak_hertz(audio):
  spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
  return np.argmax(spectrum) * 16000 / len(audio)


class PhraseTest(absltest.TestCase):

  def test_example_has_the_features(self):
    record = make_record()
    self.assertEqual(record.keys(), renditions.features().keys())
    self.assertLen(record['audio'], sum(record['lengths']))
    np.testing.assert_array_equal(record['lengths'], [160000, 128000, 102400])
    self.assertEqual(record['audio'].dtype, np.int16)

  def test_work_ids(self):
    ids = {renditions.work_id(f'work {i}') for i in range(1000)}
    self.assertLen(ids, 1000)
    self.assertBetween(min(ids), 0, 2**31 - 1)
    self.assertBetween(max(ids), 2**30, 2**31 - 1)
    self.assertEqual(renditions.work_id('a'), make_record()['work_id'][0])


class CropTest(parameterized.TestCase):

  @parameterized.product(index=(0, 1, 2), second=(2.5, 4.0, 5.5))
  def test_is_centered_on_the_melody_time(self, index, second):
    crop = renditions.crop(make_record(), index, second, 64000)
    self.assertEqual(crop.shape, (64000,))
    self.assertAlmostEqual(crop[32000] * SECONDS, second, delta=1e-3)
    # It spans 4 s of audio.
    span = (crop[-1] - crop[0]) * SECONDS
    self.assertAlmostEqual(span, 4 * FACTORS[index], delta=1e-3)

  @parameterized.parameters(0, 1, 2)
  def test_is_silent_beyond_the_ends(self, index):
    record = make_record(lambda f: np.full_like(melody_times(f), 0.5))
    first = renditions.crop(record, index, 0.0, 1000)
    np.testing.assert_allclose(first, [0] * 500 + [0.5] * 500, atol=1e-4)
    last = renditions.crop(record, index, SECONDS, 1000)
    np.testing.assert_allclose(last, [0.5] * 500 + [0] * 500, atol=1e-4)
    beyond = renditions.crop(record, index, 2 * SECONDS, 1000)
    np.testing.assert_array_equal(beyond, np.zeros(1000))

  def test_middle(self):
    self.assertAlmostEqual(renditions.middle(make_record()), 4.0, places=4)


class PairTest(parameterized.TestCase):

  def test_pieces_are_of_one_melody_time(self):
    record = make_record()
    identity = lambda audio, rng: audio
    centers = []
    with mock.patch.object(renditions, 'augment', identity):
      for seed in range(50):
        rng = np.random.default_rng(seed)
        first, other = renditions.draw_pair(record, 64000, rng)
        times = np.array([first[32000], other[32000]]) * SECONDS
        self.assertLess(abs(times[0] - times[1]), 0.251)
        # Of different renditions: at different tempos.
        spans = [(x[-1] - x[0]) for x in (first, other)]
        self.assertNotAlmostEqual(spans[0], spans[1], places=2)
        self.assertGreater(min(first[-1], other[-1]), 0)
        centers.append(times[0])
    self.assertGreater(np.std(centers), 0.3)

  def test_both_are_shifted_to_the_same_pitch(self):
    record = make_record(tone)
    pitches = []
    for seed in range(10):
      pair = renditions.draw_pair(record, 64000, np.random.default_rng(seed))
      pitches.append([12 * np.log2(peak_hertz(x) / 440) for x in pair])
    pitches = np.array(pitches)
    np.testing.assert_allclose(pitches[:, 0], pitches[:, 1], atol=0.02)
    self.assertBetween(np.max(np.abs(pitches)), 2, 4.01)
    self.assertLess(np.min(pitches), -1)
    self.assertGreater(np.max(pitches), 1)


class AugmentTest(absltest.TestCase):

  def test_keeps_the_pitch_and_changes_the_rest(self):
    time = np.arange(16000) / 16000
    audio = sum(np.sin(2 * np.pi * f * time) for f in (400, 3200))
    levels, peaks = [], []
    for seed in range(20):
      changed = renditions.augment(
          audio.astype(np.float32), np.random.default_rng(seed)
      )
      self.assertEqual(changed.dtype, np.float32)
      spectrum = np.abs(np.fft.rfft(changed))
      self.assertContainsSubset(
          set(np.argsort(spectrum)[-2:].tolist()), {400, 3200}
      )
      levels.append(20 * np.log10(spectrum[3200] / spectrum[400]))
      peaks.append(np.max(np.abs(changed)))
    # Three octaves of at most 4 dB each.
    self.assertBetween(max(levels), 4, 12.1)
    self.assertBetween(min(levels), -12.1, -4)
    self.assertBetween(min(peaks), 0.1, 0.4)
    self.assertBetween(max(peaks), 0.6, 0.91)

  def test_silence_is_finite(self):
    silence = renditions.augment(
        np.zeros(1000, np.float32), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(silence, 0)


if __name__ == '__main__':
  absltest.main()
