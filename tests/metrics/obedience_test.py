"""Tests for obedience."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import streams
from musiclm_jax.metrics import obedience
from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.sampling import plan_text
from musiclm_jax.sampling import prompt_list
from musiclm_jax.tokenizers import terms
import numpy as np
from tests import plan_player
from tests.benchmarks import obedience_plans

RATE = 22050
SECONDS = 10.0
PLANS = [
    plan_lib.Plan(96, '3/4', 'A minor', 'Am Dm E Am', '0 flute piano'),
    plan_lib.Plan(104, '4/4', 'C major', 'C F G C', '0 piano drums'),
    plan_lib.Plan(88, '3/4', 'Eb major', 'Eb Ab Bb Eb', '0 reed guitar bass'),
    plan_lib.Plan(112, '4/4', 'E minor', 'Em Am B Em', '0 organ piano drums'),
]


def plays(*names):
  return np.isin(terms.FAMILIES, names)


def heard(**values):
  """Returns what is heard in a waltz in A minor, or something else."""
  waltz = {
      'bpm': 96.0,
      'metre': 3,
      'key': terms.parse_key('A minor'),
      'chords': np.full(50, terms.parse_chord('Am')),
      'families': plays('flute', 'piano'),
  }
  return obedience.Heard(**waltz | values)


class KnownAnswersTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # Instruments are another matter: here, all of them are decaying tones.
    cls.heard = [
        obedience.hear(
            plan_player.synthesize(
                plan_player.write_score(plan, SECONDS, seed), RATE, SECONDS
            ),
            RATE,
        )
        for seed, plan in enumerate(PLANS)
    ]
    targets = [obedience.Target.of_plan(plan, SECONDS) for plan in PLANS]
    cls.rows = {row['score']: row for row in obedience.rows(cls.heard, targets)}

  def test_synthesized_plans_come_out_right(self):
    exact = ('tempo within 4%', 'tempo within 8%', 'metre', 'key', 'mode')
    self.assertEqual([self.rows[name]['mean'] for name in exact], [1] * 5)
    self.assertGreater(self.rows['chords']['mean'], 0.85)
    self.assertEqual(self.rows['key as MIREX weighs']['mean'], 1)

  def test_other_plans_are_at_chance(self):
    self.assertEqual(self.rows['tempo within 4%']['chance'], 0)
    self.assertEqual(self.rows['key']['chance'], 0)
    # Of the three other plans, one has the same metre.
    self.assertAlmostEqual(self.rows['metre']['chance'], 1 / 3)
    self.assertLess(self.rows['chords']['chance'], 0.25)

  def test_nothing_is_heard_in_noise_and_silence(self):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    for audio in (noise, np.zeros(4 * RATE)):
      found = obedience.hear(audio, RATE)
      self.assertIsNone(found.bpm)
      self.assertIsNone(found.metre)
      self.assertIsNone(found.key)
      self.assertFalse(found.families.any())
      scores = obedience.score(audio, RATE, PLANS[0])
      found = [x or 0.0 for n, x in scores.items() if n != 'drums']
      self.assertLess(max(found), 0.1)


class CompareTest(parameterized.TestCase):

  @parameterized.parameters(
      ('flute', 'flute', 1.0),
      ('flute', 'drums', 0.0),
      ('flute', None, 0.0),
      ('flute piano', 'flute', None),  # More than one is asked for.
  )
  def test_the_only_instrument(self, asked, foremost, expected):
    plan = plan_lib.Plan(96, '3/4', 'A minor', 'Am', f'0 {asked}')
    number = terms.FAMILIES.index(foremost) if foremost else None
    scores = obedience.compare(
        heard(foremost=number), obedience.Target.of_plan(plan, SECONDS)
    )
    self.assertEqual(scores['the only instrument'], expected)

  @parameterized.parameters(
      ({}, 'tempo within 4%', 1.0),
      ({'bpm': 101.0}, 'tempo within 4%', 0.0),
      ({'bpm': 101.0}, 'tempo within 8%', 1.0),
      ({'bpm': 192.0}, 'tempo within 8%', 0.0),  # An octave is an error.
      ({'bpm': None}, 'tempo within 8%', 0.0),
      ({'metre': 4}, 'metre', 0.0),
      ({'key': 0}, 'mode', 0.0),
      ({'key': 0}, 'key as MIREX weighs', 0.3),
      ({'key': 14}, 'mode', 1.0),
      ({'key': None}, 'mode', 0.0),
      ({'chords': np.full(50, terms.NO_CHORD)}, 'chords', 0.0),
      ({'families': plays('flute')}, 'families (F1)', 2 / 3),
      ({'families': plays()}, 'families (F1)', 0.0),
      ({'families': plays('drums')}, 'drums', 0.0),
  )
  def test_scores(self, values, name, expected):
    target = obedience.Target.of_plan(
        plan_lib.Plan(96, '3/4', 'A minor', 'Am', '0 flute piano'), SECONDS
    )
    self.assertAlmostEqual(
        obedience.compare(heard(**values), target)[name], expected
    )

  def test_what_is_open_has_no_score(self):
    target = obedience.Target.of_plan(plan_lib.Plan(key='A minor'), SECONDS)
    scores = obedience.compare(heard(), target)
    told = {name for name, value in scores.items() if value is not None}
    self.assertEqual(told, {'key', 'mode', 'key as MIREX weighs'})
    rows = obedience.rows([heard(), heard(key=0)], [target, target])
    row = {r['score']: r for r in rows}
    self.assertEqual(row['key']['mean'], 0.5)
    self.assertAlmostEqual(row['key']['error'], 0.5)
    self.assertEqual(row['chords']['clips'], 0)
    self.assertIsNone(row['chords']['mean'])

  def test_target_of_a_record(self):
    beats = [[0.625 * i - 0.1, i % 3, 1] for i in range(18)]
    record = {
        'beats': np.array(beats, np.float32),
        'chords': np.full(500, terms.parse_chord('Am'), np.int8),
        'key': 'A minor',
        'families': np.tile(plays('flute', 'piano'), (10, 1)).astype(np.int8),
        'facts': '',
    }
    target = obedience.Target.of_record(record, SECONDS)
    scores = obedience.compare(heard(), target)
    scores.pop('the only instrument')  # There are two.
    self.assertEqual({*scores.values()}, {1.0})
    record = {'beats': np.zeros((0, 3), np.float32), 'key': '', 'facts': ''}
    target = obedience.Target.of_record(record, SECONDS)
    self.assertEqual({*obedience.compare(heard(), target).values()}, {None})
    self.assertEqual(target.chords[0], streams.ABSENT)


class PlansTest(absltest.TestCase):

  def test_are_what_their_script_draws(self):
    text = obedience.PLANS.read_text(encoding='utf-8')
    self.assertEqual(text, obedience_plans.draw_lines())

  def test_are_balanced_and_agree_with_their_prompts(self):
    plans = obedience.read_plans()
    self.assertLen(plans, 200)
    keys, metres, tempos = zip(
        *((p.key, p.metre, p.bpm) for p, _ in plans.values())
    )
    self.assertSetEqual({keys.count(key) for key in terms.KEYS}, {8, 9})
    self.assertBetween(metres.count('3/4'), 90, 110)
    self.assertBetween(min(tempos), 60, 65)
    self.assertBetween(max(tempos), 170, 180)
    for line in prompt_list.read(obedience.PLANS, {}):
      said = plan_text.read(line.request.prompt)
      plan, seconds = plans[line.id]
      self.assertIn(said.arrange, ('', plan.arrange))
      self.assertIn(said.metre, ('', plan.metre))
      plan.tokens(seconds)

  def test_rejects_lists_without_plans(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    path = pathlib.Path(folder, 'prompts.jsonl')
    path.write_text('{"prompt": "a waltz", "seconds": 10}\n')
    with self.assertRaisesRegex(ValueError, 'a plan and seconds.*line 1'):
      obedience.read_plans(path)


if __name__ == '__main__':
  absltest.main()
