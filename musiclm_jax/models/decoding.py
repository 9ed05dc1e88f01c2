"""Runs a trained stage position by position, on weights packed for speed.

Computes the same as `transformer.StageTransformer`, in plain functions of a
tree of weights. With few rows, a step takes as long as reading all weights and
the filled part of the cache. Matrices are [out, in].

One program serves any position, see `caching`.
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.models import caching
from musiclm_jax.models import conditions
from musiclm_jax.models import matvec
from musiclm_jax.models import patterns
from musiclm_jax.models import transformer
import numpy as np

# Without the first option, XLA copies the whole cache at every step on CPUs;
# without the second, it uses half of the widest vector instructions.
_CPU_OPTIONS = {
    'xla_cpu_copy_insertion_use_region_analysis': True,
    'xla_cpu_prefer_vector_width': 512,
}

Weights = dict[str, Any]


def compiler_options() -> dict[str, Any] | None:
  """Returns the compiler options that make a decoding loop fast."""
  return _CPU_OPTIONS if jax.default_backend() == 'cpu' else None


def pack(
    params: Any, config: transformer.TransformerConfig, dtype: str
) -> Weights:
  """Lays out the parameters of a stage for `prefill` and `step`.

  Args:
    params: Parameters of `transformer.StageTransformer`, layers unstacked.
    config: Sizes.
    dtype: Type of the matrices, one of `matvec.DTYPES`. Norms, residuals and
      the softmax are float32 in any case; cache and embeddings are bfloat16
      unless this is float32.

  Returns:
    A tree of NumPy arrays, with layers stacked.

  Raises:
    UserError: If there is no such dtype.
  """
  if dtype not in matvec.DTYPES:
    raise errors.UserError(
        f"dtype must be one of {matvec.DTYPES}, but is '{dtype}'."
    )
  layers = [params[f'layers_{i}'] for i in range(config.num_layers)]
  size = caching.group_size(config)
  groups = [layers[i : i + size] for i in range(0, len(layers), size)]
  biases = [k for k in ('position_bias', 'frame_bias') if k in params]
  embedding = np.asarray(params['token_embed']['embedding'])
  return {
      'embed': embedding.astype(caching.vector_dtype(dtype)),
      'layers': [_pack_layers(group, dtype) for group in groups],
      'final_norm': np.asarray(params['final_norm']['scale']),
      'head': matvec.pack(np.asarray(params['head']), dtype),
      **{k: np.asarray(params[k]) for k in biases},
  }


def _pack_layers(layers: Sequence[Any], dtype: str) -> Weights:
  """Returns the weights of some layers, stacked."""

  def matrices(module, *names):
    kernels = [
        np.concatenate([layer[module][name]['kernel'] for name in names], 1).T
        for layer in layers
    ]
    return matvec.pack(np.stack(kernels), dtype)

  scales = lambda norm: np.stack([layer[norm]['scale'] for layer in layers])
  return {
      'attention_norm': scales('attention_norm'),
      'qkv': matrices('attention', 'qkv'),
      'out': matrices('attention', 'out'),
      'mlp_norm': scales('mlp_norm'),
      'gate_up': matrices('mlp', 'gate', 'up'),
      'down': matrices('mlp', 'down'),
  }


def _multiply(x: Float[Array, '*b i'], matrix: Any) -> Float[Array, '*b o']:
  y = matvec.multiply(x.reshape(-1, x.shape[-1]), matrix)
  return y.reshape(*x.shape[:-1], -1)


def _norm(x: Float[Array, '*b d'], scale: Float[Array, ' d']) -> jax.Array:
  mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(mean_square + 1e-6) * scale


def _embed(weights: Weights, config: Any, ids: Int[Array, '*b']) -> jax.Array:
  return weights['embed'][ids].astype(jnp.float32) * config.embed_dim**0.5


def add_up(
    weights: Weights,
    config: transformer.TransformerConfig,
    stage: streams.Stage,
    ids: conditions.Ids,
    token_frames: np.ndarray,
) -> Float[Array, 'b length d']:
  """Returns the sum of the conditions' embeddings at each position.

  Args:
    weights: From `pack`.
    config: Sizes.
    stage: A stage with added streams.
    ids: [batch, frames, quantizers] ids of each of these.
    token_frames: Frames of all positions, from `positions.frames`.
  """
  embed = functools.partial(_embed, weights, config)
  return conditions.add_up(embed, ids, stage, token_frames)


def prefill(
    weights: Weights,
    config: transformer.TransformerConfig,
    ids: Int[Array, 'b length w'],
    first: Int[Array, ''] | int,
    stop: Int[Array, ''] | int,
    token_frames: Int[Array, ' frames'],
    cache: caching.Cache,
    added: Float[Array, 'b length d'] | None = None,
) -> caching.Cache:
  """Runs known positions, block by block, to fill the cache.

  Args:
    weights: From `pack`.
    config: Sizes.
    ids: [batch, length, width] ids that the positions read: 0, then the
      sequence. As long as the cache.
    first: Number of positions that are in the cache already.
    stop: Number of positions that will be in the cache. The rest of the last
      block is filled with numbers that `step` overwrites.
    token_frames: Frames of all positions, from `positions.frames`.
    cache: Keys and values so far.
    added: Embeddings to add to each position, as long as the cache; from
      `add_up`.

  Returns:
    The cache with these positions in it.
  """

  def run(i, cache):
    start = i * caching.BLOCK
    block = caching.take(ids, start, caching.BLOCK, 1)
    return _extend(weights, config, block, start, token_frames, cache, added)[1]

  blocks = lambda position: (position + caching.BLOCK - 1) // caching.BLOCK
  return jax.lax.fori_loop(blocks(first), blocks(stop), run, cache)


def step(
    weights: Weights,
    config: transformer.TransformerConfig,
    ids: Int[Array, 'b w'],
    position: Int[Array, ''],
    token_frames: Int[Array, ' frames'],
    quantizers: Int[Array | np.ndarray, ' w'],
    cache: caching.Cache,
    added: Float[Array, 'b length d'] | None = None,
) -> tuple[Float[Array, 'b w c'], caching.Cache]:
  """Runs one position, given the cache of all before it.

  Args:
    weights: From `pack`.
    config: Sizes.
    ids: [batch, width] ids at the previous position, which this one reads.
    position: Index in the sequence of the position to predict.
    token_frames: Frames of all positions, from `positions.frames`.
    quantizers: [width] quantizer of each predicted token.
    cache: Keys and values of all earlier positions, with room for this one.
    added: See `prefill`.

  Returns:
    [batch, width, codes] float32 logits, and the cache with this position in
    it.
  """
  x, cache = _extend(
      weights, config, ids[:, None], position, token_frames, cache, added
  )
  x = _norm(x[:, 0], weights['final_norm'])
  heads = [{**weights['head'], 'index': quantizer} for quantizer in quantizers]
  return jnp.stack([matvec.multiply(x, head) for head in heads], 1), cache


def _extend(
    weights: Weights,
    config: transformer.TransformerConfig,
    ids: Int[Array, 'b t w'],
    start: Int[Array, ''],
    token_frames: Int[Array, ' frames'],
    cache: caching.Cache,
    added: Float[Array, 'b length d'] | None,
) -> tuple[Float[Array, 'b t d'], caching.Cache]:
  """Runs positions [start, start + t), all within one block of the cache."""
  # Otherwise XLA slices the weights ahead of the loop, at twice the memory.
  weights, ids = jax.lax.optimization_barrier((weights, ids))
  keys, dtype = cache[0][0], weights['embed'].dtype
  length = keys.shape[1] * keys.shape[-1]
  tables = weights['position_bias'], weights.get('frame_bias')
  index = start + jnp.arange(ids.shape[1])

  def bias_to(size):
    keys = jnp.arange(size)
    bias = transformer.attention_bias(config, tables, index, keys, token_frames)
    return caching.pad(bias, length, transformer.MASKED)

  bias = caching.for_size(keys, start + len(index), bias_to)

  def run(layers, i, carry):
    (x, cache), layer = carry, _take(layers, i)
    y, new = _attend(x, layer, config, cache, start, bias, i)
    x = x + y
    cache = caching.write(cache, [y.astype(dtype) for y in new], start, i)
    return x + _mlp(x, layer), cache

  x = patterns.add_up(functools.partial(_embed, weights, config), ids)
  if added is not None:
    x += caching.take(added, start, ids.shape[1], 1)
  filled, traced = [], jax.jit(run)  # Traced once, as groups are alike.
  for layers, group in zip(weights['layers'], cache, strict=True):
    body = functools.partial(traced, layers)
    x, group = caching.for_each(len(group[0]), body, (x, group))
    filled.append(group)
  return x, filled


def _take(layers: Weights, index: Int[Array, '']) -> Weights:
  """Returns one of the stacked layers, without copying its matrices."""
  take = lambda w: (
      {**w, 'index': index}
      if isinstance(w, dict)
      else caching.take(w, index, 1, 0)[0]
  )
  return {name: take(w) for name, w in layers.items()}


def _mlp(x: Float[Array, '*b d'], layer: Weights) -> Float[Array, '*b d']:
  y = _multiply(_norm(x, layer['mlp_norm']), layer['gate_up'])
  gate, up = jnp.split(y, 2, axis=-1)
  return _multiply(jax.nn.gelu(gate) * up, layer['down'])


def _project(
    x: Float[Array, 'b t d'], layer: Weights, config: Any
) -> Sequence[Float[Array, 'b n t h']]:
  """Returns queries, keys and values."""
  c = config
  y = _multiply(_norm(x, layer['attention_norm']), layer['qkv'])
  y = y.reshape(*x.shape[:2], c.num_heads, 3, c.head_dim)
  query, key, value = (y[..., i, :].swapaxes(1, 2) for i in range(3))
  return query * c.head_dim**-0.5, key, value


def _attend(
    x: Float[Array, 'b t d'],
    layer: Weights,
    config: transformer.TransformerConfig,
    cache: caching.KeysValues,
    start: Int[Array, ''],
    bias: Float[Array, '1 n t s'],
    index: Int[Array, ''],
) -> tuple[Float[Array, 'b t d'], caching.KeysValues]:
  """Attends from new positions to those in the cache and to each other.

  Returns:
    The output of attention, and the keys and values of the new positions.
  """
  query, key, value = _project(x, layer, config)
  new = key.swapaxes(2, 3), value
  y = caching.attend(query, new, cache, start, bias, index)
  y = y.swapaxes(1, 2).reshape(*x.shape[:2], -1)
  return _multiply(y, layer['out']), new
