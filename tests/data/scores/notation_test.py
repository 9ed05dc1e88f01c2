"""Tests for midi."""

import io
import pathlib
import tempfile

from absl.testing import absltest
import mido
from musiclm_jax.data.scores import notation
import numpy as np


def make_file(*tracks, ticks_per_beat=480):
  """Returns a MIDI file of [(type, {fields, time})] tracks."""
  midi_file = mido.MidiFile(ticks_per_beat=ticks_per_beat)
  for messages in tracks:
    track = mido.MidiTrack()
    for kind, fields in messages:
      if kind in mido.midifiles.meta._META_SPEC_BY_TYPE:
        track.append(mido.MetaMessage(kind, **fields))
      else:
        track.append(mido.Message(kind, **fields))
    midi_file.tracks.append(track)
  stream = io.BytesIO()
  midi_file.save(file=stream)
  stream.seek(0)
  return stream


def make_score(notes, parts=None, **fields):
  """Returns a score of (start, end, pitch, part) notes."""
  start, end, pitch, part = zip(*notes)
  parts = parts or [notation.Part('', 0)] * (max(part) + 1)
  return notation.Score(
      parts=tuple(parts),
      start=np.array(start, float),
      end=np.array(end, float),
      pitch=np.array(pitch),
      velocity=np.full(len(notes), 80),
      volume=np.ones(len(notes)),
      part=np.array(part),
      **fields,
  )


class ReadTest(absltest.TestCase):

  def test_times_follow_the_tempo_map(self):
    # A beat at 120 bpm, then at 60 bpm from the middle of the second note.
    score = notation.read_midi(
        make_file(
            [
                ('set_tempo', {'tempo': 500_000}),
                ('set_tempo', {'tempo': 1_000_000, 'time': 720}),
                ('time_signature', {'numerator': 3, 'denominator': 4}),
            ],
            [
                ('note_on', {'note': 60, 'velocity': 9}),
                ('note_on', {'note': 60, 'velocity': 0, 'time': 480}),
                ('note_on', {'note': 64, 'velocity': 99}),
                ('note_off', {'note': 64, 'time': 480}),
            ],
        )
    )
    np.testing.assert_allclose(score.start, [0.0, 0.5])
    np.testing.assert_allclose(score.end, [0.5, 1.25])
    np.testing.assert_array_equal(score.pitch, [60, 64])
    np.testing.assert_array_equal(score.velocity, [9, 99])
    self.assertEqual(score.tempos, ((0.0, 120.0), (0.75, 60.0)))
    self.assertEqual(score.metres, ((0.75, '3/4'),))

  def test_a_part_is_a_program_of_a_track_and_channel(self):
    def note(channel):
      return [
          ('note_on', {'note': 60, 'channel': channel}),
          ('note_off', {'note': 60, 'channel': channel, 'time': 10}),
      ]

    score = notation.read_midi(
        make_file(
            [('track_name', {'name': 'MELODY '}), *note(0)],
            [
                ('program_change', {'program': 40, 'channel': 1}),
                *note(1),
                ('program_change', {'program': 73, 'channel': 1}),
                *note(1),
                *note(9),
            ],
        )
    )
    self.assertEqual(
        score.parts,
        (
            notation.Part('MELODY', 0),
            notation.Part('', 40),
            notation.Part('', 73),
            notation.Part('', 0, is_drums=True),
        ),
    )

  def test_faders_are_volume(self):
    score = notation.read_midi(
        make_file(
            [
                ('control_change', {'control': 7, 'value': 0}),
                ('note_on', {'note': 60}),
                ('note_off', {'note': 60, 'time': 10}),
                ('control_change', {'control': 7, 'value': 127}),
                ('note_on', {'note': 60}),
                ('note_off', {'note': 60, 'time': 10}),
            ]
        )
    )
    np.testing.assert_array_equal(score.volume, [0.0, 1.0])

  def test_a_note_that_is_not_released_ends_with_its_track(self):
    score = notation.read_midi(
        make_file([('note_on', {'note': 60}), ('end_of_track', {'time': 960})])
    )
    np.testing.assert_allclose(score.end, [1.0])

  def test_rejects_what_is_no_midi(self):
    with self.assertRaisesRegex(ValueError, 'must be a MIDI file'):
      notation.read_midi(io.BytesIO(b'MThd but cut'))

  def test_rejects_a_file_without_notes(self):
    with self.assertRaisesRegex(ValueError, 'must have notes'):
      notation.read_midi(make_file([('text', {'text': 'nothing'})]))


