"""Where tokens are: how far apart in a sequence, and when in a clip."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import streams
import numpy as np

NO_FRAME = -1  # Of tokens that describe the whole clip.


def relative_buckets(
    relative: Int[Array, '*shape'],
    num_buckets: int,
    max_distance: int,
    bidirectional: bool = False,
) -> Int[Array, '*shape']:
  """Sorts distances into buckets, the far ones by their logarithm (T5 2.1).

  Args:
    relative: Position of the key less position of the query.
    num_buckets: Buckets; half of them are for one distance each.
    max_distance: From here on, all share the last bucket.
    bidirectional: Whether keys after the query get half of the buckets; else
      they share bucket 0.

  Returns:
    Buckets in [0, num_buckets).
  """
  start = jnp.zeros_like(relative)
  if bidirectional:
    num_buckets //= 2
    start = jnp.where(relative > 0, num_buckets, 0)
    distance = jnp.abs(relative)
  else:
    distance = jnp.maximum(-relative, 0)
  exact = num_buckets // 2
  # Rounding must not drop powers into the bucket below, hence the epsilon.
  ratio = distance.astype(jnp.float32) / exact + np.finfo(np.float32).eps
  far = exact + (
      jnp.log(ratio) / np.log(max_distance / exact) * (num_buckets - exact)
  ).astype(jnp.int32)
  far = jnp.minimum(far, num_buckets - 1)
  return start + jnp.where(distance < exact, distance, far)


def near_first(
    key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32
) -> Float[Array, 'heads buckets']:
  """Initializes biases that fall with distance, for each head less steeply.

  Args:
    key: Not used: the slopes are set, as in ALiBi (arXiv 2108.12409).
    shape: Heads, and bidirectional buckets.
    dtype: Of the biases.

  Returns:
    [heads, buckets] biases, 0 where the distance is.
  """
  del key
  num_heads, num_buckets = shape
  slopes = np.geomspace(1, 1 / 16, num_heads)
  distances = np.arange(num_buckets) % (num_buckets // 2)
  return jnp.asarray(-slopes[:, np.newaxis] * distances, dtype)


def frames(
    stage: streams.Stage, prefix_length: int, target_length: int
) -> np.ndarray:
  """Returns the time of each token, in frames of the stage's fastest stream.

  Args:
    stage: Says which streams are laid out.
    prefix_length: Tokens of the inputs before the targets.
    target_length: Tokens of the targets.

  Returns:
    [prefix_length + target_length] int32; NO_FRAME for tokens of the whole
    clip.
  """
  seconds = _seconds(stage, prefix_length)

  def times(stream, num_frames):
    if stream.frame_rate is None:
      return np.full(stream.num_quantizers, NO_FRAME)
    steps = np.arange(num_frames) * (rate(stage) / stream.frame_rate)
    return np.repeat(np.round(steps).astype(int), stream.num_quantizers)

  targets = stage.targets
  sequence = [times(s, s.num_frames(seconds)) for s in stage.prefix]
  sequence.append(times(targets, target_length // targets.num_quantizers))
  return np.concatenate(sequence).astype(np.int32)


def rate(stage: streams.Stage) -> float:
  """Returns the frames per second of the stage's fastest stream."""
  return max(s.frame_rate or 0 for s in (*stage.prefix, stage.targets))


def _seconds(stage: streams.Stage, prefix_length: int) -> float:
  """Returns the length of the crop that a prefix is of."""
  timed = [s for s in stage.prefix if s.frame_rate]
  once = sum(s.num_quantizers for s in stage.prefix if not s.frame_rate)
  per_second = sum((s.frame_rate or 0) * s.num_quantizers for s in timed)
  return (prefix_length - once) / per_second if timed else 0.0
