"""Tests for analysis."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import notation
import numpy as np

MAJOR = (0, 2, 4, 5, 7, 9, 11, 12)
PIANO = (notation.Part('', 0),)
HARMONIC_MINOR = (0, 2, 3, 5, 7, 8, 11, 12)


def make_score(pitches, parts=PIANO, part=None, **fields):
  """Returns a score of one note per second."""
  start = np.arange(len(pitches), dtype=float)
  return notation.Score(
      parts=parts,
      start=start,
      end=start + 1,
      pitch=np.array(pitches),
      velocity=np.full(len(pitches), 80),
      volume=np.ones(len(pitches)),
      part=np.zeros(len(pitches), int) if part is None else np.array(part),
      **fields,
  )


class KeyTest(parameterized.TestCase):

  @parameterized.product(tonic=tuple(range(12)), mode=analysis.MODES)
  def test_scales(self, tonic, mode):
    scale = MAJOR if mode == 'major' else HARMONIC_MINOR
    # The tonic triad after it, as pieces end.
    triad = (0, 4, 7) if mode == 'major' else (0, 3, 7)
    score = make_score([48 + tonic + i for i in (*scale, *triad)])
    self.assertEqual(
        analysis.estimate_key(score), f'{analysis.TONICS[mode][tonic]} {mode}'
    )

  def test_all_notes_alike_have_no_key(self):
    self.assertIsNone(analysis.estimate_key(make_score(range(60, 72))))

  def test_drums_have_no_key(self):
    drums = (notation.Part('', 0, is_drums=True),)
    score = make_score([36, 38, 42, 36], drums)
    self.assertIsNone(analysis.estimate_key(score))

  @parameterized.parameters(
      ('A minor', 3, 'C minor'),
      ('Bb', 0, 'Bb major'),
      ('F#m', -1, 'F minor'),
      ('D# major', 0, 'Eb major'),
      ('Cb major', 0, 'B major'),
      ('e♭ min', 12, 'Eb minor'),
  )
  def test_transpose(self, key, semitones, expected):
    self.assertEqual(analysis.transpose_key(key, semitones), expected)

  @parameterized.parameters('', 'H major', 'C lydian')
  def test_rejects(self, key):
    with self.assertRaisesRegex(ValueError, f"must be like.*is '{key}'"):
      analysis.transpose_key(key, 0)


class TempoTest(parameterized.TestCase):

  @parameterized.parameters(
      ('4/4', 90.0), ('6/8', 60.0), ('2/2', 45.0), (None, 90.0)
  )
  def test_beats_depend_on_the_metre(self, metre, bpm):
    score = make_score([60], tempos=((0.0, 90.0),))
    self.assertEqual(analysis.find_tempo(score, 0.0, 1.0, metre), bpm)

  def test_only_a_steady_tempo_is_known(self):
    score = make_score([60], tempos=((0.0, 90.0), (5.0, 120.0)))
    self.assertEqual(analysis.find_tempo(score, 0.0, 5.0, None), 90.0)
    self.assertEqual(analysis.find_tempo(score, 5.0, 9.0, None), 120.0)
    self.assertIsNone(analysis.find_tempo(score, 4.0, 6.0, None))
    self.assertIsNone(analysis.find_tempo(make_score([60]), 0.0, 1.0, None))

  def test_metre(self):
    score = make_score([60], metres=((0.0, '3/4'), (4.0, '1/4')))
    self.assertEqual(analysis.find_metre(score, 0.0, 4.0), '3/4')
    self.assertIsNone(analysis.find_metre(score, 2.0, 6.0))
    self.assertIsNone(analysis.find_metre(score, 5.0, 6.0))


class PartsTest(absltest.TestCase):

  def test_what_is_faint_is_not_heard(self):
    parts = (notation.Part('', 0), notation.Part('', 40), notation.Part('', 73))
    score = make_score([60, 60, 60, 60], parts, [0, 1, 1, 2])
    score.volume[3] = 0.05
    self.assertEqual(analysis.heard_parts(score), [1, 0])

  def test_names(self):
    self.assertEqual(analysis.part_name(notation.Part('', 73)), 'flute')
    self.assertEqual(analysis.part_name(notation.Part('', 73, True)), 'drums')


class MelodyTest(absltest.TestCase):

  def test_frames_of_the_melody_part(self):
    parts = (notation.Part('MELODY', 0), notation.Part('PIANO', 0))
    score = make_score([60, 100, 64], parts, [0, 1, 0])
    melody, chords = arranging.Role.MELODY, arranging.Role.CHORDS
    arrangement = arranging.Arrangement(score, (melody, chords))
    frames = analysis.melody_frames(arrangement, 0.5, 150)
    self.assertEqual(frames.dtype, np.int8)
    # Half a second of the first note, a rest, the third note, silence.
    expected = [60] * 25 + [-1] * 50 + [64] * 50 + [-1] * 25
    np.testing.assert_array_equal(frames, expected)

  def test_the_highest_note_where_no_part_is_a_melody(self):
    score = make_score([60, 70])
    score = notation.Score(**{**vars(score), 'start': np.array([0.0, 0.2])})
    arrangement = arranging.Arrangement(score, (arranging.Role.CHORDS,))
    frames = analysis.melody_frames(arrangement, 0.0, 50)
    np.testing.assert_array_equal(frames, [60] * 10 + [70] * 40)


if __name__ == '__main__':
  absltest.main()
