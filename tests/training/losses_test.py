"""Tests for losses."""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import librosa
from musiclm_jax.audio import dsp
from musiclm_jax.training import losses
import numpy as np


def judgements(*logits, features=()):
  return [(jnp.asarray([[x]]), list(features)) for x in logits]


class AdversarialTest(parameterized.TestCase):

  def test_discriminator_loss(self):
    # Two discriminators: (0 + 0) and (1 - .5) + (1 + .25).
    loss = losses.discriminator_loss(
        judgements(2.0, 0.5), judgements(-3.0, 0.25)
    )
    self.assertAlmostEqual(float(loss), 1.75 / 2)

  def test_adversarial_loss(self):
    loss = losses.adversarial_loss(judgements(2.0, -0.5))
    self.assertAlmostEqual(float(loss), 1.5 / 2)

  def test_layers_count_alike_in_the_feature_loss(self):
    real = judgements(0.0, features=[jnp.zeros((1, 8, 2)), jnp.zeros((1, 2))])
    fake = judgements(
        0.0, features=[jnp.full((1, 8, 2), -1.0), jnp.full((1, 2), 3.0)]
    )
    self.assertAlmostEqual(float(losses.feature_loss(real, fake)), 2.0)


class MelLossTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.audio = 0.3 * jax.random.normal(jax.random.key(0), (1, 4800))
    self.loss = jax.jit(lambda x, y: losses.mel_loss(x, y, 24000))

  def test_of_a_gain(self):
    # With audio far above the floor, the log distance is ln 2 in each of the
    # bands that have bins, and the linear distance is small beside it.
    loss = float(self.loss(100 * self.audio, 200 * self.audio))
    linear = np.mean(
        [
            float(
                jnp.mean(losses.mel_magnitudes(100 * self.audio, 24000, window))
            )
            for window in losses.MEL_WINDOWS
        ]
    )
    used = [
        np.mean(np.any(dsp.mel_filterbank(24000, window, 64) > 0, axis=0))
        for window in losses.MEL_WINDOWS
    ]
    logs = np.mean(
        [
            np.sqrt(window / 2) * np.log(2) * np.sqrt(share)
            for window, share in zip(losses.MEL_WINDOWS, used, strict=True)
        ]
    )
    self.assertAlmostEqual(loss, linear + logs, delta=0.02 * loss)

  def test_equals_the_formula_on_spectrograms_of_librosa(self):
    noise = jax.random.normal(jax.random.key(1), self.audio.shape)
    made = 0.7 * self.audio + 0.1 * noise
    losses_of_windows = []
    for window in (64, 128, 256, 512, 1024, 2048):
      with warnings.catch_warnings():  # Of bands without bins.
        warnings.simplefilter('ignore', UserWarning)
        real, fake = (
            librosa.feature.melspectrogram(
                y=np.asarray(x[0]),
                sr=24000,
                n_fft=window,
                hop_length=window // 4,
                n_mels=64,
                power=1,
            ).T
            for x in (self.audio, made)
        )
      logs = np.log(real + 1e-3) - np.log(fake + 1e-3)
      norms = np.sqrt(np.mean(logs**2, axis=1))
      alpha = np.sqrt(window / 2)
      losses_of_windows.append(
          np.mean(np.abs(real - fake)) + alpha * np.mean(norms)
      )
    np.testing.assert_allclose(
        self.loss(self.audio, made), np.mean(losses_of_windows), rtol=1e-3
    )

  def test_grows_with_distortion(self):
    noise = jax.random.normal(jax.random.key(1), self.audio.shape)
    values = [
        float(self.loss(self.audio, self.audio + x * noise))
        for x in (0.0, 0.01, 0.1)
    ]
    self.assertLess(values[0], 0.01)
    self.assertLess(values[0], values[1])
    self.assertLess(values[1], values[2])

  @parameterized.parameters(0.0, 1.0)
  def test_gradient_is_finite_at_silence(self, scale):
    gradient = jax.jit(jax.grad(self.loss, argnums=1))(
        scale * self.audio, jnp.zeros_like(self.audio)
    )
    self.assertTrue(np.isfinite(gradient).all())


if __name__ == '__main__':
  absltest.main()
