"""Tests for musicality."""

from absl.testing import absltest
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import musicality
import numpy as np

RATE = 24000
TIME = np.arange(3 * RATE) / RATE
NOISE = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)


def sine(hertz, level=1.0):
  return level * np.sin(2 * np.pi * hertz * TIME)


class MusicalityTest(absltest.TestCase):

  def test_loudness_of_a_sine(self):
    # By definition, 997 Hz at full scale in one channel has -3.01 LKFS.
    loud = musicality.loudness(sine(997), RATE)
    self.assertAlmostEqual(loud, -3.01, delta=0.1)
    soft = musicality.loudness(sine(997, 0.1), RATE)
    self.assertAlmostEqual(loud - soft, 20, delta=0.05)
    self.assertEqual(musicality.loudness(np.zeros(3 * RATE), RATE), -70)

  def test_clipping(self):
    self.assertEqual(musicality.clipping(sine(100, 0.99)), 0)
    clipped = np.clip(sine(100, 2.0), -1, 1)
    # A sine is over half its peak two thirds of the time.
    self.assertAlmostEqual(musicality.clipping(clipped), 2 / 3, delta=0.01)

  def test_silence(self):
    half = np.where(TIME < 1.5, sine(440, 0.1), 0)
    silent = musicality.silence(hearing.Sound(half, RATE))
    self.assertAlmostEqual(silent, 0.5, delta=0.03)

  def test_noise_is_flat_and_tones_are_not(self):
    flat = musicality.flatness(hearing.Sound(NOISE, RATE))
    tone = musicality.flatness(hearing.Sound(sine(440, 0.1), RATE))
    self.assertGreater(flat, 0.2)
    self.assertLess(tone, 0.01)
    self.assertEqual(
        musicality.flatness(hearing.Sound(np.zeros(3 * RATE), RATE)), 0
    )


if __name__ == '__main__':
  absltest.main()
