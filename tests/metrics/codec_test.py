"""Tests for codec."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import codec
import numpy as np

SAMPLE_RATE = 24000


def noise(seed, num_samples=9600):
  rng = np.random.default_rng(seed)
  return 0.1 * rng.normal(size=(2, num_samples)).astype(np.float32)


class SiSdrTest(parameterized.TestCase):

  def test_of_orthogonal_noise(self):
    # A tenth of the amplitude is a hundredth of the power: 20 dB.
    time = 2 * np.pi * np.arange(2400, dtype=np.float32) / 240
    audio, distortion = np.sin(time)[None], np.cos(time)[None]
    ratio = codec.si_sdr(audio, audio + 0.1 * distortion)
    np.testing.assert_allclose(ratio, [20.0], atol=1e-3)

  def test_scale_does_not_matter(self):
    audio, other = noise(0), noise(0) + noise(1)
    np.testing.assert_allclose(
        codec.si_sdr(audio, other), codec.si_sdr(audio, 3 * other), atol=1e-3
    )

  def test_silence_is_finite(self):
    silence = np.zeros((2, 9600), np.float32)
    for pair in ((silence, silence), (noise(0), silence), (silence, noise(0))):
      self.assertTrue(np.isfinite(codec.si_sdr(*pair)).all())


class SpectralTest(parameterized.TestCase):

  def test_mel_distance_of_a_gain(self):
    # Twice the amplitude is 6.02 dB in every band.
    audio = noise(0)
    np.testing.assert_allclose(
        codec.mel_distance(audio, 2 * audio, SAMPLE_RATE), 6.0206, rtol=1e-3
    )

  def test_stft_distance_of_a_gain(self):
    # Spectral convergence 1, and ln 2 of log magnitudes.
    audio = noise(0)
    np.testing.assert_allclose(
        codec.multi_resolution_stft_distance(audio, 2 * audio),
        1 + np.log(2),
        rtol=1e-3,
    )

  def test_identity_is_zero(self):
    audio = noise(0)
    self.assertEqual(codec.mel_distance(audio, audio, SAMPLE_RATE).max(), 0)
    distance = codec.multi_resolution_stft_distance(audio, audio)
    self.assertEqual(distance.max(), 0)


class CodebookPerplexityTest(parameterized.TestCase):

  def test_counts_codes_in_use(self):
    tokens = np.array([[[0, 5], [1, 5]], [[2, 5], [3, 5]]])
    np.testing.assert_allclose(codec.codebook_perplexity(tokens, 8), [4, 1])


if __name__ == '__main__':
  absltest.main()
