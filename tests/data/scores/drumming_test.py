"""Tests for drumming."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import drumming
from musiclm_jax.tokenizers import terms
import numpy as np

from tests.data.scores import arranging_test

METRES = list(terms.METRES)
DUET = arranging_test.BAND.select(np.isin(arranging_test.BAND.part, [0, 2]))


def beats_of(metre, count=9, seconds=0.5):
  """Returns steady beats from the first of a bar on."""
  per_bar = terms.METRES[metre].beats
  return np.array(
      [(i * seconds, i % per_bar, METRES.index(metre)) for i in range(count)],
      float,
  )


def accompany(score, beats, tries=40):
  """Returns arrangements of several draws."""
  arrangement = arranging.Arrangement(score, arranging.find_roles(score))
  return [
      drumming.accompany(arrangement, beats, np.random.default_rng(seed))
      for seed in range(tries)
  ]


class DrummingTest(parameterized.TestCase):

  @parameterized.parameters('4/4', '3/4', '2/4', '6/8')
  def test_the_first_beat_of_each_bar_is_kicked(self, metre):
    beats = beats_of(metre)
    drummed = [a for a in accompany(DUET, beats) if a.score.is_drums.any()]
    self.assertBetween(len(drummed), 10, 30)  # Half of them.
    last = DUET.start.max()
    bars = [t for t, number, _ in beats[:-1] if number == 0 and t <= last]
    for arrangement in drummed:
      score = arrangement.score
      kicks = score.start[score.is_drums & (score.pitch == 36)]
      self.assertContainsSubset(bars, kicks.tolist())
      self.assertTrue(np.all(np.diff(score.start) >= 0))
      self.assertLessEqual(score.start.max(), last)
      self.assertEqual(arrangement.roles[-1], arranging.Role.DRUMS)
      self.assertTrue(score.parts[-1].is_drums)
      kept = score.select(~score.is_drums)
      np.testing.assert_array_equal(kept.pitch, DUET.pitch)

  def test_strokes_divide_beats_that_slow_down(self):
    beats = beats_of('3/4', 4)
    beats[:, 0] = [0.0, 1.0, 2.0, 4.0]
    found = {
        tuple(np.unique(a.score.start[a.score.is_drums]))
        for a in accompany(dataclasses.replace(DUET), beats)
    }
    eighths = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    self.assertIn(eighths, found)

  def test_nothing_is_added_to_solos_drums_and_unknown_beats(self):
    unknown = beats_of('4/4')
    unknown[:, 1:] = -1
    solo = DUET.select(DUET.part == 0)
    cases = [
        (arranging_test.BAND, beats_of('4/4')),
        (solo, beats_of('4/4')),
        (DUET, unknown),
        (DUET, beats_of('5/4')),
        (DUET, np.zeros((0, 3))),
    ]
    for score, beats in cases:
      for arrangement in accompany(score, beats):
        self.assertIs(arrangement.score, score)


if __name__ == '__main__':
  absltest.main()