class WriteTest(absltest.TestCase):

  def test_round_trip(self):
    pedal = mido.Message('control_change', control=64, value=127)
    parts = (
        notation.Part('', 5),
        notation.Part('', 40),
        notation.Part('', 0, True),
    )
    score = make_score(
        [(0.0, 1.0, 60, 0), (0.5, 0.75, 40, 2), (1.0, 2.0, 60, 1)],
        parts,
        controls=((0.25, 1, pedal),),
    )
    path = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'score.mid'
    )
    notation.write_midi(score, path)
    read = notation.read_midi(path)
    np.testing.assert_allclose(read.start, score.start, atol=1e-3)
    np.testing.assert_allclose(read.end, score.end, atol=1e-3)
    programs = [(p.program, p.is_drums) for p in read.parts]
    self.assertEqual(
        [programs[p] for p in read.part], [(5, False), (0, True), (40, False)]
    )
    ((second, part, message),) = read.controls
    self.assertAlmostEqual(second, 0.25, places=3)
    self.assertEqual(programs[part], (40, False))
    self.assertEqual(message.value, 127)

  def test_a_repeated_note_sounds_again(self):
    score = make_score([(0.0, 1.0, 60, 0), (1.0, 2.0, 60, 0)])
    path = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'score.mid'
    )
    notation.write_midi(score, path)
    np.testing.assert_allclose(notation.read_midi(path).start, [0.0, 1.0])

  def test_parts_with_a_program_share_channels_where_these_run_out(self):
    notes = [(i, i + 1, 60, i) for i in range(30)]
    parts = [notation.Part('', i % 15) for i in range(30)]
    path = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'score.mid'
    )
    notation.write_midi(make_score(notes, parts), path)
    self.assertLen(notation.read_midi(path).parts, 15)
    parts = [notation.Part('', i % 16) for i in range(30)]
    with self.assertRaisesRegex(ValueError, 'at most 15 programs.*16'):
      notation.write_midi(make_score(notes, parts), path)


class ChangeTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.score = make_score(
        [(1.0, 3.0, 60, 0), (2.0, 4.0, 36, 1), (4.0, 5.0, 125, 0)],
        (notation.Part('', 0), notation.Part('', 0, is_drums=True)),
        tempos=((0.0, 60.0), (2.0, 90.0)),
    )

  def test_transpose_keeps_drums_and_drops_what_midi_lacks(self):
    score = self.score.transpose(5)
    np.testing.assert_array_equal(score.pitch, [65, 36])

  def test_accelerate(self):
    score = self.score.accelerate(2.0)
    np.testing.assert_allclose(score.start, [0.5, 1.0, 2.0])
    self.assertEqual(score.tempos, ((0.0, 120.0), (1.0, 180.0)))

  def test_crop_cuts_notes(self):
    score = self.score.crop(2.5, 4.0)
    np.testing.assert_allclose(score.start, [2.5, 2.5])
    np.testing.assert_allclose(score.end, [3.0, 4.0])

  def test_trim_begins_with_a_note(self):
    score = self.score.trim()
    np.testing.assert_allclose(score.start, [0.0, 1.0, 3.0])
    self.assertEqual(score.tempos, ((0.0, 60.0), (1.0, 90.0)))


if __name__ == '__main__':
  absltest.main()
