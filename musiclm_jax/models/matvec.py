"""Products of a few rows with large matrices, as fast as those can be read.

XLA's own products reach half of that on CPUs, and write out a float copy of
matrices of fewer bits when there is a lone row. So for few rows a matrix is
stored in blocks, [chunks, blocks, TERMS, LANES]: a product is TERMS unrolled
multiplications for each chunk of the inputs and block of the outputs, which
compile to vector instructions on what lies next to each other; then the chunks
are added up. All sums are of float32, and a row's do not depend on the others.
Any backend can run this form, but it is chosen on CPUs only.
"""

import functools
import math
from typing import Any

import jax
from jax.experimental import xla_metadata
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

DTYPES = ('float32', 'bfloat16', 'int8')
TERMS, LANES = 64, 16
BLOCKED_ROWS = 4  # Of more rows, XLA's own products are as fast or faster.
# Smaller int8 matrices stay in a CPU's caches, where XLA is faster, too.
BLOCKED_INT8_SIZE = 1 << 20
UNBLOCK_ROWS = 32  # From here on, it pays to undo the blocks.

# One of 'plain', [out, in], and 'blocks'; for int8 also 'scale', [out]. With
# 'index', all have another axis in front, and one of the matrices is meant:
# its blocks are then read in place, where a slice would be a copy.
Matrix = dict[str, jax.Array]


def pack(matrix: Float[Array, 'o i'], dtype: str, rows: int = 1) -> Matrix:
  """Lays out a matrix for products with few rows.

  Args:
    matrix: [out, in].
    dtype: Of its elements: 'float32', 'bfloat16', or 'int8' with a scale per
      output, of which the largest element becomes ±127. With more rows than
      BLOCKED_ROWS, or fewer elements than BLOCKED_INT8_SIZE, CPUs round what is
      multiplied with int8 to int8, too.
    rows: That it will be multiplied with at once. `multiply` accepts any
      number, but is fastest for this one.
  """
  packed = {}
  if dtype == 'int8':
    scale = jnp.max(jnp.abs(matrix), axis=1) / 127
    packed['scale'] = jnp.where(scale == 0, 1, scale)
    matrix = jnp.round(matrix / packed['scale'][:, None])
  matrix = matrix.astype(dtype)
  is_whole = matrix.shape[0] % LANES == 0 and matrix.shape[1] % TERMS == 0
  is_large = dtype != 'int8' or matrix.size >= BLOCKED_INT8_SIZE
  is_blocked = is_whole and is_large and rows <= BLOCKED_ROWS
  if jax.default_backend() == 'cpu' and is_blocked:
    return {'blocks': _to_blocks(matrix), **packed}
  return {'plain': matrix, **packed}


def multiply(x: Float[Array, 'r i'], matrix: Matrix) -> Float[Array, 'r o']:
  """Multiplies rows with the transpose of a matrix, in float32 sums."""
  matrix = dict(matrix)
  index = matrix.pop('index', None)
  blocks = matrix.pop('blocks', None)
  if index is not None:
    matrix = jax.tree.map(lambda w: _take(w, index), matrix)
  if blocks is None:
    return _plain_product(x, matrix['plain'], matrix.get('scale'))
  if len(x) >= UNBLOCK_ROWS:
    y = _plain_product(x, _from_blocks(_take(blocks, index)), None)
  else:
    y = _blocked_product(x, blocks, index)
  return y * matrix['scale'] if 'scale' in matrix else y


def _take(stack: Array, index: Any) -> Array:
  if index is None:
    return stack
  return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)


def _slice(stack: Array, index: Any, axis: int, i: int) -> Array:
  """Returns slice i of an axis of stack[index], without that axis.

  Slices of what was taken out of the stack would not be fused into their use.
  """
  if index is None:
    return jax.lax.index_in_dim(stack, i, axis, keepdims=False)
  start, size = [0] * stack.ndim, list(stack.shape)
  start[0], start[axis + 1] = index, i
  size[0] = size[axis + 1] = 1
  return jax.lax.dynamic_slice(stack, start, size).squeeze((0, axis + 1))


def store(x: Shaped[Array, '*s']) -> Shaped[Array, '*s']:
  """Returns x as `multiply_each` takes it: on CPUs, the bits of bfloat16."""
  # XLA's CPU backend would turn whole arrays of bfloat16 into float32.
  if x.dtype != jnp.bfloat16 or jax.default_backend() != 'cpu':
    return x
  return jax.lax.bitcast_convert_type(x, jnp.uint16)


def _restore(x: Array) -> Array:
  if x.dtype != jnp.uint16:
    return x
  return jax.lax.bitcast_convert_type(x, jnp.bfloat16)


