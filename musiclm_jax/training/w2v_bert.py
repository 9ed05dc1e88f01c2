"""Pre-training of w2v-BERT, and the k-means that makes tokens of it."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import functools
import os
import tempfile
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np
import optax

from musiclm_jax.audio import io
from musiclm_jax.models import kmeans
from musiclm_jax.models import parts
from musiclm_jax.models import w2v_bert
from musiclm_jax.training import model as model_lib

NAME = 'w2v_bert'
CORPUS_SAMPLE_RATE = 24000
NUM_CENTROIDS = 1024


def span_mask(
    rng: jax.Array, shape: tuple[int, int], probability: float, span: int
) -> Bool[Array, 'batch frames']:
  """Draws the frames to mask (wav2vec 2.0, arXiv 2006.11477, section 3.1).

  Args:
    rng: Random key.
    shape: (batch, frames).
    probability: That a span starts at a frame.
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
    num_distractors: Of each frame.

  Returns:
    [batch, frames, distractors] frame numbers; of no meaning where the frame
    is not masked, or no other is.
  """
  batch, frames = mask.shape
  masked_first = jnp.argsort(~mask, axis=1, stable=True)
  own = (jnp.cumsum(mask, axis=1) - 1)[..., None]  # rank among the masked
  others = jnp.maximum(jnp.sum(mask, axis=1) - 1, 1)[:, None, None]
  rank = jax.random.randint(
      rng, (batch, frames, num_distractors), 0, others
  )
  rank = rank + (rank >= own)
  flat = jnp.take_along_axis(masked_first, rank.reshape(batch, -1), axis=1)
  return flat.reshape(rank.shape)


def contrastive_logits(
    context: Float[Array, 'batch frames code_embed'],
    quantized: Float[Array, 'batch frames code_embed'],
    distractors: Int[Array, 'batch frames distractors'],
    temperature: float,
) -> Float[Array, 'batch frames choices']:
  """Compares each context to its own quantized frame and to others.

  Args:
    context: [batch, frames, code_embed].
    quantized: [batch, frames, code_embed].
    distractors: [batch, frames, distractors] frame numbers.
    temperature: What cosine similarities are divided by.

  Returns:
    [batch, frames, 1 + distractors]; the right choice is the first.
  """
  normalize = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  # Every pair of frames: less memory than a vector for each distractor.
  similarities = jnp.einsum(
      'bfd,bgd->bfg', normalize(context), normalize(quantized)
  )
  frames = jnp.arange(context.shape[1])[None, :, None]
  own = jnp.broadcast_to(frames, (*distractors.shape[:2], 1))
  choices = jnp.concatenate([own, distractors], axis=-1)
  return jnp.take_along_axis(similarities, choices, axis=-1) / temperature


def _perplexity(probabilities: Array) -> Array:
  return jnp.exp(jnp.sum(jax.scipy.special.entr(probabilities)))


def diversity_loss(
    code_logits: Float[Array, 'batch frames codes'],
) -> Float[Array, '']:
  """Returns 0 if codes are equally likely on average, near 1 if one rules."""
  mean = jnp.mean(jax.nn.softmax(code_logits), axis=(0, 1))
  return 1 - _perplexity(mean) / code_logits.shape[-1]


def _mean_where(values: Array, weights: Array) -> Array:
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)


class W2vBertModel(model_lib.TrainableModel):
  """w2v-BERT (arXiv 2108.06209, section 3).

  Batches hold 'audio': [batch, samples] floats at 16 kHz.

  Metrics show failure: contrastive_loss stays at contrastive_chance, the log
  of the number of choices, if the codebook or the context collapses; then
  codebook_perplexity falls to 1. Distractors of the frame's own code count as
  wrong answers, so music that holds a sound keeps contrastive_accuracy low.
  """

  name = NAME

  def __init__(
      self,
      config: w2v_bert.W2vBertConfig,
      optimizer_def: optax.GradientTransformation,
      mask_probability: float = 0.065,
      mask_span: int = 10,
      num_distractors: int = 100,
      similarity_temperature: float = 0.1,
      diversity_weight: float = 0.1,
  ):
    """Makes the module.

    Args:
      config: Of the architecture.
      optimizer_def: See TrainableModel.
      mask_probability: That a masked span starts at a frame.
      mask_span: Frames of a masked span.
      num_distractors: That the right code is to be told from.
      similarity_temperature: What cosine similarities are divided by.
      diversity_weight: Of the diversity loss, beside the contrastive loss.
    """
    super().__init__(optimizer_def)
    self.config = config
    self.module = w2v_bert.W2vBert(config)
    self.mask_probability = mask_probability
    self.mask_span = mask_span
    self.num_distractors = num_distractors
    self.similarity_temperature = similarity_temperature
    self.diversity_weight = diversity_weight

  def get_initial_variables(
      self,
      rng: jax.Array,
      input_shapes: Mapping[str, tuple[int, ...]],
      input_types: Mapping[str, Any] | None = None,
  ) -> model_lib.Variables:
    del input_types
    batch, samples = input_shapes['audio']
    audio = jnp.zeros((batch, samples))
    mask = jnp.zeros((batch, samples // w2v_bert.FRAME_LENGTH), bool)
    return self.module.init(rng, audio, mask, rng)

  def loss_fn(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      dropout_rng: jax.Array | None,
      flax_mutables: model_lib.Variables | None = None,
  ) -> tuple[jax.Array, Any]:
    loss, metrics = self._losses(params, batch, dropout_rng)
    if flax_mutables is None:
      return loss, metrics
    return loss, (metrics, flax_mutables)

  def eval_fn(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      flax_mutables: model_lib.Variables | None = None,
  ) -> tuple[jax.Array, model_lib.Metrics]:
    del flax_mutables
    return self._losses(params, batch, None)

  def _losses(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      dropout_rng: jax.Array | None,
  ) -> tuple[jax.Array, model_lib.Metrics]:
    """Returns loss and metrics; without dropout if there is no key for it."""
    deterministic = dropout_rng is None
    rng = jax.random.key(0) if deterministic else dropout_rng
    mask_rng, distractor_rng, module_rng, dropout_rng = jax.random.split(rng, 4)
    audio = batch['audio']
    frames = audio.shape[1] // w2v_bert.FRAME_LENGTH
    mask = span_mask(
        mask_rng,
        (audio.shape[0], frames),
        self.mask_probability,
        self.mask_span,
    )
    predictions = self.module.apply(
        {'params': params},
        audio,
        mask,
        module_rng,
        deterministic=deterministic,
        rngs={'dropout': dropout_rng},
    )
    distractors = sample_distractors(
        distractor_rng, mask, self.num_distractors
    )
    metrics = {
        **self._contrastive_metrics(predictions, mask, distractors),
        **_prediction_metrics(predictions, mask),
    }
    loss = (
        metrics['contrastive_loss']
        + self.diversity_weight * metrics['diversity_loss']
        + metrics['prediction_loss']
    )
    return loss, model_lib.average(
        loss=loss, mask_fraction=jnp.mean(mask), **metrics
    )

  def _contrastive_metrics(
      self, predictions: w2v_bert.Predictions, mask: Array, distractors: Array
  ) -> dict[str, Array]:
    logits = contrastive_logits(
        predictions.context,
        predictions.quantized,
        distractors,
        self.similarity_temperature,
    )
    right, wrong = logits[..., 0], jnp.max(logits[..., 1:], axis=-1)
    # A clip's only masked frame has no distractors.
    weights = mask & (jnp.sum(mask, axis=1, keepdims=True) > 1)
    codes = jnp.argmax(predictions.code_logits, axis=-1)
    counts = jnp.bincount(codes.ravel(), length=self.config.codebook_size)
    return {
        'contrastive_loss': _mean_where(
            jax.nn.logsumexp(logits, axis=-1) - right, weights
        ),
        'contrastive_chance': jnp.log(logits.shape[-1]),
        'contrastive_accuracy': _mean_where(right > wrong, weights),
        'diversity_loss': diversity_loss(predictions.code_logits),
        'codebook_perplexity': _perplexity(counts / codes.size),
    }


def _prediction_metrics(
    predictions: w2v_bert.Predictions, mask: Array
) -> dict[str, Array]:
  targets = jnp.argmax(predictions.code_logits, axis=-1)
  losses = optax.softmax_cross_entropy_with_integer_labels(
      predictions.logits, targets
  )
  right = jnp.argmax(predictions.logits, axis=-1) == targets
  return {
      'prediction_loss': _mean_where(losses, mask),
      'prediction_accuracy': _mean_where(right, mask),
  }
