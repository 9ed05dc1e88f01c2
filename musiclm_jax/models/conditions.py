"""Conditions that are added to the positions at the same time.

The paper places the tokens of a melody before the others (MusicLM 4.5). Adding
them at each position (ours) lets a small model learn to follow a melody from a
hundredth of the examples, and shortens sequences. A stage may add any number of
streams, each at its own rate.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import streams
from musiclm_jax.models import positions
import numpy as np

# Ids of each added stream, by its name: [batch, frames, quantizers].
Ids = Mapping[str, jax.Array]


def split(
    stage: streams.Stage, inputs: Int[Array, '*b i']
) -> tuple[Int[Array, '*b p'], Ids]:
  """Splits the inputs of a stage into the prefix and the added streams.

  Args:
    stage: The stage, which defines how its inputs are laid out.
    inputs: [..., length] ids of all inputs.

  Returns:
    The [..., length] ids of the prefix, and the [..., frames, quantizers] ids
    of each added stream.
  """
  placed, added, start = [], {}, 0
  for stream in stage.inputs:
    end = start + stage.num_ids(stream)
    ids = inputs[..., start:end]
    if not stream.is_added:
      placed.append(ids)
    elif stage.num_ids(stream):
      shape = *ids.shape[:-1], -1, stream.num_quantizers
      added[stream.name] = ids.reshape(shape)
    start = end
  if not placed:
    return inputs[..., :0], added
  return jnp.concatenate(placed, axis=-1), added


def add_up(
    embed: Callable[[jax.Array], jax.Array],
    ids: Ids,
    stage: streams.Stage,
    token_frames: np.ndarray,
) -> Float[Array, 'b length d']:
  """Returns the sum of the conditions' embeddings at each position.

  Args:
    embed: Maps ids to [..., embed] embeddings.
    ids: Ids of each of the stage's added streams; ids outside of a stream's
      range are unknown tokens, and add nothing.
    stage: The stage that reads them.
    token_frames: [length] from `positions.frames`.
  """
  is_timed = (token_frames != positions.NO_FRAME)[:, None]
  total: jax.Array | float = 0.0
  for stream in stage.added:
    known = (ids[stream.name] >= stage.ids(stream).start)[..., None]
    summed = jnp.sum(jnp.where(known, embed(ids[stream.name]), 0), axis=2)
    summed *= stream.num_quantizers**-0.5  # On the scale of a single token.
    total += summed[:, nearest(stage, stream, token_frames)]
  return jnp.where(is_timed, total, 0)


def nearest(
    stage: streams.Stage, stream: streams.Stream, token_frames: np.ndarray
) -> np.ndarray:
  """Returns the frame of a stream at the time of each token.

  Args:
    stage: The stage that reads the stream.
    stream: One of its added streams.
    token_frames: [length] from `positions.frames`.

  Returns:
    [length] int32; for overlapping windows, the one with the nearest centre;
    positions.NO_FRAME for tokens that describe the whole clip.
  """
  seconds = token_frames / positions.rate(stage)
  rate = stream.frame_rate or 0.0
  last = stream.num_frames(stage.crop_seconds) - 1
  if stream.window_seconds:
    index = np.round((seconds - stream.window_seconds / 2) * rate)
  else:
    index = np.floor(seconds * rate + 1e-3)
  is_timed = token_frames != positions.NO_FRAME
  index = np.where(is_timed, np.clip(index, 0, last), positions.NO_FRAME)
  return index.astype(np.int32)
