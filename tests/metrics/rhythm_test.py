"""Tests for rhythm."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import rhythm
import numpy as np

RATE = hearing.SAMPLE_RATE


def clicks(bpm, beats, seconds=10.0):
  """Returns tones at each beat, lower ones at the first of a bar."""
  audio = np.zeros(round(seconds * RATE))
  time = np.arange(round(0.1 * RATE)) / RATE
  for i in range(int((seconds - 0.1) * bpm / 60)):
    hertz = 300 if i % beats == 0 else 900
    start = round(i * 60 / bpm * RATE)
    tone = np.sin(2 * np.pi * hertz * time) * np.exp(-30 * time)
    audio[start : start + len(time)] = 0.3 * tone
  return audio


class FindRhythmTest(parameterized.TestCase):

  @parameterized.parameters((72, 3), (72, 4), (96, 3), (96, 4), (120, 3),
                            (120, 4))  # fmt: skip
  def test_finds_tempo_beats_and_metre(self, bpm, metre):
    found = rhythm.find_rhythm(hearing.Sound(clicks(bpm, metre), RATE))
    self.assertAlmostEqual(found.bpm / bpm, 1, delta=0.01)
    self.assertEqual(found.metre, metre)
    times = found.beats / hearing.FRAME_RATE
    off = times * bpm / 60
    np.testing.assert_allclose(off, np.round(off), atol=0.1)

  @parameterized.named_parameters(
      ('silence', np.zeros(5 * RATE)),
      ('noise', np.random.default_rng(0).normal(0, 0.1, 5 * RATE)),
      ('a_tone', 0.1 * np.sin(np.arange(5 * RATE) / 20)),
  )
  def test_finds_none_in(self, audio):
    sound = hearing.Sound(audio, RATE)
    self.assertIsNone(rhythm.find_rhythm(sound))
    self.assertLess(rhythm.pulse_clarity(sound), 0.01)

  def test_pulse_is_clearer_the_more_regular_it_is(self):
    even = clicks(100, 4)
    rng = np.random.default_rng(0)
    pieces = np.split(even[: 10 * RATE], np.sort(rng.integers(0, 10 * RATE, 9)))
    uneven = np.concatenate(rng.permutation(np.array(pieces, object)))
    regular, irregular = (
        rhythm.pulse_clarity(hearing.Sound(x.astype(float), RATE))
        for x in (even, uneven)
    )
    self.assertGreater(regular, 0.8)
    self.assertLess(irregular, regular - 0.2)


if __name__ == '__main__':
  absltest.main()
