"""How much a codec's reconstruction differs from the original."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax.audio import distances as audio_distances
from musiclm_jax.audio import dsp
import numpy as np

si_sdr = jax.jit(audio_distances.si_sdr)

_STFT_WINDOWS = (512, 1024, 2048)


@functools.partial(jax.jit, static_argnums=2)
def mel_distance(
    audio: Float[np.ndarray | Array, 'batch samples'],
    reconstruction: Float[np.ndarray | Array, 'batch samples'],
    sample_rate: int,
) -> Float[Array, ' batch']:
  """Mean absolute difference of log-mel spectrograms, in decibels.

  Args:
    audio: [batch, samples] original.
    reconstruction: [batch, samples] to compare with it.
    sample_rate: Sample rate of both, in Hz.

  Returns:
    [batch] means over 80 bands and frames of 1024 samples, 256 apart.
  """
  log_mel = functools.partial(
      dsp.log_mel,
      sample_rate=sample_rate,
      window_length=1024,
      hop_length=256,
      num_mels=80,
  )
  difference = log_mel(jnp.asarray(audio)) - log_mel(
      jnp.asarray(reconstruction)
  )
  return 20 / jnp.log(10) * jnp.mean(jnp.abs(difference), axis=(1, 2))


@jax.jit
def multi_resolution_stft_distance(
    audio: Float[np.ndarray | Array, 'batch samples'],
    reconstruction: Float[np.ndarray | Array, 'batch samples'],
) -> Float[Array, ' batch']:
  """Spectral convergence plus log-magnitude distance (Yamamoto et al., 2020).

  Args:
    audio: [batch, samples].
    reconstruction: [batch, samples].

  Returns:
    [batch] means over windows of 512, 1024 and 2048 samples, a quarter apart.
  """
  found = []
  for window in _STFT_WINDOWS:
    real, fake = (
        jnp.abs(dsp.stft(jnp.asarray(x), window, window // 4)).clip(1e-5)
        for x in (audio, reconstruction)
    )
    norm = lambda x: jnp.sqrt(jnp.sum(jnp.square(x), axis=(1, 2)))
    logs = jnp.mean(jnp.abs(jnp.log(real) - jnp.log(fake)), axis=(1, 2))
    found.append(norm(real - fake) / norm(real) + logs)
  return jnp.mean(jnp.stack(found), axis=0)


def distances(
    audio: Float[np.ndarray, 'one samples'],
    reconstruction: Float[np.ndarray, 'one samples'],
    sample_rate: int,
) -> dict[str, float]:
  """Returns each distance of one clip, by its name in tables."""
  pair = audio, reconstruction
  found = {
      'log-mel distance (dB)': mel_distance(*pair, sample_rate),
      'STFT distance': multi_resolution_stft_distance(*pair),
      'SI-SDR (dB)': si_sdr(*pair),
  }
  return {name: float(value[0]) for name, value in found.items()}


def codebook_perplexity(
    tokens: Int[np.ndarray, '*batch quantizers'], codebook_size: int
) -> Float[np.ndarray, ' quantizers']:
  """Returns how many codes of each codebook some tokens use, at most all.

  Args:
    tokens: [..., quantizers] in [0, codebook_size).
    codebook_size: Codes in each codebook.

  Returns:
    [quantizers] exponentials of the entropies of the codes' frequencies.
  """
  perplexities = []
  for column in tokens.reshape(-1, tokens.shape[-1]).T:
    counts = np.bincount(column, minlength=codebook_size)
    shares = counts[counts > 0] / column.size
    perplexities.append(np.exp(-np.sum(shares * np.log(shares))))
  return np.array(perplexities)
