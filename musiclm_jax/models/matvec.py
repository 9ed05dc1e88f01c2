"""Products of few rows with large matrices, at the speed of reading those.

On CPUs, XLA's own products reach half of that speed and, for a single row,
write out a float copy of matrices of fewer bits. So for few rows a matrix is
stored in blocks, [chunks, blocks, TERMS, LANES]: a product is TERMS unrolled
multiplications for each chunk of the inputs and block of the outputs, which
compile to vector instructions on contiguous data; then the chunks are added up.
All sums are in float32, and those of a row do not depend on other rows. Any
backend can run this form, but it is chosen on CPUs only.
"""

import functools
import math
from typing import Any

import jax
from jax.experimental import xla_metadata
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

DTYPES = ('float32', 'bfloat16', 'int8')
TERMS, LANES = 64, 16
UNBLOCK_ROWS = 32  # Number of rows from which it pays to undo the blocks.
# Size from which it pays to split the work of `multiply_each` between threads,
# which XLA does only if it is not fused into its use.
SHARED_BYTES = 1 << 19

# Holds 'plain', [out, in], or 'blocks'; for int8 also 'scale', [out]. With
# 'index', all have a leading axis and it selects one matrix, whose blocks are
# then read in place, where a slice would be a copy.
Matrix = dict[str, Any]
Index = tuple[Any, ...]  # Index into the leading axes of a stack of arrays.


def pack(matrix: Float[np.ndarray, '*stack o i'], dtype: str) -> Matrix:
  """Lays out matrices for products with few rows.

  Args:
    matrix: [..., out, in]; in NumPy, as JAX would compile each shape.
    dtype: Type of the elements: 'float32', 'bfloat16', or 'int8' with a scale
      per output that maps its largest element to ±127.

  Returns:
    NumPy arrays.
  """
  packed = {}
  if dtype == 'int8':
    scale = np.max(np.abs(matrix), axis=-1) / np.float32(127)
    packed['scale'] = np.where(scale == 0, 1, scale).astype(np.float32)
    matrix = np.round(matrix / packed['scale'][..., None])
  matrix = matrix.astype(jnp.dtype(dtype))
  is_whole = matrix.shape[-2] % LANES == 0 and matrix.shape[-1] % TERMS == 0
  if jax.default_backend() == 'cpu' and is_whole:
    return {'blocks': _to_blocks(matrix), **packed}
  return {'plain': matrix, **packed}


def multiply(x: Float[Array, 'r i'], matrix: Matrix) -> Float[Array, 'r o']:
  """Multiplies rows with the transpose of a matrix, summing in float32."""
  matrix = jax.tree.map(jnp.asarray, matrix)
  index = (matrix.pop('index'),) if 'index' in matrix else ()
  blocks = matrix.pop('blocks', None)
  matrix = jax.tree.map(lambda w: _take(w, index), matrix)
  if blocks is None:
    return _plain_product(x, matrix['plain'], matrix.get('scale'))
  if len(x) >= UNBLOCK_ROWS:
    y = _plain_product(x, _from_blocks(_take(blocks, index)), None)
  else:
    y = _blocked_product(x, blocks, index)
  return y * matrix['scale'] if 'scale' in matrix else y


def _take(stack: Array, index: Index) -> Array:
  for i in index:
    stack = jax.lax.dynamic_index_in_dim(
        stack, i, keepdims=False, allow_negative_indices=False
    )
  return stack


def _slice(stack: Array, index: Index, axis: int, i: int) -> jax.Array:
  """Returns slice i of an axis of stack[index], without that axis, as floats.

  Taken in one step, as XLA would not fuse a slice of a slice into its use.
  """
  axis += len(index)
  start, size = [*index, *[0] * (stack.ndim - len(index))], list(stack.shape)
  start[axis] = i
  gone = (*range(len(index)), axis)
  for j in gone:
    size[j] = 1
  found = jax.lax.dynamic_slice(
      stack, start, size, allow_negative_indices=False
  )
  found = restore(jax.lax.squeeze(found, gone))
  return jax.lax.convert_element_type(found, jnp.float32)


def store(x: Any) -> Any:
  """Returns an array in its stored form: on CPUs, bfloat16 as raw bits."""
  # XLA's CPU backend would turn whole arrays of bfloat16 into float32.
  if x.dtype != jnp.bfloat16 or jax.default_backend() != 'cpu':
    return x
  return x.view(jnp.uint16)


def restore(x: Array) -> Array:
  """Undoes `store`."""
  if x.dtype != jnp.uint16:
    return x
  return jax.lax.bitcast_convert_type(x, jnp.bfloat16)


def num_chunks(length: int) -> int:
  """Returns how many chunks of TERMS `multiply_each` splits a length into."""
  return length // math.gcd(length, TERMS) if _is_unrolled() else 1


