"""Acoustic tokens of a trained SoundStream (MusicLM, section 3.1)."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array
from musiclm_jax.models import parts
from musiclm_jax.models import soundstream
from musiclm_jax.tokenizers import base
import numpy as np

# What is longer goes through the networks in chunks of so many frames (one
# minute), so that memory does not grow with the audio.
_MAX_FRAMES = 3072


def _bucket(num_frames: int) -> int:
  """Rounds up to one of four lengths to an octave: one compilation for each."""
  step = max(16, 1 << max(0, num_frames.bit_length() - 3))
  return -(-num_frames // step) * step


class SoundStream(base.Codec):
  """Turns audio into coarse and fine acoustic tokens, and back.

  Attributes:
    config: Of the trained model.
    sha256: Of the part.
  """

  streams = (base.COARSE, base.FINE)

  def __init__(
      self,
      config: soundstream.SoundStreamConfig,
      variables: Mapping[str, Any],
      sha256: str = '',
      max_frames: int = _MAX_FRAMES,
  ):
    """Makes a codec.

    Args:
      config: Of the trained model.
      variables: Its 'params' and 'codebooks'.
      sha256: Of the part they are from.
      max_frames: Of what goes through the networks at one time.
    """
    # Inference is float32: few CPUs are faster in what the GPU trained in.
    self.config = dataclasses.replace(config, dtype='float32')
    self.sample_rate = config.sample_rate
    self.sha256 = sha256
    self._variables = jax.tree.map(jnp.asarray, variables)
    self._max_frames = max_frames
    module = soundstream.SoundStream(self.config)
    self._encode = jax.jit(functools.partial(module.apply, method='encode'))
    self._decode = jax.jit(functools.partial(module.apply, method='decode'))

  @classmethod
  def from_dir(cls, directory: str | os.PathLike[str]) -> 'SoundStream':
    """Loads the part 'soundstream' of a model.

    Raises:
      FileNotFoundError: If the model has no such part.
      ValueError: If the part is damaged, not what its config describes, or
        writes other streams than MusicLM's.
    """
    part = parts.load(directory, 'soundstream')
    config = soundstream.SoundStreamConfig.from_json(part.config)
    _check_streams(config)
    module = soundstream.SoundStream(config)
    audio = jax.ShapeDtypeStruct((1, config.hop_length), np.float32)
    expected = jax.eval_shape(module.init, jax.random.key(0), audio)
    collections = {name: expected[name] for name in ('params', 'codebooks')}
    parts.check_variables('soundstream', part.variables, collections)
    return cls(config, part.variables, part.sha256)

  def tokenize(self, audio: np.ndarray) -> base.Tokens:
    """Tokenizes mono audio; a frame that it does not fill is filled with 0.

    Args:
      audio: [batch, samples] floats in [-1, 1], at `self.sample_rate`.

    Returns:
      'coarse' and 'fine', the first and the other quantizers' tokens.

    Raises:
      ValueError: If `audio` is not a batch of mono floats in [-1, 1].
    """
    base.check_audio(audio, self.sample_rate)
    hop_length = self.config.hop_length
    num_frames = -(-audio.shape[1] // hop_length)
    padding = num_frames * hop_length - audio.shape[1]
    audio = np.pad(audio.astype(np.float32), ((0, 0), (0, padding)))
    frames = audio.reshape(audio.shape[0], num_frames, hop_length)

    def encode(chunk: np.ndarray) -> Array:
      return self._encode(self._variables, chunk.reshape(chunk.shape[0], -1))

    tokens = self._by_chunks(encode, frames)
    coarse, fine = np.split(tokens, [base.COARSE.num_quantizers], axis=-1)
    return {base.COARSE.name: coarse, base.FINE.name: fine}

  def detokenize(self, tokens: base.Tokens) -> np.ndarray:
    """Turns tokens back into audio.

    Args:
      tokens: 'coarse', or 'coarse' and 'fine'.

    Returns:
      [batch, samples] float32 audio in [-1, 1], at `self.sample_rate`.

    Raises:
      ValueError: If the tokens are not those of the streams.
    """
    _check_tokens(tokens)
    names = [s.name for s in self.streams if s.name in tokens]
    codes = np.concatenate([tokens[name] for name in names], axis=-1)

    def decode(chunk: np.ndarray) -> Array:
      audio = self._decode(self._variables, chunk)
      return audio.reshape(*chunk.shape[:2], self.config.hop_length)

    audio = self._by_chunks(decode, codes.astype(np.int32))
    return np.clip(audio.reshape(audio.shape[0], -1), -1.0, 1.0)

  def _by_chunks(
      self, network: Callable[[np.ndarray], Array], frames: np.ndarray
  ) -> np.ndarray:
    """Applies a causal network to [batch, frames, …] of any length.

    Frames that fill a bucket are put behind, where they change nothing. What is
    longer than one chunk is cut into several that overlap by what the network
    sees to the left, and the overlap of each is dropped.
    """
    num_frames = frames.shape[1]
    context = self.config.context_frames
    padding = [(0, 0)] * frames.ndim
    outputs: list[np.ndarray] = []
    start = 0
    while start < num_frames or not outputs:
      first = max(0, start - context)
      chunk = frames[:, first : first + self._max_frames]
      length = self._max_frames if first else _bucket(max(1, chunk.shape[1]))
      padding[1] = (0, length - chunk.shape[1])
      output = np.asarray(network(np.pad(chunk, padding)))
      outputs.append(output[:, start - first : chunk.shape[1]])
      start = first + self._max_frames
    return np.concatenate(outputs, axis=1)


def _check_streams(config: soundstream.SoundStreamConfig) -> None:
  """Raises ValueError unless the codec writes MusicLM's acoustic streams."""
  came = (
      config.num_quantizers,
      config.codebook_size,
      config.sample_rate / config.hop_length,
  )
  num_quantizers = base.COARSE.num_quantizers + base.FINE.num_quantizers
  expected = (
      num_quantizers,
      base.COARSE.codebook_size,
      base.COARSE.frame_rate,
  )
  if came != expected:
    raise ValueError(
        "part 'soundstream' must have (num_quantizers, codebook_size,"
        f' frame_rate) {expected}, but has {came}. Train it with those.'
    )


def _check_tokens(tokens: base.Tokens) -> None:
  """Raises ValueError unless `tokens` are coarse, or coarse and fine."""
  if base.COARSE.name not in tokens:
    raise ValueError(
        f"tokens must hold '{base.COARSE.name}', but hold {sorted(tokens)}."
        ' Fine tokens alone have no audio.'
    )
  frames = tokens[base.COARSE.name].shape[:2]
  for stream in SoundStream.streams:
    if stream.name not in tokens:
      continue
    array = tokens[stream.name]
    if array.shape != (*frames, stream.num_quantizers):
      raise ValueError(
          f'{stream.name} tokens must have shape'
          f' {(*frames, stream.num_quantizers)}, but have {array.shape}. Cut'
          ' coarse and fine tokens to the same frames.'
      )
    if (
        array.size
        and not 0 <= array.min() <= array.max() < stream.codebook_size
    ):
      raise ValueError(
          f'{stream.name} tokens must be in [0, {stream.codebook_size}), but'
          f' are in [{array.min()}, {array.max()}]. Subtract the offsets of a'
          " stage's ids."
      )
