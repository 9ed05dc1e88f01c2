"""Tests for hearing."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import hearing
import numpy as np


class SoundTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('short', np.zeros(100), 'at least 1 s'),
      ('nan', np.full(48000, np.nan), 'finite'),
  )
  def test_rejects(self, audio, message):
    with self.assertRaisesRegex(ValueError, message):
      hearing.Sound(audio, 24000)

  def test_level_of_a_sine(self):
    wave = np.sin(2 * np.pi * 441 * np.arange(48000) / 24000)
    sound = hearing.Sound(wave, 24000)
    self.assertAlmostEqual(sound.seconds, 2, places=3)
    self.assertAlmostEqual(float(np.median(sound.level)), -3.01, delta=0.05)
    self.assertFalse(sound.is_silent)
    self.assertTrue(hearing.Sound(wave * 1e-4, 24000).is_silent)

  def test_rows_of_unit_correlate(self):
    x = np.random.default_rng(0).normal(3, 2, (2, 12))
    products = hearing.unit_rows(x) @ hearing.unit_rows(x).T
    np.testing.assert_allclose(products, np.corrcoef(x), atol=1e-6)


if __name__ == '__main__':
  absltest.main()
