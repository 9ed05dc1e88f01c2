"""Acoustic tokens: codes of one codec, shared out to streams.

The first n quantizers are tokens of their own, of a lower bitrate: the first
stream holds as many of them as it can, and each other one the next.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Int
from musiclm_jax import errors
from musiclm_jax import streams as streams_lib
import numpy as np

Streams = Sequence[streams_lib.Stream]


def num_quantizers(streams: Streams) -> int:
  """Returns the number of quantizers of all streams."""
  return sum(s.num_quantizers for s in streams)


def check_num_quantizers(count: int | None, streams: Streams) -> int:
  """Returns how many quantizers to use, all for None.

  Raises:
    UserError: If there are not so many.
  """
  most = num_quantizers(streams)
  if count is None:
    return most
  if not 1 <= count <= most:
    raise errors.UserError(
        f'num_quantizers must be in [1, {most}], but is {count}.'
    )
  return count


def split(
    codes: Int[np.ndarray, 'batch frames quantizers'], streams: Streams
) -> streams_lib.Tokens:
  """Returns the streams of the first quantizers' codes."""
  tokens, first = {}, 0
  for stream in streams:
    if first < codes.shape[-1]:
      tokens[stream.name] = codes[..., first : first + stream.num_quantizers]
    first += stream.num_quantizers
  return tokens


def join(tokens: Mapping[str, np.ndarray], streams: Streams) -> np.ndarray:
  """Returns the codes of streams.

  Args:
    tokens: [batch, frames, quantizers] of the first of the streams; only the
      last of those may lack some of its last quantizers.
    streams: All that the codec writes.

  Returns:
    [batch, frames, quantizers] int32 codes of the first quantizers.

  Raises:
    UserError: If the tokens are not like that.
  """
  there = [s for s in streams if s.name in tokens]
  if not there or there != list(streams[: len(there)]):
    raise errors.UserError(
        f"tokens must hold '{streams[0].name}', and each stream of"
        f' {[s.name for s in streams]} before another, but hold'
        f' {sorted(tokens)}. Finer tokens alone have no audio.'
    )
  frames = tokens[there[0].name].shape[:2]
  for stream in there:
    # Only the last stream may lack quantizers.
    least = 1 if stream is there[-1] else stream.num_quantizers
    _check_shape(stream, tokens[stream.name], frames, least)
    _check_range(stream, tokens[stream.name])
  codes = np.concatenate([tokens[s.name] for s in there], axis=-1)
  return codes.astype(np.int32)


def _check_shape(stream, array, frames, least):
  if (
      array.ndim != 3
      or array.shape[:2] != frames
      or not least <= array.shape[2] <= stream.num_quantizers
  ):
    raise errors.UserError(
        f'{stream.name} tokens must have shape'
        f' {(*frames, stream.num_quantizers)}, or fewer quantizers if no finer'
        f' ones follow, but have {array.shape}. Cut all streams to the same'
        ' frames.'
    )


def _check_range(stream, array):
  if array.size and not 0 <= array.min() <= array.max() < stream.codebook_size:
    raise errors.UserError(
        f'{stream.name} tokens must be in [0, {stream.codebook_size}), but'
        f' are in [{array.min()}, {array.max()}]. Subtract the offsets of a'
        " stage's ids."
    )
