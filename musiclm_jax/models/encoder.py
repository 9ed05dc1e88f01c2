"""The layer of the transformers that encode spectrograms."""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from musiclm_jax.models import layers


class EncoderLayer(nn.Module):
  """A pre-norm transformer layer: self-attention, then feed-forward.

  Attributes:
    features: Width of the residual stream.
    mlp_dim: Width of the feed-forward layer.
    num_heads: Attention heads.
    head_dim: Size of a head; features // num_heads if None.
    dropout_rate: Dropout rate of the output of each sublayer.
    dtype: Data type of the arithmetic.
  """

  features: int
  mlp_dim: int
  num_heads: int
  head_dim: int | None = None
  dropout_rate: float = 0.0
  dtype: DTypeLike = jnp.float32

  def setup(self):
    self.attention_norm = layers.LayerNorm(self.features, dtype=self.dtype)
    self.attention = layers.Attention(
        self.features, self.num_heads, self.head_dim, self.dtype
    )
    self.mlp_norm = layers.LayerNorm(self.features, dtype=self.dtype)
    self.mlp_in = layers.Dense(
        self.features, self.mlp_dim, ('embed', 'mlp'), dtype=self.dtype
    )
    self.mlp_out = layers.Dense(
        self.mlp_dim, self.features, ('mlp', 'embed'), dtype=self.dtype
    )
    self.dropout = nn.Dropout(self.dropout_rate)

  def __call__(
      self, x: Float[Array, 'b l d'], deterministic: bool
  ) -> Float[Array, 'b l d']:
    y = self.attention(self.attention_norm(x))
    x = x + self.dropout(y, deterministic=deterministic)
    y = self.mlp_in(self.mlp_norm(x))
    y = self.mlp_out(jax.nn.gelu(y, approximate=False))
    return x + self.dropout(y, deterministic=deterministic)
