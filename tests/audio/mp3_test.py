"""Tests for mp3."""

import contextlib
import io
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.audio import mp3
import numpy as np
import soundfile

HEAD = b'\xff\xfb\x90\x64'  # MPEG-1 layer III, 128 kbps at 44.1 kHz, stereo.
FRAME = HEAD + bytes(413)


def encode(samples):
  buffer = io.BytesIO()
  audio = 0.1 * np.sin(np.arange(samples) ** 2 / 1e5)
  soundfile.write(buffer, audio, 44100, format='MP3')
  return buffer.getvalue(), audio


class Mp3Test(parameterized.TestCase):

  @parameterized.parameters(
      (HEAD, (417, 1152, 44100, 3, False, True)),
      (b'\xff\xfb\x92\x64', (418, 1152, 44100, 3, False, True)),
      (b'\xff\xf3\x84\xc4', (192, 576, 24000, 3, True, False)),
      (b'\xff\xe3\x18\xc4', (72, 576, 8000, 3, True, False)),
      (b'\xff\xfd\xa4\x00', (576, 1152, 48000, 2, False, True)),
      (b'\xff\xff\x40\x00', (136, 384, 44100, 1, False, True)),
      (b'\xff\xfb\x00\x64', None),  # A free bitrate.
      (b'\xff\xf1\x50\x80', None),  # AAC.
      (b'\xff\xfb\x9c\x64', None),  # A rate that there is not.
      (b'ID3\3', None),
      (b'\xff', None),
  )
  def test_parse_frame(self, header, expected):
    self.assertEqual(mp3.parse_frame(header), expected)

  @parameterized.parameters(
      (3 * FRAME, [3], 0),
      (bytes(99) + 3 * FRAME + bytes(99), [3], 0),
      (2 * FRAME + b'junk' + 2 * FRAME, [4], 4),
      (2 * FRAME + FRAME[:99], [2], 99),
      (2 * FRAME + b'TAG' + bytes(125) + 3 * FRAME, [2, 3], 0),
      (2 * FRAME + 3 * b'\xff\xf3\x84\xc4'.ljust(192, b'\0'), [2, 3], 0),
      (b'no sound', [], 8),
  )
  def test_find_segments(self, data, counts, junk):
    segments, found_junk = mp3.find_segments(data)
    self.assertEqual([len(s.spans) for s in segments], counts)
    self.assertEqual(found_junk, junk)

  def test_what_the_encoder_added_is_taken_off(self):
    data, audio = encode(30000)
    blocks = list(mp3.read_blocks(pathlib.Path('x'), data))
    self.assertEqual({rate for rate, _ in blocks}, {44100})
    samples = np.concatenate([samples for _, samples in blocks])
    self.assertEqual(samples.shape, (30000, 1))
    self.assertGreater(np.corrcoef(samples[:, 0], audio)[0, 1], 0.9)

  def test_refuses_fewer_frames_than_there_should_be(self):
    data, _ = encode(44100)
    with self.assertRaisesRegex(
        errors.UserError, 'x must last 1.0 s .* breaks off after 0.[45] s'
    ):
      list(mp3.read_blocks(pathlib.Path('x'), data[: len(data) // 2]))

  def test_says_what_is_left_out(self):
    data, _ = encode(44100)
    with contextlib.redirect_stderr(io.StringIO()) as said:
      list(mp3.read_blocks(pathlib.Path('x'), data + b'lyrics'))
    self.assertIn('x: 6 of its bytes', said.getvalue())


if __name__ == '__main__':
  absltest.main()
