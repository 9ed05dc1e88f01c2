"""K-means: greedy k-means++, then Lloyd's iterations, compiled."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
import numpy as np

# Points processed at once, to bound the memory for distances.
_BLOCK = 16384
# Iterations end once one lowers the inertia by less than this share.
_TOLERANCE = 1e-4
MAX_ITERATIONS = 50


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
  """Draws initial centroids by greedy k-means++ (Arthur, Vassilvitskii, 2007).

  Each is the best of a few points, drawn with probabilities proportional to
  their squared distance from earlier centroids. Plain k-means++ draws only one,
  and its result is 2% worse after all iterations.

  With fewer points than codes, centroids repeat: `nearest` never picks those.
  """
  num_trials = 2 + int(math.log(num_codes))
  norms = jnp.sum(jnp.square(points), axis=-1)

  def distances_to(starts):
    products = jnp.einsum('td,nd->tn', starts, points, precision='highest')
    squares = jnp.sum(jnp.square(starts), axis=-1)
    return jnp.maximum(norms - 2 * products + squares[:, None], 0)

  def draw(distances, step_key):
    sums = jnp.cumsum(distances)
    levels = jax.random.uniform(step_key, (num_trials,)) * sums[-1]
    drawn = jnp.searchsorted(sums, levels)
    drawn = jnp.minimum(drawn, points.shape[0] - 1)  # Rounding may exceed it.
    candidates = jnp.minimum(distances, distances_to(points[drawn]))
    best = jnp.argmin(jnp.sum(candidates, axis=1))
    index = drawn[best]
    return candidates[best].at[index].set(0), index

  first_key, key = jax.random.split(key)
  first = jax.random.randint(first_key, (), 0, points.shape[0])
  distances = distances_to(points[first][None])[0].at[first].set(0)
  _, others = jax.lax.scan(
      draw, distances, jax.random.split(key, num_codes - 1)
  )
  return points[jnp.concatenate([first[None], others])]


def cluster(
    points: Float[Array, 'n d'],
    num_codes: int,
    key: Array,
    num_iterations: int | Int[Array, ''],
) -> Float[Array, 'c d']:
  """As `kmeans`, but callable in compiled functions, with a key as seed."""
  points = points.astype(jnp.float32)

  def iterate(state):
    step, centroids, before, _ = state
    codes = nearest(points, centroids)
    inertia = jnp.sum(jnp.square(points - centroids[codes]))
    sums = jax.ops.segment_sum(points, codes, num_codes)
    counts = jax.ops.segment_sum(jnp.ones_like(codes), codes, num_codes)
    means = sums / jnp.maximum(counts, 1)[:, None]
    centroids = jnp.where(counts[:, None] > 0, means, centroids)
    return step + 1, centroids, inertia, inertia < (1 - _TOLERANCE) * before

  def goes_on(state):
    step, _, _, improves = state
    return (step < num_iterations) & improves

  starts = _spread_starts(points, num_codes, key)
  state = 0, starts, jnp.float32(jnp.inf), jnp.bool_(True)
  return jax.lax.while_loop(goes_on, iterate, state)[1]


@functools.partial(jax.jit, static_argnums=1)
def _cluster(points, num_codes, key, num_iterations):
  return cluster(points, num_codes, key, num_iterations)


def kmeans(
    points: Float[Array | np.ndarray, 'n d'],
    num_codes: int,
    seed: int = 0,
    num_iterations: int = MAX_ITERATIONS,
) -> Float[Array, 'c d']:
  """Clusters points.

  Args:
    points: [n, d] floats; if fewer than `num_codes`, centroids repeat.
    num_codes: Number of clusters.
    seed: Seed of the initial centroids.
    num_iterations: Most iterations of Lloyd's algorithm, which stops early once
      it converges.

  Returns:
    [num_codes, d] float32 centroids.

  Raises:
    UserError: If there are no points.
  """
  if points.shape[0] == 0:
    raise errors.UserError(
        f'points must hold at least one row, but has shape {points.shape}.'
        ' Give audio long enough for one frame.'
    )
  return _cluster(
      jnp.asarray(points), num_codes, jax.random.key(seed), num_iterations
  )
