"""Tests for humming."""

from absl.testing import absltest
from absl.testing import parameterized
import librosa
from musiclm_jax.data.scores import humming
from musiclm_jax.data.scores import notation
import numpy as np

PITCHES = (60, 64, 67, 72, 65, 62)


def make_melody(pitches=PITCHES, seconds=1.0, gap=0.0):
  start = np.arange(len(pitches)) * seconds
  return notation.Score(
      parts=(notation.Part('melody', 0),),
      start=start,
      end=start + seconds - gap,
      pitch=np.array(pitches),
      velocity=np.full(len(pitches), 80),
      volume=np.ones(len(pitches)),
      part=np.zeros(len(pitches), int),
  )


def find_pitch(audio):
  """Returns the MIDI pitch of a tone, by autocorrelation."""
  hertz = librosa.yin(audio, fmin=60, fmax=2000, sr=humming.SAMPLE_RATE)
  return np.median(librosa.hz_to_midi(hertz))


class HumTest(parameterized.TestCase):

  @parameterized.product(voice=sorted(humming.VOICES), seed=(0, 1))
  def test_sings_what_is_written_octaves_away(self, voice, seed):
    audio = humming.hum(make_melody(), np.random.default_rng(seed), voice)
    self.assertEqual(audio.dtype, np.float32)
    self.assertBetween(len(audio) / 16000, 6.0, 6.5)
    lowest = humming.VOICES[voice].lowest
    octave = 12 * np.ceil((lowest - np.median(PITCHES)) / 12)
    for i, pitch in enumerate(PITCHES):
      middle = audio[16000 * i + 6000 : 16000 * i + 14000]
      off = find_pitch(middle) - (pitch + octave)
      self.assertLess(np.abs(off), 0.6, f'note {i}')

  def test_loudness(self):
    for seed in range(5):
      audio = humming.hum(make_melody(), np.random.default_rng(seed))
      self.assertAlmostEqual(np.sqrt(np.mean(audio**2)), 0.1, delta=0.02)
      self.assertLessEqual(np.max(np.abs(audio)), 0.951)

  def test_rests_are_nearly_silent(self):
    melody = make_melody(gap=0.5)
    audio = humming.hum(melody, np.random.default_rng(0), 'low ah')
    for i in range(len(PITCHES)):
      note = audio[16000 * i + 3000 : 16000 * i + 6000]
      rest = audio[16000 * i + 11000 : 16000 * i + 15000]
      self.assertLess(np.std(rest), 0.1 * np.std(note))

  def test_singers_differ(self):
    first, again, other = (
        humming.hum(make_melody(), np.random.default_rng(seed), 'high oo')
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    correlation = np.corrcoef(first, other)[0, 1]
    self.assertLess(np.abs(correlation), 0.5)

  def test_notes_stay_in_order(self):
    melody = make_melody(seconds=0.05)
    onsets = humming._jitter(melody, np.random.default_rng(0))
    self.assertTrue(np.all(np.diff(onsets) >= 0))
    self.assertTrue(np.all(onsets < melody.end))


class HumFramesTest(absltest.TestCase):

  def test_hums_the_pitches_of_frames(self):
    frames = np.repeat([-1, 69, 71, -1], [25, 50, 50, 25])
    rng = np.random.default_rng(0)
    audio = humming.hum_frames(frames, rng, 3 * humming.SAMPLE_RATE)
    self.assertLen(audio, 3 * humming.SAMPLE_RATE)
    for second, expected in ((0.8, 69), (1.8, 71)):
      start = round(second * humming.SAMPLE_RATE)
      pitch = find_pitch(audio[start : start + 8000])
      distance = (pitch - expected + 6) % 12 - 6  # Octaves aside.
      self.assertBetween(distance, -0.8, 0.8)
    silence = audio[: humming.SAMPLE_RATE // 4]
    self.assertLess(np.std(silence), 0.2 * np.std(audio))

  def test_nothing_to_hum(self):
    rng = np.random.default_rng(0)
    self.assertIsNone(humming.hum_frames(np.zeros(0, np.int8), rng, 100))
    rests = np.repeat([60, -1], [50, 50])
    self.assertIsNone(humming.hum_frames(rests, rng, 100))


if __name__ == '__main__':
  absltest.main()
