"""The BERT encoder (arXiv 1810.04805): the text tower of MuLan."""

import dataclasses

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax.models import layers
from musiclm_jax.models import wordpiece

POOLINGS = ('cls', 'mean')


@dataclasses.dataclass(frozen=True)
class BertConfig:
  """Sizes of a BERT encoder; BERT-base by default.

  Attributes:
    vocab_size: Number of word pieces.
    num_layers: Transformer layers.
    num_heads: Attention heads.
    embed_dim: Width of the residual stream.
    mlp_dim: Width of the feed-forward layers.
    max_length: Most word pieces in a text, [CLS] and [SEP] included.
    dropout_rate: Dropout rate of the output of each layer.
    pooling: Output that represents a text: the first ('cls') or the 'mean'.
  """

  vocab_size: int = 30522
  num_layers: int = 12
  num_heads: int = 12
  embed_dim: int = 768
  mlp_dim: int = 3072
  max_length: int = 512
  dropout_rate: float = 0.1
  pooling: str = 'cls'

  def __post_init__(self):
    if self.pooling not in POOLINGS:
      raise errors.UserError(
          f"pooling must be one of {POOLINGS}, but is '{self.pooling}'."
      )

  @property
  def table_size(self) -> int:
    """Rows of the embedding table: a multiple of 128, so that it shards."""
    return -(-self.vocab_size // 128) * 128


class BertLayer(nn.Module):
  """A post-norm transformer layer: self-attention, then feed-forward.

  Attributes:
    config: Sizes.
    dtype: Data type of the arithmetic.
  """

  config: BertConfig
  dtype: DTypeLike = jnp.float32

  def setup(self):
    c = self.config
    self.attention = layers.Attention(
        c.embed_dim, c.num_heads, dtype=self.dtype
    )
    self.attention_norm = _norm(c, self.dtype)
    self.mlp_in = layers.Dense(
        c.embed_dim, c.mlp_dim, ('embed', 'mlp'), dtype=self.dtype
    )
    self.mlp_out = layers.Dense(
        c.mlp_dim, c.embed_dim, ('mlp', 'embed'), dtype=self.dtype
    )
    self.mlp_norm = _norm(c, self.dtype)
    self.dropout = nn.Dropout(c.dropout_rate)

  def __call__(
      self,
      x: Float[Array, 'b l d'],
      mask: Array,
      deterministic: bool,
  ) -> Float[Array, 'b l d']:
    y = self.attention(x, mask=mask)
    x = self.attention_norm(x + self.dropout(y, deterministic=deterministic))
    y = self.mlp_out(jax.nn.gelu(self.mlp_in(x), approximate=False))
    return self.mlp_norm(x + self.dropout(y, deterministic=deterministic))


class Bert(nn.Module):
  """Encodes word pieces and pools the outputs of the last layer.

  All tokens have type 0, whose embedding is merged into those of the positions.

  Attributes:
    config: Sizes.
    dtype: Data type of the arithmetic.
  """

  config: BertConfig
  dtype: DTypeLike = jnp.float32

  def setup(self):
    c = self.config
    self.tokens = layers.Embed(c.table_size, c.embed_dim, dtype=self.dtype)
    self.positions = partitioning.param_with_axes(
        'positions',
        nn.initializers.normal(stddev=0.02),
        (c.max_length, c.embed_dim),
        axes=('length', 'embed'),
    )
    self.norm = _norm(c, self.dtype)
    self.dropout = nn.Dropout(c.dropout_rate)
    self.layers = [BertLayer(c, self.dtype) for _ in range(c.num_layers)]

  def encode(
      self, ids: Int[Array, 'b l'], deterministic: bool = True
  ) -> Float[Array, 'b l d']:
    """Returns the [batch, length, embed_dim] outputs of the last layer."""
    mask = ids != wordpiece.PADDING_ID
    positions = self.positions[: ids.shape[1]].astype(self.dtype)
    x = self.norm(self.tokens(ids) + positions)
    x = self.dropout(x, deterministic=deterministic)
    for layer in self.layers:
      x = layer(x, mask, deterministic)
    return x

  def __call__(
      self, ids: Int[Array, 'b l'], deterministic: bool = True
  ) -> Float[Array, 'b d']:
    """Encodes a batch of texts.

    Args:
      ids: [batch, length] word pieces, at most `max_length`; 0 is padding.
      deterministic: Whether to leave out dropout.

    Returns:
      [batch, embed_dim], one vector for each text.
    """
    x = self.encode(ids, deterministic)
    if self.config.pooling == 'cls':
      return x[:, 0]
    mask = (ids != wordpiece.PADDING_ID)[..., jnp.newaxis]
    total = jnp.sum(jnp.where(mask, x, 0), axis=1, dtype=jnp.float32)
    # t5x evaluates rows of padding alone, whose mean would divide by 0.
    count = jnp.maximum(jnp.sum(mask, axis=1), 1)
    return (total / count).astype(x.dtype)


def _norm(config: BertConfig, dtype: DTypeLike) -> layers.LayerNorm:
  return layers.LayerNorm(config.embed_dim, epsilon=1e-12, dtype=dtype)
