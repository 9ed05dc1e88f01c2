"""Pre-training of w2v-BERT, and the k-means that turns its output to tokens."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import functools
import itertools
import os
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax import errors
from musiclm_jax.models import kmeans
from musiclm_jax.models import parts
from musiclm_jax.models import w2v_bert
from musiclm_jax.training import embeddings as embeddings_lib
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import w2v_bert_losses as losses
import numpy as np
import optax

MAX_FRAMES = 100_000  # Frames that k-means is fitted to.


def _mean_where(values: Array, weights: Array) -> Array:
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)


class W2vBertModel(model_lib.TrainableModel):
  """w2v-BERT (arXiv 2108.06209, section 3).

  Batches hold 'audio': [batch, samples] floats at 16 kHz.

  Metrics reveal failure: contrastive_loss stays at contrastive_chance, the log
  of the number of choices, if the codebook or the context collapses; then
  codebook_perplexity, or context_effective_rank, falls to 1. Distractors that
  share the frame's code are choices too, so the loss cannot fall far for music
  with sustained sounds.
  """

  name = 'w2v_bert'
  sample_rate = w2v_bert.SAMPLE_RATE

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
      config: The architecture.
      optimizer_def: See TrainableModel.
      mask_probability: Probability that a masked span starts at a frame.
      mask_span: Frames of a masked span.
      num_distractors: Number of wrong choices for each frame.
      similarity_temperature: Divides the cosine similarities.
      diversity_weight: Weight of the diversity loss.
    """
    super().__init__(optimizer_def)
    self.config = config
    # K-means cannot be fitted to fewer frames than centroids.
    self.seconds_to_fit = (
        config.num_centroids * w2v_bert.FRAME_LENGTH / w2v_bert.SAMPLE_RATE
    )
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
    return self.module.init(rng, audio, mask)

  def export(
      self,
      variables: model_lib.Variables,
      directory: str | os.PathLike[str],
      clips: Iterable[np.ndarray],
      lineage: Mapping[str, str] | None = None,
      dtype: str = 'float32',
  ) -> str:
    """Fits k-means to clips, and writes the part; see the base class.

    The part holds the blocks up to `config.semantic_layer`, without the heads
    of pre-training; k-means stays float32.

    Raises:
      UserError: If the clips hold fewer frames than there are centroids.
    """
    # Tokens are made in float32, with no more blocks than needed.
    config = dataclasses.replace(
        self.config,
        masked_prediction_layers=self.config.semantic_layer,
        dtype='float32',
    )
    params = jax.device_get(dict(variables['params']['encoder']))
    num_blocks = config.contrastive_layers + config.semantic_layer
    dropped = self.config.masked_prediction_layers - self.config.semantic_layer
    for i in range(dropped):
      del params[f'blocks_{num_blocks + i}']
    stored = parts.as_stored(params, dtype)
    embeddings = _reservoir(embed_clips(config, stored, clips), MAX_FRAMES)
    fitted = fit_kmeans(embeddings, config.num_centroids)
    return parts.save(
        directory,
        self.name,
        dataclasses.asdict(config),
        {'params': params, 'kmeans': fitted},
        lineage,
        dtype,
    )

  def compute_loss(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      dropout_rng: jax.Array | None,
  ) -> tuple[jax.Array, model_lib.Metrics]:
    """Returns loss and metrics; without dropout if `dropout_rng` is None."""
    rng = jax.random.key(0) if dropout_rng is None else dropout_rng
    mask_rng, distractor_rng, code_rng, layer_rng = jax.random.split(rng, 4)
    audio = batch['audio']
    frames = audio.shape[1] // w2v_bert.FRAME_LENGTH
    mask = losses.span_mask(
        mask_rng,
        (audio.shape[0], frames),
        self.mask_probability,
        self.mask_span,
    )
    predictions: Any = self.module.apply(
        {'params': params},
        audio,
        mask,
        None if dropout_rng is None else code_rng,
        rngs={'dropout': layer_rng},
    )
    distractors = losses.sample_distractors(
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
    logits = losses.contrastive_logits(
        predictions.context,
        predictions.quantized,
        distractors,
        self.similarity_temperature,
    )
    # Distractors with the frame's own code are as good: the choice is chance.
    best = logits > jnp.max(logits, axis=-1, keepdims=True) - 1e-4
    right = best[..., 0] / jnp.sum(best, axis=-1)
    # A clip's only masked frame has no distractors.
    weights = mask & (jnp.sum(mask, axis=1, keepdims=True) > 1)
    codes = jnp.argmax(predictions.code_logits, axis=-1)
    counts = jnp.bincount(codes.ravel(), length=self.config.codebook_size)
    return {
        'contrastive_loss': _mean_where(
            jax.nn.logsumexp(logits, axis=-1) - logits[..., 0], weights
        ),
        'contrastive_chance': jnp.log(logits.shape[-1]),
        'contrastive_accuracy': _mean_where(right, weights),
        'diversity_loss': losses.diversity_loss(predictions.code_logits),
        'codebook_perplexity': jnp.exp(losses.entropy(counts / codes.size)),
        'context_effective_rank': embeddings_lib.effective_rank(
            predictions.context.reshape(codes.size, -1).astype(jnp.float32)
        ),
    }


def _prediction_metrics(
    predictions: w2v_bert.Predictions, mask: Array
) -> dict[str, Array]:
  targets = jnp.argmax(predictions.code_logits, axis=-1)
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels(
      predictions.logits, targets
  )
  right = jnp.argmax(predictions.logits, axis=-1) == targets
  return {
      'prediction_loss': _mean_where(cross_entropy, mask),
      'prediction_accuracy': _mean_where(right, mask),
  }


def embed_clips(
    config: w2v_bert.W2vBertConfig,
    params: Mapping[str, Any],
    clips: Iterable[np.ndarray],
) -> Iterator[Float[np.ndarray, 'frames embed']]:
  """Yields the embeddings of each clip.

  Args:
    config: The architecture of the encoder.
    params: The parameters of the encoder.
    clips: [samples] float32 clips at 16 kHz.
  """
  encoder = w2v_bert.W2vBertEncoder(config)
  embed = functools.partial(jax.jit(encoder.apply), {'params': params})
  for clip in clips:
    num_frames = len(clip) // w2v_bert.FRAME_LENGTH
    if num_frames:
      yield w2v_bert.in_windows(embed, clip[np.newaxis], num_frames)[0]


def _reservoir(
    rows: Iterable[np.ndarray], size: int
) -> Float[np.ndarray, 'n embed']:
  """Samples `size` rows of all [frames, embed] arrays, uniformly."""
  rng = np.random.default_rng(0)
  sample: list[np.ndarray] = []
  seen = 0
  for row in itertools.chain.from_iterable(rows):
    seen += 1
    if len(sample) < size:
      sample.append(row.copy())  # A view would keep its whole clip.
    elif (index := rng.integers(seen)) < size:
      sample[index] = row.copy()
  return np.array(sample)


def fit_kmeans(
    embeddings: Float[np.ndarray, 'n embed'], num_centroids: int
) -> dict[str, np.ndarray]:
  """Fits the k-means that turns embeddings into tokens (MusicLM, section 4.1).

  Args:
    embeddings: [n, embed] frames of many clips.
    num_centroids: Number of different tokens.

  Returns:
    'mean' and 'std', [embed], which standardize embeddings, and 'centroids',
    [num_centroids, embed], of standardized embeddings; all float32.

  Raises:
    UserError: If there are fewer embeddings than centroids.
  """
  if len(embeddings) < num_centroids:
    raise errors.UserError(
        f'clips must hold at least {num_centroids} frames of 40 ms to fit as'
        f' many centroids, but hold {len(embeddings)}. Give more audio.'
    )
  mean, std = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
  points = (embeddings - mean) / std
  centroids = np.asarray(kmeans.kmeans(points, num_centroids))
  return {'mean': mean, 'std': std, 'centroids': centroids}
