"""Tests for matvec."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import matvec
import numpy as np

OUT, IN = 48, 192  # 3 blocks, 3 chunks.
# Relative, rms; the first with weights alone, the other with inputs rounded.
ERRORS = {
    'float32': (0, 1e-6, 1e-6),
    'bfloat16': (1e-3, 3e-3, 3e-3),
    'int8': (3e-3, 1e-2, 2e-2),
}


def draw(*shape):
  rng = np.random.default_rng(sum(shape))
  return rng.normal(size=shape).astype(np.float32)


def error(found, expected):
  return np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))


class MatvecTest(parameterized.TestCase):

  @parameterized.product(dtype=matvec.DTYPES, rows=[1, 2, 3, 40])
  def test_products_of_blocks(self, dtype, rows):
    x, matrix = jnp.asarray(draw(rows, IN)), draw(OUT, IN)
    packed = matvec.pack(matrix, dtype)
    self.assertIn('blocks', packed)
    low, high, _ = ERRORS[dtype]
    found = jax.jit(matvec.multiply)(x, packed)
    self.assertEqual(found.dtype, jnp.float32)
    self.assertBetween(error(found, x @ matrix.T), low, high)

  @parameterized.product(dtype=matvec.DTYPES, rows=[1, 8])
  def test_products_without_blocks(self, dtype, rows):
    x, matrix = jnp.asarray(draw(rows, IN + 2)), draw(OUT, IN + 2)
    packed = matvec.pack(matrix, dtype)
    self.assertIn('plain', packed)
    low, _, high = ERRORS[dtype]
    found = jax.jit(matvec.multiply)(x, packed)
    self.assertBetween(error(found, x @ matrix.T), low, high)

  @parameterized.parameters((OUT + 1, IN), (OUT, IN + 2))
  def test_sizes_that_do_not_make_blocks(self, out, inner):
    x, matrix = jnp.asarray(draw(1, inner)), draw(out, inner)
    packed = matvec.pack(matrix, 'float32')
    self.assertIn('plain', packed)
    np.testing.assert_allclose(
        matvec.multiply(x, packed), x @ matrix.T, rtol=1e-5, atol=1e-5
    )

  @parameterized.parameters(*matvec.DTYPES)
  def test_a_row_does_not_depend_on_the_others(self, dtype):
    packed = matvec.pack(draw(OUT, IN), dtype)
    x, multiply = jnp.asarray(draw(5, IN)), jax.jit(matvec.multiply)
    together = multiply(x, packed)
    for i in range(5):
      np.testing.assert_array_equal(multiply(x[i : i + 1], packed)[0],
                                    together[i])  # fmt: skip

  @parameterized.product(dtype=['float32', 'int8'], inner=[IN, IN + 2])
  def test_one_of_a_stack(self, dtype, inner):
    x = jnp.asarray(draw(2, inner))
    matrices = np.stack([i * draw(OUT, inner) for i in (1, 2, 3)])
    stack = matvec.pack(matrices, dtype)
    multiply = jax.jit(matvec.multiply)
    for i, matrix in enumerate(matrices):
      np.testing.assert_allclose(
          multiply(x, {**stack, 'index': i}),
          multiply(x, matvec.pack(matrix, dtype)),
          rtol=1e-5,
      )

  @parameterized.parameters(IN, IN + 2)
  def test_a_channel_of_zeros(self, inner):
    matrix = draw(OUT, inner)
    matrix[7] = 0
    for rows in (1, 8):
      packed = matvec.pack(matrix, 'int8')
      found = matvec.multiply(jnp.asarray(draw(rows, inner)), packed)
      np.testing.assert_array_equal(found[:, 7], 0)
      self.assertTrue(np.all(np.isfinite(found)))

  @parameterized.product(
      length=[5, 128],
      dtype=['float32', 'bfloat16'],
      index=[(), (1,), (1, 0)],
      terms=[None, 32],
  )
  def test_a_matrix_for_each_row(self, length, dtype, index, terms):
    x, stack = jnp.asarray(draw(2, 3, length)), draw(2, 2, 2, 3, length, 8)
    stored = matvec.store(jnp.asarray(stack, dtype))[(0,) * (2 - len(index))]
    chosen = stack[(0,) * (2 - len(index))][index]
    expected = np.einsum('bni,bnio->bno', x, chosen)
    found = matvec.multiply_each(x, stored, index, terms)
    chunk = math.gcd(length, terms or length)
    self.assertEqual(found.shape, (2, 3, length // chunk, 8))
    self.assertLess(error(found.sum(2), expected), ERRORS[dtype][1])


if __name__ == '__main__':
  absltest.main()
