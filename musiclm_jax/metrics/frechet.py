"""Fréchet distance of two sets of embeddings, as if they were Gaussian."""

from typing import NamedTuple

from jaxtyping import Float
from musiclm_jax import errors
import numpy as np

# Eigenvalues below this share of the largest are rounding.
_RANK_TOLERANCE = 1e-10


def frechet_distance(
    embeddings: Float[np.ndarray, 'n embed'],
    references: Float[np.ndarray, 'm other_embed'],
) -> float:
  """Computes |μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½) (arXiv 1812.08466, 3.2).

  Args:
    embeddings: [n, embed], n > embed.
    references: [m, embed], m > embed; order does not matter.

  Returns:
    The squared distance, at least 0; float64 throughout. Few embeddings bias it
    upwards, so that only distances of equal n and m can be compared.

  Raises:
    UserError: If the widths differ, a value is not finite, or a set is too
      small for its covariance to have full rank.
  """
  if embeddings.shape[1] != references.shape[1]:
    raise errors.UserError(
        'embeddings and references must be of one width, but are of'
        f' {embeddings.shape[1]} and {references.shape[1]}. Embed both with the'
        ' same network.'
    )
  return distance_of_moments(
      moments(embeddings, 'embeddings'), moments(references, 'references')
  )


class Moments(NamedTuple):
  """Moments of a set of embeddings.

  Attributes:
    mean: [embed] mean.
    covariance: [embed, embed] unbiased covariance.
  """

  mean: Float[np.ndarray, ' embed']
  covariance: Float[np.ndarray, 'embed embed']


def distance_of_moments(
    made: Moments,
    reference: Moments,
    root: Float[np.ndarray, 'embed embed'] | None = None,
) -> float:
  """Computes the distance of `frechet_distance` from moments.

  Args:
    made: Moments of one set.
    reference: Moments of the other.
    root: The `square_root` of the reference's covariance, if it is known.
  """
  if root is None:
    root = square_root(reference.covariance)
  # Σ1 Σ2 has the eigenvalues of the symmetric Σ2^½ Σ1 Σ2^½.
  eigenvalues = np.linalg.eigvalsh(root @ made.covariance @ root)
  trace = (
      np.trace(made.covariance)
      + np.trace(reference.covariance)
      - 2 * np.sum(np.sqrt(np.maximum(eigenvalues, 0)))
  )
  # Rounding can leave a little less than 0 of equal covariances.
  return float(np.sum((made.mean - reference.mean) ** 2) + max(trace, 0))


def moments(x: Float[np.ndarray, 'n embed'], name: str) -> Moments:
  """Returns the moments of [n, embed] embeddings, n > embed.

  Args:
    x: The embeddings.
    name: What they are, for messages.

  Raises:
    UserError: If they are too few, or a value is not finite.
  """
  count, width = x.shape
  if count <= width:
    raise errors.UserError(
        f'{name} must be more than they are wide, {width}, for a covariance of'
        f' full rank, but are {count}. Embed more audio.'
    )
  if not np.isfinite(x).all():
    raise errors.UserError(
        f'{name} must be finite, but hold NaN or inf. Leave those clips out.'
    )
  x = x.astype(np.float64)
  covariance = np.cov(x, rowvar=False).reshape(width, width)
  return Moments(x.mean(axis=0), covariance)


def square_root(
    matrix: Float[np.ndarray, 'embed embed'],
) -> Float[np.ndarray, 'embed embed']:
  """Returns the symmetric square root of a positive semidefinite matrix."""
  values, vectors = np.linalg.eigh(matrix)
  values = np.where(values > _RANK_TOLERANCE * values[-1], values, 0)
  return (vectors * np.sqrt(values)) @ vectors.T
