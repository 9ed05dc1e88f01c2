"""A codec in the time-frequency domain, for machines without accelerators.

ConvNeXt blocks encode spectra, at their rate and then at that of the tokens;
behind a residual vector quantizer, others decode to spectra. The design follows
SpectroStream (arXiv 2508.05207) and Vocos (arXiv 2306.00814). The networks run
at 1/240 of the sample rate, which takes a tenth of the work of SoundStream.

Every layer is causal. A spectrum reaches `lookahead` samples beyond its own
hop: tokens lag behind their audio by that much, and decoded audio is complete
with the tokens of its frame. With the collection `causal.STREAM` mutable,
encoder and decoder take audio and tokens chunk by chunk.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int
from musiclm_jax import errors
from musiclm_jax.models import causal
from musiclm_jax.models import layers
from musiclm_jax.models import quantizer
import numpy as np

_QUIETEST = 1e-6  # Floor of the magnitude of a bin.
_EXPANSION = 3  # Inner channels of a block, per channel.


@dataclasses.dataclass(frozen=True)
class SpectralCodecConfig:
  """Sizes of the codec.

  Attributes:
    sample_rate: Samples per second of the audio.
    hop: Samples from one spectrum to the next.
    overlap: Hops that a spectrum spans.
    stride: Spectra per frame of tokens.
    channels: Channels at the rate of spectra.
    wide_channels: Channels at the rate of tokens.
    encoder_blocks: Blocks of the encoder, at the rate of spectra and of tokens.
    decoder_blocks: Blocks of the decoder, at the rate of tokens and of spectra.
    kernel: Kernel size of a block, in steps.
    embed_dim: Width of a frame's embedding.
    num_quantizers: Number of codebooks.
    codebook_size: Codes in each codebook.
    streams: Name and first quantizer, counted from 1, of each stream that the
      quantizers are split into; a stream ends where the next one starts.
    decay: Decay of the codebooks' running means, per step.
    dtype: Data type of the products; the quantizer is float32.
  """

  sample_rate: int = 24000
  hop: int = 240
  overlap: int = 4
  stride: int = 4
  channels: int = 192
  wide_channels: int = 320
  encoder_blocks: tuple[int, int] = (3, 4)
  decoder_blocks: tuple[int, int] = (4, 6)
  kernel: int = 7
  embed_dim: int = 64
  num_quantizers: int = 8
  codebook_size: int = 1024
  streams: tuple[tuple[str, int], ...] = (('acoustic', 1),)
  decay: float = 0.98
  dtype: str = 'float32'

  def __post_init__(self):
    if self.overlap < 2:
      raise errors.UserError(
          f'overlap must be at least 2 hops, but is {self.overlap}.'
      )

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'SpectralCodecConfig':
    """Makes the config that `dataclasses.asdict` turned into JSON."""
    pairs = {k: tuple(values[k]) for k in ('encoder_blocks', 'decoder_blocks')}
    streams = tuple(map(tuple, values['streams']))
    return cls(**{**values, **pairs, 'streams': streams})

  @property
  def hop_length(self) -> int:
    """Samples per frame of tokens."""
    return self.hop * self.stride

  @property
  def window(self) -> int:
    """Samples per spectrum."""
    return self.hop * self.overlap

  @property
  def lookahead(self) -> int:
    """Samples after a frame that its tokens depend on."""
    return self.window - self.hop

  @property
  def num_bins(self) -> int:
    return self.window // 2 + 1

  @property
  def context_frames(self) -> int:
    """Frames of left context with which encoder and decoder are exact."""
    reach = self.kernel - 1
    at_spectra = reach * max(self.encoder_blocks[0], self.decoder_blocks[1])
    at_tokens = reach * max(self.encoder_blocks[1], self.decoder_blocks[0])
    return at_tokens + math.ceil((at_spectra + self.overlap) / self.stride) + 1


def sample_rate(config: SpectralCodecConfig) -> int:
  """Returns `config.sample_rate`; a function so that gin can call it."""
  return config.sample_rate


def _window(config: SpectralCodecConfig) -> np.ndarray:
  """Returns the [window] square root of a Hann window, normalized.

  Applied in analysis and in synthesis, it makes overlap-add exact.
  """
  phase = 2 * np.pi * (np.arange(config.window) + 0.5) / config.window
  hann = 0.5 - 0.5 * np.cos(phase)
  return np.sqrt(hann / (config.overlap / 2)).astype(np.float32)


def analyze(
    audio: Float[Array, 'batch samples'], config: SpectralCodecConfig
) -> Complex[Array, 'batch spectra bins']:
  """Returns the spectra of audio that includes `lookahead` samples more."""
  hops = audio.reshape(audio.shape[0], -1, config.hop)
  count = hops.shape[1] - config.overlap + 1
  slices = [hops[:, i : i + count] for i in range(config.overlap)]
  return jnp.fft.rfft(jnp.concatenate(slices, axis=-1) * _window(config))


def synthesize(
    spectra: Complex[Array, 'batch spectra bins'], config: SpectralCodecConfig
) -> Float[Array, 'batch samples']:
  """Overlap-adds spectra; the last `lookahead` samples are incomplete."""
  frames = jnp.fft.irfft(spectra, config.window) * _window(config)
  batch, count, _ = frames.shape
  parts = frames.reshape(batch, count, config.overlap, config.hop)
  padded = [
      jnp.pad(parts[:, :, i], ((0, 0), (i, config.overlap - 1 - i), (0, 0)))
      for i in range(config.overlap)
  ]
  return sum(padded[1:], padded[0]).reshape(batch, -1)


def _compress(
    spectra: Complex[Array, 'b t k'],
) -> Float[Array, 'b t f']:
  """Takes the square root of magnitudes; returns real and imaginary parts."""
  power = jnp.square(spectra.real) + jnp.square(spectra.imag)
  scale = jnp.maximum(power, _QUIETEST**2) ** -0.25
  return jnp.concatenate([spectra.real * scale, spectra.imag * scale], axis=-1)


def _expand(values: Float[Array, 'b t f']) -> Complex[Array, 'b t k']:
  """Undoes `_compress`."""
  real, imaginary = jnp.split(values.astype(jnp.float32), 2, axis=-1)
  power = jnp.square(real) + jnp.square(imaginary)
  scale = jnp.sqrt(jnp.maximum(power, _QUIETEST))
  return jax.lax.complex(real * scale, imaginary * scale)


class Block(nn.Module):
  """A causal ConvNeXt block (arXiv 2201.03545).

  Attributes:
    channels: Channels of input and output.
    kernel: Kernel size, in steps.
    dtype: Data type of the products.
  """

  channels: int
  kernel: int
  dtype: jnp.dtype

  def setup(self):
    d = self.channels
    self.taps = partitioning.param_with_axes(
        'taps',
        nn.initializers.normal(self.kernel**-0.5),
        (self.kernel, d),
        axes=('conv_width', 'embed'),
    )
    self.norm = layers.LayerNorm(d, dtype=self.dtype)
    self.up = layers.Dense(
        d, _EXPANSION * d, ('embed', 'mlp'), dtype=self.dtype
    )
    self.down = layers.Dense(
        _EXPANSION * d, d, ('mlp', 'embed'), dtype=self.dtype
    )
    self.scale = partitioning.param_with_axes(
        'scale', nn.initializers.constant(0.1), (d,), axes=('embed',)
    )

  def __call__(self, x: Float[Array, 'b t d']) -> Float[Array, 'b t d']:
    length, left = x.shape[1], self.kernel - 1
    padded = causal.with_left(self, x, left)
    # Shifted sums: XLA's depthwise convolutions are slow on CPUs.
    y = sum(
        padded[:, i : i + length] * self.taps[i] for i in range(self.kernel)
    )
    y = self.down(jax.nn.gelu(self.up(self.norm(y))))
    return x + (self.scale * y).astype(x.dtype)


class SpectralCodec(nn.Module):
  """Encoder, residual vector quantizer and decoder.

  Attributes:
    config: Sizes of the codec.
  """

  config: SpectralCodecConfig

  def setup(self):
    c = self.config
    dtype = jnp.dtype(c.dtype)
    narrow = lambda n: [Block(c.channels, c.kernel, dtype) for _ in range(n)]
    wide = lambda n: [Block(c.wide_channels, c.kernel, dtype) for _ in range(n)]
    dense = lambda i, o: layers.Dense(i, o, ('embed', 'mlp'), dtype=dtype)
    self.first = dense(2 * c.num_bins, c.channels)
    self.encoder_narrow = narrow(c.encoder_blocks[0])
    self.join = dense(c.stride * c.channels, c.wide_channels)
    self.encoder_wide = wide(c.encoder_blocks[1])
    self.to_embedding = dense(c.wide_channels, c.embed_dim)
    self.quantizer = quantizer.ResidualVectorQuantizer(
        c.num_quantizers, c.codebook_size, c.embed_dim, c.decay
    )
    self.from_embedding = dense(c.embed_dim, c.wide_channels)
    self.decoder_wide = wide(c.decoder_blocks[0])
    self.part = dense(c.wide_channels, c.stride * c.channels)
    self.decoder_narrow = narrow(c.decoder_blocks[1])
    self.last = dense(c.channels, 2 * c.num_bins)

  def _encoder(
      self, audio: Float[Array, 'batch samples']
  ) -> Float[Array, 'batch frames embed']:
    c = self.config
    x = self.first(_compress(analyze(audio, c)))
    for block in self.encoder_narrow:
      x = block(x)
    x = self.join(x.reshape(x.shape[0], -1, c.stride * c.channels))
    for block in self.encoder_wide:
      x = block(x)
    return self.to_embedding(x).astype(jnp.float32)

  def _decoder(
      self, embeddings: Float[Array, 'batch frames embed']
  ) -> Float[Array, 'batch samples']:
    c = self.config
    x = self.from_embedding(embeddings)
    for block in self.decoder_wide:
      x = block(x)
    x = self.part(x)
    x = x.reshape(x.shape[0], -1, c.channels)
    for block in self.decoder_narrow:
      x = block(x)
    audio = synthesize(_expand(self.last(x)), c)
    return causal.overlap_add(self, audio, c.lookahead)

  def encode(
      self, audio: Float[Array, 'batch samples']
  ) -> Int[Array, 'batch frames quantizers']:
    """Returns the tokens of whole frames, followed by `lookahead` samples."""
    return self.quantizer.quantize(self._encoder(audio))

  def decode(
      self, tokens: Int[Array, 'batch frames quantizers']
  ) -> Float[Array, 'batch samples']:
    """Returns audio; tokens may hold only the first quantizers."""
    return self._decoder(self.quantizer.dequantize(tokens))

  def __call__(
      self, audio: Float[Array, 'batch samples'], train: bool = False
  ) -> tuple[Float[Array, 'batch samples'], dict[str, jax.Array]]:
    """Reconstructs audio, as if silence followed it.

    Args:
      audio: [batch, samples] floats, whole frames.
      train: See `quantizer.ResidualVectorQuantizer`.

    Returns:
      [batch, samples] float32 reconstruction, and the quantizer's metrics.
    """
    ahead = jnp.pad(audio, ((0, 0), (0, self.config.lookahead)))
    embeddings = self._encoder(ahead)
    quantized, _, metrics = self.quantizer(embeddings, train=train)
    return self._decoder(quantized), metrics
