"""Tests for alignment."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import alignment
from musiclm_jax.data.scores import facts
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import planned
from musiclm_jax.tokenizers import terms
import numpy as np

TRIADS = ((48, 52, 55), (53, 57, 60), (55, 59, 62), (45, 48, 52))


def make_song(beats_in_bar, late=0.0, num_bars=16, off_beats=True):
  """Returns a score of 120 bpm: a chord for each bar, struck on each beat.

  And, as most songs have, softer notes between the beats.
  """
  start, pitch, length = [], [], []
  for beat in range(num_bars * beats_in_bar):
    for note in TRIADS[beat // beats_in_bar % 4]:
      start.append(beat + late)
      pitch.append(note)
      length.append(1.0)
    if off_beats:
      start.append(beat + late + 0.5)
      pitch.append(72)
      length.append(0.5)
  order = np.argsort(start, kind='stable')
  start, length = 0.5 * np.array(start)[order], 0.5 * np.array(length)[order]
  count = len(start)
  return notation.Score(
      parts=(notation.Part('', 0),),
      start=start,
      end=start + length,
      pitch=np.array(pitch)[order],
      velocity=np.full(count, 80),
      volume=np.ones(count),
      part=np.zeros(count, int),
      tempos=((0.0, 120.0),),
      metres=((0.0, '4/4'),),
  )


class ShiftTest(parameterized.TestCase):

  @parameterized.parameters((0.0, 0.0), (0.03, 0.0), (0.3, 0.3), (0.77, 0.77))
  def test_beats_are_where_most_notes_begin(self, late, expected):
    score = make_song(4, late)
    found = alignment.shift(score, score.start / 0.5)
    self.assertAlmostEqual(found, expected, delta=0.005)

  def test_notes_that_begin_anywhere_have_no_beat(self):
    score = make_song(4)
    anywhere = np.random.default_rng(0).uniform(0, 64, len(score.start))
    self.assertIsNone(alignment.shift(score, anywhere))


class BarsTest(parameterized.TestCase):

  @parameterized.product(beats=(3, 4), late=(0, 1, 2))
  def test_bars_begin_with_another_chord(self, beats, late):
    score = make_song(beats, late)
    bars = alignment.find_bars(score, score.start * 2, score.end * 2)
    self.assertEqual(bars, (beats, late % beats))

  def test_one_chord_has_no_bars(self):
    score = make_song(64, num_bars=1)
    self.assertIsNone(
        alignment.find_bars(score, score.start * 2, score.end * 2)
    )

  def test_drums_have_no_bars(self):
    score = make_song(4)
    drums = notation.Score(
        **{**vars(score), 'parts': (notation.Part('', 0, is_drums=True),)}
    )
    self.assertIsNone(alignment.find_bars(drums, score.start, score.end))


class BeatsTest(parameterized.TestCase):
  """What the file says counts, unless the notes contradict it."""

  @parameterized.parameters((3, 0.3), (4, 0.3), (3, 2.4), (4, 5.5))
  def test_files_that_start_anywhere(self, beats_in_bar, late):
    score = make_song(beats_in_bar, late)
    beats = planned.find_beats(score, facts.Metadata())
    bars = beats[beats[:, 1] == 0, 0]
    distance = np.abs(bars[:, None] - score.start).min(axis=1)
    within = bars[bars < score.seconds - 0.1]
    np.testing.assert_allclose(
        distance[: len(within)][late > 1 :], 0, atol=0.01
    )
    np.testing.assert_allclose(np.diff(bars), beats_in_bar / 2, atol=1e-6)
    phase = (within - late / 2) / (beats_in_bar / 2)
    np.testing.assert_allclose(phase, np.round(phase), atol=0.02)
    metre = [*terms.METRES].index(f'{beats_in_bar}/4')
    np.testing.assert_array_equal(beats[:, 2], metre)

  def test_a_file_that_is_right_is_left_alone(self):
    beats = planned.find_beats(make_song(3), facts.Metadata())
    np.testing.assert_array_equal(beats[:8, 1], [0, 1, 2, 3] * 2)
    np.testing.assert_allclose(beats[:3, 0], [0, 0.5, 1])
    # Unless its metre is known to be made up.
    beats = planned.find_beats(make_song(3), facts.Metadata(metre='unknown'))
    np.testing.assert_array_equal(beats[:6, 1], [0, 1, 2] * 2)


if __name__ == '__main__':
  absltest.main()
