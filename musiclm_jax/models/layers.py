"""Layers shared by every model, with a logical axis name on each parameter.

Parameters are float32; `dtype` is the type of the arithmetic.
"""

from collections.abc import Sequence

from flax import linen as nn
from flax.linen import partitioning
import jax
from jax import ad_checkpoint
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from musiclm_jax.models import products

DENSE = 'dense'  # Name of matrix products in rematerialization policies.

default_kernel_init = nn.initializers.variance_scaling(
    1.0, 'fan_in', 'truncated_normal'
)


class Dense(nn.Module):
  """A matrix product over the last axis, plus a bias.

  Attributes:
    in_features: Size of the last axis of the input.
    features: Size of the last axis of the output.
    axes: Logical names of the kernel's axes, e.g. ('embed', 'mlp').
    use_bias: Whether to add a bias.
    dtype: Data type of the arithmetic.
  """

  in_features: int
  features: int
  axes: tuple[str, str]
  use_bias: bool = True
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.kernel = partitioning.param_with_axes(
        'kernel',
        default_kernel_init,
        (self.in_features, self.features),
        axes=self.axes,
    )
    if self.use_bias:
      self.bias = partitioning.param_with_axes(
          'bias', nn.initializers.zeros, (self.features,), axes=self.axes[1:]
      )

  def __call__(self, x: Float[Array, '*batch i']) -> Float[Array, '*batch o']:
    rows = 'abcdefgh'[: x.ndim - 1]
    y = products.einsum(f'{rows}i,io->{rows}o', x, self.kernel, self.dtype)
    y = ad_checkpoint.checkpoint_name(y, DENSE)
    return y + self.bias.astype(self.dtype) if self.use_bias else y


class Embed(nn.Module):
  """A table of embeddings.

  Attributes:
    num_embeddings: Number of embeddings.
    features: Size of an embedding.
    dtype: Data type of the output.
  """

  num_embeddings: int
  features: int
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.embedding = partitioning.param_with_axes(
        'embedding',
        nn.initializers.normal(stddev=0.02),
        (self.num_embeddings, self.features),
        axes=('vocab', 'embed'),
    )

  def __call__(self, ids: Array) -> Float[Array, '... d']:
    # Cast after the lookup, so that gradients are summed in float32.
    return self.embedding[ids].astype(self.dtype)


class LayerNorm(nn.Module):
  """Layer normalization over the last axis, in float32.

  Attributes:
    features: Size of the last axis.
    epsilon: Added to the variance.
    dtype: Data type of the output.
  """

  features: int
  epsilon: float = 1e-6
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.scale = partitioning.param_with_axes(
        'scale', nn.initializers.ones, (self.features,), axes=('embed',)
    )
    self.bias = partitioning.param_with_axes(
        'bias', nn.initializers.zeros, (self.features,), axes=('embed',)
    )

  def __call__(self, x: Float[Array, '*batch d']) -> Float[Array, '*batch d']:
    x = x.astype(jnp.float32)
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    y = (x - mean) * jax.lax.rsqrt(variance + self.epsilon) * self.scale
    return (y + self.bias).astype(self.dtype)


class RMSNorm(nn.Module):
  """T5's layer norm: no mean subtracted, no bias; in float32.

  Attributes:
    features: Size of the last axis.
    dtype: Data type of the output.
  """

  features: int
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.scale = partitioning.param_with_axes(
        'scale', nn.initializers.ones, (self.features,), axes=('embed',)
    )

  def __call__(self, x: Float[Array, '*batch d']) -> Float[Array, '*batch d']:
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    y = x * jax.lax.rsqrt(mean_square + 1e-6) * self.scale
    return y.astype(self.dtype)


