"""Losses of the codec (SoundStream, section III-E)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float
from musiclm_jax.audio import dsp

# Output of a discriminator: logits [batch, steps], and its layers' features.
Judgement = tuple[Array, Sequence[Array]]

MEL_WINDOWS = (64, 128, 256, 512, 1024, 2048)
NUM_MELS = 64
SPECTRAL_WINDOWS = (256, 512, 1024, 2048)
LOG_WINDOWS = (512, 1024, 2048)
# Added to the magnitudes of bins, about 60 dB below those of a loud tone.
_BIN_FLOOR = 0.1
# Added to mel magnitudes before the logarithm, about 80 dB below full scale:
# what is quieter need not be reproduced (ours).
_MEL_FLOOR = 1e-3


def discriminator_loss(
    real: Sequence[Judgement], fake: Sequence[Judgement]
) -> Float[Array, '']:
  """Hinge loss for telling real (logits > 1) from fake (< -1) audio.

  Args:
    real: Output of each discriminator for real audio.
    fake: Output of each discriminator for reconstructions.

  Returns:
    The mean over time, examples and discriminators.
  """
  losses = [
      jnp.mean(jax.nn.relu(1 - r)) + jnp.mean(jax.nn.relu(1 + f))
      for (r, _), (f, _) in zip(real, fake, strict=True)
  ]
  return jnp.mean(jnp.stack(losses))


def adversarial_loss(fake: Sequence[Judgement]) -> Float[Array, '']:
  """Hinge loss for a generator whose audio should be judged real."""
  losses = [jnp.mean(jax.nn.relu(1 - logits)) for logits, _ in fake]
  return jnp.mean(jnp.stack(losses))


def feature_loss(
    real: Sequence[Judgement], fake: Sequence[Judgement]
) -> Float[Array, '']:
  """Mean absolute difference of the discriminators' features.

  Each layer is averaged over time, examples and (ours) channels; then all
  layers of all discriminators have the same weight, as in the paper.
  """
  losses = [
      jnp.mean(jnp.abs(r.astype(jnp.float32) - f.astype(jnp.float32)))
      for (_, reals), (_, fakes) in zip(real, fake, strict=True)
      for r, f in zip(reals, fakes, strict=True)
  ]
  return jnp.mean(jnp.stack(losses))


def mel_magnitudes(
    audio: Float[Array, 'batch samples'], sample_rate: int, window: int
) -> Float[Array, 'batch frames mels']:
  """Returns the mel spectrogram with a window of `window` samples."""
  magnitudes = _magnitudes(dsp.stft(audio, window, window // 4))
  filters = dsp.mel_filterbank(sample_rate, window, NUM_MELS)
  return jnp.einsum('btf,fm->btm', magnitudes, filters, precision='highest')


def mel_loss(
    audio: Float[Array, 'batch samples'],
    reconstruction: Float[Array, 'batch samples'],
    sample_rate: int,
) -> Float[Array, '']:
  """Multi-scale spectral distance, of 64-bin mel spectrograms.

  For each window s, the L1 distance of magnitudes and sqrt(s / 2) times the L2
  distance of their logarithms. The paper sums both over bins, frames and
  windows; here they are means (the L2 norm a root mean square), so that the
  loss neither grows with the crop nor drowns the adversarial loss (ours).

  Args:
    audio: [batch, samples].
    reconstruction: [batch, samples].
    sample_rate: Sample rate, in Hz.

  Returns:
    The mean over windows, frames and examples.
  """
  losses = []
  for window in MEL_WINDOWS:
    real = mel_magnitudes(audio, sample_rate, window)
    fake = mel_magnitudes(reconstruction, sample_rate, window)
    linear = jnp.mean(jnp.abs(real - fake))
    ratio = jnp.log(real + _MEL_FLOOR) - jnp.log(fake + _MEL_FLOOR)
    # If all bins of a frame agree, the root has no gradient without this.
    rms = jnp.sqrt(jnp.mean(jnp.square(ratio), axis=-1) + 1e-8)
    losses.append(linear + (window / 2) ** 0.5 * jnp.mean(rms))
  return jnp.mean(jnp.stack(losses))


def spectral_losses(
    audio: Float[Array, 'batch samples'],
    reconstruction: Float[Array, 'batch samples'],
    sample_rate: int,
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """Distances of spectra at several window sizes, and of their phases (ours).

  Args:
    audio: [batch, samples].
    reconstruction: [batch, samples].
    sample_rate: Sample rate, in Hz.

  Returns:
    The mean absolute difference of logarithmic mel magnitudes, and the mean
    distance of complex spectra over the mean magnitude; summed over windows.
  """
  log_mel: Array = jnp.zeros(())
  spectrum: Array = jnp.zeros(())
  for window in SPECTRAL_WINDOWS:
    real, fake = (
        dsp.stft(x, window, window // 4) for x in (audio, reconstruction)
    )
    filters = dsp.mel_filterbank(sample_rate, window, min(80, window // 6))
    real_mel, fake_mel = (
        jnp.log(_magnitudes(x) @ filters + _MEL_FLOOR) for x in (real, fake)
    )
    log_mel += jnp.mean(jnp.abs(real_mel - fake_mel))
    spectrum += jnp.mean(_magnitudes(real - fake)) / (
        jnp.mean(_magnitudes(real)) + 1e-6
    )
  return log_mel, spectrum


def log_spectrum_loss(
    audio: Float[Array, 'batch samples'],
    reconstruction: Float[Array, 'batch samples'],
) -> Float[Array, '']:
  """Mean absolute difference of logarithmic magnitudes of all bins (ours).

  Mel bands of high frequencies are too wide to tell harmonics from noise; bins
  of long windows are not.

  Args:
    audio: [batch, samples].
    reconstruction: [batch, samples].

  Returns:
    The mean over windows, bins, frames and examples.
  """
  losses = []
  for window in LOG_WINDOWS:
    real, fake = (
        jnp.log(_magnitudes(dsp.stft(x, window, window // 4)) + _BIN_FLOOR)
        for x in (audio, reconstruction)
    )
    losses.append(jnp.mean(jnp.abs(real - fake)))
  return jnp.mean(jnp.stack(losses))


def _magnitudes(
    spectrum: Complex[Array, 'batch frames bins'],
) -> Float[Array, 'batch frames bins']:
  # The gradient of a square root is infinite at 0, as in silence.
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  return jnp.sqrt(jnp.maximum(power, 1e-12))
