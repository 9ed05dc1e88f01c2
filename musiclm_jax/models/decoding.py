"""Runs a trained stage position by position, on weights packed for speed.

The same numbers as `transformer.StageTransformer`, in plain functions of a
tree of weights: rows are few here, so a step takes as long as reading every
weight and the cache once. Matrices are [out, in].
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax.models import transformer

DTYPES = ('float32', 'bfloat16', 'int8')

Weights = dict[str, Any]
# Keys and values of a layer so far, [batch, heads, length, head_dim] each.
KeyValues = tuple[jax.Array, jax.Array]


def pack(
    params: Any, config: transformer.TransformerConfig, stage: Any, dtype: str
) -> Weights:
  """Lays out the parameters of a stage for `prefill` and `step`.

  Args:
    params: Of `transformer.StageTransformer`.
    config: Sizes.
    stage: A `stages.base.Stage`, or what has its inputs, targets, vocab_size.
    dtype: Of the matrices. Norms and the softmax are float32 in any case. int8
      has a scale per output channel; what is multiplied with it is rounded to
      int8 too where that is faster, and all else is bfloat16.

  Returns:
    A tree of arrays.

  Raises:
    ValueError: If there is no such dtype.
  """
  if dtype not in DTYPES:
    raise ValueError(f"dtype must be one of {DTYPES}, but is '{dtype}'.")
  del stage
  return _pack(params, config, dtype)


def _pack(params, config, dtype):
  cast = jnp.dtype('float32' if dtype == 'float32' else 'bfloat16')

  def matrix(*kernels):
    return _quantize(jnp.concatenate([k.T for k in kernels]), dtype)

  def layer(p):
    mlp = p['mlp']
    return {
        'attention_norm': p['attention_norm']['scale'],
        'qkv': matrix(p['attention']['qkv']['kernel']),
        'out': matrix(p['attention']['out']['kernel']),
        'mlp_norm': p['mlp_norm']['scale'],
        'gate_up': matrix(mlp['gate']['kernel'], mlp['up']['kernel']),
        'down': matrix(mlp['down']['kernel']),
    }

  biases = [k for k in ('position_bias', 'frame_bias') if k in params]
  layers = [params[f'layers_{i}'] for i in range(config.num_layers)]
  return {
      'embed': jnp.asarray(params['token_embed']['embedding'], cast),
      'layers': [layer(p) for p in layers],
      'final_norm': params['final_norm']['scale'],
      'head': _quantize(params['head'], dtype),
      **{k: params[k] for k in biases},
  }


def _quantize(matrix: Float[Array, '*q o i'], dtype: str) -> Any:
  """Returns a matrix as {'values', 'scale'} if int8, else cast."""
  if dtype != 'int8':
    return jnp.asarray(matrix, dtype)
  # The largest weight of each output channel becomes ±127.
  scale = jnp.max(jnp.abs(matrix), axis=-1) / 127
  scale = jnp.where(scale == 0, 1, scale)
  values = jnp.round(matrix / scale[..., None]).astype(jnp.int8)
  return {'values': values, 'scale': scale}


def _multiply(x: Float[Array, '*b i'], matrix: Any) -> Float[Array, '*b o']:
  """Multiplies with a matrix [out, in]; the result is float32."""
  contract = (((x.ndim - 1,), (1,)), ((), ()))
  if not isinstance(matrix, dict):
    return jax.lax.dot_general(
        x.astype(matrix.dtype), matrix, contract,
        preferred_element_type=jnp.float32,
    )  # fmt: skip
  values, scale = matrix['values'], matrix['scale']
  if jax.default_backend() == 'cpu':
    # XLA would write out a float copy of int8 weights; not of int8 products.
    peak = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    unit = jnp.where(peak == 0, 1, peak) / 127
    y = jax.lax.dot_general(
        jnp.round(x / unit).astype(jnp.int8), values, contract,
        preferred_element_type=jnp.int32,
    )  # fmt: skip
    return y * (unit * scale)
  y = jax.lax.dot_general(
      x.astype(jnp.bfloat16), values.astype(jnp.bfloat16), contract,
      preferred_element_type=jnp.float32,
  )  # fmt: skip
  return y * scale


def _norm(x: Float[Array, '*b d'], scale: Float[Array, ' d']) -> jax.Array:
  mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(mean_square + 1e-6) * scale


def _embed(weights: Weights, config: Any, ids: Int[Array, '*b']) -> jax.Array:
  return weights['embed'][ids].astype(jnp.float32) * config.embed_dim**0.5


def _mlp(x: Float[Array, '*b d'], layer: Weights) -> Float[Array, '*b d']:
  y = _multiply(_norm(x, layer['mlp_norm']), layer['gate_up'])
  gate, up = jnp.split(y, 2, axis=-1)
  return _multiply(jax.nn.gelu(gate) * up, layer['down'])


def _project(
    x: Float[Array, 'b t d'], layer: Weights, config: Any, dtype: Any
) -> Sequence[Float[Array, 'b n t h']]:
  """Returns queries, keys and values."""
  c = config
  y = _multiply(_norm(x, layer['attention_norm']), layer['qkv'])
  y = y.reshape(*x.shape[:2], c.num_heads, 3, c.head_dim)
  query, key, value = (y[..., i, :].swapaxes(1, 2) for i in range(3))
  return [z.astype(dtype) for z in (query * c.head_dim**-0.5, key, value)]


def _bias(weights, config, *args):
  tables = weights['position_bias'], weights.get('frame_bias')
  return transformer.attention_bias(config, tables, *args)


def prefill(
    weights: Weights,
    config: transformer.TransformerConfig,
    stage: Any,
    ids: Int[Array, 'b t'],
    token_frames: Int[Array, ' length'],
) -> list[KeyValues]:
  """Runs the first positions of a sequence at once.

  Args:
    weights: From `pack`.
    config: Sizes.
    stage: That the weights are of.
    ids: [batch, length] ids that the positions read: 0, then the first ones of
      the sequence.
    token_frames: Of the whole sequence, from `positions.frames`.

  Returns:
    The keys and values of each layer.
  """
  del stage
  index = jnp.arange(ids.shape[1])
  seen = (ids != 0) | (index == 0)  # The start is no padding.
  bias = _bias(weights, config, index, index, token_frames)
  bias = jnp.where(seen[:, None, None], bias, transformer.MASKED)
  x, cache = _embed(weights, config, ids), []
  for layer in weights['layers']:
    query, key, value = _project(x, layer, config, weights['embed'].dtype)
    logits = jnp.einsum(
        'bnth,bnsh->bnts', query, key, preferred_element_type=jnp.float32
    )
    shares = jax.nn.softmax(logits + bias).astype(value.dtype)
    y = jnp.einsum(
        'bnts,bnsh->btnh', shares, value, preferred_element_type=jnp.float32
    )
    x = x + _multiply(y.reshape(*y.shape[:2], -1), layer['out'])
    x = x + _mlp(x, layer)
    cache.append((key, value))
  return cache


def step(
    weights: Weights,
    config: transformer.TransformerConfig,
    stage: Any,
    ids: Int[Array, ' b'],
    position: Int[Array, ''],
    token_frames: Int[Array, ' length'],
    quantizer: Int[Array, ''],
    cache: Sequence[KeyValues],
) -> tuple[Float[Array, 'b c'], list[KeyValues]]:
  """Runs one position, after all before it.

  Args:
    weights: From `pack`.
    config: Sizes.
    stage: That the weights are of.
    ids: [batch] ids that the position reads: those of the token before.
    position: Index in the sequence of the token that it predicts.
    token_frames: Of the whole sequence, from `positions.frames`.
    quantizer: Of the token that it predicts.
    cache: Keys and values of each layer; room for `position` at least.

  Returns:
    [batch, codes] float32 logits, and the cache with this position in it.
  """
  del stage
  batch, length = cache[0][0].shape[0], cache[0][0].shape[2]
  bias = _bias(
      weights, config, position[None], jnp.arange(length), token_frames
  )
  # XLA's products of a lone row are slower on CPUs, and add up in another order
  # than those of many, so it gets a twin.
  ids = jnp.broadcast_to(ids, (2,)) if batch == 1 else ids
  x, updated = _embed(weights, config, ids[:, None]), []
  for layer, key_values in zip(weights['layers'], cache, strict=True):
    y, key_values = _attend(x, layer, config, key_values, position, bias)
    x = x + y
    x = x + _mlp(x, layer)
    updated.append(key_values)
  head = jax.tree.map(lambda w: w[quantizer], weights['head'])
  x = _norm(x, weights['final_norm'])
  return _multiply(x, head)[:batch, 0], updated


def _attend(
    x: Float[Array, 'r 1 d'],
    layer: Weights,
    config: transformer.TransformerConfig,
    cache: KeyValues,
    position: Int[Array, ''],
    bias: Float[Array, '1 n 1 s'],
) -> tuple[Float[Array, 'r 1 d'], KeyValues]:
  """Attends from one position to those in the cache and to itself."""
  keys, values = cache
  batch = keys.shape[0]
  query, key, value = (
      y[:batch] for y in _project(x, layer, config, keys.dtype)
  )
  # To write first and attend after would copy the cache, at every step.
  here = jnp.arange(keys.shape[2]) == position
  dot = lambda one, other, letters: jnp.einsum(
      letters, one, other, preferred_element_type=jnp.float32
  )
  logits = jnp.where(
      here,
      dot(query, key, 'bnth,bnth->bnt')[..., None],
      dot(query, keys, 'bnth,bnsh->bnts'),
  )
  shares = jax.nn.softmax(logits + bias)
  y = dot(
      jnp.where(here, 0, shares).astype(values.dtype),
      values,
      'bnts,bnsh->bnth',
  )
  y += jnp.sum(shares, -1, keepdims=True, where=here) * value
  y = y.reshape(batch, 1, -1)
  y = _multiply(jnp.broadcast_to(y, (*x.shape[:2], y.shape[-1])), layer['out'])
  write = jax.lax.dynamic_update_slice_in_dim
  return y, (write(keys, key, position, 2), write(values, value, position, 2))
