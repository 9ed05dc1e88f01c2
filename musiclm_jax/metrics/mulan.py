"""Retrieval and zero-shot tagging with audio and text (MuLan, section 4)."""

from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from musiclm_jax import errors
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
    'recall@k' for each cutoff and 'chance@k', the recall of guessing;
    'median_rank'; and 'pool_size', the number of items.

  Raises:
    UserError: If there are no queries.
  """
  if len(queries) == 0:
    raise errors.UserError(
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


def classification(
    scores: Float[np.ndarray, 'clips classes'],
    labels: Int[np.ndarray, ' clips'],
) -> dict[str, float]:
  """Measures how often the class of the highest score is the right one.

  Args:
    scores: [clips, classes], higher is likelier.
    labels: [clips] index of the class of each.

  Returns:
    'accuracy', and 'balanced_accuracy', the mean of those of the classes that
    occur; 'chance', the value of guessing for either; and 'majority', the
    accuracy of naming the most frequent class every time.

  Raises:
    UserError: If there are no clips.
  """
  if not len(labels):
    raise errors.UserError(
        'labels must be of at least one clip, but there are none. Leave out'
        ' what is not known of any.'
    )
  right = scores.argmax(axis=1) == labels
  occurring, counts = np.unique(labels, return_counts=True)
  return {
      'accuracy': float(np.mean(right)),
      'chance': 1 / scores.shape[1],
      'majority': float(counts.max() / len(labels)),
      'balanced_accuracy': float(
          np.mean([np.mean(right[labels == c]) for c in occurring])
      ),
  }


def average_precision(
    scores: Float[np.ndarray, ' clips'], truth: Bool[np.ndarray, ' clips']
) -> float:
  """Returns the area under the curve of precision over recall.

  Args:
    scores: [clips], higher is likelier.
    truth: [clips] whether a tag is true of each; of one at least.

  Returns:
    The mean, over the clips it is true of, of the share of such clips among
    those that score no less. Guessing reaches their share of all clips.
  """
  above = scores >= scores[truth][:, np.newaxis]  # [true clips, clips]
  return float(np.mean(above[:, truth].sum(axis=1) / above.sum(axis=1)))


def roc_auc(
    scores: Float[np.ndarray, ' clips'], truth: Bool[np.ndarray, ' clips']
) -> float:
  """Returns how often a clip that has a tag outscores one that lacks it.

  Args:
    scores: [clips], higher is likelier.
    truth: [clips] whether a tag is true of each; neither of all nor of none.

  Returns:
    From 0 to 1; .5 for guessing. Ties count half.
  """
  difference = scores[truth][:, np.newaxis] - scores[~truth]
  return float(np.mean((np.sign(difference) + 1) / 2))