def multiply_each(
    x: Float[Array, 'b n i'], matrices: Array, index: Any = None
) -> Float[Array, 'b n o']:
  """Multiplies each row with a matrix of its own.

  Args:
    x: [batch, heads, in].
    matrices: [batch, heads, in, out], from `store`.
    index: If given, matrices have another axis in front, and this one of them
      is meant.

  Returns:
    [batch, heads, out] float32.
  """
  if jax.default_backend() != 'cpu':
    return jnp.einsum(
        'bni,bnio->bno', x.astype(matrices.dtype), _take(matrices, index),
        preferred_element_type=jnp.float32,
    )  # fmt: skip
  parts = _apart(_sums_of_terms, x, matrices, index)
  # Slices, as a sum over the axis would be fused with what makes the parts.
  return functools.reduce(
      jnp.add, [parts[:, :, i] for i in range(parts.shape[2])]
  )


def _sums_of_terms(x: jax.Array, matrices: Array, index: Any) -> jax.Array:
  """Returns [batch, heads, chunks, out]."""
  terms = math.gcd(x.shape[2], TERMS)
  x = x.reshape(*x.shape[:2], -1, terms)
  stack = () if index is None else matrices.shape[:1]
  matrices = matrices.reshape(*stack, *x.shape, -1)
  matrix_rows = [
      _restore(_slice(matrices, index, 3, i)).astype(jnp.float32)
      for i in range(terms)
  ]
  return _add_up([x[..., i, None] * y for i, y in enumerate(matrix_rows)])


def _add_up(terms: list[Array]) -> Array:
  """Adds in two chains, so that an addition need not wait for the last."""
  chains = [terms[::2], terms[1::2]] if len(terms) > 1 else [terms]
  sums = [functools.reduce(jnp.add, chain) for chain in chains]
  return functools.reduce(jnp.add, sums)


def _to_blocks(matrix: jax.Array) -> jax.Array:
  """Returns [chunks, blocks, TERMS, LANES]."""
  y = matrix.reshape(len(matrix) // LANES, LANES, -1, TERMS)
  return store(y.transpose(2, 0, 3, 1))


def _from_blocks(blocks: jax.Array) -> jax.Array:
  """Returns the matrix, as floats that hold its elements exactly."""
  y = _restore(blocks).transpose(1, 3, 0, 2)
  if y.dtype == jnp.int8:
    y = y.astype(jnp.bfloat16)
  return y.reshape(y.shape[0] * LANES, -1)


def _blocked_product(x: jax.Array, blocks: Array, index: Any) -> jax.Array:
  rows = len(x)
  if rows == 1:
    return _apart(_sum_of_chunks, x[None], blocks, index).reshape(1, -1)
  x = jnp.pad(x, ((0, rows % 2), (0, 0)))
  y = _apart(_sum_of_chunks, x.reshape(-1, 2, x.shape[1]), blocks, index)
  return jnp.stack([y.real, y.imag], axis=1).reshape(len(x), -1)[:rows]


def _sum_of_chunks(x: jax.Array, blocks: Array, index: Any) -> jax.Array:
  """Multiplies [groups, rows, in]; two rows become one of complex numbers."""
  chunks = blocks.shape[-4]
  x = x.reshape(*x.shape[:2], chunks, TERMS).transpose(1, 2, 0, 3)
  terms = [
      _restore(_slice(blocks, index, 2, i)).astype(jnp.float32)[:, None]
      for i in range(TERMS)
  ]
  parts = [
      _add_up([row[:, :, i, None, None] * y for i, y in enumerate(terms)])
      for row in x
  ]
  # XLA would run through the matrix twice to write two arrays.
  y = parts[0] if len(parts) == 1 else jax.lax.complex(*parts)
  return functools.reduce(jnp.add, [y[i] for i in range(chunks)])


def _apart(function: Any, *args: Any) -> Any:
  """Keeps XLA from computing anew, at each use, what the function returns."""
  with xla_metadata.set_xla_metadata(inlineable='false'):
    return jax.jit(function)(*args)


def _plain_product(
    x: jax.Array, matrix: jax.Array, scale: jax.Array | None
) -> jax.Array:
  def dot(x, matrix, dtype):
    contract = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(
        x, matrix, contract, preferred_element_type=dtype
    )

  rows = len(x)
  if rows == 1 and jax.default_backend() == 'cpu':
    x = jnp.broadcast_to(x, (2, x.shape[1]))  # Else XLA copies the matrix.
  if scale is None:
    return dot(x.astype(matrix.dtype), matrix, jnp.float32)[:rows]
  if jax.default_backend() != 'cpu':
    x, matrix = x.astype(jnp.bfloat16), matrix.astype(jnp.bfloat16)
    return dot(x, matrix, jnp.float32) * scale
  # XLA would write out a float copy of the matrix, but not if x is int8 too.
  peak = jnp.max(jnp.abs(x), axis=1, keepdims=True)
  unit = jnp.where(peak == 0, 1, peak) / 127
  x = jnp.round(x / unit).astype(jnp.int8)
  return (dot(x, matrix, jnp.int32) * unit * scale)[:rows]
