"""Fréchet distance of two sets of embeddings, as if they were Gaussian."""

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
  mean, covariance = _moments(embeddings, 'embeddings')
  other_mean, other_covariance = _moments(references, 'references')
  # Σ1 Σ2 has the eigenvalues of the symmetric Σ1^½ Σ2 Σ1^½.
  root = _square_root(covariance)
  eigenvalues = np.linalg.eigvalsh(root @ other_covariance @ root)
  trace = (
      np.trace(covariance)
      + np.trace(other_covariance)
      - 2 * np.sum(np.sqrt(np.maximum(eigenvalues, 0)))
  )
  # Rounding can leave a little less than 0 of equal covariances.
  return float(np.sum((mean - other_mean) ** 2) + max(trace, 0))


def _moments(x: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean [embed] and unbiased covariance [embed, embed]."""
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
  return x.mean(axis=0), np.cov(x, rowvar=False).reshape(width, width)


def _square_root(matrix: np.ndarray) -> np.ndarray:
  """Returns the symmetric square root of a positive semidefinite matrix."""
  values, vectors = np.linalg.eigh(matrix)
  values = np.where(values > _RANK_TOLERANCE * values[-1], values, 0)
  return (vectors * np.sqrt(values)) @ vectors.T
