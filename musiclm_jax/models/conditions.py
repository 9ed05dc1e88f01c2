"""Conditions that are added to the positions they are about.

The paper puts the tokens of a melody before the others (MusicLM 4.5). Told at
each position (ours), a small model learns to follow it from a hundredth of the
examples, and sequences are shorter. A stage adds any number of such streams,
each at a rate of its own.
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
  """Takes the inputs of a stage apart.

  Args:
    stage: Says how its inputs are laid out.
    inputs: [..., length] ids of all of them.

  Returns:
    [..., length] ids that stand in the sequence, and the [..., frames,
    quantizers] ids of each stream that is added.
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
  """Returns what the conditions add to each position.

  Args:
    embed: Maps ids to [..., embed] embeddings.
    ids: Ids of each of the stage's added streams; those that are none of a
      stream's are not known, and add nothing.
    stage: Reads them.
    token_frames: [length] from `positions.frames`.
  """
  is_timed = (token_frames != positions.NO_FRAME)[:, None]
  total: jax.Array | float = 0.0
  for stream in stage.added:
    known = (ids[stream.name] >= stage.ids(stream).start)[..., None]
    summed = jnp.sum(jnp.where(known, embed(ids[stream.name]), 0), axis=2)
    summed *= stream.num_quantizers**-0.5  # No larger than that of a token.
    total += summed[:, nearest(stage, stream, token_frames)]
  return jnp.where(is_timed, total, 0)


def nearest(
    stage: streams.Stage, stream: streams.Stream, token_frames: np.ndarray
) -> np.ndarray:
  """Returns the frame of a stream that each token is in.

  Args:
    stage: Reads the stream.
    stream: One of those it adds.
    token_frames: [length] from `positions.frames`.

  Returns:
    [length] int32: of windows the one with the nearest centre;
    positions.NO_FRAME for tokens of the whole clip.
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
