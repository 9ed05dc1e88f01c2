"""Kernel distance of two sets of embeddings (KAD, arXiv 2502.15602)."""

from jaxtyping import Float, Int
from musiclm_jax import errors
import numpy as np

SCALE = 100  # What the paper multiplies distances by, to be read.
_MAX_MEDIAN_OF = 2048  # Embeddings; more change the median little.
_MAX_ENTRIES = 1 << 22  # Of a block of the kernel matrix.


def _squared_distances(
    x: Float[np.ndarray, 'n width'], y: Float[np.ndarray, 'm width']
) -> Float[np.ndarray, 'n m']:
  norms = np.sum(x**2, axis=1)[:, np.newaxis] + np.sum(y**2, axis=1)
  return np.maximum(norms - 2 * x @ y.T, 0)


def median_distance(references: Float[np.ndarray, 'm width']) -> float:
  """Returns the median distance of pairs of embeddings: the bandwidth.

  Args:
    references: [m, width], two or more. Of more than 2048, as many that are
      evenly spread over them are used.

  Raises:
    UserError: If most of them are equal.
  """
  count = min(len(references), _MAX_MEDIAN_OF)
  some = np.linspace(0, len(references) - 1, count).astype(int)
  x = references[some].astype(np.float64)
  x -= x.mean(axis=0)
  pairs = np.triu_indices(count, 1)
  median = np.median(_squared_distances(x, x)[pairs]) ** 0.5
  if not median > 1e-6 * np.abs(references).max(initial=0):
    raise errors.UserError(
        f'references must differ, but most of {len(references)} are equal. Use'
        ' other clips, or check the embedder.'
    )
  return float(median)


def clip_kernels(
    x: Float[np.ndarray, 'n width'],
    y: Float[np.ndarray, 'm width'],
    x_starts: Int[np.ndarray, ' x_clips'],
    y_starts: Int[np.ndarray, ' y_clips'],
    bandwidth: float,
) -> Float[np.ndarray, 'x_clips y_clips']:
  """Sums the Gaussian kernel over the pairs of windows of each pair of clips.

  Args:
    x: [n, width] embeddings of windows, clip after clip.
    y: [m, width] likewise.
    x_starts: [x_clips] index of the first window of each clip.
    y_starts: [y_clips] likewise.
    bandwidth: σ of exp(-|x - y|² / (2 σ²)).
  """
  center = y.mean(axis=0, dtype=np.float64)
  x, y = x - center, y - center
  ends = np.append(x_starts[1:], len(x))
  sums = []
  first = 0
  while first < len(x_starts):
    # As many clips as fit into a block, but at least one.
    room = x_starts[first] + _MAX_ENTRIES // len(y)
    last = max(first + 1, int(np.searchsorted(ends, room, 'right')))
    rows = x[x_starts[first] : ends[last - 1]]
    kernel = np.exp(_squared_distances(rows, y) / (-2 * bandwidth**2))
    by_clip = np.add.reduceat(kernel, y_starts, axis=1)
    starts = x_starts[first:last] - x_starts[first]
    sums.append(np.add.reduceat(by_clip, starts, axis=0))
    first = last
  return np.concatenate(sums)


def distance_of_means(
    within_x: float, within_y: float, between: float
) -> float:
  """Returns 100 times the squared MMD, from means of the kernel.

  It has no bias if pairs are of embeddings that are independent: not of one and
  itself, nor of windows of one clip.

  Args:
    within_x: The mean over pairs of one set.
    within_y: The same of the other set.
    between: The mean over pairs of one of each.
  """
  return float(SCALE * (within_x + within_y - 2 * between))


def kernel_distance(
    embeddings: Float[np.ndarray, 'n width'],
    references: Float[np.ndarray, 'm other_width'],
) -> float:
  """Computes 100 times the squared maximum mean discrepancy.

  The kernel is Gaussian, as wide as the median distance of references, so that
  all that is compared with the same references is measured alike. The estimate
  has no bias, however few embeddings there are, and so can be less than 0.

  Args:
    embeddings: [n, width], n > 1.
    references: [m, width], m > 1.

  Raises:
    UserError: If a set is too small, the widths differ, or a value is not
      finite.
  """
  for name, x in ('embeddings', embeddings), ('references', references):
    if len(x) < 2 or not np.isfinite(x).all():
      raise errors.UserError(
          f'{name} must be two or more, and finite, but {len(x)} came'
          f' and {np.sum(~np.isfinite(x))} values are not finite.'
      )
  if embeddings.shape[1] != references.shape[1]:
    raise errors.UserError(
        'embeddings and references must be of one width, but are of'
        f' {embeddings.shape[1]} and {references.shape[1]}. Embed both with the'
        ' same network.'
    )
  bandwidth = median_distance(references)

  def total(x, y):
    one = np.array([0])
    return float(clip_kernels(x, y, one, one, bandwidth)[0, 0])

  def within(x):
    n = len(x)
    return (total(x, x) - n) / (n * (n - 1))  # That of one with itself is 1.

  between = total(embeddings, references)
  between /= len(embeddings) * len(references)
  return distance_of_means(within(embeddings), within(references), between)
