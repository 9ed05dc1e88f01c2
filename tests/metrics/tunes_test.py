"""Tests for tunes."""

from absl.testing import absltest
from musiclm_jax.metrics import tunes
import numpy as np
from tests import needs

RATE = 16000
TUNE = (60, 64, 67, 65, 62, 69, 71, 72)


def play(pitches, octave=0):
  """Returns a tone of half a second for each pitch."""
  time = np.arange(RATE // 2) / RATE
  tones = [
      sum(
          np.sin(
              2 * np.pi * 440 * 2 ** ((p + 12 * octave - 69) / 12) * time * k
          )
          / 3**k
          for k in (1, 2, 3)
      )
      * np.exp(-2 * time)
      for p in pitches
  ]
  return np.concatenate(tones).astype(np.float32)


@needs.basic_pitch
class LikenessTest(absltest.TestCase):

  def test_the_same_tune_an_octave_higher(self):
    found = tunes.likeness(play(TUNE, 1), RATE, play(TUNE), RATE)
    self.assertGreater(found['chroma'], 0.9)
    self.assertLess(found['chroma by chance'], 0.4)
    self.assertGreater(found['contour'], 0.9)

  def test_another_tune(self):
    found = tunes.likeness(play(TUNE[::-1]), RATE, play(TUNE), RATE)
    self.assertLess(found['chroma'], 0.3)
    self.assertLess(found['contour'], 0.0)

  def test_rejects_a_hum_without_pitch(self):
    with self.assertRaisesRegex(ValueError, 'a hum must have a pitch'):
      tunes.likeness(play(TUNE), RATE, np.zeros(2 * RATE, np.float32), RATE)


if __name__ == '__main__':
  absltest.main()
