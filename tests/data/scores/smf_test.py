"""Tests for smf."""

import struct

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import smf

NOTE = b'\x00\x90\x3c\x40\x83\x60\x3c\x00'  # A beat of middle C.
END = b'\x00\xff\x2f\x00'


def make_file(track, division=480):
  header = b'MThd' + struct.pack('>LHHH', 6, 1, 1, division)
  return header + b'MTrk' + struct.pack('>L', len(track)) + track


class ReadTest(parameterized.TestCase):

  def test_events_have_their_ticks(self):
    events = smf.read(make_file(NOTE + NOTE + END))
    self.assertEqual(events.ticks_per_beat, 480)
    self.assertEqual(
        [(tick, m.type) for tick, m in events.tracks[0]],
        [(0, 'note_on'), (480, 'note_on')]
        + [(480, 'note_on'), (960, 'note_on'), (960, 'end_of_track')],
    )
    first = events.tracks[0][0][1]
    self.assertEqual((first.note, first.velocity), (60, 64))

  @parameterized.parameters(
      (0xE728, 1000.0),  # 25 frames of 40 ticks.
      (0xE250, 2400.0),  # 30 of 80.
      (0xE364, 2997.003),  # 29.97 of 100.
  )
  def test_ticks_of_frames(self, division, expected):
    events = smf.read(make_file(NOTE + END, division))
    self.assertIsNone(events.ticks_per_beat)
    self.assertAlmostEqual(events.ticks_per_second, expected, places=3)

  def test_what_is_not_played_is_passed_over(self):
    others = (
        b'\x00\xf0\x02\x7e\xf7',  # Sysex.
        b'\x00\xa0\x3c\x01',  # Pressure of a key.
        b'\x00\xd0\x01',  # Pressure of a channel.
        b'\x00\xff\x59\x02\xee\x00',  # 18 flats.
        b'\x00\xff\x7f\x03\xff\xff\xff',  # Of a sequencer.
        b'\x00\xf2\x01\x01\x00\xf8',  # Of the system.
    )
    plain = smf.read(make_file(NOTE + END)).tracks
    self.assertEqual(
        smf.read(make_file(b''.join(others) + NOTE + END)).tracks, plain
    )

  def test_metres_and_tempos(self):
    (track,) = smf.read(
        make_file(
            b'\x00\xff\x51\x03\x07\xa1\x20\x00\xff\x58\x04\x06\x03\x18\x08'
            + END
        )
    ).tracks
    self.assertEqual(track[0][1].tempo, 500_000)
    metre = track[1][1]
    self.assertEqual((metre.numerator, metre.denominator), (6, 8))

  @parameterized.parameters(
      (b'', 'does not begin with a MIDI header'),
      (make_file(NOTE)[:-1], 'ends after 7 of 8 bytes of a chunk'),
      (make_file(NOTE[:-1]), 'breaks off in track 1'),
      (make_file(NOTE, 0), 'ticks of no length'),
      (make_file(b'\x80' * 5), 'number of more than four bytes'),
      (bytes(smf.MAX_BYTES + 1), 'bytes, over the limit'),
  )
  def test_says_what_is_wrong(self, data, message):
    with self.assertRaisesRegex(smf.MidiError, message):
      smf.read(data)


if __name__ == '__main__':
  absltest.main()
