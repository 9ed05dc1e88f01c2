"""Tests for effects."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import effects
import numpy as np

RATE = 24000


def level(audio):
  return 20 * np.log10(np.sqrt(np.mean(np.square(audio))))


def tone(hertz, seconds=1.0):
  time = np.arange(round(seconds * RATE)) / RATE
  return (0.05 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


class EffectsTest(parameterized.TestCase):

  def test_plain_sound_is_at_minus_20_decibels(self):
    audio = effects.apply(tone(440), RATE, effects.PLAIN)
    self.assertAlmostEqual(level(audio), -20.0, delta=0.01)
    np.testing.assert_allclose(
        audio / np.max(audio), tone(440) / 0.05, atol=1e-5
    )

  @parameterized.parameters(-4.0, 4.0)
  def test_a_tilt_parts_bass_and_treble(self, decibels):
    bass, middle, treble = (
        level(effects._tilt(tone(hertz), RATE, decibels)) - level(tone(hertz))
        for hertz in (50.0, 1000.0, 10000.0)
    )
    self.assertAlmostEqual(middle, 0.0, delta=0.1)
    self.assertAlmostEqual(treble, decibels, delta=0.2)
    self.assertAlmostEqual(bass, -decibels, delta=0.2)

  def test_never_clips_and_never_moves(self):
    rng = np.random.default_rng(0)
    click = np.zeros(RATE, np.float32)
    click[RATE // 2] = 0.9
    noise = rng.uniform(-0.9, 0.9, RATE).astype(np.float32)
    for _ in range(20):
      sound = effects.draw(rng)
      for audio in (click, noise):
        result = effects.apply(audio, RATE, sound)
        self.assertEqual(result.shape, audio.shape)
        self.assertEqual(result.dtype, np.float32)
        self.assertLessEqual(np.max(np.abs(result)), 0.951)
      result = effects.apply(click, RATE, sound)
      self.assertEqual(np.argmax(np.abs(result)), RATE // 2)

  def test_the_level_is_relative(self):
    audio = effects.apply(tone(440), RATE, effects.Effects(level=-6.0))
    self.assertAlmostEqual(level(audio), -26.0, delta=0.01)

  def test_are_a_function_of_the_seed(self):
    first, again, other = (
        effects.draw(np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    self.assertEqual(first, again)
    self.assertNotEqual(first, other)


if __name__ == '__main__':
  absltest.main()
