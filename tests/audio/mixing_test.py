"""Tests for mixing."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.audio import mixing
import numpy as np

SURROUND = ('FL', 'FR', 'FC', 'LFE', 'BL', 'BR')


def noise(*levels):
  rng = np.random.default_rng(0)
  return (np.array(levels) * rng.normal(size=(60000, len(levels)))).astype('f4')


def mix(block, layout=()):
  mixer = mixing.Mixer(mixing.weigh(layout, block.shape[1]))
  mixed = mixer.mix(block)
  return mixer, mixer.gain * mixed


class MixingTest(parameterized.TestCase):

  def test_weigh(self):
    half = 2**-0.5
    np.testing.assert_allclose(
        mixing.weigh(SURROUND, 6), [1, 1, 2**0.5, 0, half, half]
    )
    np.testing.assert_array_equal(mixing.weigh(('FL', 'FR'), 2), [0.5, 0.5])
    np.testing.assert_array_equal(mixing.weigh((), 3), [1, 1, 1])

  @parameterized.parameters(1, 2)
  def test_mono_and_stereo_are_means_bit_by_bit(self, channels):
    block = noise(*[0.1] * channels)
    mixer, mixed = mix(block)
    np.testing.assert_array_equal(mixed, block.mean(axis=1))
    self.assertEmpty(mixer.fault)

  def test_more_channels_keep_their_power(self):
    for levels in ([0, 0, 0.1, 0, 0, 0], [0.1] * 6):
      mixer, mixed = mix(noise(*levels), SURROUND)
      self.assertEmpty(mixer.fault)
      self.assertAlmostEqual(float(np.std(mixed)), 0.1, delta=1e-3)

  @parameterized.parameters(
      ([[1, -1]], 'cancel'),
      ([[1, -0.5]], 'cancel'),
      ([[1, -0.3]], ''),
      ([[1, 0]], 'only its left'),
      ([[0, 1]], 'only its right'),
      ([[1, -1, 0.01]], 'number 1'),
  )
  def test_fault(self, gains, word):
    mixer, _ = mix(noise(0.1) * np.array(gains, np.float32))
    self.assertRegex(mixer.fault, word or '^$')

  def test_channels_that_cancel_for_a_while(self):
    block = np.repeat(noise(0.1), 2, axis=1)
    mixer, _ = mix(block)
    self.assertEmpty(mixer.fault)
    block[:20000, 1] *= -1
    mixer, _ = mix(block)
    self.assertIn('cancel', mixer.fault)

  @parameterized.parameters((1e-3, False), (1e-4, True))
  def test_is_silent(self, level, expected):
    audio = np.zeros(100000, np.float32)
    audio[50000:60000] = noise(level)[:10000, 0] + 0.5
    audio[:50000] = 0.5
    self.assertEqual(mixing.is_silent(audio[:60000]), expected)

  def test_fit(self):
    quiet = noise(0.1)[:, 0]
    fitted, word = mixing.fit(quiet)
    np.testing.assert_array_equal(fitted, quiet)
    self.assertEmpty(word)
    loud = quiet * np.float32(3 / np.max(np.abs(quiet)))
    fitted, word = mixing.fit(loud)
    np.testing.assert_array_equal(fitted, loud / np.max(np.abs(loud)))
    self.assertEmpty(word)
    damaged = quiet.copy()
    damaged[[5, 500]] = [50, -3]
    fitted, word = mixing.fit(damaged)
    np.testing.assert_array_equal(fitted[[5, 500]], [1, -1])
    np.testing.assert_array_equal(fitted[501:], quiet[501:])
    self.assertIn('2 of its samples peak at 50', word)


if __name__ == '__main__':
  absltest.main()
