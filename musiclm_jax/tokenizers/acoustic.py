"""Acoustic tokens: codes of one codec, in a coarse and a fine stream.

The first n quantizers are tokens of their own, of a lower bitrate: 'coarse'
holds as many of them as it can, and 'fine' the rest, if any is left.
"""

from collections.abc import Mapping

from jaxtyping import Int
from musiclm_jax import errors
from musiclm_jax import streams as streams_lib
from musiclm_jax.tokenizers import base
import numpy as np

STREAMS = (base.COARSE, base.FINE)
NUM_QUANTIZERS = sum(s.num_quantizers for s in STREAMS)


def check_num_quantizers(num_quantizers: int | None) -> int:
  """Returns how many quantizers to use, all for None.

  Raises:
    UserError: If there are not so many.
  """
  if num_quantizers is None:
    return NUM_QUANTIZERS
  if not 1 <= num_quantizers <= NUM_QUANTIZERS:
    raise errors.UserError(
        f'num_quantizers must be in [1, {NUM_QUANTIZERS}], but is'
        f' {num_quantizers}. Each takes 0.5 kbps.'
    )
  return num_quantizers


def split(
    codes: Int[np.ndarray, 'batch frames quantizers'],
) -> streams_lib.Tokens:
  """Returns the streams of the first quantizers' codes."""
  num_coarse = base.COARSE.num_quantizers
  tokens = {base.COARSE.name: codes[..., :num_coarse]}
  if codes.shape[-1] > num_coarse:
    tokens[base.FINE.name] = codes[..., num_coarse:]
  return tokens


def join(tokens: Mapping[str, np.ndarray]) -> np.ndarray:
  """Returns the codes of streams.

  Args:
    tokens: 'coarse', [batch, frames, 1 to 4]; if it is whole, also 'fine',
      [batch, frames, 1 to 8].

  Returns:
    [batch, frames, quantizers] int32 codes of the first quantizers.

  Raises:
    UserError: If that is not what the tokens are.
  """
  if base.COARSE.name not in tokens:
    raise errors.UserError(
        f"tokens must hold '{base.COARSE.name}', but hold {sorted(tokens)}."
        ' Fine tokens alone have no audio.'
    )
  streams = [s for s in STREAMS if s.name in tokens]
  frames = tokens[base.COARSE.name].shape[:2]
  for stream in streams:
    # Only what comes last may lack quantizers.
    least = 1 if stream is streams[-1] else stream.num_quantizers
    _check_shape(stream, tokens[stream.name], frames, least)
    _check_range(stream, tokens[stream.name])
  codes = np.concatenate([tokens[s.name] for s in streams], axis=-1)
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
        f' ones follow, but have {array.shape}. Cut coarse and fine tokens to'
        ' the same frames.'
    )


def _check_range(stream, array):
  if array.size and not 0 <= array.min() <= array.max() < stream.codebook_size:
    raise errors.UserError(
        f'{stream.name} tokens must be in [0, {stream.codebook_size}), but'
        f' are in [{array.min()}, {array.max()}]. Subtract the offsets of a'
        " stage's ids."
    )
