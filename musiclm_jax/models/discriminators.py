"""Discriminators for training the codec (SoundStream, section III-D).

Each returns logits per time step and the features of its inner layers.
"""

import dataclasses

from flax import linen as nn
from flax.linen import partitioning
import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax import errors
from musiclm_jax.audio import dsp
from musiclm_jax.models import layers
from musiclm_jax.models import patch_discriminator

Judgement = tuple[Array, list[Array]]

# (Multiple of the block's channels, stride in time). Strides in frequency are
# always 2, so that six blocks leave 1/64 of the bins.
_STFT_BLOCKS = ((2, 1), (2, 2), (1, 1), (2, 2), (1, 1), (2, 2))
_WAVE_FACTORS = (4, 16, 64, 64)
_WAVE_KERNEL = 41
_WAVE_STRIDE = 4
_GROUP_CHANNELS = 4  # Input channels of a group.


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
  """Sizes of the discriminators.

  Attributes:
    stft_channels: Channels of the STFT discriminator's first layer; 0 for no
      STFT discriminators.
    stft_window: Window of the STFT, in samples.
    stft_hop: Hop of the STFT, in samples.
    other_stft_windows: Windows of further STFT discriminators, each with a hop
      of a quarter of its own: with several resolutions, neither onsets nor
      pitches are blurred (EnCodec, arXiv 2210.13438, section 3.4).
    wave_channels: Channels of a waveform discriminator's first layer; a
      multiple of 4.
    wave_scales: Number of waveform discriminators, each at half the sample rate
      of the one before; 0 for none.
    patch_windows: Windows of discriminators of patches of spectra, in samples.
    patch_channels: Channels of a patch.
    patch_blocks: Blocks of each of these.
    dtype: Data type of the convolutions.
  """

  stft_channels: int = 32
  stft_window: int = 1024
  stft_hop: int = 256
  other_stft_windows: tuple[int, ...] = ()
  wave_channels: int = 16
  wave_scales: int = 3
  patch_windows: tuple[int, ...] = ()
  patch_channels: int = 64
  patch_blocks: int = 3
  dtype: str = 'float32'

  def __post_init__(self):
    least = 2 ** (len(_STFT_BLOCKS) + 1)
    for window in (self.stft_window, *self.other_stft_windows):
      if window < least or window % least:
        raise errors.UserError(
            f'STFT windows of discriminators must be multiples of {least}, as'
            f' their bins are halved {len(_STFT_BLOCKS)} times, but one is'
            f' {window}.'
        )
    multiple = patch_discriminator.MULTIPLE
    for window in self.patch_windows:
      if window <= 0 or window % multiple:
        raise errors.UserError(
            'windows of discriminators of patches must be multiples of'
            f' {multiple}, but one is {window}.'
        )
    if not (self.stfts or self.wave_scales or self.patch_windows):
      raise errors.UserError(
          'there must be a discriminator, but stft_channels, wave_scales and'
          ' patch_windows leave none. Set one of them.'
      )

  @property
  def stfts(self) -> tuple[tuple[int, int], ...]:
    """Window and hop of each STFT discriminator, in samples."""
    if not self.stft_channels:
      return ()
    others = ((window, window // 4) for window in self.other_stft_windows)
    return ((self.stft_window, self.stft_hop), *others)


class StftBlock(nn.Module):
  """A residual unit that downsamples in time and frequency.

  Attributes:
    in_features: Channels of the input.
    features: Channels of the output.
    strides: Strides in time and in frequency.
    dtype: Data type of the convolutions.
  """

  in_features: int
  features: int
  strides: tuple[int, int]
  dtype: jnp.dtype

  def setup(self):
    kernel = (self.strides[0] + 2, self.strides[1] + 2)
    self.first = layers.Conv(
        self.in_features, self.in_features, (3, 3), dtype=self.dtype
    )
    self.second = layers.Conv(
        self.in_features,
        self.features,
        kernel,
        strides=self.strides,
        # As in the codec, and to bound the first logits of six blocks.
        kernel_init=nn.initializers.zeros,
        dtype=self.dtype,
    )
    self.skip = layers.Conv(
        self.in_features,
        self.features,
        (1, 1),
        strides=self.strides,
        dtype=self.dtype,
    )

  def __call__(self, x: Float[Array, 'b t f c']) -> Float[Array, 'b s g d']:
    y = self.second(nn.elu(self.first(nn.elu(x))))
    return y + self.skip(x)


class StftDiscriminator(nn.Module):
  """Judges the complex spectrogram, with real and imaginary channels.

  Attributes:
    config: Sizes of the discriminators.
    window: Window of the STFT, in samples.
    hop: Hop of the STFT, in samples.
  """

  config: DiscriminatorConfig
  window: int
  hop: int

  def setup(self):
    channels = self.config.stft_channels
    dtype = jnp.dtype(self.config.dtype)
    self.first = layers.Conv(2, channels, (7, 7), dtype=dtype)
    blocks = []
    for factor, stride in _STFT_BLOCKS:
      strides = (stride, 2)
      blocks.append(StftBlock(channels, channels * factor, strides, dtype))
      channels *= factor
    self.blocks = blocks
    bins = self.window // 2 // 2 ** len(_STFT_BLOCKS)
    self.last = layers.Conv(
        channels, 1, (1, bins), padding='VALID', dtype=dtype
    )

  def __call__(self, audio: Float[Array, 'batch samples']) -> Judgement:
    spectrum = dsp.stft(audio, self.window, self.hop)
    # Without the Nyquist bin, the others halve evenly. The scale makes noise as
    # loud in its spectrum as in its samples.
    spectrum = spectrum[..., :-1] / (0.375 * self.window) ** 0.5
    x = self.first(jnp.stack([spectrum.real, spectrum.imag], axis=-1))
    features = [x]
    for block in self.blocks:
      x = block(x)
      features.append(x)
    logits = self.last(nn.elu(x))
    return logits.reshape(logits.shape[0], -1).astype(jnp.float32), features


class GroupedConv(nn.Module):
  """A strided convolution in groups of four input channels.

  Computed as a product of patches: the gradient of a grouped convolution with
  respect to its kernel takes 20 times as long on a CPU.

  Attributes:
    in_features: Channels of the input.
    features: Channels of the output.
    dtype: Data type of the arithmetic.
  """

  in_features: int
  features: int
  dtype: jnp.dtype

  def setup(self):
    self.kernel = partitioning.param_with_axes(
        'kernel',
        layers.default_kernel_init,
        (_WAVE_KERNEL, _GROUP_CHANNELS, self.features),
        axes=('kernel', 'in_channels', 'channels'),
    )
    self.bias = partitioning.param_with_axes(
        'bias', nn.initializers.zeros, (self.features,), axes=('channels',)
    )

  def __call__(self, x: Float[Array, 'b t c']) -> Float[Array, 'b s d']:
    num_groups = self.in_features // _GROUP_CHANNELS
    steps = -(-x.shape[1] // _WAVE_STRIDE)
    # Patches are whole strides, to which the kernel is padded with 0.
    taps = -(-_WAVE_KERNEL // _WAVE_STRIDE)
    before = ((steps - 1) * _WAVE_STRIDE + _WAVE_KERNEL - x.shape[1]) // 2
    after = (steps + taps - 1) * _WAVE_STRIDE - x.shape[1] - before
    x = jnp.pad(x.astype(self.dtype), ((0, 0), (before, after), (0, 0)))
    x = x.reshape(x.shape[0], -1, _WAVE_STRIDE, num_groups, _GROUP_CHANNELS)
    patches = jnp.stack([x[:, k : k + steps] for k in range(taps)], axis=2)
    extra = taps * _WAVE_STRIDE - _WAVE_KERNEL
    kernel = jnp.pad(
        self.kernel.astype(self.dtype), ((0, extra), (0, 0), (0, 0))
    )
    kernel = kernel.reshape(taps, _WAVE_STRIDE, _GROUP_CHANNELS, num_groups, -1)
    y = jnp.einsum('btksgi,ksigo->btgo', patches, kernel)
    return y.reshape(*y.shape[:2], -1) + self.bias.astype(self.dtype)


class WaveDiscriminator(nn.Module):
  """Judges the waveform by strided, grouped convolutions (MelGAN).

  Attributes:
    config: Sizes of the discriminators.
  """

  config: DiscriminatorConfig

  def setup(self):
    channels = self.config.wave_channels
    dtype = jnp.dtype(self.config.dtype)
    convs = [layers.Conv(1, channels, (15,), dtype=dtype)]
    before = channels
    for factor in _WAVE_FACTORS:
      convs.append(GroupedConv(before, channels * factor, dtype))
      before = channels * factor
    convs.append(layers.Conv(before, before, (5,), dtype=dtype))
    self.convs = convs
    self.last = layers.Conv(before, 1, (3,), dtype=dtype)

  def __call__(self, audio: Float[Array, 'batch samples']) -> Judgement:
    x = audio[..., None]
    features = []
    for conv in self.convs:
      x = nn.leaky_relu(conv(x), 0.2)
      features.append(x)
    return self.last(x)[..., 0].astype(jnp.float32), features


class Discriminators(nn.Module):
  """Discriminators of spectra, and of waveforms at decreasing rates.

  Attributes:
    config: Sizes of the discriminators.
  """

  config: DiscriminatorConfig

  def setup(self):
    stfts = [StftDiscriminator(self.config, *s) for s in self.config.stfts]
    if stfts:
      self.stft = stfts[0]
    self.other_stfts = stfts[1:]
    self.waves = [
        WaveDiscriminator(self.config) for _ in range(self.config.wave_scales)
    ]
    c = self.config
    self.patches = [
        patch_discriminator.PatchDiscriminator(
            window, c.patch_channels, c.patch_blocks, c.dtype
        )
        for window in c.patch_windows
    ]

  def __call__(self, audio: Float[Array, 'batch samples']) -> list[Judgement]:
    """Judges audio.

    Args:
      audio: [batch, samples].

    Returns:
      For each discriminator its [batch, steps] float32 logits, high for real
      audio, and a list of features.
    """
    first = [self.stft] if self.config.stfts else []
    spectral = [*first, *self.other_stfts, *self.patches]
    judgements = [discriminator(audio) for discriminator in spectral]
    for i, wave in enumerate(self.waves):
      if i > 0:
        audio = nn.avg_pool(audio[..., None], (4,), (2,), padding='SAME')[
            ..., 0
        ]
      judgements.append(wave(audio))
    return judgements
