"""K-means: k-means++ starts, then Lloyd's iterations, jitted."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

# Points whose distances to all centroids are in memory at one time.
_BLOCK = 16384


def nearest(
    points: Float[Array | np.ndarray, 'n d'],
    centroids: Float[Array | np.ndarray, 'c d'],
) -> Int[Array, ' n']:
  """Returns, for each of the [n, d] points, the index of its nearest centroid.

  Distances are float32 at full precision whatever the backend's default.
  """
  points = jnp.asarray(points)
  centroids = jnp.asarray(centroids, jnp.float32)
  # |p - c|^2 less |p|^2, which is the same for every centroid.
  norms = jnp.sum(jnp.square(centroids), axis=-1)

  def nearest_of_block(block):
    products = jnp.einsum(
        'nd,cd->nc', block.astype(jnp.float32), centroids, precision='highest'
    )
    return jnp.argmin(norms - 2 * products, axis=-1).astype(jnp.int32)

  if points.shape[0] <= _BLOCK:
    return nearest_of_block(points)
  return jax.lax.map(
      lambda point: nearest_of_block(point[None])[0], points, batch_size=_BLOCK
  )


def _spread_starts(
    points: Float[Array, 'n d'], num_codes: int, key: Array
) -> Float[Array, 'c d']:
  """Draws starts by k-means++: each by its squared distance to those before.

  Once every point is a start, e.g. where points are fewer than codes, all
  distances are 0 and the draw falls on the first point: a repeated start, which
  `nearest` never picks.
  """
  first_key, key = jax.random.split(key)
  first = points[jax.random.randint(first_key, (), 0, points.shape[0])]

  def draw(carry, step_key):
    distances, last = carry
    distances = jnp.minimum(
        distances, jnp.sum(jnp.square(points - last), axis=-1)
    )
    index = jax.random.categorical(step_key, jnp.log(distances))
    return (distances, points[index]), points[index]

  distances = jnp.full(points.shape[0], jnp.inf)
  _, others = jax.lax.scan(
      draw, (distances, first), jax.random.split(key, num_codes - 1)
  )
  return jnp.concatenate([first[None], others])


def cluster(
    points: Float[Array, 'n d'], num_codes: int, key: Array, num_iterations: int
) -> Float[Array, 'c d']:
  """`kmeans` for use inside a jitted function: a key instead of a seed."""
  points = points.astype(jnp.float32)

  def iterate(_, centroids):
    codes = nearest(points, centroids)
    sums = jax.ops.segment_sum(points, codes, num_codes)
    counts = jax.ops.segment_sum(jnp.ones_like(codes), codes, num_codes)
    means = sums / jnp.maximum(counts, 1)[:, None]
    return jnp.where(counts[:, None] > 0, means, centroids)

  starts = _spread_starts(points, num_codes, key)
  return jax.lax.fori_loop(0, num_iterations, iterate, starts)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _cluster(points, num_codes, key, num_iterations):
  return cluster(points, num_codes, key, num_iterations)


def kmeans(
    points: Float[Array | np.ndarray, 'n d'],
    num_codes: int,
    seed: int = 0,
    num_iterations: int = 50,
) -> Float[Array, 'c d']:
  """Clusters points.

  Args:
    points: [n, d] floats; may be fewer than `num_codes`, which leaves codes
      that repeat a point.
    num_codes: Clusters to find.
    seed: Of the starts.
    num_iterations: Of Lloyd's algorithm.

  Returns:
    [num_codes, d] float32 centroids.

  Raises:
    ValueError: If there are no points.
  """
  if points.shape[0] == 0:
    raise ValueError(
        f'points must hold at least one row, but has shape {points.shape}.'
        ' Give audio long enough for one frame.'
    )
  return _cluster(
      jnp.asarray(points), num_codes, jax.random.key(seed), num_iterations
  )
