"""ResNet-50 over a log-mel spectrogram (arXiv 1512.03385)."""

import dataclasses

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from musiclm_jax.models import layers

EXPANSION = 4  # Output channels of a block, per inner channel.


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
  """Sizes of a ResNet; ResNet-50 by default.

  Attributes:
    num_mels: Mel bands of the spectrogram.
    stage_sizes: Blocks of each stage; each stage but the first halves the
      resolution.
    width: Channels within the blocks of the first stage; they double per stage.
    num_groups: Channel groups of a norm.
  """

  num_mels: int = 64
  stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
  width: int = 64
  num_groups: int = 32

  @property
  def out_dim(self) -> int:
    return self.width * 2 ** (len(self.stage_sizes) - 1) * EXPANSION


class GroupNorm(nn.Module):
  """Normalizes each group of channels of an example, in float32.

  It replaces batch norm (ours), so that an example never depends on its batch,
  and there are no statistics to share between devices.

  Attributes:
    features: Number of channels.
    num_groups: Number of groups.
    dtype: Data type of the output.
  """

  features: int
  num_groups: int
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.scale = partitioning.param_with_axes(
        'scale', nn.initializers.ones, (self.features,), axes=('channels',)
    )
    self.bias = partitioning.param_with_axes(
        'bias', nn.initializers.zeros, (self.features,), axes=('channels',)
    )

  def __call__(self, x: Float[Array, 'b t f c']) -> Float[Array, 'b t f c']:
    grouped = x.reshape(*x.shape[:-1], self.num_groups, -1).astype(jnp.float32)
    mean = jnp.mean(grouped, axis=(1, 2, 4), keepdims=True)
    variance = jnp.var(grouped, axis=(1, 2, 4), keepdims=True)
    y = ((grouped - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
    return (y * self.scale + self.bias).astype(self.dtype)


class Bottleneck(nn.Module):
  """Three convolutions beside a shortcut.

  Attributes:
    in_features: Channels of the input.
    width: Channels within the block; its output has four times as many.
    stride: Stride of the middle convolution.
    num_groups: Channel groups of a norm.
    dtype: Data type of the arithmetic.
  """

  in_features: int
  width: int
  stride: int
  num_groups: int
  dtype: DTypeLike = jnp.float32

  def setup(self):
    out = self.width * EXPANSION
    self.convs = [
        _conv(self.in_features, self.width, 1, 1, self.dtype),
        _conv(self.width, self.width, 3, self.stride, self.dtype),
        _conv(self.width, out, 1, 1, self.dtype),
    ]
    self.norms = [
        GroupNorm(features, self.num_groups, self.dtype)
        for features in (self.width, self.width, out)
    ]
    self.is_projected = self.stride != 1 or self.in_features != out
    if self.is_projected:
      self.projection = _conv(self.in_features, out, 1, self.stride, self.dtype)
      self.projection_norm = GroupNorm(out, self.num_groups, self.dtype)

  def __call__(self, x: Float[Array, 'b t f i']) -> Float[Array, 'b u g o']:
    y = nn.relu(self.norms[0](self.convs[0](x)))
    y = nn.relu(self.norms[1](self.convs[1](y)))
    y = self.norms[2](self.convs[2](y))
    if self.is_projected:
      x = self.projection_norm(self.projection(x))
    return nn.relu(x + y)


class ResNet(nn.Module):
  """A convolutional audio tower.

  Attributes:
    config: Sizes.
    dtype: Data type of the arithmetic.
  """

  config: ResNetConfig
  dtype: DTypeLike = jnp.float32

  def setup(self):
    c = self.config
    self.stem = _conv(1, c.width, 7, 2, self.dtype)
    self.stem_norm = GroupNorm(c.width, c.num_groups, self.dtype)
    blocks, features = [], c.width
    for stage, size in enumerate(c.stage_sizes):
      width = c.width * 2**stage
      for i in range(size):
        stride = 2 if stage > 0 and i == 0 else 1
        blocks.append(
            Bottleneck(features, width, stride, c.num_groups, self.dtype)
        )
        features = width * EXPANSION
    self.blocks = blocks

  def __call__(
      self, log_mel: Float[Array, 'b t m'], deterministic: bool = True
  ) -> Float[Array, 'b d']:
    """Returns [batch, out_dim], the mean over time and frequency."""
    del deterministic  # No dropout.
    x = nn.relu(self.stem_norm(self.stem(log_mel[..., jnp.newaxis])))
    x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    for block in self.blocks:
      x = block(x)
    return jnp.mean(x, axis=(1, 2))


def _conv(
    in_features: int, features: int, size: int, stride: int, dtype: DTypeLike
) -> layers.Conv:
  """Makes a square convolution that pads both ends equally, as torchvision."""
  return layers.Conv(
      in_features,
      features,
      kernel_size=(size, size),
      strides=(stride, stride),
      padding=[(size // 2, size // 2)] * 2,
      use_bias=False,
      dtype=dtype,
  )
