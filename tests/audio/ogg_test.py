"""Tests for ogg."""

import pathlib
import struct

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.audio import ogg

FIRST, LAST = 2, 4


def page(flags, number, serial=7, body=b'sound'):
  """Returns a page, its checksum computed bit by bit (RFC 3533)."""
  head = struct.pack('<4sBBqII', b'OggS', 0, flags, 0, serial, number)
  tail = bytes([1, len(body)]) + body
  register = 0
  for byte in head + bytes(4) + tail:
    register ^= byte << 24
    for _ in range(8):
      register = register << 1 ^ (0x104C11DB7 if register >> 31 else 0)
  return head + struct.pack('<I', register) + tail


ONE = page(FIRST, 0) + page(0, 1) + page(LAST, 2)
LENGTH = len(ONE)


class OggTest(parameterized.TestCase):

  def find(self, data):
    return ogg.find_links(pathlib.Path('x.ogg'), data)

  @parameterized.parameters(
      (ONE, [(0, LENGTH, 1)]),
      (ONE + b'junk', [(0, LENGTH, 1)]),
      (2 * ONE, [(0, LENGTH, 1), (LENGTH, 2 * LENGTH, 1)]),
      (
          page(FIRST, 0) + page(FIRST, 0, 8) + page(LAST, 1) + page(LAST, 1, 8),
          [(0, 4 * len(page(0, 0)), 2)],
      ),
  )
  def test_links(self, data, expected):
    self.assertEqual(self.find(data), expected)

  @parameterized.parameters(
      (ONE[:-1], 'breaks off in one'),
      (ONE[: LENGTH // 3 * 2], 'marked as its last'),
      (page(FIRST, 0) + page(0, 1) + ONE, 'marked as its last'),
      (page(FIRST, 0) + page(LAST, 2), 'pages are missing before byte 33'),
      (ONE[:40] + b'!' + ONE[41:], 'checksum of its page at byte 33'),
      (page(FIRST, 0) + b'junk' + page(LAST, 1), 'damaged at byte 33'),
      (b'junk', 'has no samples'),
  )
  def test_refuses(self, data, reason):
    with self.assertRaisesRegex(errors.UserError, f'x.ogg must .*{reason}'):
      self.find(data)


if __name__ == '__main__':
  absltest.main()
