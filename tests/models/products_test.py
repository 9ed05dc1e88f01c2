"""Tests for products."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import products
import numpy as np

# As in dense layers, the two products of attention, and the heads of a stage.
CASES = {
    'bti,io->bto': ((2, 5, 8), (8, 6)),
    'btnh,bsnh->bnts': ((2, 5, 3, 4), (2, 7, 3, 4)),
    'bnts,bsnh->btnh': ((2, 3, 5, 7), (2, 7, 3, 4)),
    'bfqd,qcd->bfqc': ((2, 3, 4, 8), (4, 6, 8)),
    'i,io->o': ((8,), (8, 6)),
}


def draw(shape, seed):
  x = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(x, jnp.float32)


def value_and_gradients(product, a, b):
  y, pull = jax.vjp(product, a, b)
  return (y, *pull(draw(y.shape, 2).astype(y.dtype)))


class EinsumTest(parameterized.TestCase):

  @parameterized.parameters(*CASES)
  def test_float32_is_einsum(self, spec):
    a, b = (draw(s, i) for i, s in enumerate(CASES[spec]))
    found, expected = (
        jax.jit(lambda a, b, p=p: value_and_gradients(p, a, b))(a, b)
        for p in (
            lambda a, b: products.einsum(spec, a, b, jnp.float32),
            lambda a, b: jnp.einsum(spec, a, b),
        )
    )
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)

  @parameterized.parameters(*CASES)
  def test_bfloat16_rounds_operands_and_nothing_else(self, spec):
    a, b = (draw(s, i) for i, s in enumerate(CASES[spec]))
    round_ = lambda x: x.astype(jnp.bfloat16).astype(jnp.float32)

    found = value_and_gradients(
        lambda a, b: products.einsum(spec, a, b, jnp.bfloat16, jnp.float32),
        a,
        b,
    )
    y, pull = jax.vjp(lambda a, b: jnp.einsum(spec, a, b), round_(a), round_(b))
    expected = (y, *pull(round_(draw(y.shape, 2))))
    for one, other in zip(found, expected, strict=True):
      self.assertEqual(one.dtype, jnp.float32)
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)

  def test_dtypes_of_results_and_gradients(self):
    a, b = draw((2, 8), 0).astype(jnp.bfloat16), draw((8, 6), 1)
    y, of_a, of_b = value_and_gradients(
        lambda a, b: products.einsum('bi,io->bo', a, b, 'bfloat16'), a, b
    )
    self.assertEqual(
        (y.dtype, of_a.dtype, of_b.dtype),
        (jnp.bfloat16, jnp.bfloat16, jnp.float32),
    )

  def test_products_of_a_backward_pass_stay_bfloat16_on_cpus(self):
    if jax.default_backend() != 'cpu':
      self.skipTest('Other backends choose their own form.')
    a, b = draw((2, 64, 128), 0).astype(jnp.bfloat16), draw((128, 256), 1)
    product = lambda a, b: products.einsum('bti,io->bto', a, b, 'bfloat16')
    program = jax.jit(lambda a, b: value_and_gradients(product, a, b))
    text = program.lower(a, b).compile().as_text()
    dots = [line for line in text.splitlines() if ' dot(' in line]
    self.assertLen(dots, 3)
    # Slow ones read float32 copies of their operands.
    self.assertNotRegex(text, r'f32\[128,256\]\S* convert\(')
    self.assertNotRegex(text, r'f32\[(2,64|128),\d+\]\S* convert\(')

  def test_wide_inputs_of_many_rows(self):
    # The gradient of the matrix is a product that is transposed in the end:
    # XLA has no form for that of bfloat16 on CPUs.
    a, b = draw((4, 512, 768), 0).astype(jnp.bfloat16), draw((768, 256), 1)
    product = lambda a, b: products.einsum('bti,io->bto', a, b, 'bfloat16')
    _, _, found = jax.jit(lambda a, b: value_and_gradients(product, a, b))(a, b)
    gradient = draw((4, 512, 256), 2).astype(jnp.bfloat16).astype(jnp.float32)
    expected = jnp.einsum('bti,bto->io', a.astype(jnp.float32), gradient)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


if __name__ == '__main__':
  absltest.main()
