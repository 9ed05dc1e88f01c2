"""Places of tokens: distances in a sequence, and times in a clip."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import streams
from musiclm_jax.models import patterns
import numpy as np

NO_FRAME = -1  # The frame of tokens that describe the whole clip.


def relative_buckets(
    relative: Int[Array, '*shape'],
    num_buckets: int,
    max_distance: int,
    bidirectional: bool = False,
) -> Int[Array, '*shape']:
  """Sorts distances into buckets, logarithmically for large ones (T5 2.1).

  Args:
    relative: Position of the key minus position of the query.
    num_buckets: Number of buckets; half of them hold one distance each.
    max_distance: Distance from which all share the last bucket.
    bidirectional: Whether keys after the query get half of the buckets;
      otherwise they share bucket 0.

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
  # The epsilon keeps rounding from dropping exact powers into the bucket below.
  ratio = distance.astype(jnp.float32) / exact + np.finfo(np.float32).eps
  far = exact + (
      jnp.log(ratio) / np.log(max_distance / exact) * (num_buckets - exact)
  ).astype(jnp.int32)
  far = jnp.minimum(far, num_buckets - 1)
  return start + jnp.where(distance < exact, distance, far)


def near_first(
    key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32
) -> Float[Array, 'heads buckets']:
  """Initializes biases that fall with distance, less steeply head by head.

  Args:
    key: Not used: the slopes are fixed, as in ALiBi (arXiv 2108.12409).
    shape: Numbers of heads and of bidirectional buckets.
    dtype: Type of the biases.

  Returns:
    [heads, buckets] biases, 0 at distance 0.
  """
  del key
  num_heads, num_buckets = shape
  slopes = np.geomspace(1, 1 / 16, num_heads)
  distances = np.arange(num_buckets) % (num_buckets // 2)
  return jnp.asarray(-slopes[:, np.newaxis] * distances, dtype)


def frames(
    stage: streams.Stage, prefix_length: int, target_length: int
) -> np.ndarray:
  """Returns the time of each position, in frames of the fastest stream.

  Args:
    stage: The stage, which defines how streams are laid out.
    prefix_length: Number of tokens before the targets, one per position.
    target_length: Number of target tokens.

  Returns:
    [prefix_length + positions of targets] int32; NO_FRAME for tokens that
    describe the whole clip. A position of several tokens has the time of the
    first.
  """
  seconds = _seconds(stage, prefix_length)

  def times(stream, index):
    if stream.frame_rate is None:
      return np.full(len(index), NO_FRAME)
    return np.round(index * (rate(stage) / stream.frame_rate)).astype(int)

  def each_token(stream):
    index = np.arange(stream.num_frames(seconds))
    return times(stream, np.repeat(index, stream.num_quantizers))

  pattern, targets = patterns.of_stage(stage), stage.targets
  count = pattern.num_positions(target_length // targets.num_quantizers)
  written, _ = pattern.places(np.arange(count))
  sequence = [*map(each_token, stage.prefix), times(targets, written[:, 0])]
  return np.concatenate(sequence).astype(np.int32)


def rate(stage: streams.Stage) -> float:
  """Returns the frames per second of the stage's fastest stream."""
  return max(s.frame_rate or 0 for s in (*stage.prefix, stage.targets))


def _seconds(stage: streams.Stage, prefix_length: int) -> float:
  """Returns the length of the crop that has such a prefix."""
  timed = [s for s in stage.prefix if s.frame_rate]
  once = sum(s.num_quantizers for s in stage.prefix if not s.frame_rate)
  per_second = sum((s.frame_rate or 0) * s.num_quantizers for s in timed)
  return (prefix_length - once) / per_second if timed else 0.0
