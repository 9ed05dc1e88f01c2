"""Retrieval between audio and text (MuLan, section 4.4)."""

from collections.abc import Sequence

from jaxtyping import Float, Int
import numpy as np


def ranks(
    similarities: Float[np.ndarray, 'queries items'],
    matches: Int[np.ndarray, ' queries'],
) -> Int[np.ndarray, ' queries']:
  """Returns the rank of each query's item; 1 is the best.

  Args:
    similarities: [queries, items], higher is nearer.
    matches: [queries] index of the item that belongs to each query.

  Returns:
    [queries] ranks. Items that tie count as before it, so that embeddings which
    have collapsed to one point rank last.
  """
  right = np.take_along_axis(similarities, matches[:, np.newaxis], axis=1)
  return np.sum(similarities >= right, axis=1)


def retrieval(
    queries: Float[np.ndarray, 'queries embed'],
    items: Float[np.ndarray, 'items embed'],
    matches: Int[np.ndarray, ' queries'],
    cutoffs: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
  """Measures how well queries find their items by cosine similarity.

  Args:
    queries: [queries, embed] of length 1.
    items: [items, embed] of length 1.
    matches: [queries] index of the item that belongs to each query.
    cutoffs: k of each recall at k.

  Returns:
    'recall@k' for each cutoff and 'chance@k', what guessing would reach;
    'median_rank'; and 'pool_size', the number of items.

  Raises:
    ValueError: If there are no queries.
  """
  if len(queries) == 0:
    raise ValueError(
        'queries must hold at least one embedding, but hold none. Give the'
        ' captions of at least one clip.'
    )
  found = ranks(queries @ items.T, matches)
  recalls = {f'recall@{k}': float(np.mean(found <= k)) for k in cutoffs}
  chances = {f'chance@{k}': min(1.0, k / len(items)) for k in cutoffs}
  return {
      **recalls,
      **chances,
      'median_rank': float(np.median(found)),
      'pool_size': len(items),
  }
