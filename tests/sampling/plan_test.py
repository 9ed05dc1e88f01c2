"""Tests for plan."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import streams
from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import terms
import numpy as np

Plan, Section = plan_lib.Plan, plan_lib.Section
PIANO, BASS, STRINGS, DRUMS = (
    terms.FAMILIES.index(name) for name in ('piano', 'bass', 'strings', 'drums')
)

NAMES = {
    terms.parse_chord(name): name for name in 'Am F C G7 Eb Bdim F#m'.split()
}


def read_back(tokens):
  """Returns the plan that tokens of a steady piece are of."""
  beat = tokens['beat'][0]
  metres = [m for m, metre in terms.METRES.items() for _ in range(metre.beats)]
  starts = np.flatnonzero(np.diff(beat[:, 1]) < 0)
  rate = plan_streams.RATES['beat']
  bpm = 60 * rate * (len(starts) - 1) / (starts[-1] - starts[0])
  changes, before = [], None
  for second, frame in enumerate(tokens['arrangement'][0]):
    [leading] = np.flatnonzero(frame == plan_streams.LEADING)
    others = np.flatnonzero(frame == plan_streams.ON)
    names = [terms.FAMILIES[i] for i in (leading, *others)]
    if names != before:
      changes.append(f'{second} {" ".join(names)}')
    before = names
  chords = tokens['chord'][0, :, 0]
  bar = 60 / bpm * terms.METRES[metres[beat[0, 0]]].beats
  bars = np.arange(round(len(chords) / 5 / bar))
  middles = ((bars + 0.5) * bar * 5).astype(int)
  return Plan(
      bpm=round(bpm, 1),
      metre=metres[beat[0, 0]],
      key=terms.KEYS[tokens['key'][0, 0, 0]],
      chords=' '.join(NAMES[chord] for chord in chords[middles]),
      arrange='; '.join(changes),
  )


class TokensTest(parameterized.TestCase):

  def test_beats(self):
    # A beat takes half a second, 12.5 frames.
    beat = Plan(bpm=120, metre='3/4').tokens(6.0)['beat'][0]
    self.assertEqual(beat.shape, (150, 2))
    # 2/4 has the first two of the tokens of beats in bars.
    np.testing.assert_array_equal(beat[:25, 0], [2] * 12 + [3] * 13)
    np.testing.assert_array_equal(beat[[25, 36, 37, 38], 0], [4, 4, 2, 2])
    # The middle of frame i is at (i + .5) / 12.5 beats: of the 12th, at 1.
    expected = [int(12 * (i + 0.5) / 12.5) for i in range(12)]
    np.testing.assert_array_equal(beat[:13, 1], [*expected, 0])

  @parameterized.parameters(('6/8', 14, 2), ('', 5, 4), ('2/2', 0, 2))
  def test_metres(self, metre, first, beats):
    beat = Plan(bpm=60, metre=metre).tokens(8.0)['beat'][0]
    expected = first + np.arange(8) % beats
    np.testing.assert_array_equal(beat[12::25, 0], expected)

  def test_chords(self):
    # Bars of 2.5 s: 12.5 frames, whose middle ones are half and half.
    plan = Plan(bpm=96, chords='Am F:2 G7:0.5 N:0.5')
    chord = plan.tokens(20.0)['chord'][0, :, 0]
    self.assertLen(chord, 100)
    am, f, g7 = 12 + 9, 5, 24 + 7
    expected = [am] * 12 + [f] * 25
    np.testing.assert_array_equal(chord[:37], expected)
    np.testing.assert_array_equal(chord[38:44], [g7] * 6)
    np.testing.assert_array_equal(chord[44:49], [terms.NO_CHORD] * 5)
    np.testing.assert_array_equal(chord[50:62], [am] * 12)

  def test_key_and_what_is_open(self):
    tokens = Plan(key='A minor').tokens(2.5)
    np.testing.assert_array_equal(tokens['key'], [[[21]] * 3])
    for name in ('beat', 'chord', 'arrangement'):
      stream = plan_streams.STREAMS[name]
      shape = (1, np.ceil(2.5 * stream.frame_rate), stream.num_quantizers)
      self.assertEqual(tokens[name].shape, shape)
      self.assertTrue(np.all(tokens[name] == streams.ABSENT))

  def test_arrangement(self):
    plan = Plan(arrange='1 piano; 2 +bass +drums; 4 -piano +violin')
    frames = plan.tokens(6.0)['arrangement'][0]
    self.assertTrue(np.all(frames[0] == streams.ABSENT))
    self.assertEqual(frames[1, PIANO], plan_streams.LEADING)
    self.assertEqual(frames[1].sum(), 2)
    for frame in frames[2:4]:
      self.assertEqual(frame[[PIANO, BASS, DRUMS]].tolist(), [2, 1, 1])
      self.assertEqual(frame.sum(), 4)
    for frame in frames[4:]:
      found = frame[[PIANO, BASS, DRUMS, STRINGS]].tolist()
      self.assertEqual(found, [0, 2, 1, 1])

  def test_sections_share_the_piece_in_whole_bars(self):
    # Bars of 2 s: of the 9.5 s that each section would have, 5 bars make 10.
    plan = Plan(
        bpm=120,
        chords='C G',
        form='AABA',
        sections={'B': Section(chords='Am', arrange='2 drums')},
    )
    tokens = plan.tokens(38.0)
    chord = tokens['chord'][0, :, 0]
    self.assertEqual(chord[[0, 10, 50, 60]].tolist(), [0, 7, 0, 7])
    np.testing.assert_array_equal(chord[100:150], 12 + 9)
    self.assertEqual(chord[[150, 160]].tolist(), [0, 7])
    drums = tokens['arrangement'][0, :, DRUMS]
    np.testing.assert_array_equal(np.flatnonzero(drums == 2), range(22, 30))
    # A bar starts with each section.
    self.assertEqual(tokens['beat'][0, [0, 250, 500, 750], 0].tolist(), [5] * 4)

  def test_sections_of_so_many_bars(self):
    sections = {'A': Section('C', bars=1), 'B': Section('G', bars=2)}
    plan = Plan(bpm=60, form='ABA', sections=sections)
    chord = plan.tokens(20.0)['chord'][0, :, 0]
    self.assertEqual(chord.tolist(), [0] * 20 + [7] * 40 + [0] * 40)

  def test_repeats(self):
    sections = {'A': Section('C', bars=1), 'B': Section('G', bars=2)}
    plan = Plan(bpm=60, form='ABABA', sections=sections, repeat=plan_lib.EXACT)
    # The last section is the longest, but only as much is copied as there is.
    self.assertEqual(plan.repeats(30.0), [(0, 4, 12), (0, 4, 24), (4, 12, 16)])
    self.assertEmpty(Plan(form='AA').repeats(30.0))
    plan = Plan(form='ABA', repeat=plan_lib.EXACT)
    self.assertEqual(plan.repeats(30.0), [(0, 10, 20)])

  def test_a_loop_goes_on_as_in_the_start(self):
    plan = Plan(bpm=120, key='C', chords='C G', arrange='0 piano; 2 +drums')
    looped, whole = plan.tokens(4.0, after=2.0), plan.tokens(4.0)
    for name, tokens in looped.items():
      there = whole[name].shape[1]
      np.testing.assert_array_equal(tokens[:, :there], whole[name])
      np.testing.assert_array_equal(
          tokens[:, there:], whole[name][:, : there // 2]
      )

  @parameterized.parameters(
      (Plan(96, '4/4', 'A minor', 'Am F C G7', '0 piano; 8 piano bass drums'),),
      (Plan(63, '3/4', 'Eb major', 'Eb Bdim', '0 flute; 4 strings flute'),),
      (Plan(150, '12/8', 'F# minor', 'F#m', '0 drums'),),
  )
  def test_tokens_say_what_the_plan_did(self, plan):
    bar = 60 / plan.bpm * terms.METRES[plan.metre].beats
    found = read_back(plan.tokens(8 * bar))
    self.assertAlmostEqual(found.bpm, plan.bpm, delta=0.01 * plan.bpm)
    times = 8 // len(plan.chords.split())
    self.assertEqual(found.chords.split(), plan.chords.split() * times)
    self.assertEqual(found.arrange, plan.arrange)
    self.assertEqual((found.metre, found.key), (plan.metre, plan.key))

  @parameterized.named_parameters(
      ('change', {'arrange': '0 piano; 10 -piano +drums'}, 'within the 10 s'),
      ('chords', {'chords': 'Am'}, 'chords.* with a tempo.*Say bpm'),
      ('metre', {'metre': '3/4'}, 'a metre must be in a plan with a tempo'),
      ('form', {'bpm': 60, 'form': 'ABCD'}, 'must fit the 10 s.* 4 starts'),
      (
          'bars',
          {'form': 'A', 'sections': {'A': Section(bars=2)}},
          'so many bars must be in a plan with a tempo',
      ),
      (
          'late',
          {
              'arrange': '0 bass',
              'form': 'AB',
              'sections': {'B': Section(arrange='5 drums')},
          },
          "within the 5 s of section 'B'",
      ),
  )
  def test_rejects_what_does_not_fit(self, fields, message):
    with self.assertRaisesRegex(ValueError, message) as context:
      Plan(**fields).tokens(10.0)
    self.assertNotIn('\n', str(context.exception))


class PlanTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('slow', {'bpm': 0}, 'bpm must be from 20 to 400.* is 0'),
      ('nan', {'bpm': float('nan')}, 'bpm must be .* is nan'),
      ('metre', {'metre': '7/8'}, "metre must be one of .* is '7/8'"),
      ('key', {'key': 'H minor'}, "a key must be like 'A minor'.* 'H minor'"),
      ('chord', {'chords': 'Am Hm'}, "a chord must be like .* 'Hm'"),
      ('sus', {'chords': 'Csus4'}, "a chord must be like .* 'Csus4'"),
      ('length', {'chords': 'Am:0'}, "a chord must last .* 'Am:0'"),
      ('backwards', {'arrange': '4 piano; 2 bass'}, "later .* '2 bass'"),
      ('no_second', {'arrange': 'piano'}, "must be a second.* 'piano'"),
      ('nobody', {'arrange': '0 piano; 2 -piano'}, "somebody.* '2 -piano'"),
      ('not_there', {'arrange': '0 piano; 2 -bass'}, "'bass' does not"),
      ('instrument', {'arrange': '0 kazoo'}, "must be of .*one is 'kazoo'"),
      ('form', {'form': 'A A'}, "form must be letters .* is 'A A'"),
      ('letter', {'sections': {'B': Section()}}, r"form '', .* \['B'\]"),
      (
          'undefined',
          {'form': 'AB', 'sections': {'A': Section('C')}},
          r"letters of the form 'AB', .* are of \['A'\]",
      ),
      ('repeat', {'repeat': 'often'}, "repeat must be .* is 'often'"),
      ('exact', {'form': 'AB', 'repeat': 'exact'}, "no section returns.*'AB'"),
  )
  def test_rejects(self, fields, message):
    with self.assertRaisesRegex(ValueError, message) as context:
      Plan(**fields)
    self.assertNotIn('\n', str(context.exception))

  @parameterized.parameters(
      (Plan(),),
      (
          Plan(
              bpm=96, metre='3/4', key='A minor', chords='Am F', repeat='varied'
          ),
      ),
      (
          Plan(
              form='AAB',
              sections={
                  'A': Section('C', bars=4),
                  'B': Section(arrange='0 bass'),
              },
              repeat='exact',
          ),
      ),
  )
  def test_json_keeps_it(self, plan):
    path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), 'p')
    path.write_text(json.dumps(plan.to_json()))
    self.assertEqual(plan_lib.load(path), plan)

  @parameterized.parameters(
      ('[]', 'must be a plan, but cannot be read'),
      ('{"tempo": 96}', "a plan must have some of .*'tempo': 96"),
      ('{"bpm": "96"}', "numbers and texts, but has 'bpm': '96'"),
      ('{"key": 3}', "'key': 3"),
      (
          '{"form": "A", "sections": {"A": {"key": "C"}}}',
          "section must .*'key'",
      ),
      ('{"form": "A", "sections": {"A": 3}}', 'a section must be an object'),
      ('{"bpm": 1}', 'p: bpm must be from'),
  )
  def test_rejects_files(self, text, message):
    path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), 'p')
    path.write_text(text)
    with self.assertRaisesRegex(ValueError, message):
      plan_lib.load(path)

  def test_told(self):
    self.assertEmpty(Plan(form='AA', metre='3/4').told)
    plan = Plan(bpm=90, form='A', sections={'A': Section('C', '0 bass')})
    self.assertEqual(plan.told, ('beat', 'chord', 'arrangement'))
    self.assertEqual(Plan(key='C').told, ('key',))

  def test_what_is_open_is_filled(self):
    filled = Plan(bpm=90, key='C').filled(Plan(bpm=120, metre='3/4'))
    self.assertEqual(filled, Plan(bpm=90, metre='3/4', key='C'))


if __name__ == '__main__':
  absltest.main()