def multiply_each(
    x: Float[Array, 'b n i'],
    matrices: Array,
    index: Index = (),
    terms: int | None = None,
) -> Float[Array, 'b n chunks o']:
  """Multiplies each row with a matrix of its own.

  Args:
    x: [batch, heads, in].
    matrices: [..., batch, heads, in, out], from `store`.
    index: Index into the leading axes of `matrices`.
    terms: Inputs per chunk; all of them by default.

  Returns:
    [batch, heads, chunks, out] float32, which the caller sums over
    chunks: if the sum were fused into its use, each chunk would be a call.
  """
  if not _is_unrolled():
    chosen = _take(matrices, index)
    return jnp.einsum(
        'bni,bnio->bno', x.astype(chosen.dtype), chosen,
        preferred_element_type=jnp.float32,
    )[:, :, None]  # fmt: skip
  product = functools.partial(_sums_of_terms, terms=terms or x.shape[2])
  size = math.prod(matrices.shape[len(index) :]) * matrices.dtype.itemsize
  if size < SHARED_BYTES:
    return product(x, matrices, index)
  return _apart(product, x, matrices, index)


def _sums_of_terms(
    x: jax.Array, matrices: Array, index: Index, terms: int
) -> jax.Array:
  terms = math.gcd(x.shape[2], terms)
  x = x.reshape(*x.shape[:2], -1, terms)
  stack = matrices.shape[: len(index)]
  matrices = matrices.reshape(*stack, *x.shape, -1)
  rows = [_slice(matrices, index, 3, i) for i in range(terms)]
  return _add_up(jnp.moveaxis(x, -1, 0), rows)


def _is_unrolled() -> bool:
  return jax.default_backend() == 'cpu'


def _add_up(x: jax.Array, rows: list[Array]) -> jax.Array:
  """Returns the sum of x[i] * rows[i], broadcast along the last axes of rows.

  Two chains keep an addition from waiting for the one before; lax traces many
  times faster than jax.numpy.
  """
  dims, shape = tuple(range(x.ndim - 1)), rows[0].shape
  spread = lambda i: jax.lax.broadcast_in_dim(
      jax.lax.index_in_dim(x, i, keepdims=False), shape, dims
  )
  terms = [jax.lax.mul(spread(i), row) for i, row in enumerate(rows)]
  chains = [terms[::2], terms[1::2]] if len(terms) > 1 else [terms]
  sums = [functools.reduce(jax.lax.add, chain) for chain in chains]
  return functools.reduce(jax.lax.add, sums)


def _to_blocks(matrix: np.ndarray) -> np.ndarray:
  """Reshapes matrices to [..., chunks, blocks, TERMS, LANES]."""
  *stack, out, inner = matrix.shape
  y = matrix.reshape(*stack, out // LANES, LANES, inner // TERMS, TERMS)
  return store(np.ascontiguousarray(np.moveaxis(y, -3, -1).swapaxes(-4, -3)))


def _from_blocks(blocks: jax.Array) -> jax.Array:
  """Undoes `_to_blocks`; the result is in a float type that is exact."""
  y = restore(blocks).transpose(1, 3, 0, 2)
  if y.dtype == jnp.int8:
    y = y.astype(jnp.bfloat16)
  return y.reshape(y.shape[0] * LANES, -1)


def _blocked_product(x: jax.Array, blocks: Array, index: Any) -> jax.Array:
  rows = len(x)
  pairs = x[None]
  if rows > 1:
    pairs = jnp.pad(x, ((0, rows % 2), (0, 0))).reshape(-1, 2, x.shape[1])
  parts = _apart(_sums_of_chunks, pairs, blocks, index)
  # Kept apart: fused, its terms would become calls instead of vector code.
  y = _apart(_add_slices, parts)
  if rows == 1:
    return y.reshape(1, -1)
  return jnp.stack([y.real, y.imag], axis=1).reshape(2 * len(y), -1)[:rows]


def _add_slices(parts: jax.Array) -> jax.Array:
  return functools.reduce(jnp.add, [parts[i] for i in range(len(parts))])


def _sums_of_chunks(x: jax.Array, blocks: Array, index: Any) -> jax.Array:
  """Multiplies [groups, rows, in]; packs two rows into complex numbers.

  Returns:
    [chunks, groups, blocks, LANES], still to be summed over chunks.
  """
  x = x.reshape(*x.shape[:2], -1, TERMS).transpose(1, 3, 2, 0)
  chunks, blocks_in_chunk = blocks.shape[-4:-2]
  shape = chunks, x.shape[3], blocks_in_chunk, LANES
  rows = [
      jax.lax.broadcast_in_dim(_slice(blocks, index, 2, i), shape, (0, 2, 3))
      for i in range(TERMS)
  ]
  parts = [_add_up(one, rows) for one in x]
  # For two outputs, XLA would read the matrix twice.
  return parts[0] if len(parts) == 1 else jax.lax.complex(*parts)


def _apart(function: Any, *args: Any) -> Any:
  """Calls a function so that XLA does not recompute it at each use."""
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
