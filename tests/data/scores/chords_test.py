"""Tests for chords."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import chords
from musiclm_jax.data.scores import notation
import numpy as np


def make_score(notes, is_drums=False):
  """Returns a score of (start, end, pitch)s."""
  start, end, pitch = map(np.array, zip(*notes))
  return notation.Score(
      parts=(notation.Part('', 0, is_drums=is_drums),),
      start=start.astype(float),
      end=end.astype(float),
      pitch=pitch,
      velocity=np.full(len(notes), 80),
      volume=np.ones(len(notes)),
      part=np.zeros(len(notes), int),
  )


def triad(root, third, start=0.0, end=2.0):
  return [(start, end, root + i) for i in (0, third, 7)]


class ChordFramesTest(parameterized.TestCase):

  @parameterized.product(root=tuple(range(12)), minor=(False, True))
  def test_every_triad_has_its_name(self, root, minor):
    score = make_score(triad(48 + root, 3 if minor else 4))
    frames = chords.chord_frames(score, 0.0, 100)
    self.assertEqual(frames.dtype, np.int8)
    np.testing.assert_array_equal(frames, root + 12 * minor)

  def test_changes_where_the_notes_do(self):
    score = make_score(triad(48, 4, 0, 2) + triad(57, 3, 2, 4))
    frames = chords.chord_frames(score, 0.0, 200)
    # C and A minor share two of three notes: the change is at 2 s.
    self.assertEqual(frames[0], chords.NAMES.index('C major'))
    self.assertEqual(frames[-1], chords.NAMES.index('A minor'))
    change = np.flatnonzero(frames == chords.NAMES.index('A minor'))[0]
    self.assertBetween(change, 95, 106)

  def test_start_shifts(self):
    score = make_score(triad(48, 4, 0, 2) + triad(55, 4, 2, 4))
    np.testing.assert_array_equal(
        chords.chord_frames(score, 1.0, 100),
        chords.chord_frames(score, 0.0, 150)[50:],
    )

  def test_what_is_no_chord(self):
    frames = chords.chord_frames(make_score([(0, 2, 60), (0, 2, 67)]), 0.0, 100)
    np.testing.assert_array_equal(frames, chords.NO_CHORD)
    cluster = make_score([(0, 2, pitch) for pitch in range(60, 72)])
    np.testing.assert_array_equal(
        chords.chord_frames(cluster, 0.0, 100), chords.NO_CHORD
    )

  def test_silence_and_drums_have_none(self):
    score = make_score(triad(48, 4, 0, 1))
    self.assertEqual(chords.chord_frames(score, 5.0, 1)[0], chords.NO_CHORD)
    drums = make_score(triad(48, 4), is_drums=True)
    np.testing.assert_array_equal(
        chords.chord_frames(drums, 0.0, 10), chords.NO_CHORD
    )

  def test_passing_notes_do_not_hide_a_chord(self):
    score = make_score([*triad(48, 4), (0.5, 0.7, 62)])
    np.testing.assert_array_equal(chords.chord_frames(score, 0.0, 100), 0)


if __name__ == '__main__':
  absltest.main()
