"""Parts that fail in a known way, and sounds to train them on."""

from typing import Any

import jax
from musiclm_jax.training import soundstream
import numpy as np

NUM_PITCHES, NUM_TIMBRES = 8, 4
# Word pieces of pitches and timbres start here.
FIRST_PITCH, FIRST_TIMBRE = 5, 20


class DeadCodebook(soundstream.SoundStreamModel):
  """All codes of the second quantizer are one and the same."""

  def loss_fn(self, params, batch, dropout_rng, flax_mutables=None):
    loss, (metrics, mutables) = super().loss_fn(
        params, batch, dropout_rng, flax_mutables
    )
    quantizer = mutables['codebooks']['quantizer']
    codes = quantizer['codes'].at[1].set(quantizer['codes'][1, 0])
    return loss, (
        metrics,
        {'codebooks': {'quantizer': {**quantizer, 'codes': codes}}},
    )


class FrozenDiscriminators(soundstream.SoundStreamModel):
  """Its discriminators have no gradient."""

  def loss_fn(self, params, batch, dropout_rng, flax_mutables=None):
    frozen = jax.tree.map(jax.lax.stop_gradient, params['discriminator'])
    params = {**params, 'discriminator': frozen}
    return super().loss_fn(params, batch, dropout_rng, flax_mutables)


def sounds(
    count: int,
    samples: int,
    sample_rate: int,
    seed: int,
    captions: str | None = None,
) -> list[dict[str, Any]]:
  """Returns tones of 8 pitches and 4 timbres in noise.

  Args:
    count: Of examples.
    samples: Of each.
    sample_rate: In Hz.
    seed: Of all that is random.
    captions: 'true' to name pitch and timbre in 'text_ids', 'shuffled' to name
      any, None for no captions.
  """
  rng = np.random.default_rng(seed)
  time = np.arange(samples) / sample_rate
  made = []
  for _ in range(count):
    pitch, timbre = rng.integers(NUM_PITCHES), rng.integers(NUM_TIMBRES)
    phases = 2 * np.pi * 200 * 1.3**pitch * time * np.arange(1, 9)[:, None]
    phases += rng.uniform(0, 2 * np.pi, (8, 1))
    partials = np.arange(1, 9.0) ** -(0.3 + timbre)
    audio = partials @ np.sin(phases) / partials.sum()
    audio = 0.5 * audio + rng.normal(0, 0.02, samples)
    example: dict[str, Any] = {'audio': audio.astype(np.float32)}
    if captions == 'shuffled':
      pitch, timbre = rng.integers(NUM_PITCHES), rng.integers(NUM_TIMBRES)
    if captions is not None:
      words = [FIRST_PITCH + pitch, FIRST_TIMBRE + timbre]
      example['text_ids'] = np.array([2, *words, 3], np.int32)
    made.append(example)
  return made


def make_example(
    record: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
  """Returns `record`, for `Batches`."""
  del rng
  return record
