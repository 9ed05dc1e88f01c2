"""Tests for arranging."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import mido
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import notation
import numpy as np

Role = arranging.Role
CHORD = (60, 64, 67)


def make_score(parts, pitches):
  """Returns a score in which each part repeats its pitches as chords."""
  notes = [
      (beat, beat + 1.0, pitch, part)
      for beat in range(4)
      for part, chord in enumerate(pitches)
      for pitch in chord
  ]
  start, end, pitch, part = map(np.array, zip(*notes))
  return notation.Score(
      parts=tuple(parts),
      start=start.astype(float),
      end=end,
      pitch=pitch,
      velocity=np.full(len(notes), 80),
      volume=np.ones(len(notes)),
      part=part,
      tempos=((0.0, 100.0),),
  )


BAND = make_score(
    [
        notation.Part('MELODY', 0),
        notation.Part('PIANO', 0),
        notation.Part('', 33),
        notation.Part('', 0, is_drums=True),
    ],
    [(76,), CHORD, (40,), (36,)],
)


class RolesTest(absltest.TestCase):

  def test_names_and_programs(self):
    self.assertEqual(
        arranging.find_roles(BAND),
        (Role.MELODY, Role.CHORDS, Role.BASS, Role.DRUMS),
    )

  def test_the_highest_line_is_the_melody(self):
    parts = [notation.Part('', p) for p in (0, 0, 0, 0)]
    score = make_score(parts, [CHORD, (67,), (72,), (36,)])
    self.assertEqual(
        arranging.find_roles(score),
        (Role.CHORDS, Role.CHORDS, Role.MELODY, Role.BASS),
    )

  def test_a_lone_part_is_no_melody(self):
    score = make_score([notation.Part('', 0)], [CHORD])
    self.assertEqual(arranging.find_roles(score), (Role.CHORDS,))

  def test_polyphony(self):
    self.assertAlmostEqual(arranging.polyphony(BAND, 0), 1.0)
    self.assertAlmostEqual(arranging.polyphony(BAND, 1), 3.0)


class ArrangeTest(parameterized.TestCase):

  @parameterized.parameters(range(20))
  def test_properties(self, seed):
    arrangement = arranging.arrange(BAND, np.random.default_rng(seed))
    score, shift = arrangement.score, arrangement.transposition
    factor = arrangement.tempo_factor
    self.assertBetween(shift, -5, 5)
    self.assertBetween(factor, 0.7, 1.3)
    self.assertEqual(score.tempos, ((0.0, 100.0 * factor),))
    self.assertNotEmpty(score.select(~score.is_drums).start)
    playing = set(score.part[~score.is_drums].tolist())
    self.assertIn(playing, [{0, 1, 2}, {0}])
    for part in playing:
      played = score.select(score.part == part)
      written = BAND.select(BAND.part == part)
      (moved,) = set(played.pitch - written.pitch - shift)
      self.assertEqual(moved % 12, 0)
      np.testing.assert_allclose(played.start * factor, written.start)
    drums = score.pitch[score.is_drums]
    np.testing.assert_array_equal(drums, [36] * len(drums))
    for part, role in enumerate(arrangement.roles):
      program = score.parts[part].program
      names = [
          i
          for i in instruments.MELODY + instruments.CHORDS + instruments.BASS
          if i.program == program
      ]
      if role != Role.DRUMS and part in playing:
        pitches = score.pitch[score.part == part]
        self.assertTrue(any(i.can_play(pitches) for i in names))

  def test_no_note_is_lost(self):
    score = make_score([notation.Part('', 0)], [(127,)])
    for seed in range(8):
      arrangement = arranging.arrange(score, np.random.default_rng(seed))
      self.assertLen(arrangement.score.start, 4)
      shift = arrangement.transposition
      steps = set(arrangement.score.pitch % 12)
      self.assertEqual(steps, {(127 + shift) % 12})

  def test_is_a_function_of_the_seed(self):
    first, again, other = (
        arranging.arrange(BAND, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    self.assertEqual(first.score.parts, again.score.parts)
    self.assertEqual(first.tempo_factor, again.tempo_factor)
    self.assertNotEqual(first.tempo_factor, other.tempo_factor)

  def test_key_and_tempo_can_be_kept(self):
    for seed in range(5):
      rng = np.random.default_rng(seed)
      arrangement = arranging.arrange(BAND, rng, 0, (1.0, 1.0))
      score = arrangement.score.select(~arrangement.score.is_drums)
      # The melody may play alone.
      kept = np.isin(BAND.part, score.part)
      written = BAND.select(kept)
      np.testing.assert_array_equal(score.pitch, written.pitch)
      np.testing.assert_array_equal(score.start, written.start)
      self.assertEqual(arrangement.transposition, 0)

  def test_arrangements_vary(self):
    arrangements = [
        arranging.arrange(BAND, np.random.default_rng(seed))
        for seed in range(40)
    ]
    programs = [
        {p.program for p in a.score.parts if not p.is_drums}
        for a in arrangements
    ]
    alone = sum(len(p) == 1 for p in programs)
    self.assertBetween(alone, 5, 30)
    self.assertGreater(len(set.union(*programs)), 10)
    drums = sum(a.score.is_drums.any() for a in arrangements)
    self.assertBetween(drums, 8, 32)

  def test_a_piano_piece_becomes_melody_chords_and_bass(self):
    piano = make_score([notation.Part('', 0)], [(40, 60, 64, 76)])
    rows = set()
    for seed in range(40):
      arrangement = arranging.arrange(piano, np.random.default_rng(seed))
      score = arrangement.score
      parts = sorted(set(score.part.tolist()))
      rows.add(tuple(arrangement.roles[p] for p in parts))
      for part in parts:
        notes = score.select(score.part == part)
        steps = (notes.pitch - arrangement.transposition) % 12
        expected = {
            Role.MELODY: {4},
            Role.BASS: {4},
            Role.CHORDS: {0, 4},
        }[arrangement.roles[part]]
        self.assertContainsSubset(set(steps), expected)
    self.assertContainsSubset(
        {
            (Role.MELODY,),
            (Role.CHORDS,),
            (Role.CHORDS, Role.MELODY),
            (Role.CHORDS, Role.MELODY, Role.BASS),
        },
        rows,
    )

  def test_every_family_leads(self):
    leading = set()
    for seed in range(300):
      score = arranging.arrange(BAND, np.random.default_rng(seed)).score
      leading.add(score.parts[0].program // 8)
    # Synth effects, percussion without a pitch, and noises do not.
    self.assertContainsSubset({*range(12), 13, 14}, leading)

  def test_pedals_are_for_what_rings(self):
    pedal = mido.Message('control_change', control=64, value=127)
    fader = mido.Message('control_change', control=7, value=100)
    score = dataclasses.replace(
        BAND, controls=((0.0, 0, fader), (0.0, 0, pedal), (0.0, 1, pedal))
    )
    for seed in range(20):
      score = arranging.arrange(score, np.random.default_rng(seed)).score
      kept = {(p, m.control) for _, p, m in score.controls}
      self.assertIn((0, 7), kept)
      for part in (0, 1):
        program = score.parts[part].program
        if program in (16, 19, 48, 56, 73):
          self.assertNotIn((part, 64), kept)

  def test_drums_alone_are_kept(self):
    score = make_score([notation.Part('', 0, is_drums=True)], [(36, 42)])
    kits = set()
    for seed in range(20):
      arrangement = arranging.arrange(score, np.random.default_rng(seed))
      np.testing.assert_array_equal(arrangement.score.pitch, score.pitch)
      kits.add(arrangement.score.parts[0].program)
    self.assertGreater(len(kits), 3)


class InstrumentsTest(absltest.TestCase):

  def test_names_are_in_the_order_of_general_midi(self):
    self.assertLen(instruments.NAMES, 128)
    expected = {0: 'piano', 19: 'church organ', 40: 'violin', 56: 'trumpet'}
    expected |= {71: 'clarinet', 73: 'flute', 104: 'sitar', 127: 'gunshot'}
    for program, name in expected.items():
      self.assertEqual(instruments.NAMES[program], name)

  def test_octaves(self):
    flute = instruments.Instrument(73, 59, 96)
    self.assertEqual(flute.octaves(np.array([59, 90])), 0)
    self.assertEqual(flute.octaves(np.array([40, 50])), 2)
    self.assertEqual(flute.octaves(np.array([100])), -1)
    self.assertIsNone(flute.octaves(np.array([30, 90])))

  def test_ranges(self):
    flute = instruments.Instrument(73, 59, 96)
    self.assertTrue(flute.can_play(np.array([59, 96])))
    self.assertFalse(flute.can_play(np.array([40, 96])))
    self.assertFalse(flute.can_play(np.array([], int)))


if __name__ == '__main__':
  absltest.main()
