"""Tests for opus."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import codec
from musiclm_jax.metrics import opus
import numpy as np

SAMPLE_RATE = 24000


def page(granule, *lengths):
  """Returns an Ogg page of segments of such lengths."""
  header = b'OggS' + bytes(2) + granule.to_bytes(8, 'little') + bytes(12)
  body = bytes(sum(lengths))
  return header + bytes([len(lengths), *lengths]) + body


def chirp(seconds=1.5):
  """Returns a tone that rises from 200 to 3000 Hz."""
  time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
  slope = (3000 - 200) / seconds
  phase = 2 * np.pi * (200 * time + slope / 2 * time**2)
  return (0.5 * np.sin(phase)).astype(np.float32)


def delay(audio, other):
  """Returns by how many samples `other` lags, from the cross-correlation."""
  length = 2 * len(audio)
  spectrum = np.fft.rfft(other, length) * np.fft.rfft(audio, length).conj()
  lag = int(np.argmax(np.fft.irfft(spectrum, length)))
  return lag - length if lag > len(audio) else lag


class PayloadTest(absltest.TestCase):

  def test_counts_packets_but_no_headers(self):
    ogg = page(0, 19) + page(0, 255, 40) + page(960, 255, 3, 7) + page(1920, 9)
    self.assertEqual(opus.payload_bytes(ogg), 255 + 3 + 7 + 9)


@absltest.skipIf(not opus.is_installed(), 'opusenc is not installed')
class TranscodeTest(parameterized.TestCase):

  @parameterized.parameters((12, 1), (24, 10))
  def test_is_in_time_and_of_the_bitrate(self, kbps, decibels):
    audio = chirp()
    decoded, num_bytes = opus.transcode(audio, SAMPLE_RATE, kbps)
    self.assertEqual(decoded.shape, audio.shape)
    self.assertEqual(delay(audio, decoded), 0)
    ratio = codec.si_sdr(audio[None], decoded[None])[0]
    self.assertGreater(ratio, decibels)
    actual = 8 * num_bytes / 1.5 / 1000
    self.assertBetween(actual, 0.6 * kbps, 1.5 * kbps)

  def test_delay_is_found(self):
    self.assertEqual(delay(chirp(), np.roll(chirp(), 3)), 3)

  def test_rejects_other_sample_rates(self):
    with self.assertRaisesRegex(ValueError, r'at 22050 Hz.*at 24000 Hz'):
      opus.transcode(chirp(), 22050, 12)


class MissingTest(absltest.TestCase):

  def test_says_what_to_install(self):
    with mock.patch('shutil.which', return_value=None):
      with self.assertRaisesRegex(FileNotFoundError, 'Install opus-tools'):
        opus.transcode(chirp(), SAMPLE_RATE, 12)


if __name__ == '__main__':
  absltest.main()
