"""Trains embeddings that are compared, and quantized into tokens."""

import abc
from collections.abc import Iterable, Iterator, Mapping
import os
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax import errors
from musiclm_jax.models import parts
from musiclm_jax.models import quantizer
from musiclm_jax.training import model as model_lib
import numpy as np


class EmbeddingModel(model_lib.TrainableModel):
  """A model whose loss compares the embeddings of a batch with each other.

  Attributes:
    supports_microbatches: False, as negatives are the rest of the batch.
  """

  supports_microbatches = False

  @abc.abstractmethod
  def describe(self) -> dict[str, Any]:
    """Returns the config of the part, as JSON values."""

  @abc.abstractmethod
  def embed_clips(
      self, params: Mapping[str, Any], clips: Iterable[np.ndarray]
  ) -> Iterator[Float[np.ndarray, '_ embed']]:
    """Yields the embeddings of each clip, to fit the codebooks to.

    Args:
      params: The parameters as they are stored.
      clips: [samples] float32 clips at `sample_rate`.
    """

  def export(
      self,
      variables: model_lib.Variables,
      directory: str | os.PathLike[str],
      clips: Iterable[np.ndarray],
      lineage: Mapping[str, str] | None = None,
      dtype: str = 'float32',
  ) -> str:
    """Fits the codebooks to clips, and writes the part; see the base class.

    Raises:
      UserError: If there are no clips.
    """
    params = jax.device_get(variables['params'])
    stored = parts.as_stored(params, dtype)
    codebooks = fit_codebooks(
        self.embed_clips(stored, clips),
        self.config.num_quantizers,
        self.config.codebook_size,
    )
    return parts.save(
        directory,
        self.name,
        self.describe(),
        {'params': params, 'codebooks': {'codes': codebooks}},
        lineage,
        dtype,
    )


def check_batch_size(batch_size: int) -> None:
  """Raises UserError if a batch is too small to compare its examples."""
  if batch_size < 2:
    raise errors.UserError(
        'a batch must hold at least 2 examples, as others are the negatives'
        f' of each, but holds {batch_size}. Set BATCH_SIZE higher.'
    )


def effective_rank(embeddings: Float[Array, 'batch embed']) -> Float[Array, '']:
  """Returns (sum of variances)^2 / sum of their squares, of principal axes.

  It is 1 if embeddings lie on a line, and at most the smaller dimension. The
  covariance's trace and norm give it without eigenvalues.
  """
  centered = embeddings - jnp.mean(embeddings, axis=0)
  covariance = centered.T @ centered
  squares = jnp.sum(jnp.square(covariance))
  return jnp.square(jnp.trace(covariance)) / jnp.maximum(squares, 1e-20)


def fit_codebooks(
    embeddings: Iterable[Float[np.ndarray, '_ embed']],
    num_quantizers: int,
    codebook_size: int,
) -> Float[np.ndarray, 'quantizers codes embed']:
  """Fits the codebooks of tokens (MusicLM, sections 3.1 and 4.5).

  Args:
    embeddings: Arrays [n, embed], one for each clip.
    num_quantizers: Codebooks to fit.
    codebook_size: Codes in each.

  Returns:
    [quantizers, codes, embed] float32 codebooks, rounded to bfloat16.

  Raises:
    UserError: If there are no clips.
  """
  rows = list(embeddings)
  if not rows:
    raise errors.UserError(
        'clips must hold audio to fit the codebooks on, but there are none.'
        ' Give some of the training split.'
    )
  codebooks = quantizer.fit_rvq(
      np.concatenate(rows), num_quantizers, codebook_size
  )
  # Rounding is negligible beside the distance of codes, and halves the file.
  return np.asarray(codebooks.astype(jnp.bfloat16).astype(jnp.float32))
