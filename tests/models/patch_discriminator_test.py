"""Tests for patch_discriminator."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax.models import discriminators
from musiclm_jax.models import patch_discriminator
import numpy as np

RATE, WINDOW = 24000, 256


def tone(hertz, gain=0.5):
  time = np.arange(4096) / RATE
  return (gain * np.sin(2 * np.pi * hertz * time)).astype('f4')[np.newaxis]


def cut(audio):
  return np.asarray(patch_discriminator.cut(jnp.asarray(audio), WINDOW))


class CutTest(absltest.TestCase):

  def test_a_tone_is_in_the_patches_of_its_bins(self):
    patches = cut(tone(36 * RATE / WINDOW))
    self.assertEqual(patches.shape, (1, 32, 16, 32))
    power = np.square(patches[0, 4:-4]).sum(axis=-1)
    self.assertTrue((power.argmax(axis=1) == 36 // 8).all())

  def test_magnitudes_are_compressed(self):
    loud, soft = (np.abs(cut(tone(4000, gain))).max() for gain in (0.5, 0.05))
    np.testing.assert_allclose(loud / soft, 10**0.3, rtol=1e-3)

  def test_patches_hold_their_frames_and_bins(self):
    audio = np.random.default_rng(0).normal(0, 0.1, (2, 4096)).astype('f4')
    patches = cut(audio)
    spectrum = np.lib.stride_tricks.sliding_window_view(
        np.pad(audio, ((0, 0), (128, 128)), 'reflect'), WINDOW, axis=1
    )[:, ::64]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    spectrum = np.fft.rfft(spectrum * hann) / np.sqrt(0.375 * WINDOW)
    expected = spectrum[:, 2:4, 24:32] * np.abs(spectrum[:, 2:4, 24:32]) ** -0.7
    found = patches[:, 1, 3].reshape(2, 2, 8, 2)
    np.testing.assert_allclose(
        found, np.stack([expected.real, expected.imag], -1), atol=1e-3
    )


class PatchDiscriminatorTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    config = discriminators.DiscriminatorConfig(
        stft_channels=0,
        wave_scales=0,
        patch_windows=(128, WINDOW),
        patch_channels=8,
        patch_blocks=2,
    )
    self.module = discriminators.Discriminators(config)

  def test_judges_each_patch_and_all_of_it_is_trained(self):
    audio = jax.random.normal(jax.random.key(0), (2, 1024))
    variables = self.module.init(jax.random.key(1), audio)
    params = variables['params']
    self.assertEqual(params.keys(), {'patches_0', 'patches_1'})

    def total(params):
      judged = self.module.apply({'params': params}, audio)
      return sum(jnp.sum(jnp.square(x)) for x, _ in judged), judged

    gradients, judged = jax.grad(total, has_aux=True)(params)
    # 33 and 17 spectra of 64 and 128 bins.
    self.assertEqual([x.shape for x, _ in judged], [(2, 128), (2, 128)])
    for _, features in judged:
      self.assertLen(features, 3)
    for gradient in jax.tree.leaves(gradients):
      self.assertGreater(float(jnp.abs(gradient).max()), 0)

  def test_rejects_windows_and_nothing(self):
    for window in (0, 24):
      with self.assertRaisesRegex(ValueError, f'of 16, but one is {window}'):
        discriminators.DiscriminatorConfig(patch_windows=(window,))
    with self.assertRaisesRegex(ValueError, 'must be a discriminator'):
      discriminators.DiscriminatorConfig(stft_channels=0, wave_scales=0)


if __name__ == '__main__':
  absltest.main()
