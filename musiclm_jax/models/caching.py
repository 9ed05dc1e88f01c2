"""The key-value cache of a decoder, and attention over it.

A cache has a fixed size, in blocks. A single query loops over the blocks that
are filled, so that one program serves any position. On accelerators a cache is
one block: starting small programs takes longer than reading all of it.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax.models import matvec
from musiclm_jax.models import transformer

BLOCK = 256  # Positions that are attended to, or filled, at once.
# The length of a cache is a multiple of this, as is the part of it that a
# softmax covers: each such size is compiled.
LENGTH_STEP = 512
BATCH_AXIS = 2  # Axis of the arrays of a cache.

KeysValues = tuple[jax.Array, jax.Array]
# Keys [layers, blocks, batch, heads, head_dim, BLOCK] and values [layers,
# blocks, batch, heads, BLOCK, head_dim] of the positions so far, for each group
# of layers. The last axis is the one that vector instructions work on.
Cache = list[KeysValues]

# Support for negative indices would take a kernel of its own.
take = functools.partial(
    jax.lax.dynamic_slice_in_dim, allow_negative_indices=False
)
put = functools.partial(
    jax.lax.dynamic_update_slice_in_dim, allow_negative_indices=False
)


def group_size(config: transformer.TransformerConfig) -> int:
  """Returns how many layers are stacked and run in a loop.

  On CPUs all of them, because that compiles faster; on accelerators one,
  because a loop would copy the weights of each layer.
  """
  return config.num_layers if jax.default_backend() == 'cpu' else 1


def empty(
    config: transformer.TransformerConfig, dtype: str, rows: int, length: int
) -> Cache:
  """Returns an empty cache.

  Args:
    config: Sizes.
    dtype: Type of the weight matrices, see `decoding.pack`.
    rows: Number of sequences.
    length: Capacity in positions; a multiple of LENGTH_STEP.
  """
  block = BLOCK if jax.default_backend() == 'cpu' else length
  size = group_size(config)
  shape = size, length // block, rows, config.num_heads
  zeros = lambda *last: matvec.store(
      jnp.zeros((*shape, *last), vector_dtype(dtype))
  )
  return [
      (zeros(config.head_dim, block), zeros(block, config.head_dim))
      for _ in range(0, config.num_layers, size)
  ]


def vector_dtype(dtype: str) -> Any:
  """Returns the type of keys, values and embeddings for a type of matrices."""
  return jnp.float32 if dtype == 'float32' else jnp.bfloat16


def for_each(count: Any, body: Callable[..., Any], carry: Any) -> Any:
  """Runs body(i, carry) `count` times; needs no loop if that is a static 1."""
  if isinstance(count, int) and count == 1:
    return body(0, carry)
  return jax.lax.fori_loop(0, count, body, carry)


def attend(
    query: Float[Array, 'b n t h'],
    new: KeysValues,
    cache: KeysValues,
    start: Int[Array, ''],
    bias: Float[Array, '1 n t s'],
    index: Int[Array, ''],
) -> Float[Array, 'b n t h']:
  """Attends from new positions to all earlier ones and to each other.

  Args:
    query: [batch, heads, t, head_dim].
    new: Keys [batch, heads, head_dim, t] and values [batch, heads, t, head_dim]
      of the new positions, which are not in the cache yet.
    cache: Keys and values of a group of layers.
    start: First of the new positions.
    bias: [1, heads, t, length of the cache], added to the logits; masks later
      positions.
    index: Index of the layer in the group.

  Returns:
    [batch, heads, t, head_dim] weighted means of the values.
  """
  mix = _mix_for_one if query.shape[2] == 1 else _mix_for_many
  return mix(query, new, cache, start, bias, index)


def _mix_for_many(
    query: Float[Array, 'b n t h'],
    new: KeysValues,
    cache: KeysValues,
    start: Int[Array, ''],
    bias: Float[Array, '1 n t s'],
    index: Int[Array, ''],
) -> Float[Array, 'b n t h']:
  """Attends from many queries at once."""
  keys, values = (matvec.restore(take(x, index, 1, 0)[0]) for x in cache)

  def mix(size):
    blocks = max(1, size // keys.shape[-1])
    key = jnp.moveaxis(keys[:blocks], 0, -2)
    key = key.reshape(*key.shape[:-2], -1)[..., :size]
    key = put(key, new[0].astype(key.dtype), start, 3)
    value = jnp.moveaxis(values[:blocks], 0, -3)
    value = value.reshape(*value.shape[:2], -1, value.shape[-1])[:, :, :size]
    value = put(value, new[1].astype(value.dtype), start, 2)
    logits = _dot('bnth,bnhs->bnts', query, key) + bias[..., :size]
    return _dot('bnts,bnsh->bnth', jax.nn.softmax(logits), value)

  return for_size(cache[0], start + query.shape[2], mix)


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
  """Attends from one query, block by block."""
  query, bias = query[:, :, 0], bias[:, :, 0]
  key, value = new[0][..., 0], new[1][:, :, 0]
  keys, values = cache
  num_blocks, block = keys.shape[1], keys.shape[-1]
  filled = 1 if num_blocks == 1 else (start + block - 1) // block
  is_here = jnp.arange(num_blocks * block) == start

  # Each iteration writes to a slot of its own, so that a block is one kernel.
  def score(i, logits):
    found = matvec.multiply_each(query, keys, (index, i))
    return put(logits, found[:, :, 0], i * block, 2)

  def mix(i, parts):
    share = take(shares, i * block, block, 2)
    found = matvec.multiply_each(share, values, (index, i), matvec.TERMS)
    return put(parts, found, i * found.shape[2], 2)

  def softmax(size):
    shares = jax.nn.softmax(logits[..., :size])
    return pad(shares, logits.shape[-1], 0.0)

  # Writing to the cache first would copy it, at every step.
  logits = jnp.full((len(query), *bias.shape[1:]), transformer.MASKED)
  logits = for_each(filled, score, logits)
  here = jnp.sum(query * key, axis=-1, keepdims=True)
  logits = jnp.where(is_here, here, logits) + bias
  shares = for_size(keys, start + 1, softmax)
  here = take(shares, start, 1, 2)
  shares = jnp.where(is_here, 0, shares)
  chunks = num_blocks * matvec.num_chunks(block)
  parts = jnp.zeros((*query.shape[:2], chunks, query.shape[2]))
  parts = for_each(filled, mix, parts)
  # Slices, as a sum over the axis would add in another order.
  y = functools.reduce(jnp.add, [parts[:, :, i] for i in range(chunks)])
  return (y + here * value)[:, :, None]


def for_size(
    keys: jax.Array, end: Int[Array, ''], function: Callable[[int], jax.Array]
) -> jax.Array:
  """Returns function(size) for the smallest size that covers `end` positions.

  Args:
    keys: Keys of a cache, whose shape gives its length.
    end: Number of positions to cover.
    function: Function of a multiple of LENGTH_STEP, compiled for each. The
      shape of its result must not depend on the size.
  """
  num_blocks, block = keys.shape[1], keys.shape[-1]
  length = num_blocks * block
  if num_blocks == 1:
    return function(length)
  sizes = range(LENGTH_STEP, length + 1, LENGTH_STEP)
  branches = [functools.partial(function, size) for size in sizes]
  return jax.lax.switch((end - 1) // LENGTH_STEP, branches)


def pad(x: jax.Array, length: int, value: float) -> jax.Array:
  """Pads the last axis to a length."""
  padding = [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])]
  return jnp.pad(x, padding, constant_values=value)


def write(
    cache: KeysValues,
    new: Sequence[jax.Array],
    start: Int[Array, ''],
    layer: Int[Array, ''],
) -> KeysValues:
  """Writes the keys and values of consecutive positions, from `start` on."""
  block, place = jnp.divmod(start, cache[0].shape[-1])
  key, value = (matvec.store(y)[None, None] for y in new)
  zero = jnp.zeros_like(start)
  update = functools.partial(
      jax.lax.dynamic_update_slice, allow_negative_indices=False
  )
  return (
      update(cache[0], key, [layer, block, zero, zero, zero, place]),
      update(cache[1], value, [layer, block, zero, zero, place, zero]),
  )
