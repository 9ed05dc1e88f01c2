"""Tests for fingerprints."""

from absl.testing import absltest
from musiclm_jax.audio import fingerprints
import numpy as np


def play(seed, seconds=6.0, shift=0):
  """Plays random notes of four harmonics, each of a quarter of a second."""
  rate = fingerprints.SAMPLE_RATE
  rng = np.random.default_rng(seed)
  time = np.arange(rate // 4) / rate
  notes = []
  for pitch in rng.integers(55, 80, size=int(seconds * 4)):
    pitch_hz = 440 * 2 ** ((pitch + shift - 69) / 12)
    tone = sum(
        np.sin(2 * np.pi * k * pitch_hz * time) / k for k in (1, 2, 3, 4)
    )
    notes.append(0.2 * tone * np.exp(-6 * time))
  return np.concatenate(notes).astype(np.float32)


def library(count):
  """Returns the arguments of `meetings` of some pieces."""
  prints = [fingerprints.fingerprint(play(seed)) for seed in range(count)]
  hashes = np.concatenate([x.hashes for x in prints])
  order = np.argsort(hashes)
  frames = np.concatenate([x.frames for x in prints])
  owners = np.repeat(np.arange(count), [len(x.hashes) for x in prints])
  return hashes[order], frames[order], owners[order], count


class FingerprintsTest(absltest.TestCase):

  def test_a_piece_meets_itself_whole(self):
    own = fingerprints.fingerprint(play(0))
    self.assertGreater(len(own.hashes), 100)
    met = fingerprints.meetings(own, *library(2))
    self.assertGreaterEqual(met[0], len(own.hashes))
    self.assertLess(met[1], 0.05 * len(own.hashes))

  def test_a_passage_in_noise_is_found(self):
    passage = play(3)[12345:36000]
    noise = np.random.default_rng(0).normal(size=len(passage))
    noisy = (passage + 0.01 * noise).astype(np.float32)
    query = fingerprints.fingerprint(noisy)
    met = fingerprints.meetings(query, *library(5))
    self.assertEqual(met.argmax(), 3)
    others = np.delete(met, 3)
    self.assertGreater(met[3], 5 * max(others.max(), 1))

  def test_silence_has_no_hashes(self):
    silent = fingerprints.fingerprint(np.zeros(8000, np.float32))
    self.assertEmpty(silent.hashes)
    np.testing.assert_array_equal(
        fingerprints.meetings(silent, *library(2)), [0, 0]
    )

  def test_meetings_are_at_one_offset(self):
    query = fingerprints.Fingerprint(*np.array([[7, 8, 9], [0, 1, 2]], 'i4'))
    # Clip 0 has the hashes 10 frames later, clip 1 in another order.
    hashes = np.array([7, 7, 8, 8, 9, 9], np.int32)
    frames = np.array([10, 90, 11, 50, 12, 10], np.int32)
    owners = np.array([0, 1, 0, 1, 0, 1], np.int32)
    met = fingerprints.meetings(query, hashes, frames, owners, 3)
    np.testing.assert_array_equal(met, [3, 1, 0])


if __name__ == '__main__':
  absltest.main()
