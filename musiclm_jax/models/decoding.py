"""Runs a trained stage position by position, on weights packed for speed.

The same numbers as `transformer.StageTransformer`, in plain functions of a
tree of weights: rows are few here, so a step takes as long as reading every
weight, and as much of the cache as is filled. Matrices are [out, in].

One program serves any position: the cache has a fixed size, in blocks, and a
step loops over those that hold something. Layers are looped over, too, but on
accelerators, where a loop would copy the weights of each.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.models import conditions
from musiclm_jax.models import matvec
from musiclm_jax.models import transformer
import numpy as np

# Without the first, XLA copies the whole cache at every step on CPUs; without
# the second, it uses half of the widest vector instructions.
_CPU_OPTIONS = {
    'xla_cpu_copy_insertion_use_region_analysis': True,
    'xla_cpu_prefer_vector_width': 512,
}

# Positions that are attended to, and filled, at once. Accelerators start small
# programs more slowly than they read a whole cache, which is one block there.
BLOCK = 256
# The length of a cache is a multiple of this, and so is the part of it that a
# softmax is of: each is compiled.
LENGTH_STEP = 512
BATCH_AXIS = 2  # Of the arrays of a cache.

Weights = dict[str, Any]
KeysValues = tuple[jax.Array, jax.Array]
# Keys [layers, blocks, batch, heads, head_dim, BLOCK] and values [layers,
# blocks, batch, heads, BLOCK, head_dim] of the positions so far, for each group
# of layers. What lies next to each other is worked on together.
Cache = list[KeysValues]

# An index that may count from the end would take a kernel of its own.
_slice = functools.partial(
    jax.lax.dynamic_slice_in_dim, allow_negative_indices=False
)
_put = functools.partial(
    jax.lax.dynamic_update_slice_in_dim, allow_negative_indices=False
)


def compiler_options() -> dict[str, Any] | None:
  """Returns the options with which `jax.jit` of a loop of steps is fast."""
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
    A tree of NumPy arrays; layers are stacked.

  Raises:
    UserError: If there is no such dtype.
  """
  if dtype not in matvec.DTYPES:
    raise errors.UserError(
        f"dtype must be one of {matvec.DTYPES}, but is '{dtype}'."
    )
  layers = [params[f'layers_{i}'] for i in range(config.num_layers)]
  size = _group_size(config)
  groups = [layers[i : i + size] for i in range(0, len(layers), size)]
  biases = [k for k in ('position_bias', 'frame_bias') if k in params]
  embedding = np.asarray(params['token_embed']['embedding'])
  return {
      'embed': embedding.astype(_vector_dtype(dtype)),
      'layers': [_pack_layers(group, dtype) for group in groups],
      'final_norm': np.asarray(params['final_norm']['scale']),
      'head': matvec.pack(np.asarray(params['head']), dtype),
      **{k: np.asarray(params[k]) for k in biases},
  }


def _group_size(config: transformer.TransformerConfig) -> int:
  """Returns how many layers are looped over; the groups are unrolled."""
  return config.num_layers if jax.default_backend() == 'cpu' else 1


def _pack_layers(layers: Sequence[Any], dtype: str) -> Weights:
  """Stacks layers."""

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


def empty(
    config: transformer.TransformerConfig, dtype: str, rows: int, length: int
) -> Cache:
  """Returns a cache with nothing in it.

  Args:
    config: Sizes.
    dtype: Type of the matrices, see `pack`.
    rows: Sequences side by side.
    length: Positions that there is room for; a multiple of LENGTH_STEP.
  """
  block = BLOCK if jax.default_backend() == 'cpu' else length
  size = _group_size(config)
  shape = size, length // block, rows, config.num_heads
  zeros = lambda *last: matvec.store(
      jnp.zeros((*shape, *last), _vector_dtype(dtype))
  )
  return [
      (zeros(config.head_dim, block), zeros(block, config.head_dim))
      for _ in range(0, config.num_layers, size)
  ]


def _vector_dtype(dtype: str) -> Any:
  return jnp.float32 if dtype == 'float32' else jnp.bfloat16


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
  """Returns the embeddings that are added to each position.

  Args:
    weights: From `pack`.
    config: Sizes.
    stage: A stage that adds streams.
    ids: [batch, frames, quantizers] ids of each of these.
    token_frames: Frames of the whole sequence, from `positions.frames`.
  """
  embed = functools.partial(_embed, weights, config)
  return conditions.add_up(embed, ids, stage, token_frames)


