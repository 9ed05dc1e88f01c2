"""How far sets of clips are from true audio, and how sure that is.

Three distances of embeddings: Fréchet's, which grows where clips are few; what
it would be of infinitely many clips (FAD∞, arXiv 2311.01616); and the kernel
distance, which few clips do not bias.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from jaxtyping import Float, Int
from musiclm_jax import errors
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import frechet as frechet_lib
from musiclm_jax.metrics import kernel as kernel_lib
from musiclm_jax.metrics.embedders import base
import numpy as np

FRECHET = 'Fréchet distance'
INFINITE = 'Fréchet distance of infinitely many'
KERNEL = 'kernel distance'
# How often clips are drawn again, to see the spread of a distance.
_RESAMPLES, _INFINITE_RESAMPLES, _KERNEL_RESAMPLES = 40, 12, 400
_SIZES, _DRAWS = 15, 2  # Of the extrapolation.
_NORMAL_95 = 1.96  # Standard errors on either side of an interval.


@dataclasses.dataclass(frozen=True)
class Distance:
  """A distance, and all that another must share to be compared with it.

  Attributes:
    measure: FRECHET, INFINITE or KERNEL.
    value: The distance; where bias is taken away, it can be less than 0.
    standard_error: Its standard deviation over sets of other clips.
    clips: Clips that were measured.
    windows: Embeddings of them.
    reference_clips: Clips of the reference.
    reference_sha256: Hash of the embeddings of the reference.
    identity: The embedder.
  """

  measure: str
  value: float
  standard_error: float
  clips: int
  windows: int
  reference_clips: int
  reference_sha256: str
  identity: base.Identity

  @property
  def low(self) -> float:
    """Lower end of the interval of 95%."""
    return self.value - _NORMAL_95 * self.standard_error

  @property
  def high(self) -> float:
    """Upper end of the interval of 95%."""
    return self.value + _NORMAL_95 * self.standard_error

  def to_json(self) -> dict[str, Any]:
    """Returns the columns of a row."""
    values = dataclasses.asdict(self)
    identity = values.pop('identity')
    return values | {
        'low': self.low,
        'high': self.high,
        'embedder': identity.pop('name'),
        'embedder_sha256': identity.pop('sha256'),
        **identity,
    }


class _Frechet:
  """The Fréchet distance of any choice of the clips of a set."""

  def __init__(
      self,
      made: embedded_sets.EmbeddedSet,
      reference: embedded_sets.EmbeddedSet,
  ):
    frechet_lib.moments(made.embeddings, 'embeddings')  # Checks them.
    self._reference = frechet_lib.moments(reference.embeddings, 'references')
    self._root = frechet_lib.square_root(self._reference.covariance)
    self._center = made.embeddings.mean(axis=0, dtype=np.float64)
    self._x = made.embeddings - self._center
    self._counts = made.counts

  def __call__(self, clips: Int[np.ndarray, ' clips']) -> float:
    """Returns the distance of a set with each clip as often as `clips` says."""
    weights = np.repeat(clips, self._counts)
    some = weights > 0
    x, weights = self._x[some], weights[some]
    total = weights.sum()
    mean = weights @ x / total
    x = x - mean
    covariance = (x * weights[:, np.newaxis]).T @ x / (total - 1)
    moments = frechet_lib.Moments(mean + self._center, covariance)
    return frechet_lib.distance_of_moments(moments, self._reference, self._root)


def _resample(clips: int, count: int) -> Int[np.ndarray, 'count clips']:
  """Returns how often each clip is drawn, for some draws of as many clips."""
  rng = np.random.default_rng(0)
  return rng.multinomial(clips, np.full(clips, 1 / clips), size=count)


def _distance(
    measure: str,
    value: float,
    resampled: Sequence[float],
    made: embedded_sets.EmbeddedSet,
    reference: embedded_sets.EmbeddedSet,
) -> Distance:
  # Clips that are drawn twice bias a distance: only the spread is of use.
  return Distance(
      measure,
      value,
      float(np.std(resampled, ddof=1)),
      len(made),
      len(made.embeddings),
      len(reference),
      reference.sha256,
      made.identity,
  )


def frechet(
    made: embedded_sets.EmbeddedSet, reference: embedded_sets.EmbeddedSet
) -> Distance:
  """Measures the Fréchet distance (arXiv 1812.08466).

  Args:
    made: Clips to judge; they have more windows than embeddings are wide.
    reference: True audio, likewise.

  Returns:
    The distance. Its error is that of drawing other clips to judge, by
    bootstrap; the reference is taken as it is.

  Raises:
    UserError: If they are of different embedders, or too few.
  """
  reference.identity.check_same(made.identity)
  of = _Frechet(made, reference)
  resampled = [of(clips) for clips in _resample(len(made), _RESAMPLES)]
  value = of(np.ones(len(made), int))
  return _distance(FRECHET, value, resampled, made, reference)


def infinite_sizes(
    made: embedded_sets.EmbeddedSet,
) -> Int[np.ndarray, ' sizes']:
  """Returns the numbers of clips to extrapolate from.

  Raises:
    UserError: If there are too few clips.
  """
  clips, width = len(made), made.identity.width
  per_clip = len(made.embeddings) / clips
  # Below twice the width, the bias is no longer proportional to 1 / size.
  least = max(clips // 4, int(np.ceil(2 * width / per_clip)))
  if 2 * least > clips:
    raise errors.UserError(
        'the distance of infinitely many clips must be extrapolated from'
        f' {2 * least} or more, for embeddings of width {width}, but there are'
        f' {clips}. Make more, or use the kernel distance.'
    )
  return np.linspace(least, clips, _SIZES).astype(int)


def _extrapolate(
    of: _Frechet,
    clips: Int[np.ndarray, ' clips'],
    sizes: Int[np.ndarray, ' sizes'],
    draws: int,
    rng: np.random.Generator,
) -> float:
  """Returns where a line through distances over 1 / size meets 0."""
  x = np.repeat(1 / sizes, draws)
  y = [
      of(rng.multivariate_hypergeometric(clips, size))
      for size in np.repeat(sizes, draws)
  ]
  return float(np.polyfit(x, y, 1)[1])


def frechet_of_infinite(
    made: embedded_sets.EmbeddedSet, reference: embedded_sets.EmbeddedSet
) -> Distance:
  """Extrapolates the Fréchet distance to infinitely many clips.

  A line is fitted to the distances of subsets of the clips, over 1 / size. The
  bias that the reference's own size brings remains.

  Args:
    made: Clips to judge.
    reference: True audio.

  Raises:
    UserError: If they are of different embedders, or too few.
  """
  reference.identity.check_same(made.identity)
  sizes = infinite_sizes(made)
  of, rng = _Frechet(made, reference), np.random.default_rng(0)
  value = _extrapolate(of, np.ones(len(made), int), sizes, _DRAWS, rng)
  resampled = [
      _extrapolate(of, clips, sizes, 1, rng)
      for clips in _resample(len(made), _INFINITE_RESAMPLES)
  ]
  return _distance(INFINITE, value, resampled, made, reference)


def _kernel_of(
    made: embedded_sets.EmbeddedSet, reference: embedded_sets.EmbeddedSet
) -> Callable[[np.ndarray], float]:
  """Returns a function of how often each clip is to count."""
  bandwidth = kernel_lib.median_distance(reference.embeddings)
  sides = {
      'x': (made.embeddings, made.starts),
      'y': (reference.embeddings, reference.starts),
  }

  def sums(one: str, other: str) -> Float[np.ndarray, '_ _']:
    (x, x_starts), (y, y_starts) = sides[one], sides[other]
    return kernel_lib.clip_kernels(x, y, x_starts, y_starts, bandwidth)

  between = sums('x', 'y').sum(axis=1)
  within = {one: sums(one, one) for one in sides}
  for kernels in within.values():
    np.fill_diagonal(kernels, 0)  # Windows of one clip are not independent.

  def mean(one: str, counts: np.ndarray, clips: np.ndarray) -> float:
    """Returns the mean over pairs of windows of different clips."""
    windows = clips * counts
    pairs = float(windows.sum() ** 2 - np.sum(windows**2))
    return float(clips @ within[one] @ clips) / max(pairs, 1.0)

  of_reference = mean('y', reference.counts, np.ones(len(reference)))

  def distance(clips: np.ndarray) -> float:
    pairs = float(clips @ made.counts) * len(reference.embeddings)
    return kernel_lib.distance_of_means(
        mean('x', made.counts, clips),
        of_reference,
        float(clips @ between) / pairs,
    )

  return distance


def kernel(
    made: embedded_sets.EmbeddedSet, reference: embedded_sets.EmbeddedSet
) -> Distance:
  """Measures the kernel distance; see `kernel.kernel_distance`.

  Pairs of windows of one clip are left out: they are more alike than others.

  Args:
    made: Clips to judge.
    reference: True audio; each set has two clips or more.

  Returns:
    The distance. Its error is that of drawing other clips to judge, by
    bootstrap; the reference is taken as it is.

  Raises:
    UserError: If they are of different embedders, or too few.
  """
  reference.identity.check_same(made.identity)
  if min(len(made), len(reference)) < 2:
    raise errors.UserError(
        'a kernel distance must be of two clips or more, but is of'
        f' {len(made)} and {len(reference)}. Make more.'
    )
  of = _kernel_of(made, reference)
  resampled = [of(clips) for clips in _resample(len(made), _KERNEL_RESAMPLES)]
  value = of(np.ones(len(made), int))
  return _distance(KERNEL, value, resampled, made, reference)


MEASURES = {FRECHET: frechet, INFINITE: frechet_of_infinite, KERNEL: kernel}


def check_comparable(distances: Sequence[Distance]) -> None:
  """Raises UserError unless distances say which of the sets is nearer.

  They must be of one measure, embedder and reference; and of equally many clips
  and windows, if the measure depends on that.
  """
  first = distances[0]
  keys = ['measure', 'reference_sha256']
  if first.measure == FRECHET:
    keys += ['clips', 'windows']
  for other in distances[1:]:
    first.identity.check_same(other.identity)
    for key in keys:
      one, another = getattr(first, key), getattr(other, key)
      if one != another:
        raise errors.UserError(
            f'distances that are compared must have equal {key}, but have'
            f' {one} and {another}. Measure as many clips of each, in the same'
            ' way.'
        )


def compare(
    measure: str,
    systems: Mapping[str, embedded_sets.EmbeddedSet],
    reference: embedded_sets.EmbeddedSet,
) -> dict[str, Distance]:
  """Measures how far the clips of several systems are from true audio.

  Args:
    measure: FRECHET, INFINITE or KERNEL.
    systems: The clips of each.
    reference: True audio.

  Raises:
    UserError: If the distances could not be compared: see `check_comparable`.
  """
  if not systems:
    raise errors.UserError('there must be clips of a system to measure.')
  measured = {
      name: MEASURES[measure](made, reference) for name, made in systems.items()
  }
  check_comparable(list(measured.values()))
  return measured


def floor(measure: str, reference: embedded_sets.EmbeddedSet) -> Distance:
  """Measures how far one half of true audio is from the other.

  No system can be expected to come nearer with as many clips as a half has.
  """
  return MEASURES[measure](*reference.halves())
