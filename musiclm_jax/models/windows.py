"""Inputs that are windows of audio, added to the positions they are about.

The paper puts the tokens of a melody before the others (MusicLM 4.5). Told at
each position (ours), a small model learns to follow it from a hundredth of the
examples, and sequences are shorter. A stage has one such stream or none.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax.models import positions
import numpy as np


def split(
    stage: Any, inputs: Int[Array, '*b i']
) -> tuple[Int[Array, '*b p'], Int[Array, '*b w q'] | None]:
  """Takes the inputs of a stage apart.

  Args:
    stage: A `stages.base.Stage`.
    inputs: [..., length] ids of all its inputs.

  Returns:
    The ids that stand in the sequence; and those of windows, None if it has
    none, as where a crop is shorter than one.
  """
  stream = stage.windows
  if stream is None or not stage.num_ids(stream):
    return inputs, None
  earlier = stage.inputs[: stage.inputs.index(stream)]
  start = sum(stage.num_ids(s) for s in earlier)
  end = start + stage.num_ids(stream)
  rest = jnp.concatenate([inputs[..., :start], inputs[..., end:]], axis=-1)
  ids = inputs[..., start:end]
  return rest, ids.reshape(*ids.shape[:-1], -1, stream.num_quantizers)


def add_up(
    embeddings: Float[Array, 'b w q d'],
    ids: Int[Array, 'b w q'],
    stage: Any,
    token_frames: np.ndarray,
) -> Float[Array, 'b length d']:
  """Returns what windows add to each position.

  Args:
    embeddings: [batch, windows, quantizers, embed] of `ids`.
    ids: That are not of the stream of windows are not known, and add nothing.
    stage: A `stages.base.Stage`.
    token_frames: [length] from `positions.frames`.
  """
  known = (ids >= stage.ids(stage.windows).start)[..., None]
  added = jnp.sum(jnp.where(known, embeddings, 0), axis=2)
  added *= ids.shape[-1] ** -0.5  # No larger than that of a token.
  is_timed = (token_frames != positions.NO_FRAME)[:, None]
  return jnp.where(is_timed, added[:, nearest(stage, token_frames)], 0)


def nearest(stage: Any, token_frames: np.ndarray) -> np.ndarray:
  """Returns the window of the stage's `windows` that each token is in.

  Args:
    stage: That has such a stream.
    token_frames: [length] from `positions.frames`.

  Returns:
    [length] int32: the one with the nearest centre; positions.NO_FRAME for
    tokens of the whole clip.
  """
  stream = stage.windows
  starts = token_frames / positions.rate(stage) - stream.window_seconds / 2
  last = stream.num_frames(stage.crop_seconds) - 1
  index = np.clip(np.round(starts * stream.frame_rate), 0, last)
  is_timed = token_frames != positions.NO_FRAME
  return np.where(is_timed, index, positions.NO_FRAME).astype(np.int32)
