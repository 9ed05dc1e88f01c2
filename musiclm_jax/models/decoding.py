"""Runs a trained stage position by position, on weights packed for speed.

The same numbers as `transformer.StageTransformer`, in plain functions of a
tree of weights: rows are few here, so a step takes as long as reading every
weight and the cache once. Matrices are [out, in].
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped
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

Weights = dict[str, Any]
# Of a layer so far: keys [batch, heads, head_dim, length] and values [batch,
# heads, length, head_dim]. What lies next to each other is worked on together.
KeyValues = tuple[jax.Array, jax.Array]
# As the layers of the weights: of each, or stacked.
Cache = list[KeyValues] | KeyValues


def compiler_options() -> dict[str, Any] | None:
  """Returns what `jax.jit` of a loop of steps must be given, to be fast."""
  return _CPU_OPTIONS if jax.default_backend() == 'cpu' else None


def pack(
    params: Any,
    config: transformer.TransformerConfig,
    dtype: str,
    rows: int = 1,
) -> Weights:
  """Lays out the parameters of a stage for `prefill` and `step`.

  Args:
    params: Of `transformer.StageTransformer`.
    config: Sizes.
    dtype: Of the matrices, one of `matvec.DTYPES`. Norms, residuals and the
      softmax are float32 in any case; cache and embeddings are bfloat16 unless
      this is float32.
    rows: That steps will have. The layout is chosen for them; with any other
      number, steps are right but slower.

  Returns:
    A tree of arrays.

  Raises:
    UserError: If there is no such dtype.
  """
  if dtype not in matvec.DTYPES:
    raise errors.UserError(
        f"dtype must be one of {matvec.DTYPES}, but is '{dtype}'."
    )
  cast = jnp.dtype('float32' if dtype == 'float32' else 'bfloat16')
  matrix = functools.partial(_pack_matrix, dtype=dtype, rows=rows)

  def layer(p):
    attention, mlp = p['attention'], p['mlp']
    return {
        'attention_norm': jax.device_put(p['attention_norm']['scale']),
        'qkv': matrix([attention['qkv']['kernel'].T]),
        'out': matrix([attention['out']['kernel'].T]),
        'mlp_norm': jax.device_put(p['mlp_norm']['scale']),
        'gate_up': matrix([mlp['gate']['kernel'].T, mlp['up']['kernel'].T]),
        'down': matrix([mlp['down']['kernel'].T]),
    }

  biases = [k for k in ('position_bias', 'frame_bias') if k in params]
  heads = [matrix([head]) for head in params['head']]
  layers = [layer(params[f'layers_{i}']) for i in range(config.num_layers)]
  return {
      'embed': jax.device_put(params['token_embed']['embedding'].astype(cast)),
      'layers': _stack(layers) if _is_blocked(layers[0]) else layers,
      'final_norm': jax.device_put(params['final_norm']['scale']),
      'head': jax.tree.map(lambda *x: jnp.stack(x), *heads),
      **{k: jax.device_put(params[k]) for k in biases},
  }


def _is_blocked(layer: Weights) -> bool:
  return all('blocks' in w for w in layer.values() if isinstance(w, dict))


def _stack(layers: list[Weights]) -> Weights:
  """Stacks each parameter, and lets go of what it is made of."""
  return {
      name: jax.tree.map(
          lambda *x: jnp.stack(x), *[w.pop(name) for w in layers]
      )
      for name in list(layers[0])
  }


@functools.partial(jax.jit, static_argnames=('dtype', 'rows'))
def _pack_matrix(matrices, dtype, rows):
  return matvec.pack(jnp.concatenate(matrices), dtype, rows)


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
  """Returns what `prefill` and `step` are to add to each position.

  Args:
    weights: From `pack`.
    config: Sizes.
    stage: Adds streams.
    ids: [batch, frames, quantizers] ids of each of them.
    token_frames: Of the whole sequence, from `positions.frames`.
  """
  embed = functools.partial(_embed, weights, config)
  return conditions.add_up(embed, ids, stage, token_frames)


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


def _bias(weights, config, *args):
  tables = weights['position_bias'], weights.get('frame_bias')
  return transformer.attention_bias(config, tables, *args)


def prefill(
    weights: Weights,
    config: transformer.TransformerConfig,
    ids: Int[Array, 'b t'],
    token_frames: Int[Array, ' length'],
    added: Float[Array, 'b room d'] | None = None,
) -> Cache:
  """Runs the first positions of a sequence at once.

  Args:
    weights: From `pack`.
    config: Sizes.
    ids: [batch, length] ids that the positions read: 0, then the first ones of
      the sequence.
    token_frames: Of the whole sequence, from `positions.frames`.
    added: To each position of the whole sequence and, maybe, behind it; from
      `add_up`.

  Returns:
    The keys and values of each layer.
  """
  index = jnp.arange(ids.shape[1])
  seen = (ids != 0) | (index == 0)  # The start is no padding.
  bias = _bias(weights, config, index, index, token_frames)
  padding = jnp.where(seen, 0, transformer.MASKED)[:, None, None]
  dtype = weights['embed'].dtype

  def run(x, layer):
    query, key, value = (y.astype(dtype) for y in _project(x, layer, config))
    logits = jnp.einsum(
        'bnth,bnsh->bnts', query, key, preferred_element_type=jnp.float32
    )
    shares = jax.nn.softmax(logits + bias + padding).astype(dtype)
    y = jnp.einsum(
        'bnts,bnsh->btnh', shares, value, preferred_element_type=jnp.float32
    )
    x = x + _multiply(y.reshape(*y.shape[:2], -1), layer['out'])
    x = x + _mlp(x, layer)
    return x, (matvec.store(key.swapaxes(2, 3)), matvec.store(value))

  x, layers = _embed(weights, config, ids), weights['layers']
  if added is not None:
    x += added[:, : ids.shape[1]]
  if isinstance(layers, dict):
    return jax.lax.scan(run, x, layers)[1]
  cache, run_traced = [], jax.jit(run)
  for layer in layers:
    x, key_values = run_traced(x, layer)
    cache.append(key_values)
  return cache


def batch_axis(weights: Weights) -> int:
  """Returns which axis of the arrays of a cache is the batch."""
  return 1 if isinstance(weights['layers'], dict) else 0


def resize(cache: Cache, length: int) -> Cache:
  """Makes room for `length` positions in all."""

  def pad(x, axis):
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (0, length - x.shape[axis], 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)

  pad_both = lambda keys, values: (pad(keys, -1), pad(values, -2))
  if isinstance(cache, list):
    return [pad_both(*key_values) for key_values in cache]
  return pad_both(*cache)


def step(
    weights: Weights,
    config: transformer.TransformerConfig,
    ids: Int[Array, ' b'],
    position: Int[Array, ''],
    token_frames: Int[Array, ' length'],
    quantizer: Int[Array, ''],
    cache: Cache,
    added: Float[Array, 'b room d'] | None = None,
) -> tuple[Float[Array, 'b c'], Cache]:
  """Runs one position, after all before it.

  Args:
    weights: From `pack`.
    config: Sizes.
    ids: [batch] ids that the position reads: those of the token before.
    position: Index in the sequence of the token that it predicts.
    token_frames: Of the whole sequence, from `positions.frames`.
    quantizer: Of the token that it predicts.
    cache: Keys and values of each layer; room for `position` at least.
    added: See `prefill`.

  Returns:
    [batch, codes] float32 logits, and the cache with this position in it.
  """
  # Else XLA would take apart the weights ahead of a loop, at twice the memory.
  weights, ids = jax.lax.optimization_barrier((weights, ids))
  layers, dtype = weights['layers'], weights['embed'].dtype
  length = jax.tree.leaves(cache)[0].shape[-1]
  bias = _bias(
      weights, config, position[None], jnp.arange(length), token_frames
  )[:, :, 0]

  def run(x, layer, key_values, index=None):
    y, new = _attend(x, layer, config, key_values, position, bias, index)
    x = x + y
    new = [matvec.store(y.astype(dtype)) for y in new]
    cache = _write(key_values, new, position, index)
    return x + _mlp(x, layer), cache

  x = _embed(weights, config, ids)
  if added is not None:
    x += jax.lax.dynamic_index_in_dim(added, position, 1, keepdims=False)
  if isinstance(layers, dict):
    x, cache = jax.lax.fori_loop(
        0,
        len(layers['mlp_norm']),
        lambda i, carry: run(carry[0], _take(layers, i), carry[1], i),
        (x, cache),
    )
  else:
    updated, run_traced = [], jax.jit(run)  # Traced once, as layers are alike.
    for layer, key_values in zip(layers, cache, strict=True):
      x, key_values = run_traced(x, layer, key_values)
      updated.append(key_values)
    cache = updated
  head = {**weights['head'], 'index': quantizer}
  return matvec.multiply(_norm(x, weights['final_norm']), head), cache


def _take(layers: Weights, index: Int[Array, '']) -> Weights:
  """Returns one of the stacked layers; its matrices are left where they are."""
  take = lambda w: (
      {**w, 'index': index}
      if isinstance(w, dict)
      else jax.lax.dynamic_index_in_dim(w, index, keepdims=False)
  )
  return {name: take(w) for name, w in layers.items()}


def _write(
    cache: KeyValues,
    new: Sequence[Shaped[Array, 'b n h']],
    position: Int[Array, ''],
    layer: Int[Array, ''] | None = None,
) -> KeyValues:
  """Writes a key and a value of each row and head."""
  keys, values = cache
  key, value = new[0][..., None], new[1][:, :, None]
  zero = jnp.zeros_like(position)
  start = [zero, zero, zero, position], [zero, zero, position, zero]
  if layer is not None:
    key, value = key[None], value[None]
    start = [layer, *start[0]], [layer, *start[1]]
  write = jax.lax.dynamic_update_slice
  return write(keys, key, start[0]), write(values, value, start[1])


def _attend(
    x: Float[Array, 'b d'],
    layer: Weights,
    config: transformer.TransformerConfig,
    cache: KeyValues,
    position: Int[Array, ''],
    bias: Float[Array, '1 n s'],
    index: Int[Array, ''] | None,
) -> tuple[Float[Array, 'b d'], Sequence[Float[Array, 'b n h']]]:
  """Attends from one position to those in the cache and to itself.

  Returns:
    What is added to x, and this position's key and value.
  """
  keys, values = cache
  query, key, value = (y[:, :, 0] for y in _project(x[:, None], layer, config))
  # To write first and attend after would copy the cache, at every step.
  here = jnp.arange(keys.shape[-1]) == position
  logits = jnp.where(
      here,
      jnp.sum(query * key, axis=-1, keepdims=True),
      matvec.multiply_each(query, keys, index),
  )
  shares = jax.nn.softmax(logits + bias)
  y = matvec.multiply_each(jnp.where(here, 0, shares), values, index)
  y += jnp.sum(shares, -1, keepdims=True, where=here) * value
  return _multiply(y.reshape(len(x), -1), layer['out']), (key, value)
