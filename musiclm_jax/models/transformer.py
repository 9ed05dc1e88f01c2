"""The decoder-only transformer of every stage (MusicLM 4.1, AudioLM 4.2)."""

import dataclasses
from typing import Any

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.models import conditions
from musiclm_jax.models import layers
from musiclm_jax.models import patterns
from musiclm_jax.models import positions
from musiclm_jax.models import products

MASKED = -1e9  # Added to the logits of keys that must not be seen.

# Recomputes nothing; all of a layer but its dense products; all of a layer.
REMATS = ('none', 'dots', 'full')


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Sizes of a stage's network.

  Attributes:
    num_layers: Transformer layers.
    num_heads: Attention heads.
    head_dim: Size of a head.
    embed_dim: Width of the residual stream.
    mlp_dim: Hidden size of the gated feed-forward networks.
    dropout: Dropout rate of the embeddings and of the output of each block.
    num_buckets: Number of buckets in T5's relative position bias.
    max_distance: Distance beyond which all share a bucket.
    frame_bias: Whether attention also has a bias by distance in time (ours). It
      initially favours what is near, and so aligns streams of different rates
      at once; with positions alone, a large model learns this in many steps.
    remat: What the backward pass recomputes to save memory, see REMATS.
    scan_layers: Whether layers run in a loop over stacked parameters, which
      compiles as fast as a single one, but is slower on CPUs.
    dtype: Data type of the arithmetic; parameters, norms and softmax are
      float32.
  """

  num_layers: int
  num_heads: int
  head_dim: int
  embed_dim: int
  mlp_dim: int
  dropout: float = 0.1
  num_buckets: int = 32
  max_distance: int = 1024
  frame_bias: bool = False
  remat: str | bool = 'none'
  scan_layers: bool = False
  dtype: str = 'float32'

  def __post_init__(self):
    if isinstance(self.remat, bool):  # Older files have it so.
      object.__setattr__(self, 'remat', 'full' if self.remat else 'none')
    if self.remat not in REMATS:
      raise errors.UserError(
          f"remat must be one of {REMATS}, but is '{self.remat}'."
      )


class Attention(nn.Module):
  """Multi-head self-attention, in pieces that a key-value cache can reuse.

  Attributes:
    config: Sizes.
  """

  config: TransformerConfig

  def setup(self):
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    joined = c.num_heads * c.head_dim
    # Heads outermost, so that sharding them keeps each one's q, k, v together.
    self.qkv = layers.Dense(
        c.embed_dim, 3 * joined, ('embed', 'heads'), use_bias=False, dtype=dtype
    )
    self.out = layers.Dense(
        joined, c.embed_dim, ('heads', 'embed'), use_bias=False, dtype=dtype
    )

  def project(
      self, x: Float[Array, 'b t d']
  ) -> tuple[
      Float[Array, 'b t n h'], Float[Array, 'b t n h'], Float[Array, 'b t n h']
  ]:
    """Returns queries, keys and values, [batch, length, heads, head_dim]."""
    c = self.config
    qkv = self.qkv(x).reshape(*x.shape[:2], c.num_heads, 3, c.head_dim)
    return qkv[..., 0, :] * c.head_dim**-0.5, qkv[..., 1, :], qkv[..., 2, :]

  def attend(
      self,
      query: Float[Array, 'b t n h'],
      key: Float[Array, 'b s n h'],
      value: Float[Array, 'b s n h'],
      bias: Float[Array, '#b #n #t s'],
      padding: Float[Array, 'b 1 1 s'] | None = None,
  ) -> Float[Array, 'b t d']:
    """Computes the output of attention, with the softmax in float32.

    Not `jax.nn.dot_product_attention`, which is slower on CPUs, and whose cuDNN
    version has no gradient for a bias beside a mask.

    Args:
      query: [batch, length, heads, head_dim].
      key: [batch, keys, heads, head_dim].
      value: [batch, keys, heads, head_dim].
      bias: Added to the logits.
      padding: Added to the logits, too; MASKED where a row has no key.

    Returns:
      [batch, length, embed].
    """
    dtype = self.config.dtype
    logits = products.einsum('btnh,bsnh->bnts', query, key, dtype, jnp.float32)
    logits += bias
    if padding is not None:
      logits += padding
    weights = jax.nn.softmax(logits)
    y = products.einsum('bnts,bsnh->btnh', weights, value, dtype)
    return self.out(y.reshape(*y.shape[:2], -1))


class Layer(nn.Module):
  """A transformer layer: attention, then feed-forward, each added to its input.

  Attributes:
    config: Sizes.
  """

  config: TransformerConfig

  def setup(self):
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    self.attention_norm = layers.RMSNorm(c.embed_dim, dtype=dtype)
    self.attention = Attention(c)
    self.mlp_norm = layers.RMSNorm(c.embed_dim, dtype=dtype)
    self.mlp = layers.GatedMlp(c.embed_dim, c.mlp_dim, dtype=dtype)
    self.dropout = nn.Dropout(c.dropout)

  def __call__(
      self,
      x: Float[Array, 'b t d'],
      bias: Float[Array, '#b #n t t'],
      padding: Float[Array, 'b 1 1 t'] | None = None,
      train: bool = False,
  ) -> Float[Array, 'b t d']:
    qkv = self.attention.project(self.attention_norm(x))
    y = self.attention.attend(*qkv, bias, padding)
    x = x + self.dropout(y, deterministic=not train)
    y = self.mlp(self.mlp_norm(x))
    x = x + self.dropout(y, deterministic=not train)
    return nn.with_logical_constraint(x, ('batch', 'length', 'embed'))


class _LoopLayer(Layer):
  """A layer with the return values of the body of a loop."""

  def __call__(self, x, bias, padding, train):
    return super().__call__(x, bias, padding, train), None


def _rematted(layer: type[nn.Module], config: TransformerConfig) -> Any:
  if config.remat == 'none':
    return layer
  policy = None
  if config.remat == 'dots':
    policy = jax.checkpoint_policies.save_only_these_names(layers.DENSE)
  # In a loop, XLA does not merge the two computations anyway.
  return nn.remat(
      layer,
      policy=policy,
      prevent_cse=not config.scan_layers,
      static_argnums=(4,),
  )


def _scanned(config: TransformerConfig) -> nn.Module:
  """Returns all layers as a loop over parameters with a leading 'layers'."""
  loop = partitioning.scan_with_axes(
      _rematted(_LoopLayer, config),
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=(nn.broadcast, nn.broadcast, nn.broadcast),
      length=config.num_layers,
      axis_name='layers',
  )
  return loop(config)


def attention_bias(
    config: TransformerConfig,
    tables: tuple[Float[Array, 'n k'], Float[Array, 'n k'] | None],
    query_positions: Int[Array, ' t'],
    key_positions: Int[Array, ' s'],
    token_frames: Int[Array, ' length'],
) -> Float[Array, '1 n t s']:
  """Computes the bias of the attention logits, which all layers share.

  Args:
    config: Sizes.
    tables: [heads, buckets] by position and, if the config has them, by frame.
    query_positions: Positions in the sequence that attend.
    key_positions: Positions that are attended to.
    token_frames: Frames of all positions, from `positions.frames`.

  Returns:
    [1, heads, queries, keys] biases by distance; MASKED for later keys.
  """
  c, (position_bias, frame_bias) = config, tables
  relative = key_positions[None, :] - query_positions[:, None]
  bias = position_bias[
      :, positions.relative_buckets(relative, c.num_buckets, c.max_distance)
  ]
  if frame_bias is not None:
    # A query has the frame it predicts, a key the frame it has read.
    read = jnp.pad(token_frames, (1, 0), constant_values=positions.NO_FRAME)
    query, key = token_frames[query_positions], read[key_positions]
    buckets = positions.relative_buckets(
        key[None, :] - query[:, None], c.num_buckets, c.max_distance, True
    )
    timed = (key[None, :] != positions.NO_FRAME) & (
        query[:, None] != positions.NO_FRAME
    )
    bias += jnp.where(timed, frame_bias[:, buckets], 0)
  return jnp.where(relative <= 0, bias, MASKED)[None]


def num_rows(stage: streams.Stage) -> int:
  """Returns the number of rows of a stage's embedding table.

  Accelerators tile by 128, and shards must be of equal size.
  """
  return -(-stage.vocab_size // 128) * 128


def abstract_params(
    config: TransformerConfig, stage: streams.Stage
) -> dict[str, Any]:
  """Returns the shapes of a stage's parameters, with layers unstacked."""
  # Layers are alike, and tracing each takes time.
  one = dataclasses.replace(config, num_layers=1, scan_layers=False)
  ids = [
      jax.ShapeDtypeStruct((1, length), jnp.int32)
      for length in stage.feature_lengths.values()
  ]
  module = StageTransformer(one, stage)
  params = jax.eval_shape(module.init, jax.eval_shape(jax.random.key, 0), *ids)[
      'params'
  ]
  layer = params.pop('layers_0')
  return params | {f'layers_{i}': layer for i in range(config.num_layers)}


