"""Distances between audio and a reference."""

import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def si_sdr(
    audio: Float[np.ndarray | Array, 'batch samples'],
    reconstruction: Float[np.ndarray | Array, 'batch samples'],
) -> Float[Array, ' batch']:
  """Scale-invariant signal-to-distortion ratio (Le Roux et al., 2019).

  Args:
    audio: [batch, samples] reference.
    reconstruction: [batch, samples] audio to compare with it.

  Returns:
    [batch] decibels, clipped to [-80, 80]: that of silence is infinite.
  """
  dot = lambda x, y: jnp.sum(x * y, axis=-1)
  scale = dot(audio, reconstruction) / jnp.maximum(dot(audio, audio), 1e-8)
  target = scale[:, None] * audio
  noise = target - reconstruction
  ratio = (dot(target, target) + 1e-8) / (dot(noise, noise) + 1e-8)
  return jnp.clip(10 * jnp.log10(ratio), -80, 80)
