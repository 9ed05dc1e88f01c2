"""Tests for matvec."""

from unittest import mock

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
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def error(found, expected):
  return np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))


class MatvecTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.enterContext(mock.patch.object(matvec, 'BLOCKED_INT8_SIZE', 0))

  def test_small_int8_matrices_stay_plain(self):
    with mock.patch.object(matvec, 'BLOCKED_INT8_SIZE', OUT * IN + 1):
      self.assertIn('plain', matvec.pack(draw(OUT, IN), 'int8'))
      self.assertIn('blocks', matvec.pack(draw(OUT, IN), 'bfloat16'))

  @parameterized.product(dtype=matvec.DTYPES, rows=[1, 2, 3, 40])
  def test_products_of_blocks(self, dtype, rows):
    x, matrix = draw(rows, IN), draw(OUT, IN)
    packed = matvec.pack(matrix, dtype)
    self.assertIn('blocks', packed)
    low, high, _ = ERRORS[dtype]
    found = jax.jit(matvec.multiply)(x, packed)
    self.assertEqual(found.dtype, jnp.float32)
    self.assertBetween(error(found, x @ matrix.T), low, high)

  @parameterized.product(dtype=matvec.DTYPES, rows=[1, 8])
  def test_products_of_many_rows(self, dtype, rows):
    x, matrix = draw(rows, IN), draw(OUT, IN)
    packed = matvec.pack(matrix, dtype, rows=8)
    self.assertIn('plain', packed)
    low, _, high = ERRORS[dtype]
    found = jax.jit(matvec.multiply)(x, packed)
    self.assertBetween(error(found, x @ matrix.T), low, high)

  @parameterized.parameters((OUT + 1, IN), (OUT, IN + 2))
  def test_sizes_that_do_not_make_blocks(self, out, inner):
    x, matrix = draw(1, inner), draw(out, inner)
    packed = matvec.pack(matrix, 'float32')
    self.assertIn('plain', packed)
    np.testing.assert_allclose(
        matvec.multiply(x, packed), x @ matrix.T, rtol=1e-5, atol=1e-5
    )

  @parameterized.parameters(*matvec.DTYPES)
  def test_a_row_does_not_depend_on_the_others(self, dtype):
    packed = matvec.pack(draw(OUT, IN), dtype)
    x, multiply = draw(5, IN), jax.jit(matvec.multiply)
    together = multiply(x, packed)
    for i in range(5):
      np.testing.assert_array_equal(multiply(x[i : i + 1], packed)[0],
                                    together[i])  # fmt: skip

  @parameterized.product(dtype=['float32', 'int8'], rows=[1, 8])
  def test_one_of_a_stack(self, dtype, rows):
    x = draw(2, IN)
    packed = [matvec.pack(i * draw(OUT, IN), dtype, rows) for i in (1, 2, 3)]
    stack = jax.tree.map(lambda *w: jnp.stack(w), *packed)
    multiply = jax.jit(matvec.multiply)
    for i, matrix in enumerate(packed):
      np.testing.assert_allclose(
          multiply(x, {**stack, 'index': i}), multiply(x, matrix), rtol=1e-5
      )

  def test_a_channel_of_zeros(self):
    matrix = draw(OUT, IN).at[7].set(0)
    for rows in (1, 8):
      found = matvec.multiply(draw(2, IN), matvec.pack(matrix, 'int8', rows))
      np.testing.assert_array_equal(found[:, 7], 0)
      self.assertTrue(np.all(np.isfinite(found)))

  @parameterized.product(
      length=[5, 128], dtype=['float32', 'bfloat16'], index=[None, 1]
  )
  def test_a_matrix_for_each_row(self, length, dtype, index):
    x, matrices = draw(2, 3, length), draw(2, 2, 3, length, 8)
    stored = matvec.store(matrices.astype(dtype))
    expected = jnp.einsum('bni,bnio->bno', x, matrices[1])
    found = matvec.multiply_each(
        x, stored[1] if index is None else stored, index
    )
    self.assertLess(error(found, expected), ERRORS[dtype][1])


if __name__ == '__main__':
  absltest.main()
