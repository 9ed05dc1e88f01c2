"""Triplet training of melody embeddings."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from musiclm_jax import errors
from musiclm_jax.models import melody
from musiclm_jax.training import embeddings as embeddings_lib
from musiclm_jax.training import model as model_lib
import numpy as np
import optax

_NEVER = 1e9  # Greater than all distances.


def squared_distances(
    embeddings: Float[Array, 'n embed'],
) -> Float[Array, 'n n']:
  """Returns the squared distances, in [0, 4], of unit vectors."""
  cosines = jnp.einsum('ie,je->ij', embeddings, embeddings, precision='highest')
  return jnp.maximum(0.0, 2 - 2 * cosines)


def mine_semi_hard(
    distances: Float[Array, 'anchors items'],
    positives: Int[Array, ' anchors'],
    is_negative: Bool[Array, 'anchors items'],
) -> Int[Array, ' anchors']:
  """Finds a negative for each anchor (FaceNet, arXiv 1503.03832, section 3.2).

  It is the nearest of those farther than the positive: within the margin if
  possible, otherwise with a loss of 0. If all are nearer than the positive, it
  is the farthest of them, as the hardest negatives make networks collapse.

  Args:
    distances: [anchors, items].
    positives: [anchors] the item that is the positive of each.
    is_negative: [anchors, items], whether an item may be chosen.

  Returns:
    [anchors] items; meaningless for anchors without negatives.
  """
  to_positive = jnp.take_along_axis(distances, positives[:, None], axis=1)
  is_farther = is_negative & (distances > to_positive)
  nearest = jnp.argmin(jnp.where(is_farther, distances, _NEVER), axis=1)
  farthest = jnp.argmax(jnp.where(is_negative, distances, -_NEVER), axis=1)
  return jnp.where(jnp.any(is_farther, axis=1), nearest, farthest)


def triplet_losses(
    distances: Float[Array, 'anchors items'],
    positives: Int[Array, ' anchors'],
    negatives: Int[Array, ' anchors'],
    margin: float,
) -> Float[Array, ' anchors']:
  """Returns max(0, distance to positive - distance to negative + margin)."""
  to_positive, to_negative = (
      jnp.take_along_axis(distances, items[:, None], axis=1)[:, 0]
      for items in (positives, negatives)
  )
  return jax.nn.relu(to_positive - to_negative + margin)


class MelodyModel(embeddings_lib.EmbeddingModel):
  """The melody embeddings of MusicLM (section 4.5).

  Batches hold 'anchor' and 'positive': [batch, samples] floats at 16 kHz, two
  renditions of one melody; and 'work_id': [batch, 1] ints. Both renditions
  serve as anchors. Negatives are all renditions of other works in the global
  batch: those of the same work may share the melody.

  Metrics reveal failure: loss_over_margin is 1, and effective_rank near 0 or 1,
  if embeddings have collapsed to a point; retrieval_accuracy, how often the
  positive is nearer than all negatives of a batch, is compared to
  retrieval_chance; and active_triplets shows how much is left to learn.

  Attributes:
    margin: Squared distance by which negatives should be farther than the
      positive.
  """

  name = melody.NAME
  sample_rate = melody.SAMPLE_RATE

  def __init__(
      self,
      config: melody.MelodyConfig,
      optimizer_def: optax.GradientTransformation,
      margin: float = 0.2,
  ):
    super().__init__(optimizer_def)
    if margin <= 0:
      raise errors.UserError(
          f'margin must be greater than 0, but is {margin}: without one, all'
          ' embeddings may be the same.'
      )
    self.config = config
    self.module = melody.MelodyNet(config)
    self.margin = margin

  def get_initial_variables(
      self,
      rng: jax.Array,
      input_shapes: Mapping[str, tuple[int, ...]],
      input_types: Mapping[str, Any] | None = None,
  ) -> model_lib.Variables:
    del input_types
    return self.module.init(rng, jnp.zeros(input_shapes['anchor']))

  def compute_loss(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      dropout_rng: jax.Array | None,
  ) -> tuple[jax.Array, model_lib.Metrics]:
    """Returns loss and metrics; without dropout if `dropout_rng` is None."""
    num_pairs = batch['anchor'].shape[0]
    embeddings_lib.check_batch_size(num_pairs)
    audio = jnp.concatenate([batch['anchor'], batch['positive']])
    embeddings: Any = self.module.apply(
        {'params': params},
        audio,
        deterministic=dropout_rng is None,
        rngs=None if dropout_rng is None else {'dropout': dropout_rng},
    )
    works = jnp.tile(batch['work_id'][:, 0], 2)
    return self.loss_of_embeddings(embeddings, works)

  def loss_of_embeddings(
      self, embeddings: Float[Array, 'n embed'], works: Int[Array, ' n']
  ) -> tuple[Float[Array, ''], model_lib.Metrics]:
    """Returns loss and metrics of pairs of rows i and i + n / 2.

    Args:
      embeddings: [n, embed] unit vectors.
      works: [n] numbers; rows with the same number are not negatives.

    Returns:
      The mean over anchors with negatives, 0 if there are none; and metrics.
    """
    n = embeddings.shape[0]
    positives = jnp.roll(jnp.arange(n), n // 2)
    is_negative = works[:, None] != works
    distances = squared_distances(embeddings)
    negatives = mine_semi_hard(
        jax.lax.stop_gradient(distances), positives, is_negative
    )
    losses = triplet_losses(distances, positives, negatives, self.margin)
    counts = jnp.sum(is_negative, axis=1)
    total = jnp.maximum(jnp.sum(counts > 0), 1)
    mean = lambda x: jnp.sum(jnp.where(counts > 0, x, 0.0)) / total
    loss = mean(losses)
    to_positive = jnp.take_along_axis(distances, positives[:, None], axis=1)
    nearest = jnp.min(jnp.where(is_negative, distances, _NEVER), axis=1)
    return loss, model_lib.average(
        loss=loss,
        loss_over_margin=loss / self.margin,
        active_triplets=mean(losses > 0),
        retrieval_accuracy=mean(to_positive[:, 0] < nearest),
        retrieval_chance=mean(1 / (1 + counts)),
        effective_rank=embeddings_lib.effective_rank(embeddings),
    )

  def describe(self) -> dict[str, Any]:
    return self.config.to_json()

  def embed_clips(
      self, params: Mapping[str, Any], clips: Iterable[np.ndarray]
  ) -> Iterator[Float[np.ndarray, '_ embed']]:
    """Yields the windows of each clip."""
    embedder = melody.Embedder(self.config, params)
    return (embedder(clip[np.newaxis])[0] for clip in clips)
