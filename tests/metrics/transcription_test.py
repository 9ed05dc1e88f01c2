"""Tests for transcription."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import transcription
import numpy as np
from tests import needs

RATE = 16000


def tones(*pitches, seconds=3.0):
  """Returns plucked tones, twice a second."""
  time = np.arange(round(seconds * RATE)) / RATE
  waves = [
      np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time * (1 + k)) / 3**k
      for pitch in pitches
      for k in range(3)
  ]
  audio = sum(waves) * np.exp(-3 * (time % 0.5)) / len(pitches) / 3
  return audio.astype(np.float32)


def make(frames, pitches, begins=()):
  sounding = np.zeros((frames, 88), np.float32)
  sounding[:, [p - transcription.LOWEST for p in pitches]] = 0.9
  beginning = np.zeros((frames, 88), np.float32)
  for frame in begins:
    beginning[frame, pitches[0] - transcription.LOWEST] = 0.8
  return transcription.Pitches(sounding, beginning)


class PitchesTest(parameterized.TestCase):

  def test_counts(self):
    found = make(100, (60, 64), begins=(0, 50))
    self.assertEqual(found.pitched, 1.0)
    self.assertEqual(found.polyphony, 2.0)
    expected = 2 / 100 * transcription.FRAME_RATE
    self.assertAlmostEqual(found.notes_per_second, expected)
    np.testing.assert_array_equal(np.nonzero(found.chroma[0])[0], [0, 4])
    self.assertEqual(make(10, ()).pitched, 0.0)

  def test_likeness_is_of_pitch_classes(self):
    chord = make(50, (60, 64, 67))
    self.assertAlmostEqual(
        transcription.likeness(make(60, (72, 52, 55)), chord), 1.0, places=5
    )
    self.assertLess(transcription.likeness(make(50, (61, 66, 70)), chord), 0)
    self.assertEqual(transcription.likeness(chord, make(50, ())), 0.0)


@needs.basic_pitch
class TranscribeTest(parameterized.TestCase):

  @parameterized.parameters((60,), (57, 64), (48, 60, 67))
  def test_finds_the_pitches_of_tones(self, *pitches):
    found = transcription.transcribe(tones(*pitches), RATE)
    strongest = np.argsort(found.sounding.mean(axis=0))[-len(pitches) :]
    self.assertSameElements(strongest + transcription.LOWEST, pitches)
    self.assertGreater(found.pitched, 0.6)
    frames = round(3 * transcription.FRAME_RATE)
    self.assertAlmostEqual(len(found.sounding), frames, delta=2)
    self.assertAlmostEqual(
        found.notes_per_second, 2 * len(pitches), delta=0.7 * len(pitches)
    )

  def test_noise_has_none(self):
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    found = transcription.transcribe(noise.astype(np.float32), RATE)
    self.assertLess(found.pitched, 0.1)

  def test_rejects_no_audio(self):
    with self.assertRaisesRegex(ValueError, 'must have samples'):
      transcription.transcribe(np.zeros(0, np.float32), RATE)


if __name__ == '__main__':
  absltest.main()
