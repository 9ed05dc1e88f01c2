"""Tests for structure."""

from absl.testing import absltest
from musiclm_jax.metrics import structure
from musiclm_jax.sampling import plan as plan_lib
import numpy as np
from tests import plan_player

RATE = 22050
SECTIONS = {'A': 'Am F', 'B': 'E C#m'}


def piece(form, bpm=120, gain=1.0):
  """Returns a clip with two bars in each section."""
  pieces = []
  for letter in form:
    plan = plan_lib.Plan(
        bpm=bpm, chords=SECTIONS[letter], arrange='0 piano drums'
    )
    score = plan_player.write_score(plan, 4.0, seed=len(pieces))
    pieces.append(plan_player.synthesize(score, RATE, 4.0))
  audio = np.concatenate(pieces)
  return audio * np.linspace(1, gain, len(audio))


class FormTest(absltest.TestCase):

  def test_sections_that_return_are_alike(self):
    audio = piece('ABA')
    found = structure.form_likeness(audio, RATE, 'ABA')
    self.assertGreater(found['contrast'], 0.3)
    self.assertAlmostEqual(
        found['contrast'], found['alike'] - found['unlike'], places=6
    )
    other = structure.form_likeness(audio, RATE, 'AAB')
    self.assertLess(other['contrast'], 0)
    similar = structure.self_similarity(audio, RATE)
    np.testing.assert_allclose(similar, similar.T, atol=1e-5)
    np.testing.assert_allclose(np.diag(similar), 1, atol=1e-4)

  def test_rejects(self):
    audio = np.zeros(4 * RATE)
    with self.assertRaisesRegex(ValueError, "letter that returns.*'AB'"):
      structure.form_likeness(audio, RATE, 'AB')
    with self.assertRaisesRegex(ValueError, 'bounds must be 4 rising'):
      structure.form_likeness(audio, RATE, 'ABA', [0.0, 2.0, 1.0, 4.0])


class DriftTest(absltest.TestCase):

  def test_a_steady_piece_that_fades(self):
    found = structure.drift(piece('AAA', gain=0.1), RATE)
    self.assertAlmostEqual(found['tempo'], 0, delta=0.01)
    self.assertLess(found['level (LU)'], -6)

  def test_a_piece_that_accelerates(self):
    audio = np.concatenate([piece('A', 100), piece('A', 110), piece('A', 120)])
    found = structure.drift(audio, RATE)
    self.assertAlmostEqual(found['tempo'], 0.2, delta=0.02)
    self.assertAlmostEqual(found['level (LU)'], 0, delta=1.5)


class DiversityTest(absltest.TestCase):

  def test_copies_have_none_and_others_more(self):
    a, b = piece('A')[: 3 * RATE], piece('B')[: 3 * RATE]
    same = structure.diversity([a, 0.5 * a], RATE)
    self.assertAlmostEqual(same['chroma'], 0, places=4)
    self.assertAlmostEqual(same['timbre'], 0, delta=0.1)
    different = structure.diversity([a, b, a], RATE)
    self.assertGreater(different['chroma'], 0.3)
    self.assertGreater(different['timbre'], 0.3)
    with self.assertRaisesRegex(ValueError, 'at least 2'):
      structure.diversity([a], RATE)


if __name__ == '__main__':
  absltest.main()
