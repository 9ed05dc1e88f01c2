"""Acoustic tokens of a trained neural codec, and audio of them."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import os
from typing import Any

from flax import linen as nn
import jax
from jaxtyping import Array
from musiclm_jax import streams as streams_lib
from musiclm_jax.models import causal
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import acoustic
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import streaming
import numpy as np

# What is longer goes through the networks in chunks of so many frames, so that
# memory does not grow with the audio.
_MAX_FRAMES = 3072


def _bucket(num_frames: int) -> int:
  """Rounds up to one of four lengths to an octave: one compilation for each."""
  step = max(16, 1 << max(0, num_frames.bit_length() - 3))
  return -(-num_frames // step) * step


class NeuralCodec(base.Codec):
  """Turns audio into acoustic tokens, and back.

  Attributes:
    name: Name of the part.
    network: Makes the linen module of a config; its methods 'encode' and
      'decode' are causal, but for `config.lookahead` samples.
    config_class: Class of the config.
    config: Sizes of the trained codec.
    streams: Streams of tokens, which share the quantizers as the config says.
    sha256: Hash of the part.
  """

  name: str
  network: Callable[[Any], nn.Module]
  config_class: Any

  def __init__(
      self,
      config: Any,
      variables: Mapping[str, Any],
      sha256: str = '',
      max_frames: int = _MAX_FRAMES,
      dtype: str = 'float32',
      tokens_sha256: str = '',
  ):
    """Makes a codec.

    Args:
      config: Sizes of the trained codec.
      variables: Its 'params' and 'codebooks'.
      sha256: Hash of the part they are from.
      max_frames: Most frames that go through the networks at one time.
      dtype: Data type of the products, whatever the codec was trained in:
        'bfloat16' is faster on accelerators, but on few CPUs.
      tokens_sha256: See the base class; by default, `sha256`.
    """
    self.config = dataclasses.replace(config, dtype=dtype)
    self.sample_rate = config.sample_rate
    self.streams = streams_of_codes(config)
    self.sha256 = sha256
    self._tokens_sha256 = tokens_sha256 or sha256
    self._variables = jax.device_put(variables)
    self._max_frames = max_frames
    module = self.network(self.config)
    self._encode = jax.jit(functools.partial(module.apply, method='encode'))
    self._decode = jax.jit(functools.partial(module.apply, method='decode'))

    def step(method, variables, state, chunk):
      return module.apply(
          {**variables, **state}, chunk, method=method, mutable=[causal.STREAM]
      )

    self._encode_step = jax.jit(functools.partial(step, 'encode'))
    self._decode_step = jax.jit(functools.partial(step, 'decode'))

  @property
  def tokens_sha256(self) -> str:
    return self._tokens_sha256

  @property
  def codebooks(self) -> np.ndarray:
    """[quantizers, codes, embed] float32."""
    return np.asarray(self._variables['codebooks']['quantizer']['codes'])

  @classmethod
  def streams_of(
      cls, config: Mapping[str, Any]
  ) -> tuple[streams_lib.Stream, ...]:
    return streams_of_codes(cls.config_class.from_json(config))

  @classmethod
  def from_dir(
      cls, directory: str | os.PathLike[str], dtype: str = 'float32'
  ) -> 'NeuralCodec':
    """Loads the codec of a model.

    Args:
      directory: Directory of the model.
      dtype: Data type of the products.

    Raises:
      NotFoundError: If the model has no such part.
      UserError: If the part is damaged, or not what its config describes.
    """
    part = parts.load(directory, cls.name)
    with parts.building(directory, cls.name):
      config = cls.config_class.from_json(part.config)
      module = cls.network(config)
      audio = jax.ShapeDtypeStruct((1, config.hop_length), np.float32)
      expected = jax.eval_shape(
          module.init, jax.eval_shape(jax.random.key, 0), audio
      )
      collections = {name: expected[name] for name in ('params', 'codebooks')}
      parts.check_variables(cls.name, part.variables, collections)
      return cls(
          config,
          part.variables,
          part.sha256,
          dtype=dtype,
          tokens_sha256=part.lineage.get(cls.name, ''),
      )

  def tokenize(
      self, audio: np.ndarray, num_quantizers: int | None = None
  ) -> streams_lib.Tokens:
    """Tokenizes mono audio; a frame that it does not fill is filled with 0.

    Args:
      audio: [batch, samples] floats in [-1, 1], at `self.sample_rate`.
      num_quantizers: Number of the first, coarsest quantizers to use; all by
        default.

    Returns:
      The tokens of each of `self.streams`, or of the first ones that hold
      `num_quantizers`.

    Raises:
      UserError: If `audio` is not a batch of mono floats in [-1, 1], or there
        are not so many quantizers.
    """
    base.check_audio(audio, self.sample_rate)
    num_quantizers = acoustic.check_num_quantizers(num_quantizers, self.streams)
    hop_length = self.config.hop_length
    num_frames = -(-audio.shape[1] // hop_length)
    padding = num_frames * hop_length - audio.shape[1]
    audio = np.pad(audio.astype(np.float32), ((0, 0), (0, padding)))
    frames = audio.reshape(audio.shape[0], num_frames, hop_length)

    def encode(chunk: np.ndarray) -> Array:
      audio = chunk.reshape(chunk.shape[0], -1)
      ahead = ((0, 0), (0, self.config.lookahead))
      return self._encode(self._variables, np.pad(audio, ahead))

    after = -(-self.config.lookahead // hop_length)
    codes = self._by_chunks(encode, frames, after)
    return acoustic.split(codes[..., :num_quantizers], self.streams)

  def detokenize(
      self, tokens: streams_lib.Tokens, num_quantizers: int | None = None
  ) -> np.ndarray:
    """Turns tokens back into audio.

    Args:
      tokens: Tokens of the first streams; the last of them may lack some of
        its last quantizers.
      num_quantizers: How many of them to use at most; all by default.

    Returns:
      [batch, samples] float32 audio in [-1, 1], at `self.sample_rate`.

    Raises:
      UserError: If the tokens are not those of the streams, or there are not
        so many quantizers.
    """
    num_quantizers = acoustic.check_num_quantizers(num_quantizers, self.streams)
    codes = acoustic.join(tokens, self.streams)[..., :num_quantizers]

    def decode(chunk: np.ndarray) -> np.ndarray:
      audio = np.asarray(self._decode(self._variables, chunk))
      return audio.reshape(*chunk.shape[:2], self.config.hop_length)

    audio = self._by_chunks(decode, codes)
    return np.clip(audio.reshape(audio.shape[0], -1), -1.0, 1.0)

  def stream(
      self, batch_size: int = 1, num_quantizers: int | None = None
  ) -> streaming.CodecStream:
    """Returns a codec of live audio, chunk by chunk.

    Args:
      batch_size: Clips that go side by side.
      num_quantizers: Number of quantizers, as in `tokenize`.

    Raises:
      UserError: If there are not so many quantizers.
    """
    num_quantizers = acoustic.check_num_quantizers(num_quantizers, self.streams)

    encode = functools.partial(self._encode_step, self._variables)
    decode = functools.partial(self._decode_step, self._variables)

    def start(step, chunk):
      state = jax.eval_shape(step, {}, chunk)[1]
      return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)

    samples = self.config.hop_length + self.config.lookahead
    audio = np.zeros((batch_size, samples), np.float32)
    codes = np.zeros((batch_size, 1, self.config.num_quantizers), np.int32)
    return streaming.CodecStream(
        self.sample_rate,
        self.config.hop_length,
        self.config.lookahead,
        (encode, start(encode, audio)),
        (decode, start(decode, codes)),
        self.streams,
        batch_size,
        num_quantizers,
    )

  def _by_chunks(
      self,
      network: Callable[[np.ndarray], Any],
      frames: np.ndarray,
      after: int = 0,
  ) -> np.ndarray:
    """Applies a causal network to [batch, frames, …] of any length.

    Frames that fill a bucket are put behind, where they change nothing. What is
    longer than one chunk is cut into several that overlap by what the network
    sees to the left, and to the right, and the overlap of each is dropped.

    Args:
      network: Network of [batch, frames, …].
      frames: Input.
      after: Frames to the right that an output depends on.
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
      is_last = first + chunk.shape[1] >= num_frames
      end = chunk.shape[1] - (0 if is_last else after)
      outputs.append(output[:, start - first : end])
      start = num_frames if is_last else first + end
    return np.concatenate(outputs, axis=1)


def streams_of_codes(config: Any) -> tuple[streams_lib.Stream, ...]:
  """Returns the streams that the quantizers of a codec are shared out to."""
  rate = config.sample_rate / config.hop_length
  starts = [first - 1 for _, first in config.streams]
  ends = [min(n, config.num_quantizers) for n in (*starts[1:], 1 << 20)]
  return tuple(
      streams_lib.Stream(name, end - start, config.codebook_size, rate)
      for (name, _), start, end in zip(config.streams, starts, ends)
      if end > start
  )