class Conv(nn.Module):
  """A convolution over one or two spatial axes, channels last.

  Attributes:
    in_features: Channels of the input.
    features: Channels of the output.
    kernel_size: Size of the kernel along each spatial axis.
    strides: Stride along each spatial axis; 1 if None.
    dilation: Dilation along each spatial axis; 1 if None.
    padding: As in `jax.lax.conv_general_dilated`.
    groups: Channel groups; `in_features` for a depthwise convolution.
    use_bias: Whether to add a bias.
    kernel_init: Initializer of the kernel.
    dtype: Data type of the arithmetic.
  """

  in_features: int
  features: int
  kernel_size: tuple[int, ...]
  strides: tuple[int, ...] | None = None
  dilation: tuple[int, ...] | None = None
  padding: str | Sequence[tuple[int, int]] = 'SAME'
  groups: int = 1
  use_bias: bool = True
  kernel_init: nn.initializers.Initializer = default_kernel_init
  dtype: DTypeLike = jnp.float32

  def setup(self):
    spatial = tuple(
        'kernel' if i == 0 else f'kernel_{i}'
        for i in range(len(self.kernel_size))
    )
    self.kernel = partitioning.param_with_axes(
        'kernel',
        self.kernel_init,
        (*self.kernel_size, self.in_features // self.groups, self.features),
        axes=(*spatial, 'in_channels', 'channels'),
    )
    if self.use_bias:
      self.bias = partitioning.param_with_axes(
          'bias', nn.initializers.zeros, (self.features,), axes=('channels',)
      )

  def __call__(self, x: Float[Array, 'b *s i']) -> Float[Array, 'b *t o']:
    return self.convolve(x, self.padding)

  def convolve(
      self, x: Float[Array, 'b *s i'], padding: str | Sequence[tuple[int, int]]
  ) -> Float[Array, 'b *t o']:
    """Applies the convolution with padding other than the attribute."""
    ones = (1,) * len(self.kernel_size)
    spatial = 'HW'[: len(self.kernel_size)]
    y = jax.lax.conv_general_dilated(
        x.astype(self.dtype),
        self.kernel.astype(self.dtype),
        window_strides=self.strides or ones,
        padding=padding,
        rhs_dilation=self.dilation or ones,
        dimension_numbers=(f'N{spatial}C', f'{spatial}IO', f'N{spatial}C'),
        feature_group_count=self.groups,
    )
    return y + self.bias.astype(self.dtype) if self.use_bias else y


def normalize(x: Float[Array, '*batch d']) -> Float[Array, '*batch d']:
  """Scales vectors to unit length, in float32; zero vectors stay zero."""
  x = x.astype(jnp.float32)
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(square + 1e-12)


class GatedMlp(nn.Module):
  """A feed-forward network with a gated GELU (arXiv 2002.05202), no biases.

  Attributes:
    features: Size of the last axis of input and output.
    hidden: Size of the hidden layer.
    dtype: Data type of the arithmetic.
  """

  features: int
  hidden: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    def dense(in_features, features, axes):
      return Dense(
          in_features, features, axes, use_bias=False, dtype=self.dtype
      )

    self.gate = dense(self.features, self.hidden, ('embed', 'mlp'))
    self.up = dense(self.features, self.hidden, ('embed', 'mlp'))
    self.down = dense(self.hidden, self.features, ('mlp', 'embed'))

  def __call__(self, x: Float[Array, '*batch d']) -> Float[Array, '*batch d']:
    # In float32, because CPUs round after every bfloat16 operation.
    gate, up = (y(x).astype(jnp.float32) for y in (self.gate, self.up))
    return self.down(nn.gelu(gate) * up)


class Attention(nn.Module):
  """Bidirectional multi-head self-attention.

  Attributes:
    features: Size of the last axis of input and output.
    num_heads: Attention heads.
    head_dim: Size of a head; features // num_heads if None.
    dtype: Data type of the arithmetic; the softmax is float32.
  """

  features: int
  num_heads: int
  head_dim: int | None = None
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.head_size = self.head_dim or self.features // self.num_heads
    joined = self.num_heads * self.head_size

    def project():
      return Dense(self.features, joined, ('embed', 'heads'), dtype=self.dtype)

    self.query, self.key, self.value = project(), project(), project()
    self.out = Dense(
        joined, self.features, ('heads', 'embed'), dtype=self.dtype
    )

  def __call__(
      self,
      x: Float[Array, 'b t d'],
      bias: Array | None = None,
      mask: Array | None = None,
  ) -> Float[Array, 'b t d']:
    """Attends from every position to every position.

    Args:
      x: [batch, length, features].
      bias: Added to the logits; broadcasts to [batch, heads, length, length].
      mask: [batch, length] bool, False where a key is padding.

    Returns:
      [batch, length, features].
    """
    split = lambda y: y.reshape(*y.shape[:-1], self.num_heads, self.head_size)
    query, key, value = (
        split(project(x)) for project in (self.query, self.key, self.value)
    )
    logits = (
        products.einsum('bqnh,bknh->bnqk', query, key, self.dtype, jnp.float32)
        * self.head_size**-0.5
    )
    if bias is not None:
      logits += bias
    if mask is not None:
      logits = jnp.where(mask[:, None, None, :], logits, -1e9)
    weights = jax.nn.softmax(logits).astype(self.dtype)
    y = products.einsum('bnqk,bknh->bqnh', weights, value, self.dtype)
    return self.out(y.reshape(*y.shape[:2], -1))