def prefill(
    weights: Weights,
    config: transformer.TransformerConfig,
    ids: Int[Array, 'b length'],
    first: Int[Array, ''] | int,
    stop: Int[Array, ''] | int,
    token_frames: Int[Array, ' frames'],
    cache: Cache,
    added: Float[Array, 'b length d'] | None = None,
) -> Cache:
  """Runs known positions of a sequence, BLOCK of them at once.

  Args:
    weights: From `pack`.
    config: Sizes.
    ids: [batch, length] ids that the positions read: 0, then the sequence. As
      long as the cache.
    first: Positions that are in the cache already, rounded up to blocks.
    stop: Position to run to; those behind it in its block are filled with what
      is to be overwritten.
    token_frames: Frames of the whole sequence, from `positions.frames`.
    cache: Keys and values so far.
    added: Embeddings added to each position, as long as the cache; from
      `add_up`.

  Returns:
    The cache with these positions in it.
  """

  def run(i, cache):
    start = i * BLOCK
    block = _slice(ids, start, BLOCK, 1)
    return _extend(weights, config, block, start, token_frames, cache, added)[1]

  blocks = lambda position: (position + BLOCK - 1) // BLOCK
  return jax.lax.fori_loop(blocks(first), blocks(stop), run, cache)


def step(
    weights: Weights,
    config: transformer.TransformerConfig,
    ids: Int[Array, ' b'],
    position: Int[Array, ''],
    token_frames: Int[Array, ' frames'],
    quantizer: Int[Array, ''],
    cache: Cache,
    added: Float[Array, 'b length d'] | None = None,
) -> tuple[Float[Array, 'b c'], Cache]:
  """Runs one position, after all before it.

  Args:
    weights: From `pack`.
    config: Sizes.
    ids: [batch] ids that the position reads: those of the token before.
    position: Index in the sequence of the token that it predicts.
    token_frames: Frames of the whole sequence, from `positions.frames`.
    quantizer: Quantizer of the token that it predicts.
    cache: Keys and values of all positions before, and room for this one.
    added: See `prefill`.

  Returns:
    [batch, codes] float32 logits, and the cache with this position in it.
  """
  x, cache = _extend(
      weights, config, ids[:, None], position, token_frames, cache, added
  )
  head = {**weights['head'], 'index': quantizer}
  x = _norm(x[:, 0], weights['final_norm'])
  return matvec.multiply(x, head), cache


def _extend(
    weights: Weights,
    config: transformer.TransformerConfig,
    ids: Int[Array, 'b t'],
    start: Int[Array, ''],
    token_frames: Int[Array, ' frames'],
    cache: Cache,
    added: Float[Array, 'b length d'] | None,
) -> tuple[Float[Array, 'b t d'], Cache]:
  """Runs positions [start, start + t), all within one block of the cache."""
  # Else XLA would take apart the weights ahead of a loop, at twice the memory.
  weights, ids = jax.lax.optimization_barrier((weights, ids))
  keys, dtype = cache[0][0], weights['embed'].dtype
  length = keys.shape[1] * keys.shape[-1]
  tables = weights['position_bias'], weights.get('frame_bias')
  index = start + jnp.arange(ids.shape[1])

  def bias_to(size):
    keys = jnp.arange(size)
    bias = transformer.attention_bias(config, tables, index, keys, token_frames)
    return _pad(bias, length, transformer.MASKED)

  bias = _for_size(keys, start + len(index), bias_to)

  def run(layers, i, carry):
    (x, cache), layer = carry, _take(layers, i)
    y, new = _attend(x, layer, config, cache, start, bias, i)
    x = x + y
    cache = _write(cache, [y.astype(dtype) for y in new], start, i)
    return x + _mlp(x, layer), cache

  x = _embed(weights, config, ids)
  if added is not None:
    x += _slice(added, start, ids.shape[1], 1)
  filled, traced = [], jax.jit(run)  # Traced once, as groups are alike.
  for layers, group in zip(weights['layers'], cache, strict=True):
    body = functools.partial(traced, layers)
    x, group = _for_each(len(group[0]), body, (x, group))
    filled.append(group)
  return x, filled


def _for_each(count: Any, body: Callable[..., Any], carry: Any) -> Any:
  """Loops; not where it is known that there is one turn."""
  if isinstance(count, int) and count == 1:
    return body(0, carry)
  return jax.lax.fori_loop(0, count, body, carry)


def _take(layers: Weights, index: Int[Array, '']) -> Weights:
  """Returns one of the stacked layers; its matrices are left where they are."""
  take = lambda w: (
      {**w, 'index': index}
      if isinstance(w, dict)
      else _slice(w, index, 1, 0)[0]
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
    cache: KeysValues,
    start: Int[Array, ''],
    bias: Float[Array, '1 n t s'],
    index: Int[Array, ''],
) -> tuple[Float[Array, 'b t d'], KeysValues]:
  """Attends from some positions to those in the cache and to each other.

  Returns:
    The sum of each position, and their keys and values.
  """
  query, key, value = _project(x, layer, config)
  new = key.swapaxes(2, 3), value
  mix = _mix_for_one if x.shape[1] == 1 else _mix_for_many
  y = mix(query, new, cache, start, bias, index)
  y = y.swapaxes(1, 2).reshape(*x.shape[:2], -1)
  return _multiply(y, layer['out']), new


