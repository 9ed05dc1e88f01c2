"""Tests for listening."""

import sys
from unittest import mock

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.data import listening
from musiclm_jax.data.scores import chords
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import terms
import numpy as np
import pytest

RATE = listening.SAMPLE_RATE


def chord(name, seconds):
  """Returns a triad on a plucked instrument, struck twice a second."""
  number = terms.parse_chord(name)
  notes = np.flatnonzero(chords.TEMPLATES[number])
  time = np.arange(round(seconds * RATE)) / RATE
  frequencies = [261.63 * 2 ** (note / 12) for note in notes]
  tone = sum(
      np.sin(2 * np.pi * f * k * time) / k for f in frequencies for k in (1, 2)
  )
  return tone * np.exp(-6 * (time % 0.5))


class ListeningTest(absltest.TestCase):

  @pytest.mark.slow
  def test_hears_beats_chords_and_key(self):
    names = ['C', 'F', 'G', 'C', 'Am', 'F', 'G', 'C']
    audio = np.concatenate([chord(name, 2.0) for name in names])
    audio = (0.2 * audio / np.abs(audio).max()).astype(np.float32)
    heard = listening.listen(audio)
    self.assertEqual(heard.key, 'C major')
    # In the middle of each chord, where no other is near.
    middles = heard.chords[50::100]
    expected = [terms.parse_chord(name) for name in names]
    self.assertGreaterEqual(np.mean(middles == expected), 0.75)
    beats = heard.beats[:, 0]
    self.assertAlmostEqual(np.median(np.diff(beats)), 0.5, delta=0.03)
    np.testing.assert_array_equal(heard.beats[:, 1:], -1)
    times = plan_streams.centres(25.0, 400)
    tokens = plan_streams.beat_tokens(heard.beats, times)
    self.assertGreater(np.mean(tokens[:, 1] >= 0), 0.8)

  def test_irregular_beats_are_none(self):
    steady = listening._steady(np.arange(8) * 0.5)
    self.assertEqual(steady.shape, (8, 3))
    self.assertEmpty(listening._steady(np.array([0.0, 0.5, 1.9, 2.0, 4.0])))
    self.assertEmpty(listening._steady(np.array([0.0, 0.5])))

  def test_noise_has_no_chord(self):
    found = listening.find_chords(np.ones((100, 12)))
    np.testing.assert_array_equal(found, chords.NO_CHORD)
    chroma = np.tile(chords.TEMPLATES[12 + 9], (100, 1)) + 0.1
    np.testing.assert_array_equal(listening.find_chords(chroma), 12 + 9)

  def test_says_what_is_missing(self):
    with mock.patch.dict(sys.modules, {'librosa': None}):
      with self.assertRaisesRegex(errors.UserError, r'librosa.*\[eval\]'):
        listening.check()


if __name__ == '__main__':
  absltest.main()
