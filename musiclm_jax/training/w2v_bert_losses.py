"""Masks, distractors and losses of w2v-BERT."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from musiclm_jax.models import layers
import numpy as np


def span_mask(
    rng: jax.Array, shape: tuple[int, int], probability: float, span: int
) -> Bool[Array, 'batch frames']:
  """Draws the frames to mask (wav2vec 2.0, arXiv 2006.11477, section 3.1).

  Args:
    rng: Random key.
    shape: (batch, frames).
    probability: Probability that a span starts at a frame.
    span: Frames of a span; spans may overlap.

  Returns:
    [batch, frames], True where masked.
  """
  starts = jax.random.bernoulli(rng, probability, shape)
  started = jnp.cumsum(starts, axis=1)
  ended = jnp.pad(started, ((0, 0), (span, 0)))[:, : shape[1]]
  return started > ended


def sample_distractors(
    rng: jax.Array, mask: Bool[Array, 'batch frames'], num_distractors: int
) -> Int[Array, 'batch frames distractors']:
  """Draws other masked frames of the same clip, with replacement.

  Args:
    rng: Random key.
    mask: [batch, frames], True where masked.
    num_distractors: Distractors of each frame.

  Returns:
    [batch, frames, distractors] frame numbers; meaningless where the frame is
    not masked, or is the only one.
  """
  batch, frames = mask.shape
  masked_first = jnp.argsort(~mask, axis=1, stable=True)
  own = (jnp.cumsum(mask, axis=1) - 1)[..., None]  # rank among the masked
  others = jnp.maximum(jnp.sum(mask, axis=1) - 1, 1)[:, None, None]
  rank = jax.random.randint(rng, (batch, frames, num_distractors), 0, others)
  rank = rank + (rank >= own)
  flat = jnp.take_along_axis(masked_first, rank.reshape(batch, -1), axis=1)
  return flat.reshape(rank.shape)


def contrastive_logits(
    context: Float[Array, 'batch frames embed'],
    quantized: Float[Array, 'batch frames embed'],
    distractors: Int[Array, 'batch frames distractors'],
    temperature: float,
) -> Float[Array, 'batch frames choices']:
  """Compares each context to its own quantized frame and to distractors.

  Args:
    context: [batch, frames, embed].
    quantized: [batch, frames, embed].
    distractors: [batch, frames, distractors] frame numbers.
    temperature: Divides the cosine similarities.

  Returns:
    [batch, frames, 1 + distractors] logits; the right choice is the first.
  """
  # Comparing every pair of frames takes less memory than copying distractors.
  similarities = jnp.einsum(
      'bfd,bgd->bfg',
      layers.normalize(context),
      layers.normalize(quantized),
  )
  frames = jnp.arange(context.shape[1])[None, :, None]
  own = jnp.broadcast_to(frames, (*distractors.shape[:2], 1))
  choices = jnp.concatenate([own, distractors], axis=-1)
  return jnp.take_along_axis(similarities, choices, axis=-1) / temperature


def entropy(probabilities: Float[Array, ' codes']) -> Float[Array, '']:
  """Returns the entropy of a distribution, in nats."""
  return jnp.sum(jax.scipy.special.entr(probabilities))


def diversity_loss(
    code_logits: Float[Array, 'batch frames codes'],
) -> Float[Array, '']:
  """Returns how far, in nats, the mean distribution of codes is from uniform.

  wav2vec 2.0 divides this entropy by the number of codes, and so has too little
  force when a large codebook collapses.

  Args:
    code_logits: [batch, frames, codes].
  """
  mean = jnp.mean(jax.nn.softmax(code_logits), axis=(0, 1))
  return np.log(code_logits.shape[-1]) - entropy(mean)
