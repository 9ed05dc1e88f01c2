"""The audio spectrogram transformer (arXiv 2104.01778)."""

import dataclasses

from flax import linen as nn
from flax.linen import partitioning
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from musiclm_jax.models import encoder
from musiclm_jax.models import layers


@dataclasses.dataclass(frozen=True)
class AstConfig:
  """Sizes of a spectrogram transformer; those of ViT-B by default.

  Attributes:
    num_mels: Mel bands of the spectrogram.
    patch_size: Size of a patch, in frames and in mel bands.
    stride: Step between patches, in frames and in mel bands; they overlap.
    num_layers: Transformer layers.
    num_heads: Attention heads.
    embed_dim: Width of the residual stream.
    mlp_dim: Width of the feed-forward layers.
    dropout_rate: Dropout rate of the output of each layer.
  """

  num_mels: int = 128
  patch_size: int = 16
  stride: int = 10
  num_layers: int = 12
  num_heads: int = 12
  embed_dim: int = 768
  mlp_dim: int = 3072
  dropout_rate: float = 0.1

  @property
  def out_dim(self) -> int:
    return self.embed_dim

  def num_patches(self, num_frames: int) -> int:
    """Returns the number of patches in a spectrogram of `num_frames`."""
    along = [
        (size - self.patch_size) // self.stride + 1
        for size in (num_frames, self.num_mels)
    ]
    return along[0] * along[1]


class Ast(nn.Module):
  """An audio tower: a transformer over the patches of a spectrogram.

  Attributes:
    config: Sizes.
    num_frames: Frames of each spectrogram.
    dtype: Data type of the arithmetic.
  """

  config: AstConfig
  num_frames: int
  dtype: DTypeLike = jnp.float32

  def setup(self):
    c = self.config
    self.patches = layers.Conv(
        1,
        c.embed_dim,
        kernel_size=(c.patch_size, c.patch_size),
        strides=(c.stride, c.stride),
        padding='VALID',
        dtype=self.dtype,
    )
    init = nn.initializers.normal(stddev=0.02)
    self.start = partitioning.param_with_axes(
        'start', init, (c.embed_dim,), axes=('embed',)
    )
    self.positions = partitioning.param_with_axes(
        'positions',
        init,
        (1 + c.num_patches(self.num_frames), c.embed_dim),
        axes=('length', 'embed'),
    )
    self.dropout = nn.Dropout(c.dropout_rate)
    self.layers = [
        encoder.EncoderLayer(
            c.embed_dim,
            c.mlp_dim,
            c.num_heads,
            dropout_rate=c.dropout_rate,
            dtype=self.dtype,
        )
        for _ in range(c.num_layers)
    ]
    self.norm = layers.LayerNorm(c.embed_dim, dtype=self.dtype)

  def __call__(
      self, log_mel: Float[Array, 'b t m'], deterministic: bool = True
  ) -> Float[Array, 'b d']:
    """Returns the [batch, embed_dim] output at the first position, [CLS]."""
    patches = self.patches(log_mel[..., jnp.newaxis])
    batch, dim = patches.shape[0], patches.shape[-1]
    start = jnp.broadcast_to(self.start, (batch, 1, dim)).astype(self.dtype)
    x = jnp.concatenate([start, patches.reshape(batch, -1, dim)], axis=1)
    x = x + self.positions.astype(self.dtype)
    x = self.dropout(x, deterministic=deterministic)
    for layer in self.layers:
      x = layer(x, deterministic)
    return self.norm(x[:, 0])
