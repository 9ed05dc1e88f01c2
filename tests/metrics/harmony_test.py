"""Tests for harmony."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import harmony
from musiclm_jax.metrics import hearing
from musiclm_jax.tokenizers import terms
import numpy as np

RATE = hearing.SAMPLE_RATE


def triads(names, seconds):
  """Returns a clip of chords, each with a bass note an octave lower."""
  time = np.arange(round(seconds * RATE)) / RATE
  pieces = []
  for name in names.split():
    quality, root = divmod(terms.parse_chord(name), 12)
    pitches = [
        48 + root,
        *(60 + root + t for t in [(0, 4, 7), (0, 3, 7)][quality]),
    ]
    pieces.append(
        sum(
            np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time * k) / k**2
            for p in pitches
            for k in (1, 2, 3)
        )
        * np.exp(-time)
    )
  return hearing.Sound(0.05 * np.concatenate(pieces), RATE)


class KeyTest(parameterized.TestCase):

  @parameterized.parameters(
      ('C F G C', 'C major'), ('Am Dm E Am', 'A minor'),
      ('Eb Ab Bb Eb', 'Eb major'), ('F#m Bm C# F#m', 'F# minor'),
  )  # fmt: skip
  def test_cadences(self, chords, key):
    found = harmony.find_key(triads(chords, 1.0))
    self.assertEqual(terms.KEYS[found], key)

  @parameterized.parameters(
      ('C major', 1.0), ('G major', 0.5), ('A minor', 0.3), ('C minor', 0.2),
      ('F# major', 0.0),
  )  # fmt: skip
  def test_scores_as_mirex(self, found, expected):
    true = terms.parse_key('C major')
    score = harmony.key_score(terms.parse_key(found), true)
    self.assertAlmostEqual(score, expected)
    self.assertEqual(harmony.key_score(None, true), 0.0)


class ChordsTest(parameterized.TestCase):

  def test_finds_triads(self):
    found = harmony.find_chords(triads('Am F C G Dm E', 1.6))
    true = np.repeat([terms.parse_chord(c) for c in 'Am F C G Dm E'.split()], 8)
    self.assertLen(found, len(true))
    self.assertGreater(harmony.chord_overlap(found, true), 0.9)
    self.assertLess(harmony.chord_overlap(found, np.roll(true, 16)), 0.2)

  def test_nothing_in_noise_and_silence(self):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    for audio in (noise, np.zeros(4 * RATE)):
      sound = hearing.Sound(audio, RATE)
      self.assertIsNone(harmony.find_key(sound))
      chords = harmony.find_chords(sound)
      self.assertGreater(np.mean(chords == terms.NO_CHORD), 0.9)

  @parameterized.parameters(
      ([0, 0, 0, 0], [0, 0, 12, 12], 0.5),
      ([7, 7], [31, 31], 1.0),  # G7 counts as G.
      ([0, 0], [36, 0], 1.0),  # C diminished does not count.
      ([0, 0], [-1, -1], None),
      ([0, 48], [48, 48, 48], 0.5),
  )
  def test_overlap(self, found, true, expected):
    overlap = harmony.chord_overlap(np.array(found), np.array(true))
    self.assertEqual(overlap, expected)


if __name__ == '__main__':
  absltest.main()
