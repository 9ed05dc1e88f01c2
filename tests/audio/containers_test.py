"""Tests for containers."""

import contextlib
import io
import pathlib
import struct
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.audio import containers


def chunk(name, body, length=None):
  return (
      name + struct.pack('<I', len(body) if length is None else length) + body
  )


def wav(*chunks):
  body = b'WAVE' + chunk(b'fmt ', bytes(16)) + b''.join(chunks)
  return b'RIFF' + struct.pack('<I', len(body)) + body


def box(name, body, length=None):
  return (
      struct.pack('>I', 8 + len(body) if length is None else length)
      + name
      + (body)
  )


class ContainersTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'x'

  def check(self, data):
    self.path.write_bytes(data)
    return containers.check_whole(self.path, *containers.open_kind(self.path))

  @parameterized.parameters(
      (b'RIFF\0\0\0\0WAVE', 'wav'),
      (b'RF64\0\0\0\0WAVE', 'rf64'),
      (b'RIFF\0\0\0\0AVI ', ''),
      (b'FORM\0\0\0\0AIFC', 'aiff'),
      (b'\0\0\0\x20ftypM4A ', 'mp4'),
      (b'fLaC', 'flac'),
      (b'OggS', 'ogg'),
      (b'\xff\xfb\x90\x64', 'mp3'),
      (b'\xff\xf1\x50\x80', ''),  # AAC.
      (b'', ''),
  )
  def test_find_kind(self, head, kind):
    self.assertEqual(containers.find_kind(head), kind)

  def test_kinds_behind_tags(self):
    self.path.write_bytes(b'ID3\3\0\0\0\0\1\2' + bytes(130) + b'fLaC')
    self.assertEqual(containers.open_kind(self.path), ('flac', 140))

  @parameterized.parameters(
      (wav(chunk(b'data', bytes(9))), True),
      (wav(chunk(b'data', bytes(9)), b'\0' + chunk(b'LIST', b'')), True),
      (wav(chunk(b'data', b''), b'\1\2\3\4' * 99), False),
      (wav(chunk(b'data', b'')), True),
      (wav(chunk(b'data', bytes(9), 0xFFFFFFFF)), False),
      (box(b'ftyp', b'M4A ') + box(b'mdat', bytes(99)), True),
      (box(b'ftyp', b'M4A ') + box(b'mdat', bytes(99), 0), False),
      (b'\x1aE\xdf\xa3\x81\0' + b'\x18S\x80\x67\x84' + bytes(4), True),
      (b'\x1aE\xdf\xa3\x81\0' + b'\x18S\x80\x67\xff' + bytes(4), False),
  )
  def test_whether_the_end_is_known(self, data, expected):
    self.assertEqual(self.check(data), expected)

  @parameterized.parameters(
      (wav(chunk(b'data', bytes(9), 999)), 'must hold 1043 bytes.* after 53'),
      (wav(chunk(b'data', bytes(4))) * 2, 'another begins within it'),
      (box(b'ftyp', b'M4A ') + box(b'mdat', bytes(99), 999), 'breaks off'),
      (b'.snd' + struct.pack('>II', 24, 999) + bytes(99), 'must hold 1023'),
      (b'\x1aE\xdf\xa3\x81\0' + b'\x18S\x80\x67\xf0' + bytes(4), 'must hold'),
      (
          wav(chunk(b'data', bytes(4)), b'\1' * 9999),
          'ends the sound at byte 48',
      ),
  )
  def test_refuses(self, data, reason):
    with self.assertRaisesRegex(errors.UserError, reason):
      self.check(data)

  def test_says_what_else_is_there(self):
    data = wav(chunk(b'data', bytes(99999)), b'\0' + b'\1' * 9999)
    with contextlib.redirect_stderr(io.StringIO()) as said:
      self.assertTrue(self.check(data))
    self.assertIn('9999 bytes after the end of its sound', said.getvalue())


if __name__ == '__main__':
  absltest.main()
