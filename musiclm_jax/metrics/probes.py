"""Linear probes of features, tested on works not seen before."""

import collections
from collections.abc import Callable, Iterator, Sequence

from jaxtyping import Bool, Float, Int
from musiclm_jax import errors
import numpy as np

NUM_FOLDS = 5
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # Strengths of the penalty on weights.

_Probe = Callable[[np.ndarray], np.ndarray]  # From features to labels.


def assign_folds(works: Sequence[str]) -> Int[np.ndarray, ' clips']:
  """Deals works out to NUM_FOLDS folds of about as many clips.

  Args:
    works: The work of each clip.

  Returns:
    [clips] folds in [0, NUM_FOLDS); clips of a work share one.

  Raises:
    UserError: If there are fewer works than folds.
  """
  clips_of = collections.Counter(works)
  if len(clips_of) < NUM_FOLDS:
    raise errors.UserError(
        f'clips must be of at least {NUM_FOLDS} works, as probes are tested on'
        f' works they were not trained on, but are of {len(clips_of)}. Raise'
        ' --max_clips, or take a split of more works.'
    )
  fold_of = _deal(clips_of, NUM_FOLDS)
  return np.array([fold_of[work] for work in works])


def assign_halves(names: Sequence[str]) -> Int[np.ndarray, ' clips']:
  """Deals names out to two halves, 0 and 1, of about as many clips."""
  half_of = _deal(collections.Counter(names), 2)
  return np.array([half_of[name] for name in names])


def _deal(sizes: collections.Counter[str], num_bins: int) -> dict[str, int]:
  """Puts each name, the largest first, where there is the least."""
  bin_of, filled = {}, np.zeros(num_bins)
  for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
    bin_of[name] = int(filled.argmin())
    filled[bin_of[name]] += sizes[name]
  return bin_of


def accuracy(
    features: Callable[[int], Float[np.ndarray, 'n features']],
    labels: Sequence[str],
    folds: Int[np.ndarray, ' n'],
    halves: Int[np.ndarray, ' n'] | None = None,
) -> float | None:
  """Trains a probe for each fold on the other folds, and tests it.

  The probe is a ridge regression of the classes, and its answer the class of
  the largest output. The strength of its penalty is chosen on one of the folds
  it is trained on.

  Args:
    features: Maps a fold to the [n, features] of all examples to use when that
      fold is tested; of about unit length.
    labels: The class of each example.
    folds: [n] in [0, NUM_FOLDS), the fold of each example.
    halves: [n] in [0, 2), if a probe shall be trained on one half and tested on
      the other: each test example is then of another fold and of another half
      than all examples its probe was trained on.

  Returns:
    The share of examples that are right; None if a probe has no examples to be
    trained on.
  """
  names = np.asarray(labels)
  right = np.zeros(len(names), bool)
  for fold, train, test in _splits(folds, halves):
    if not train.any():
      return None
    x, held_out = features(fold), folds == (fold + 1) % NUM_FOLDS
    strength = _choose_strength(x, names, train & ~held_out, train & held_out)
    [probe] = _fit(x[train], names[train], [strength])
    right[test] = probe(x[test]) == names[test]
  return float(np.mean(right))


def _splits(
    folds: np.ndarray, halves: np.ndarray | None
) -> Iterator[tuple[int, Bool[np.ndarray, ' n'], Bool[np.ndarray, ' n']]]:
  """Yields each fold that has examples, and those to train on and to test."""
  for fold in np.unique(folds):
    inside = folds == fold
    if halves is None:
      yield int(fold), ~inside, inside
      continue
    for half in np.unique(halves[inside]):
      yield int(fold), ~inside & (halves != half), inside & (halves == half)


def _choose_strength(
    x: np.ndarray, names: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
  if not train.any() or not test.any():
    return _STRENGTHS[len(_STRENGTHS) // 2]
  scores = [
      np.mean(probe(x[test]) == names[test])
      for probe in _fit(x[train], names[train], _STRENGTHS)
  ]
  return _STRENGTHS[int(np.argmax(scores))]


def _fit(
    x: np.ndarray, names: np.ndarray, strengths: Sequence[float]
) -> list[_Probe]:
  """Returns a probe for each strength of the penalty."""
  classes, indices = np.unique(names, return_inverse=True)
  targets = np.eye(len(classes), dtype=np.float32)[indices]
  centre, share = x.mean(axis=0), targets.mean(axis=0)
  x = x - centre
  products = (x.T @ x).astype(np.float64)
  moments = (x.T @ (targets - share)).astype(np.float64)

  def probe(strength):
    ridge = products + strength * np.eye(len(products))
    weights = np.linalg.solve(ridge, moments).astype(np.float32)
    return lambda x: classes[np.argmax((x - centre) @ weights + share, axis=1)]

  return [probe(strength) for strength in strengths]
