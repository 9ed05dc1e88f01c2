"""Tests for io."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.audio import io
import numpy as np
import soundfile


def sine(hz, seconds, sample_rate):
  phase = 2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate
  return (0.5 * np.sin(phase)).astype(np.float32)


class IoTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  @parameterized.parameters(
      ('wav', 1e-4), ('flac', 1e-4), ('ogg', 0.03), ('mp3', 0.03)
  )
  def test_reads_what_it_wrote(self, suffix, tolerance):
    path = self.dir / 'new' / f'sine.{suffix}'
    audio = sine(440, 2.5, 24000)
    io.write_audio(path, audio, 24000)
    again = io.read_audio(path, 24000)
    self.assertEqual(again.shape, audio.shape)
    self.assertEqual(again.dtype, np.float32)
    np.testing.assert_allclose(again, audio, atol=tolerance)
    self.assertEqual([p.name for p in path.parent.iterdir()], [path.name])

  def test_writes_minutes_of_ogg(self):
    path = self.dir / 'long.ogg'
    io.write_audio(path, sine(100, 150, 8000), 8000)
    self.assertEqual(soundfile.info(path).frames, 150 * 8000)

  @parameterized.parameters('wav', 'flac', 'mp3')
  def test_comments_are_kept_and_files_are_the_same_every_time(self, suffix):
    comment = '"\\u00e9\n' * 5000
    self.assertLen(comment, 40_000)
    files = []
    for name in ('a', 'b'):
      path = self.dir / f'{name}.{suffix}'
      io.write_audio(path, sine(440, 0.1, 24000), 24000, comment)
      files.append(path.read_bytes())
      self.assertEqual(io.read_tags(path)['comment'], comment.strip())
    self.assertEqual(*files)

  @parameterized.parameters('a' * 40_001, 'é')
  def test_rejects_comments_that_would_not_be_read_back(self, comment):
    with self.assertRaisesRegex(ValueError, 'comment must be ASCII of at most'):
      io.write_audio(self.dir / 'a.wav', sine(440, 1, 24000), 24000, comment)
    self.assertEmpty(list(self.dir.iterdir()))

  def test_mixes_and_resamples(self):
    left, right = sine(440, 1, 44100), sine(1000, 1, 44100)
    path = self.dir / 'stereo.wav'
    soundfile.write(path, np.stack([left, right], axis=-1), 44100)
    expected = (sine(440, 1, 24000) + sine(1000, 1, 24000)) / 2
    audio = io.read_audio(path, 24000)
    self.assertEqual(audio.shape, (24000,))
    np.testing.assert_allclose(audio[500:-500], expected[500:-500], atol=1e-3)

  def test_scales_down_what_is_louder_than_full_scale(self):
    path = self.dir / 'loud.wav'
    soundfile.write(path, 8 * sine(440, 1, 24000), 24000, subtype='FLOAT')
    audio = io.read_audio(path, 24000)
    np.testing.assert_allclose(audio, 2 * sine(440, 1, 24000), atol=1e-3)

  def test_reads_tags_that_are_set(self):
    path = self.dir / 'tagged.mp3'
    with soundfile.SoundFile(path, 'w', 24000, channels=1) as file:
      file.title = 'Blue Moon '
      file.write(sine(440, 0.1, 24000))
    tags = io.read_tags(path)
    self.assertEqual(tags['title'], 'Blue Moon')
    # An mp3 has all tags, most of them empty.
    self.assertNotIn('', tags.values())

  def damage(self, suffix):
    path = self.dir / f'half.{suffix}'
    io.write_audio(path, sine(440, 3, 24000), 24000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path

  @parameterized.parameters(
      ('flac', 'half.flac must be a wav.*lost sync.*Replace it'),
      ('mp3', 'half.mp3 must last 3.0 s .* breaks off after 1..* s. Copy it'),
      (
          'ogg',
          'half.ogg must end with a whole page, but breaks off in one. Copy',
      ),
  )
  def test_rejects_half_a_file(self, suffix, message):
    with self.assertRaisesRegex(ValueError, message):
      io.read_audio(self.damage(suffix), 24000)

  def test_rejects_what_is_no_audio(self):
    path = self.dir / 'text.wav'
    path.write_text('not audio ' * 100)
    with self.assertRaisesRegex(ValueError, r'text.wav must be a wav.*Format'):
      io.read_audio(path, 24000)
    with self.assertRaisesRegex(ValueError, r'text.wav must be audio.*Format'):
      io.read_tags(path)

  def test_rejects_a_missing_file(self):
    with self.assertRaisesRegex(FileNotFoundError, 'none.wav must be an audio'):
      io.read_audio(self.dir / 'none.wav', 24000)

  def test_rejects_a_header_that_claims_days(self):
    path = self.dir / 'days.flac'
    io.write_audio(path, sine(440, 1, 24000), 24000)
    data = bytearray(path.read_bytes())
    # STREAMINFO: bytes 21 to 26 end with the 36 bits of the sample count.
    data[21] |= 0x0F
    path.write_bytes(data)
    with self.assertRaisesRegex(ValueError, r'days.flac must last at most'):
      io.read_audio(path, 24000)

  @parameterized.parameters(
      (np.zeros(0), r'days.wav must hold audio, but has no samples'),
      (np.full(24000, np.nan), r'days.wav must be finite'),
  )
  def test_rejects_bad_samples(self, audio, message):
    path = self.dir / 'days.wav'
    soundfile.write(path, audio, 24000, subtype='FLOAT')
    with self.assertRaisesRegex(ValueError, message):
      io.read_audio(path, 24000)

  def test_rejects_a_rate_that_no_recording_has(self):
    path = self.dir / 'slow.wav'
    soundfile.write(path, np.zeros(100), 10)
    with self.assertRaisesRegex(ValueError, 'says 1 at 10 Hz. Export it again'):
      io.read_audio(path, 24000)

  @parameterized.parameters(
      ('a.wav', np.full(9, np.nan, np.float32), 24000, 'finite.*peaks at nan'),
      ('a.wav', np.full(9, 1.5, np.float32), 24000, 'peaks at 1.5. Divide it'),
      ('a.wav', np.zeros((1, 9), np.float32), 24000, r'shape \(1, 9\)'),
      ('a.wav', np.zeros(0, np.float32), 24000, r'shape \(0,\)'),
      ('a.aac', np.zeros(9, np.float32), 24000, 'one of .wav, .flac, .ogg'),
      ('a.mp3', np.zeros(9, np.float32), 12345, 'at 12345 Hz: .*24000'),
  )
  def test_writes_nothing_if_it_cannot(self, name, audio, rate, message):
    with self.assertRaisesRegex(ValueError, message):
      io.write_audio(self.dir / name, audio, rate)
    self.assertEmpty(list(self.dir.iterdir()))

  def test_a_failed_write_leaves_the_file_that_was_there(self):
    path = self.dir / 'a.mp3'
    path.write_bytes(b'before')
    with self.assertRaises(ValueError):
      io.write_audio(path, np.zeros(9, np.float32), 12345)
    self.assertEqual(path.read_bytes(), b'before')


class ResampleTest(parameterized.TestCase):

  @parameterized.parameters(
      (24000, 16000, 24000, 16000),
      (24000, 16000, 24001, 16001),
      (44100, 24000, 1, 1),
      (16000, 24000, 7, 11),
  )
  def test_length(self, from_rate, to_rate, samples, expected):
    audio = np.zeros((2, samples), np.float32)
    resampled = io.resample(audio, from_rate, to_rate)
    self.assertEqual(resampled.shape, (2, expected))

  def test_keeps_a_tone_and_drops_what_would_alias(self):
    audio = sine(1000, 1, 24000) + sine(10000, 1, 24000)
    np.testing.assert_allclose(
        io.resample(audio, 24000, 16000)[500:-500],
        sine(1000, 1, 16000)[500:-500],
        atol=1e-4,
    )

  def test_rows_are_resampled_on_their_own(self):
    rows = np.stack([sine(440, 0.1, 24000), sine(1000, 0.1, 24000)])
    np.testing.assert_array_equal(
        io.resample(rows, 24000, 16000)[1], io.resample(rows[1], 24000, 16000)
    )

  def test_stays_in_range(self):
    square = np.sign(sine(440, 1, 24000))
    self.assertLessEqual(np.abs(io.resample(square, 24000, 16000)).max(), 1)


if __name__ == '__main__':
  absltest.main()
