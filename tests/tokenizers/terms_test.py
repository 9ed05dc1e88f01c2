"""Tests for terms."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.tokenizers import terms


class TermsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('C', 0), ('F#m', 12 + 6), ('Bb', 10), ('G7', 24 + 7), ('Bdim', 36 + 11),
      ('Am7/G', 12 + 9), ('Cmaj7', 0), ('E♭m', 12 + 3), ('Dadd9', 2),
      ('Cb', 11), ('F#m7b5', 36 + 6), ('Caddd', None), ('N', 48), ('c', None),
      ('Csus4', None), ('', None), ('C+', None),
  )  # fmt: skip
  def test_chords(self, chord, number):
    if number is None:
      with self.assertRaisesRegex(
          ValueError, 'a chord must be like'
      ) as context:
        terms.parse_chord(chord)
      self.assertIn(f"is '{chord}'", str(context.exception))
    else:
      self.assertEqual(terms.parse_chord(chord), number)

  def test_keys_have_their_numbers(self):
    for number, key in enumerate(terms.KEYS):
      self.assertEqual(terms.parse_key(key), number)

  def test_every_program_has_a_family(self):
    families = [terms.family(program) for program in range(128)]
    self.assertEqual({*families}, {*range(16)})
    self.assertEqual(terms.family(0, is_drums=True), terms.DRUMS)
    self.assertLen(terms.FAMILIES, 16)

  @parameterized.parameters(
      ('3/4', ('3/4', 1.0)), ('2/2', ('2/4', 2.0)), ('3/8', ('3/4', 0.5)),
      ('12/8', ('12/8', 1.5)), ('7/8', None), ('', None),
  )  # fmt: skip
  def test_metres(self, written, metre):
    self.assertEqual(terms.find_metre(written), metre)


if __name__ == '__main__':
  absltest.main()
