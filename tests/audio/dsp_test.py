"""Tests for dsp."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import librosa
from musiclm_jax.audio import dsp
import numpy as np


def noise(samples, seed=0):
  audio = np.random.default_rng(seed).normal(scale=0.1, size=(2, samples))
  return audio.astype(np.float32)


class StftTest(parameterized.TestCase):

  @parameterized.parameters(
      # window, hop, fft
      (1024, 256, 1024),
      (400, 160, 512),
      (401, 150, 512),
      (64, 16, 64),
      (64, 100, 64),
  )
  def test_equals_librosa(self, window_length, hop_length, fft_length):
    audio = noise(8011)
    expected = librosa.stft(
        audio,
        n_fft=fft_length,
        win_length=window_length,
        hop_length=hop_length,
    ).transpose(0, 2, 1)
    spectrum = dsp.stft(jnp.array(audio), window_length, hop_length)
    self.assertEqual(spectrum.shape, expected.shape)
    np.testing.assert_allclose(
        spectrum, expected, atol=1e-5 * np.abs(expected).max()
    )

  def test_of_a_cosine_is_a_peak_of_half_the_window_sum(self):
    # Bin 4 of 64; a periodic Hann window sums to half its length.
    audio = jnp.cos(2 * jnp.pi * 4 / 64 * jnp.arange(128))[jnp.newaxis]
    magnitudes = jnp.abs(dsp.stft(audio, 64, 64))[0, 1]
    np.testing.assert_allclose(magnitudes[3:6], [8, 16, 8], atol=1e-4)
    np.testing.assert_allclose(magnitudes[7:], 0, atol=1e-4)

  def test_audio_may_be_shorter_than_the_window(self):
    self.assertEqual(
        dsp.stft(jnp.array(noise(100)), 400, 160).shape, (2, 1, 257)
    )


class MelFilterbankTest(parameterized.TestCase):

  @parameterized.parameters(
      (16000, 512, 80, 0.0, None),
      (24000, 2048, 64, 0.0, None),
      (16000, 512, 64, 60.0, 7800.0),
  )
  def test_equals_librosa(self, sample_rate, fft_length, num_mels, fmin, fmax):
    expected = librosa.filters.mel(
        sr=sample_rate, n_fft=fft_length, n_mels=num_mels, fmin=fmin, fmax=fmax
    ).T
    filters = dsp.mel_filterbank(sample_rate, fft_length, num_mels, fmin, fmax)
    np.testing.assert_allclose(filters, expected, atol=1e-6 * expected.max())

  def test_is_read_only(self):
    with self.assertRaisesRegex(ValueError, 'read-only'):
      dsp.mel_filterbank(16000, 512, 80)[0, 0] = 1


class LogMelTest(parameterized.TestCase):

  @parameterized.parameters(
      (16000, 400, 160, 80),  # w2v-BERT
      (16000, 400, 160, 64),  # MuLan, ResNet-50
      (16000, 400, 160, 128),  # MuLan, AST
      (24000, 1024, 256, 64),
  )
  def test_equals_librosa(self, sample_rate, window, hop, num_mels):
    audio = noise(sample_rate // 2)
    audio[1] *= np.linspace(0, 1, audio.shape[1])
    mel = librosa.feature.melspectrogram(
        y=audio,
        sr=sample_rate,
        n_fft=1 << (window - 1).bit_length(),
        win_length=window,
        hop_length=hop,
        n_mels=num_mels,
        power=1,
    ).transpose(0, 2, 1)
    log_mel = dsp.log_mel(jnp.array(audio), sample_rate, window, hop, num_mels)
    np.testing.assert_allclose(np.exp(log_mel), np.maximum(mel, 1e-5), 1e-4)

  def test_silence_is_the_floor_and_has_a_gradient(self):
    silence = jnp.zeros((1, 2000))

    def total(audio):
      return dsp.log_mel(audio, 16000, 400, 160, 64).sum()

    log_mel = dsp.log_mel(silence, 16000, 400, 160, 64)
    np.testing.assert_allclose(log_mel, np.log(1e-5), rtol=1e-6)
    self.assertTrue(jnp.isfinite(jax.grad(total)(silence)).all())


if __name__ == '__main__':
  absltest.main()