class StageTransformer(nn.Module):
  """Predicts each target token from the inputs and the targets before it.

  The sequence is the inputs, then the targets. Position i reads the ids at
  position i - 1 (0 at the start) and predicts those at i: a token, or one of
  each quantizer, see `patterns`. Logits cover only the codes of a token's own
  quantizer. Some inputs are added to positions instead, see `conditions`.

  Attributes:
    config: Sizes.
    stage: The stage to model.
  """

  config: TransformerConfig
  stage: streams.Stage

  def setup(self):
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    self.token_embed = layers.Embed(
        num_rows(self.stage), c.embed_dim, dtype=dtype
    )
    if c.scan_layers:
      self.layers = _scanned(c)
    else:
      layer = _rematted(Layer, c)
      self.layers = [layer(c) for _ in range(c.num_layers)]
    self.final_norm = layers.RMSNorm(c.embed_dim, dtype=dtype)
    self.dropout = nn.Dropout(c.dropout)
    self.position_bias = self._bias_table(
        'position_bias', nn.initializers.normal(stddev=0.02)
    )
    if c.frame_bias:
      self.frame_bias = self._bias_table('frame_bias', positions.near_first)
    targets = self.stage.targets
    # Small, so that training starts from a uniform prediction: loss ln(codes).
    self.head = partitioning.param_with_axes(
        'head',
        nn.initializers.variance_scaling(
            0.01, 'fan_in', 'truncated_normal', -1, -2, batch_axis=(0,)
        ),
        (targets.num_quantizers, targets.codebook_size, c.embed_dim),
        axes=('quantizers', 'vocab', 'embed'),
    )

  def _bias_table(self, name, initializer):
    return partitioning.param_with_axes(
        name,
        initializer,
        (self.config.num_heads, self.config.num_buckets),
        axes=('heads', 'buckets'),
    )

  @property
  def pattern(self) -> patterns.Pattern:
    return patterns.of_stage(self.stage)

  def embed(self, ids: Int[Array, '*b']) -> Float[Array, '*b d']:
    """Returns the embeddings of ids, on the scale of the layers' outputs."""
    return self.token_embed(ids) * self.config.embed_dim**0.5

  def bias(
      self,
      query_positions: Int[Array, ' t'],
      key_positions: Int[Array, ' s'],
      token_frames: Int[Array, ' length'],
  ) -> Float[Array, '1 n t s']:
    """Returns the [1, heads, queries, keys] `attention_bias`."""
    frame_bias = self.frame_bias if self.config.frame_bias else None
    return attention_bias(
        self.config,
        (self.position_bias, frame_bias),
        query_positions,
        key_positions,
        token_frames,
    )

  def logits(self, x: Float[Array, 'b t d']) -> Float[Array, 'b f q c']:
    """Scores the codes of each token.

    Args:
      x: [batch, positions, embed] outputs of the last layer, of whole frames.

    Returns:
      [batch, frames, quantizers, codes] float32 logits.
    """
    x, dtype = self.final_norm(x), self.config.dtype
    if self.pattern.is_delayed:
      y = products.einsum('btd,qcd->btqc', x, self.head, dtype, jnp.float32)
      return jnp.asarray(self.pattern.to_frames(y))
    x = jnp.asarray(self.pattern.to_frames(x[:, :, None]))
    return products.einsum('bfqd,qcd->bfqc', x, self.head, dtype, jnp.float32)

  def __call__(
      self,
      inputs: Int[Array, 'b i'],
      targets: Int[Array, 'b t'],
      train: bool = False,
  ) -> Float[Array, 'b t c']:
    """Predicts each target from the inputs and the targets before it.

    Args:
      inputs: [batch, length] ids; 0, padding, is not attended to.
      targets: [batch, length] ids of whole frames, quantizers innermost.
      train: Whether to apply dropout; needs the rng 'dropout'.

    Returns:
      [batch, target length, codes] float32 logits.
    """
    prefix, added = conditions.split(self.stage, inputs)
    ids = self.pattern.read(prefix, targets)
    token_frames = positions.frames(
        self.stage, prefix.shape[1], targets.shape[1]
    )
    index = jnp.arange(ids.shape[1])
    bias = self.bias(index, index, jnp.asarray(token_frames))
    # The start reads 0, too, but is not padding.
    seen = jnp.any(ids != 0, axis=-1) | (index == 0)
    padding = jnp.where(seen, 0.0, MASKED)[:, None, None]
    x = patterns.add_up(self.embed, ids)
    if added:
      x += conditions.add_up(self.embed, added, self.stage, token_frames)
    x = self.dropout(x, deterministic=not train)
    # With FSDP, this makes parameters move between devices, not activations.
    x = nn.with_logical_constraint(x, ('batch', 'length', 'embed'))
    if self.config.scan_layers:
      x, _ = self.layers(x, bias, padding, train)
    else:
      for layer in self.layers:
        x = layer(x, bias, padding, train)
    logits = self.logits(x[:, prefix.shape[1] :])
    return logits.reshape(*targets.shape, -1)
