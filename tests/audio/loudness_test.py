"""Tests for loudness."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.audio import loudness
import numpy as np
import pyloudnorm


def swelling_noise(sample_rate, seconds=12):
  """Noise whose level changes, with two seconds below the gates."""
  time = np.arange(seconds * sample_rate) / sample_rate
  audio = np.random.default_rng(0).normal(scale=0.05, size=time.shape)
  audio *= np.abs(np.sin(time / 2))
  audio[: 2 * sample_rate] *= 1e-4
  return audio.astype(np.float32)


class IntegratedLoudnessTest(parameterized.TestCase):

  def test_of_the_reference_sine(self):
    # BS.1770-4: 0 dBFS at 997 Hz in one channel reads -3.01.
    sine = np.sin(2 * np.pi * 997 * np.arange(5 * 48000) / 48000)
    self.assertAlmostEqual(
        loudness.integrated_loudness(sine, 48000), -3.01, places=2
    )

  @parameterized.parameters(16000, 24000, 44100, 48000)
  def test_equals_pyloudnorm(self, sample_rate):
    audio = swelling_noise(sample_rate)
    meter = pyloudnorm.Meter(sample_rate, filter_class='DeMan')
    self.assertAlmostEqual(
        loudness.integrated_loudness(audio, sample_rate),
        meter.integrated_loudness(audio),
        places=6,
    )

  @parameterized.parameters(0, 1, 100, 24000)
  def test_of_silence(self, samples):
    silence = np.zeros(samples, np.float32)
    self.assertEqual(loudness.integrated_loudness(silence, 24000), -np.inf)


class NormalizeLoudnessTest(parameterized.TestCase):

  @parameterized.parameters(-14.0, -23.0)
  def test_reaches_the_target(self, target):
    audio = swelling_noise(24000)
    normalized = loudness.normalize_loudness(audio, 24000, target)
    self.assertAlmostEqual(
        loudness.integrated_loudness(normalized, 24000), target, places=3
    )

  def test_stops_at_full_scale(self):
    audio = swelling_noise(24000)
    audio[100000] = 0.9
    normalized = loudness.normalize_loudness(audio, 24000, -5.0)
    self.assertAlmostEqual(np.abs(normalized).max(), 1, places=6)
    np.testing.assert_allclose(normalized * 0.9, audio, atol=1e-6)

  @parameterized.parameters(0, 24000)
  def test_silence_stays_silence(self, samples):
    silence = np.zeros(samples, np.float32)
    np.testing.assert_array_equal(
        loudness.normalize_loudness(silence, 24000), silence
    )


if __name__ == '__main__':
  absltest.main()
