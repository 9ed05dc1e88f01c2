"""Conformer blocks: self-attention and convolution between half-step MLPs."""

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float
from musiclm_jax.models import layers


def _local_init(
    rng: jax.Array, shape: tuple[int, int], dtype: DTypeLike = jnp.float32
) -> Float[Array, 'heads distances']:
  """Returns biases that fall with distance; slopes halve from head to head."""
  del rng
  slopes = 2.0 ** -jnp.arange(shape[0], dtype=dtype)
  distances = jnp.abs(jnp.arange(shape[1], dtype=dtype) - shape[1] // 2)
  return -slopes[:, None] * distances


class RelativeBias(nn.Module):
  """A learned attention bias for each head and distance.

  It starts local, because masked frames are first predicted from their
  neighbours: the loss leaves chance hundreds of steps earlier than from 0.

  Attributes:
    num_heads: Attention heads.
    max_distance: Distance in frames from which all share one bias.
  """

  num_heads: int
  max_distance: int = 64

  def setup(self):
    self.biases = partitioning.param_with_axes(
        'biases',
        _local_init,
        (self.num_heads, 2 * self.max_distance + 1),
        axes=('heads', 'distances'),
    )

  def __call__(self, length: int) -> Float[Array, 'heads length length']:
    """Returns the bias of each query (axis 1) and key (axis 2)."""
    positions = jnp.arange(length)
    distances = positions[None, :] - positions[:, None]
    clipped = jnp.clip(distances, -self.max_distance, self.max_distance)
    return self.biases[:, clipped + self.max_distance]


class FeedForward(nn.Module):
  """A normalized two-layer perceptron with swish.

  Attributes:
    features: Size of the last axis of input and output.
    mlp_dim: Size of the hidden layer.
    dropout_rate: Dropout rate of the hidden layer and the output.
    dtype: Data type of the arithmetic.
  """

  features: int
  mlp_dim: int
  dropout_rate: float = 0.0
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.norm = layers.LayerNorm(self.features, dtype=self.dtype)
    self.up = layers.Dense(
        self.features, self.mlp_dim, ('embed', 'mlp'), dtype=self.dtype
    )
    self.down = layers.Dense(
        self.mlp_dim, self.features, ('mlp', 'embed'), dtype=self.dtype
    )
    self.dropout = nn.Dropout(self.dropout_rate)

  def __call__(
      self, x: Float[Array, 'b t d'], deterministic: bool = True
  ) -> Float[Array, 'b t d']:
    hidden = jax.nn.swish(self.up(self.norm(x)))
    hidden = self.dropout(hidden, deterministic=deterministic)
    return self.dropout(self.down(hidden), deterministic=deterministic)


class ConvModule(nn.Module):
  """A gated pointwise, a depthwise and a pointwise convolution.

  Layer normalization replaces batch normalization (ours): it needs no
  statistics across devices and makes training and inference the same.

  Attributes:
    features: Size of the last axis of input and output.
    kernel_size: Frames that the depthwise convolution spans.
    dropout_rate: Dropout rate of the output.
    dtype: Data type of the arithmetic.
  """

  features: int
  kernel_size: int
  dropout_rate: float = 0.0
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.norm = layers.LayerNorm(self.features, dtype=self.dtype)
    self.gated = layers.Dense(
        self.features, 2 * self.features, ('embed', 'mlp'), dtype=self.dtype
    )
    self.depthwise = layers.Conv(
        self.features,
        self.features,
        (self.kernel_size,),
        groups=self.features,
        dtype=self.dtype,
    )
    self.conv_norm = layers.LayerNorm(self.features, dtype=self.dtype)
    self.out = layers.Dense(
        self.features, self.features, ('mlp', 'embed'), dtype=self.dtype
    )
    self.dropout = nn.Dropout(self.dropout_rate)

  def __call__(
      self,
      x: Float[Array, 'b t d'],
      valid: Bool[Array, 'b t'] | None = None,
      deterministic: bool = True,
  ) -> Float[Array, 'b t d']:
    y = jax.nn.glu(self.gated(self.norm(x)))
    if valid is not None:
      y = jnp.where(valid[:, :, None], y, 0)
    y = jax.nn.swish(self.conv_norm(self.depthwise(y)))
    return self.dropout(self.out(y), deterministic=deterministic)


class ConformerBlock(nn.Module):
  """A Conformer block (arXiv 2005.08100, section 2).

  Attention gets positions from a bias that the caller passes, where the
  original adds sinusoids of the distance to the keys.

  Attributes:
    features: Size of the last axis of input and output.
    num_heads: Attention heads.
    kernel_size: Frames that the depthwise convolution spans.
    mlp_dim: Hidden size of the two perceptrons.
    dropout_rate: Dropout rate of every residual branch.
    dtype: Data type of the arithmetic.
  """

  features: int
  num_heads: int
  kernel_size: int
  mlp_dim: int
  dropout_rate: float = 0.0
  dtype: DTypeLike = jnp.float32

  def setup(self):
    common = {'dropout_rate': self.dropout_rate, 'dtype': self.dtype}
    self.mlp_before = FeedForward(self.features, self.mlp_dim, **common)
    self.attention_norm = layers.LayerNorm(self.features, dtype=self.dtype)
    self.attention = layers.Attention(
        self.features, self.num_heads, dtype=self.dtype
    )
    self.dropout = nn.Dropout(self.dropout_rate)
    self.conv = ConvModule(self.features, self.kernel_size, **common)
    self.mlp_after = FeedForward(self.features, self.mlp_dim, **common)
    self.norm = layers.LayerNorm(self.features, dtype=self.dtype)

  def __call__(
      self,
      x: Float[Array, 'b t d'],
      bias: Float[Array, 'h t t'] | None = None,
      valid: Bool[Array, 'b t'] | None = None,
      deterministic: bool = True,
  ) -> Float[Array, 'b t d']:
    """Applies the block.

    Args:
      x: [batch, frames, features].
      bias: [heads, frames, frames], added to the attention logits.
      valid: [batch, frames], False where a frame is padding: it then has no
        influence on the others.
      deterministic: Whether to leave out dropout.

    Returns:
      [batch, frames, features].
    """
    x = x + 0.5 * self.mlp_before(x, deterministic)
    y = self.attention(self.attention_norm(x), bias=bias, mask=valid)
    x = x + self.dropout(y, deterministic=deterministic)
    x = x + self.conv(x, valid, deterministic)
    x = x + 0.5 * self.mlp_after(x, deterministic)
    return self.norm(x)
