"""Tests for front_ends."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics.embedders import front_ends
import numpy as np
from transformers import audio_utils

RATE = 16000


def chirp(seconds):
  time = np.arange(round(seconds * RATE)) / RATE
  return (0.5 * np.sin(2 * np.pi * (100 + 900 * time) * time)).astype('float32')


class FrontEndsTest(parameterized.TestCase):

  def test_vggish_equals_transformers(self):
    # The published numbers, in an implementation by others.
    filters = audio_utils.mel_filter_bank(
        257,
        64,
        125,
        7500,
        RATE,
        mel_scale='kaldi',
        triangularize_in_mel_space=True,
    )
    np.testing.assert_allclose(front_ends.vggish_filters(), filters, atol=1e-6)
    audio = chirp(3)
    magnitudes = audio_utils.spectrogram(
        audio,
        audio_utils.window_function(400, 'hann'),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=1.0,
        center=False,
        mel_filters=filters,
        mel_floor=0.0,
    )
    expected = np.log(magnitudes + 0.01).T[: 3 * 96].reshape(3, 96, 64)
    found = front_ends.vggish_log_mel(audio)
    np.testing.assert_allclose(found, expected, atol=1e-4)

  @parameterized.parameters((0.1, 1), (0.96, 1), (0.975, 1), (2.0, 2), (10, 10))
  def test_vggish_windows(self, seconds, windows):
    # A patch takes 95 hops of 10 ms and 25 ms.
    found = front_ends.vggish_log_mel(chirp(seconds))
    self.assertEqual(found.shape, (windows, 96, 64))

  def test_vggish_silence_is_the_log_of_the_offset(self):
    found = front_ends.vggish_log_mel(np.zeros(RATE))
    np.testing.assert_allclose(found, np.log(0.01), rtol=1e-6)

  def test_musicnn_equals_transformers(self):
    audio = chirp(6.5)
    mel = audio_utils.spectrogram(
        audio,
        audio_utils.window_function(512, 'hann'),
        frame_length=512,
        hop_length=256,
        power=2.0,
        pad_mode='constant',
        mel_filters=audio_utils.mel_filter_bank(
            257, 96, 0, 8000, RATE, norm='slaney', mel_scale='slaney'
        ),
        mel_floor=0.0,
    )
    expected = np.log10(10000 * mel.T + 1)[: 2 * 187].reshape(2, 187, 96)
    found = front_ends.musicnn_log_mel(audio)
    np.testing.assert_allclose(found, expected, atol=2e-4)

  def test_musicnn_pads_short_clips(self):
    found = front_ends.musicnn_log_mel(chirp(1))
    self.assertEqual(found.shape, (1, 187, 96))
    np.testing.assert_allclose(found[0, -60:], 0, atol=1e-6)

  @parameterized.parameters(
      (3, [0]), (4, [0]), (5, [0]), (7, [0, 3]), (12, [0, 4, 8])
  )
  def test_windows_are_spread_over_a_clip(self, length, starts):
    found = front_ends.cut(np.arange(1.0, length + 1), 4)
    np.testing.assert_array_equal(found[:, 0], np.array(starts) + 1)
    self.assertEqual(found.shape, (len(starts), 4))

  def test_rejects_loud_audio(self):
    with self.assertRaisesRegex(ValueError, 'peaks at 2'):
      front_ends.windows(front_ends.waveform(RATE, 1.0), np.full(8, 2.0))


if __name__ == '__main__':
  absltest.main()
