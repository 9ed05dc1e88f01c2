"""Tests for semantic."""

from absl.testing import absltest
import jax.numpy as jnp
from musiclm_jax.audio import dsp
from musiclm_jax.metrics import semantic
from musiclm_jax.tokenizers import base
import numpy as np


def noise(num_samples, seed=0):
  audio = np.random.default_rng(seed).normal(scale=0.1, size=num_samples)
  return audio.astype(np.float32)


class ChangePhaseTest(absltest.TestCase):

  def test_only_phases_change(self):
    # Silence at the end, for what comes later than the sound.
    audio = np.pad(noise(3000), (0, 1096))
    spectrum = np.fft.rfft(audio)
    changed = semantic.change_phase(audio)
    self.assertLen(changed, 3)
    for name, other in changed.items():
      self.assertEqual(other.dtype, np.float32, name)
      found = np.fft.rfft(other)
      np.testing.assert_allclose(
          np.abs(found), np.abs(spectrum), atol=1e-3, err_msg=name
      )
      self.assertGreater(np.abs(np.angle(found / spectrum)).max(), 1, name)


class ExamplesTest(absltest.TestCase):

  def test_chords_that_last_half_a_second(self):
    # 50 frames a second: C major for 1 s, a change, no chord, A minor.
    first = [0] * 50 + [0] * 12 + [7] * 13 + [-1] * 25
    second = [21] * 30
    examples = semantic.chord_examples(
        [np.array(first, np.int8), np.array(second, np.int8)],
        [50, 15],
        base.SEMANTIC,
    )
    self.assertEqual(examples.labels, ['C major', 'C major', 'A minor'])
    np.testing.assert_array_equal(examples.clips, [0, 0, 1])
    # A second around 0.25 s and 0.75 s, at 25 Hz, as far as there is one.
    np.testing.assert_array_equal(examples.starts, [0, 6, 0])
    np.testing.assert_array_equal(examples.stops, [19, 31, 15])

  def test_keys_that_are_known(self):
    examples = semantic.key_examples(['A minor', None, 'C major'], [50, 40, 30])
    self.assertEqual(examples.labels, ['A minor', 'C major'])
    np.testing.assert_array_equal(examples.clips, [0, 2])
    np.testing.assert_array_equal(examples.starts, [0, 0])
    np.testing.assert_array_equal(examples.stops, [50, 30])

  def test_nothing_known(self):
    unknown = semantic.chord_examples(
        [np.zeros(0, np.int8)], [50], base.SEMANTIC
    )
    self.assertEmpty(unknown.labels)
    self.assertEmpty(unknown.clips)


class FeaturesTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.examples = semantic.Examples(
        np.array([0, 1]), np.array([0, 1]), np.array([4, 3]), ['a', 'b']
    )

  def test_tokens_are_counted(self):
    tokens = [np.array([5, 5, 5, 7, 9]), np.array([1, 2, 2, 1])]
    found = semantic.token_features(tokens, self.examples, 1024)
    self.assertEqual(found.shape, (2, 1024))
    np.testing.assert_allclose(found[0, [5, 7, 9]], [0.75**0.5, 0.5, 0])
    np.testing.assert_allclose(found[1, [1, 2]], [0, 1])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)

  def test_frames_are_averaged_and_standardized(self):
    frames = [np.arange(10.0).reshape(5, 2), np.ones((4, 2))]
    found = semantic.frame_features(frames, self.examples)
    # Means (3, 4) and (1, 1): one deviation above and below.
    np.testing.assert_allclose(found * 2**0.5, [[1, 1], [-1, -1]], rtol=1e-5)


class LogMelTest(absltest.TestCase):

  def test_frames_are_means_of_four(self):
    audio = noise(16000)
    found = semantic.log_mel_frames(audio, 25)
    log_mel = dsp.log_mel(jnp.asarray(audio)[None], 16000, 400, 160, 80)[0]
    expected = np.asarray(log_mel[:100]).reshape(25, 4, 80).mean(axis=1)
    # The last frame sees what audio is padded with.
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=1e-4)
    self.assertEqual(found.shape, (25, 80))

  def test_quantizer_tells_spectra_apart_not_scales_of_bands(self):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(6, 8)) * 10
    kinds = rng.integers(6, size=400)
    frames = centers[kinds] + 0.01 * rng.normal(size=(400, 8))
    frames = (frames * np.geomspace(1, 1e4, 8)).astype(np.float32)
    quantize = semantic.log_mel_quantizer([frames[:150], frames[150:]], 1024)
    tokens = quantize(frames)
    self.assertEqual(tokens.shape, (400,))
    for token in np.unique(tokens):
      self.assertLen(set(kinds[tokens == token]), 1)
    np.testing.assert_array_equal(quantize(frames[:9]), tokens[:9])


if __name__ == '__main__':
  absltest.main()
