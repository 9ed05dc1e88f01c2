"""A codec over live audio: chunks in, tokens out, and the other way round."""

from collections.abc import Callable, Mapping
from typing import Any

from musiclm_jax import errors
from musiclm_jax import streams as streams_lib
from musiclm_jax.tokenizers import acoustic
from musiclm_jax.tokenizers import base
import numpy as np

# What a network takes at one time. Chunks are cut to powers of two of frames,
# so that pushes of all lengths are served by few compiled programs.
_MAX_FRAMES = 64

State = Mapping[str, Any]
# (state after the last chunk, chunk) -> outputs, state after this chunk.
Step = Callable[[State, np.ndarray], tuple[Any, State]]


def chunk_sizes(num_frames: int) -> list[int]:
  """Returns powers of two that add up to `num_frames`, the largest first."""
  sizes = [_MAX_FRAMES] * (num_frames // _MAX_FRAMES)
  rest = num_frames % _MAX_FRAMES
  bits = reversed(range(rest.bit_length()))
  return sizes + [1 << bit for bit in bits if rest & 1 << bit]


class _Network:
  """One direction of a codec, and its state."""

  def __init__(self, step: Step, state: State):
    self._step = step
    self._state = state

  def push(
      self, x: np.ndarray, per_frame: int, ahead: int = 0
  ) -> list[np.ndarray]:
    """Returns outputs of the next [batch, frames * per_frame + ahead, …]."""
    outputs, start = [], 0
    for size in chunk_sizes(max(0, x.shape[1] - ahead) // per_frame):
      end = start + size * per_frame
      output, self._state = self._step(self._state, x[:, start : end + ahead])
      outputs.append(np.asarray(output))
      start = end
    return outputs


class CodecStream(base.CodecStream):
  """Encodes and decodes chunk by chunk, with the results of the whole.

  Each convolution keeps the end of the chunk before, so that the work of a
  chunk grows with its length alone, and outputs come without delay: tokens with
  the last sample of their frame, audio with the tokens of its frame. The two
  directions are independent of each other. Made by `SoundStream.stream`.

  Attributes:
    sample_rate: Sample rate of the audio, in Hz.
    hop_length: Samples of a frame.
  """

  def __init__(
      self,
      sample_rate: int,
      hop_length: int,
      lookahead: int,
      encoder: tuple[Step, State],
      decoder: tuple[Step, State],
      streams: acoustic.Streams,
      batch_size: int = 1,
      num_quantizers: int | None = None,
  ):
    """Makes a stream at its beginning.

    Args:
      sample_rate: In Hz.
      hop_length: Samples of a frame.
      lookahead: Samples after a frame that its tokens depend on.
      encoder: A step from [batch, samples] audio of whole frames, and those
        that they look ahead to, to [batch, frames, quantizers] codes, and the
        state it starts from.
      decoder: A step from codes to [batch, samples] audio, and its start.
      streams: All that the codec writes.
      batch_size: Clips that go side by side.
      num_quantizers: Number of quantizers of the tokens it writes; all by
        default.
    """
    self.sample_rate = sample_rate
    self.hop_length = hop_length
    self.lookahead = lookahead
    self._encoder = _Network(*encoder)
    self._decoder = _Network(*decoder)
    self._streams = streams
    self._num_quantizers = acoustic.check_num_quantizers(
        num_quantizers, streams
    )
    self._rest = np.zeros((batch_size, 0), np.float32)

  def tokenize(self, audio: np.ndarray) -> streams_lib.Tokens:
    """Takes the next audio; returns the tokens of the frames it completes.

    Args:
      audio: [batch, samples] floats in [-1, 1]; any number of samples.

    Returns:
      The streams of the codec, of as many frames as are complete, maybe none.

    Raises:
      UserError: If `audio` is not a batch of so many mono clips in [-1, 1].
    """
    base.check_audio(audio, self.sample_rate)
    self._check_batch('audio', audio)
    audio = np.concatenate([self._rest, audio.astype(np.float32)], axis=1)
    batch, length = audio.shape
    num_frames = max(0, length - self.lookahead) // self.hop_length
    whole = num_frames * self.hop_length
    self._rest = audio[:, whole:]
    ahead = audio[:, : whole + self.lookahead]
    outputs = self._encoder.push(ahead, self.hop_length, self.lookahead)
    none = np.zeros((batch, 0, self._num_quantizers), np.int32)
    codes = [output[..., : self._num_quantizers] for output in outputs]
    return acoustic.split(np.concatenate([none, *codes], axis=1), self._streams)

  def flush(self) -> streams_lib.Tokens:
    """Returns the tokens of a last frame, filled with 0; none if none began."""
    batch, length = self._rest.shape
    missing = -length % self.hop_length + self.lookahead if length else 0
    tokens = self.tokenize(np.zeros((batch, missing), np.float32))
    self._rest = np.zeros((batch, 0), np.float32)
    return tokens

  def detokenize(self, tokens: streams_lib.Tokens) -> np.ndarray:
    """Takes the next tokens; returns their audio.

    Args:
      tokens: 'coarse', or 'coarse' and 'fine'; any number of frames. Those of
        one stream may differ in how many of the first quantizers they hold.

    Returns:
      [batch, frames * hop_length] float32 audio in [-1, 1].

    Raises:
      UserError: If the tokens are not those of so many clips.
    """
    codes = acoustic.join(tokens, self._streams)
    self._check_batch('tokens', codes)
    none = np.zeros((codes.shape[0], 0), np.float32)
    audio = np.concatenate([none, *self._decoder.push(codes, 1)], axis=1)
    return np.clip(audio, -1.0, 1.0)

  def _check_batch(self, name: str, array: np.ndarray) -> None:
    batch_size = self._rest.shape[0]
    if array.shape[0] != batch_size:
      raise errors.UserError(
          f'{name} must be of the {batch_size} clips of the stream, but have'
          f' shape {array.shape}. Make a stream of this batch_size.'
      )
