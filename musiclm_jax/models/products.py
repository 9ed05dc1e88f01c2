"""Products of arrays, in the form that is fast on each backend.

In bfloat16, sums and the gradients of parameters are float32; gradients that
flow back through products are bfloat16.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import contextvars
import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    'platform', default=None
)


@contextlib.contextmanager
def compiled_for(platform: str) -> Iterator[None]:
  """Chooses the form of products for another platform than this machine's.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'.
  """
  token = _platform.set(platform)
  try:
    yield
  finally:
    _platform.reset(token)


def einsum(
    spec: str,
    a: ArrayLike,
    b: ArrayLike,
    dtype: DTypeLike,
    out_dtype: DTypeLike | None = None,
) -> Float[Array, '...']:
  """Multiplies two arrays, as `jnp.einsum` does.

  Args:
    spec: Axes, e.g. 'btd,dh->bth': each letter is in two or three terms.
    a: The first array; cast to `dtype`.
    b: The second array; cast to `dtype`.
    dtype: Data type of the arithmetic; sums are float32.
    out_dtype: Data type of the result; `dtype` if None.

  Returns:
    The product.
  """
  return _einsum(
      spec,
      jnp.dtype(dtype),
      jnp.dtype(out_dtype or dtype),
      jnp.asarray(a),
      jnp.asarray(b),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _einsum(spec, dtype, out_dtype, a, b):
  return _product(spec, a.astype(dtype), b.astype(dtype), out_dtype)


def _forward(spec, dtype, out_dtype, a, b):
  # `a` is kept cast; `b`, often a parameter and kept anyway, is not.
  kept = a.astype(dtype), b, jnp.zeros((0,), a.dtype)
  return _einsum(spec, dtype, out_dtype, a, b), kept


def _backward(spec, dtype, out_dtype, kept, gradient):
  del out_dtype
  a, b, a_like = kept
  gradient = gradient.astype(dtype)
  (a_dims, b_dims), out_dims = _parse(spec)
  return (
      _product(
          f'{out_dims},{b_dims}->{a_dims}',
          gradient,
          b.astype(dtype),
          a_like.dtype,
      ),
      _product(f'{a_dims},{out_dims}->{b_dims}', a, gradient, b.dtype),
  )


_einsum.defvjp(_forward, _backward)


def _parse(spec: str) -> tuple[list[str], str]:
  inputs, output = spec.split('->')
  return inputs.split(','), output


def _product(spec, a, b, out_dtype):
  if (_platform.get() or jax.default_backend()) != 'cpu':
    return jnp.einsum(spec, a, b, preferred_element_type=out_dtype)
  return _cpu_product(spec, a, b).astype(out_dtype)


def _cpu_product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
  """Multiplies in the one form that XLA passes to its fast library.

  XLA computes other forms, and products with a bfloat16 result, in float32.
  """
  (a_dims, b_dims), out_dims = _parse(spec)
  pairs = ((a, a_dims), (b, b_dims)), ((b, b_dims), (a, a_dims))
  sizes = dict(zip(a_dims + b_dims, a.shape + b.shape, strict=True))
  pair = min(pairs, key=lambda pair: _moved(pair, out_dims, sizes))
  (left, left_dims), (right, right_dims) = pair
  batch, rows, columns, summed = _sort(left_dims, right_dims, out_dims)
  transposed = [*right_dims] == [*batch, *columns, *summed]
  inner = (columns, summed) if transposed else (summed, columns)
  left = _arrange(left, left_dims, (batch, rows, summed))
  right = _arrange(right, right_dims, (batch, *inner))
  last = left.ndim - 1
  y = jax.lax.dot_general(
      left,
      right,
      (
          ((last,), (last if transposed else last - 1,)),
          (tuple(range(last - 1)),) * 2,
      ),
      preferred_element_type=jnp.float32,
  )
  dims = [*batch, *rows, *columns]
  if dims != [*out_dims]:
    y = _keep_layout(y)
  y = y.reshape([sizes[d] for d in dims])
  return jnp.transpose(y, [dims.index(d) for d in out_dims])


def _sort(left: str, right: str, out: str) -> tuple[list[str], ...]:
  """Returns the batch axes, those of rows and of columns, and the summed."""
  batch = [d for d in out if d in left and d in right]
  return (
      batch,
      [d for d in out if d in left and d not in batch],
      [d for d in out if d in right and d not in batch],
      [d for d in left if d not in out],
  )


def _moved(pair, out_dims: str, sizes: Mapping[str, int]) -> int:
  """Returns how many bytes a product of left and right must rearrange."""
  (left, left_dims), (right, right_dims) = pair
  batch, rows, columns, summed = _sort(left_dims, right_dims, out_dims)
  moved = 0
  if [*left_dims] != [*batch, *rows, *summed]:
    moved += left.size * left.dtype.itemsize
  if [*right_dims] not in (
      [*batch, *columns, *summed],
      [*batch, *summed, *columns],
  ):
    moved += right.size * right.dtype.itemsize
  if [*out_dims] != [*batch, *rows, *columns]:
    moved += math.prod(sizes[d] for d in out_dims) * 4  # Sums are float32.
  return moved


def _arrange(
    x: jax.Array, dims: str, groups: Sequence[Sequence[str]]
) -> jax.Array:
  """Joins the axes of each group; an empty first group has no axis."""
  order = [dims.index(d) for group in groups for d in group]
  shape = [math.prod(x.shape[dims.index(d)] for d in g) for g in groups]
  shape = shape if groups[0] else shape[1:]
  if order == sorted(order):
    return x.reshape(shape)
  return _keep_layout(jnp.transpose(x, order).reshape(shape))


def _keep_layout(x: jax.Array) -> jax.Array:
  """Keeps XLA from folding a transpose into the product.

  That would give the product a slow form, or one that the library lacks.
  """
  # The extra axis between the barriers forces the default layout.
  y = x.reshape(*x.shape[:-1], 1, x.shape[-1])
  return jax.lax.optimization_barrier(
      jax.lax.optimization_barrier(y).reshape(x.shape)
  )