def _mix_for_many(
    query: Float[Array, 'b n t h'],
    new: KeysValues,
    cache: KeysValues,
    start: Int[Array, ''],
    bias: Float[Array, '1 n t s'],
    index: Int[Array, ''],
) -> Float[Array, 'b n t h']:
  """Returns the mean of values by how well keys match, for many queries."""
  keys, values = (matvec.restore(_slice(x, index, 1, 0)[0]) for x in cache)

  def mix(size):
    blocks = max(1, size // keys.shape[-1])
    key = jnp.moveaxis(keys[:blocks], 0, -2)
    key = key.reshape(*key.shape[:-2], -1)[..., :size]
    key = _put(key, new[0].astype(key.dtype), start, 3)
    value = jnp.moveaxis(values[:blocks], 0, -3)
    value = value.reshape(*value.shape[:2], -1, value.shape[-1])[:, :, :size]
    value = _put(value, new[1].astype(value.dtype), start, 2)
    logits = _dot('bnth,bnhs->bnts', query, key) + bias[..., :size]
    return _dot('bnts,bnsh->bnth', jax.nn.softmax(logits), value)

  return _for_size(cache[0], start + query.shape[2], mix)


def _dot(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
  x = x.astype(y.dtype)
  return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


def _mix_for_one(
    query: Float[Array, 'b n 1 h'],
    new: KeysValues,
    cache: KeysValues,
    start: Int[Array, ''],
    bias: Float[Array, '1 n 1 s'],
    index: Int[Array, ''],
) -> Float[Array, 'b n 1 h']:
  """Returns what `_mix_for_many` does, for one query, block by block."""
  query, bias = query[:, :, 0], bias[:, :, 0]
  key, value = new[0][..., 0], new[1][:, :, 0]
  keys, values = cache
  num_blocks, block = keys.shape[1], keys.shape[-1]
  filled = 1 if num_blocks == 1 else (start + block - 1) // block
  is_here = jnp.arange(num_blocks * block) == start

  # Each loop writes what it finds into room of its own: one kernel a block.
  def score(i, logits):
    found = matvec.multiply_each(query, keys, (index, i))
    return _put(logits, found[:, :, 0], i * block, 2)

  def mix(i, parts):
    share = _slice(shares, i * block, block, 2)
    found = matvec.multiply_each(share, values, (index, i), matvec.TERMS)
    return _put(parts, found, i * found.shape[2], 2)

  def softmax(size):
    shares = jax.nn.softmax(logits[..., :size])
    return _pad(shares, logits.shape[-1], 0.0)

  # To write first and attend after would copy the cache, at every step.
  logits = jnp.full((len(query), *bias.shape[1:]), transformer.MASKED)
  logits = _for_each(filled, score, logits)
  here = jnp.sum(query * key, axis=-1, keepdims=True)
  logits = jnp.where(is_here, here, logits) + bias
  shares = _for_size(keys, start + 1, softmax)
  here = _slice(shares, start, 1, 2)
  shares = jnp.where(is_here, 0, shares)
  chunks = num_blocks * matvec.num_chunks(block)
  parts = jnp.zeros((*query.shape[:2], chunks, query.shape[2]))
  parts = _for_each(filled, mix, parts)
  # Slices, as a sum over the axis would add in another order.
  y = functools.reduce(jnp.add, [parts[:, :, i] for i in range(chunks)])
  return (y + here * value)[:, :, None]


def _for_size(
    keys: jax.Array, end: Int[Array, ''], function: Callable[[int], jax.Array]
) -> jax.Array:
  """Returns function(size), of a multiple of LENGTH_STEP from `end` on."""
  num_blocks, block = keys.shape[1], keys.shape[-1]
  length = num_blocks * block
  if num_blocks == 1:
    return function(length)
  sizes = range(LENGTH_STEP, length + 1, LENGTH_STEP)
  branches = [functools.partial(function, size) for size in sizes]
  return jax.lax.switch((end - 1) // LENGTH_STEP, branches)


def _pad(x: jax.Array, length: int, value: float) -> jax.Array:
  padding = [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])]
  return jnp.pad(x, padding, constant_values=value)


def _write(
    cache: KeysValues,
    new: Sequence[jax.Array],
    start: Int[Array, ''],
    layer: Int[Array, ''],
) -> KeysValues:
  """Writes the keys and values of some positions, from `start` on."""
  block, place = jnp.divmod(start, cache[0].shape[-1])
  key, value = (matvec.store(y)[None, None] for y in new)
  zero = jnp.zeros_like(start)
  write = functools.partial(
      jax.lax.dynamic_update_slice, allow_negative_indices=False
  )
  return (
      write(cache[0], key, [layer, block, zero, zero, zero, place]),
      write(cache[1], value, [layer, block, zero, zero, place, zero]),
  )
