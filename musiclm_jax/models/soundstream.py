"""SoundStream: a causal convolutional codec (SoundStream, section III).

Activations are [batch, time, channels]. Every layer is causal, so a prefix of
the audio has a prefix of its tokens, and vice versa; and with the
collection `causal.STREAM` mutable, encoder and decoder take audio and tokens
chunk by chunk.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax.models import causal
from musiclm_jax.models import layers
from musiclm_jax.models import quantizer

_DILATIONS = (1, 3, 9)
_UNIT_KERNEL = 7  # Kernel of residual units and the outermost convolutions.
_LATENT_KERNEL = 3


@dataclasses.dataclass(frozen=True)
class SoundStreamConfig:
  """Sizes of a codec.

  Attributes:
    sample_rate: Samples per second.
    strides: Strides of the encoder's blocks; their product is the hop length.
    channels: Channels of the first convolution; each encoder block doubles
      them.
    embed_dim: Width of a frame's embedding.
    num_quantizers: Number of codebooks.
    codebook_size: Codes in each codebook.
    streams: Name and first quantizer, counted from 1, of each stream that the
      quantizers are split into; a stream ends where the next one starts.
    decay: Decay of the codebooks' running means, per step.
    dtype: Data type of the convolutions; the quantizer is float32.
  """

  sample_rate: int = 24000
  strides: tuple[int, ...] = (3, 4, 5, 8)
  channels: int = 32
  embed_dim: int = 256
  num_quantizers: int = 12
  codebook_size: int = 1024
  streams: tuple[tuple[str, int], ...] = (('coarse', 1), ('fine', 5))
  decay: float = 0.99
  dtype: str = 'float32'

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'SoundStreamConfig':
    """Makes the config that `dataclasses.asdict` turned into JSON."""
    values = {**values, 'strides': tuple(values['strides'])}
    if 'streams' in values:
      values['streams'] = tuple(map(tuple, values['streams']))
    return cls(**values)

  def __post_init__(self):
    starts = [first for _, first in self.streams]
    if not starts or starts[0] != 1 or sorted({*starts}) != starts:
      raise errors.UserError(
          'streams must start at quantizer 1, and each after the one before,'
          f' but start at {starts}.'
      )

  @property
  def lookahead(self) -> int:
    """Samples after a frame that its tokens depend on: none."""
    return 0

  @property
  def hop_length(self) -> int:
    return math.prod(self.strides)

  @property
  def widest(self) -> int:
    """Channels between the last encoder block and the first decoder block."""
    return self.channels * 2 ** len(self.strides)

  def kbps(self, num_quantizers: int) -> float:
    """Returns the bitrate of the first quantizers, in kbit/s."""
    bits = num_quantizers * math.log2(self.codebook_size)
    return bits * self.sample_rate / self.hop_length / 1000

  @property
  def context_frames(self) -> int:
    """Frames of left context with which encoder and decoder are exact.

    This sums, in samples, the left context of each convolution. The decoder
    mirrors the encoder, so one number serves both.
    """
    unit = sum((_UNIT_KERNEL - 1) * dilation for dilation in _DILATIONS)
    samples = _UNIT_KERNEL - 1
    stride = 1
    for s in self.strides:
      samples += (unit + s) * stride
      stride *= s
    samples += max(_LATENT_KERNEL, _UNIT_KERNEL) * stride
    return -(-samples // stride) + 1


def _conv(
    config,
    in_features,
    features,
    kernel,
    stride=1,
    dilation=1,
    kernel_init=layers.default_kernel_init,
):
  return causal.CausalConv(
      in_features,
      features,
      (kernel,),
      strides=(stride,),
      dilation=(dilation,),
      kernel_init=kernel_init,
      dtype=jnp.dtype(config.dtype),
  )


def sample_rate(config: SoundStreamConfig) -> int:
  """Returns `config.sample_rate`; a function so that gin can call it."""
  return config.sample_rate


class ResidualUnit(nn.Module):
  """A dilated and a pointwise convolution with a skip connection.

  Attributes:
    config: Sizes of the codec.
    channels: Channels of input and output.
    dilation: Dilation of the first convolution.
  """

  config: SoundStreamConfig
  channels: int
  dilation: int

  def setup(self):
    channels = self.channels
    self.dilated = _conv(
        self.config, channels, channels, _UNIT_KERNEL, dilation=self.dilation
    )
    # A unit starts as the identity (arXiv 1901.09321; ours). Without norms, the
    # sum of 24 random units would let the codec learn spectra but no phase.
    self.pointwise = _conv(
        self.config, channels, channels, 1, kernel_init=nn.initializers.zeros
    )

  def __call__(self, x: Float[Array, 'b t c']) -> Float[Array, 'b t c']:
    return x + self.pointwise(nn.elu(self.dilated(nn.elu(x))))


class EncoderBlock(nn.Module):
  """Residual units, then a convolution that doubles channels and downsamples.

  Attributes:
    config: Sizes of the codec.
    channels: Channels of the input.
    stride: Input steps per output step.
  """

  config: SoundStreamConfig
  channels: int
  stride: int

  def setup(self):
    self.units = [
        ResidualUnit(self.config, self.channels, d) for d in _DILATIONS
    ]
    self.downsample = _conv(
        self.config,
        self.channels,
        2 * self.channels,
        2 * self.stride,
        stride=self.stride,
    )

  def __call__(self, x: Float[Array, 'b t c']) -> Float[Array, 'b s d']:
    for unit in self.units:
      x = unit(x)
    return self.downsample(nn.elu(x))


class DecoderBlock(nn.Module):
  """A convolution that halves channels and upsamples, then residual units.

  Attributes:
    config: Sizes of the codec.
    channels: Channels of the input.
    stride: Output steps per input step.
  """

  config: SoundStreamConfig
  channels: int
  stride: int

  def setup(self):
    # A causal transposed convolution with a kernel of two strides, written as a
    # convolution of pairs of steps with `stride` outputs per step: twice as
    # fast on a CPU. Its bias may differ between those outputs.
    half = self.channels // 2
    self.upsample = _conv(self.config, self.channels, self.stride * half, 2)
    self.units = [ResidualUnit(self.config, half, d) for d in _DILATIONS]

  def __call__(self, x: Float[Array, 'b t c']) -> Float[Array, 'b s d']:
    x = self.upsample(nn.elu(x))
    x = x.reshape(x.shape[0], -1, self.channels // 2)
    for unit in self.units:
      x = unit(x)
    return x


class Encoder(nn.Module):
  """Encodes audio as one embedding per hop.

  Attributes:
    config: Sizes of the codec.
  """

  config: SoundStreamConfig

  def setup(self):
    c = self.config
    self.first = _conv(c, 1, c.channels, _UNIT_KERNEL)
    self.blocks = [
        EncoderBlock(c, c.channels * 2**i, stride)
        for i, stride in enumerate(c.strides)
    ]
    self.last = _conv(c, c.widest, c.embed_dim, _LATENT_KERNEL)

  def __call__(
      self, audio: Float[Array, 'batch samples']
  ) -> Float[Array, 'batch frames embed']:
    x = self.first(audio[..., None])
    for block in self.blocks:
      x = block(x)
    return self.last(nn.elu(x))


class Decoder(nn.Module):
  """Decodes embeddings to audio; mirrors the encoder.

  Attributes:
    config: Sizes of the codec.
  """

  config: SoundStreamConfig

  def setup(self):
    c = self.config
    self.first = _conv(c, c.embed_dim, c.widest, _UNIT_KERNEL)
    self.blocks = [
        DecoderBlock(c, c.widest // 2**i, stride)
        for i, stride in enumerate(reversed(c.strides))
    ]
    self.last = _conv(c, c.channels, 1, _UNIT_KERNEL)

  def __call__(
      self, embeddings: Float[Array, 'batch frames embed']
  ) -> Float[Array, 'batch samples']:
    x = self.first(embeddings)
    for block in self.blocks:
      x = block(x)
    return self.last(nn.elu(x))[..., 0].astype(jnp.float32)


class SoundStream(nn.Module):
  """Encoder, residual vector quantizer and decoder.

  Attributes:
    config: Sizes of the codec.
  """

  config: SoundStreamConfig

  def setup(self):
    c = self.config
    self.encoder = Encoder(c)
    self.quantizer = quantizer.ResidualVectorQuantizer(
        c.num_quantizers, c.codebook_size, c.embed_dim, c.decay
    )
    self.decoder = Decoder(c)

  def encode(
      self, audio: Float[Array, 'batch samples']
  ) -> Int[Array, 'batch frames quantizers']:
    """Returns the tokens of audio of whole frames."""
    return self.quantizer.quantize(self.encoder(audio).astype(jnp.float32))

  def decode(
      self, tokens: Int[Array, 'batch frames quantizers']
  ) -> Float[Array, 'batch samples']:
    """Returns audio; tokens may hold only the first quantizers."""
    return self.decoder(self.quantizer.dequantize(tokens))

  def __call__(
      self, audio: Float[Array, 'batch samples'], train: bool = False
  ) -> tuple[Float[Array, 'batch samples'], dict[str, jax.Array]]:
    """Reconstructs audio.

    Args:
      audio: [batch, samples] floats, whole frames.
      train: See `quantizer.ResidualVectorQuantizer`.

    Returns:
      [batch, samples] float32 reconstruction, and the quantizer's metrics.
    """
    embeddings = self.encoder(audio)
    quantized, _, metrics = self.quantizer(embeddings, train=train)
    return self.decoder(quantized), metrics
