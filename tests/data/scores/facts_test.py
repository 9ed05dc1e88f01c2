"""Tests for facts."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import mido
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import facts
from musiclm_jax.data.scores import notation
import numpy as np

Role = arranging.Role
# Eight bars of C major: its triad, its scale, its triad.
NOTES = (60, 64, 67, 72, 60, 62, 64, 65, 67, 69, 71, 72, 60, 64, 67, 72)


def make_arrangement(length=0.9, velocity=80, **changes):
  """Returns a flute melody of a note per second over one held cello note."""
  start = np.arange(len(NOTES) + 1, dtype=float)
  start[-1] = 0.0
  end = start + length
  end[-1] = len(NOTES)
  score = notation.Score(
      parts=(notation.Part('MELODY', 73), notation.Part('', 42)),
      start=start,
      end=end,
      pitch=np.array([*NOTES, 48]),
      velocity=np.full(len(start), velocity),
      volume=np.ones(len(start)),
      part=np.array([0] * len(NOTES) + [1]),
      tempos=((0.0, 60.0),),
      metres=((0.0, '4/4'),),
  )
  score = dataclasses.replace(score, **changes)
  return arranging.Arrangement(score, (Role.MELODY, Role.BASS))


NOTHING_KNOWN = facts.Metadata()


def describe(arrangement, metadata=NOTHING_KNOWN, start=0.0, end=16.0):
  key = facts.find_key(arrangement, metadata)
  return facts.describe(arrangement, metadata, key, start, end)


class DescribeTest(parameterized.TestCase):

  def test_of_the_notes(self):
    described = describe(make_arrangement())
    self.assertEqual(set(described.instruments), {'flute', 'cello'})
    self.assertEqual(described.melody, 'flute')
    self.assertFalse(described.is_solo)
    self.assertEqual(described.key, 'C major')
    self.assertEqual(described.bpm, 60.0)
    self.assertEqual(described.metre, '4/4')
    self.assertEqual(described.onset_rate, 1.0)
    self.assertEqual(described.words, ('sparse',))

  def test_metadata_follows_the_arrangement(self):
    arrangement = dataclasses.replace(
        make_arrangement(), transposition=2, tempo_factor=1.5
    )
    arrangement = dataclasses.replace(
        arrangement, score=arrangement.score.transpose(2).accelerate(1.5)
    )
    metadata = facts.Metadata(key='C major', tempo=100.0, metre='2/4')
    described = describe(arrangement, metadata, end=10.0)
    self.assertEqual(described.key, 'D major')
    self.assertEqual(described.bpm, 150.0)
    self.assertEqual(described.metre, '2/4')

  def test_a_key_that_the_clip_belies_is_no_fact(self):
    metadata = facts.Metadata(key='E minor')
    self.assertIsNone(describe(make_arrangement(), metadata).key)

  def test_a_metre_may_be_unknown(self):
    metadata = facts.Metadata(metre=facts.UNKNOWN)
    self.assertIsNone(describe(make_arrangement(), metadata).metre)

  def test_only_what_sounds_in_the_clip(self):
    arrangement = make_arrangement()
    score = arrangement.score
    score = score.select((score.part == 1) | (score.start < 5))
    arrangement = dataclasses.replace(arrangement, score=score)
    described = describe(arrangement, start=8.0)
    self.assertEqual(described.instruments, ('cello',))
    self.assertTrue(described.is_solo)
    self.assertIsNone(described.melody)

  def test_the_melody_must_be_the_only_one_of_its_kind(self):
    parts = (notation.Part('MELODY', 42), notation.Part('', 42))
    described = describe(make_arrangement(parts=parts))
    self.assertEqual(described.instruments, ('cello',))
    self.assertIsNone(described.melody)
    self.assertTrue(described.is_solo)

  @parameterized.parameters(
      ({'velocity': 30}, 'soft'), ({'velocity': 120}, 'loud')
  )
  def test_dynamics(self, changes, word):
    self.assertIn(word, describe(make_arrangement(**changes)).words)

  def test_register(self):
    score = make_arrangement().score
    high = describe(make_arrangement(pitch=score.pitch + 24))
    low = describe(make_arrangement(pitch=score.pitch - 24))
    self.assertIn('high-pitched', high.words)
    self.assertIn('low-pitched', low.words)

  def test_staccato_unless_a_pedal_holds(self):
    def words(**changes):
      arrangement = make_arrangement(length=0.2, **changes)
      start = arrangement.score.start * 0.5
      score = dataclasses.replace(
          arrangement.score, start=start, end=start + 0.2
      )
      arrangement = dataclasses.replace(arrangement, score=score)
      return describe(arrangement, end=8.0).words

    self.assertIn('staccato', words())
    pedal = mido.Message('control_change', control=64, value=127)
    self.assertNotIn('staccato', words(controls=((0.0, 0, pedal),)))

  def test_rejects_a_rest(self):
    with self.assertRaisesRegex(ValueError, 'none sounds in 50-60 s'):
      describe(make_arrangement(), start=50.0, end=60.0)


class FormTest(parameterized.TestCase):

  @parameterized.parameters(
      ('Valse brillante', 'waltz'),
      ('Prelude and Fugue', 'prelude'),
      ('Präludium', 'prelude'),
      ('Moonlight', ''),
      ('Marching on', ''),
      ('Minuet in G, from a sonata', 'minuet'),
  )
  def test_is_named_by_the_title(self, title, form):
    self.assertEqual(facts.find_form(title), form)

  def test_three_beats_are_no_waltz(self):
    metadata = facts.Metadata(metre='3/4')
    self.assertEqual(describe(make_arrangement(), metadata).form, '')


if __name__ == '__main__':
  absltest.main()
