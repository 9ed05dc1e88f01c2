"""Tests for codec."""

from absl.testing import absltest
from absl.testing import parameterized
import auraloss
import librosa
from musiclm_jax.metrics import codec
import numpy as np
import torch

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

  @parameterized.parameters(0.01, 0.3)
  def test_stft_distance_equals_auraloss(self, scale):
    distance = auraloss.freq.MultiResolutionSTFTLoss(
        fft_sizes=[512, 1024, 2048],
        hop_sizes=[128, 256, 512],
        win_lengths=[512, 1024, 2048],
        eps=1e-10,  # Of powers; ours is of magnitudes.
    )
    # It reflects audio at the ends where ours has zeros: alike in silence.
    audio, other = (
        np.pad(noise(seed), ((0, 0), (1024, 1024))) for seed in (0, 1)
    )
    made = 0.8 * audio + scale * other
    expected = [
        # One clip at a time: it takes the norms over a whole batch.
        distance(*torch.tensor(np.stack(pair))[:, None, None])
        for pair in zip(made, audio, strict=True)
    ]
    np.testing.assert_allclose(
        codec.multi_resolution_stft_distance(audio, made), expected, rtol=1e-4
    )

  def test_mel_distance_equals_librosa(self):
    audio, made = noise(0), noise(0) + 0.3 * noise(1)
    decibels = [
        20
        * np.log10(
            np.maximum(
                librosa.feature.melspectrogram(
                    y=x,
                    sr=SAMPLE_RATE,
                    n_fft=1024,
                    hop_length=256,
                    n_mels=80,
                    power=1,
                ),
                1e-5,
            )
        )
        for x in (audio, made)
    ]
    np.testing.assert_allclose(
        codec.mel_distance(audio, made, SAMPLE_RATE),
        np.mean(np.abs(decibels[0] - decibels[1]), axis=(1, 2)),
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
