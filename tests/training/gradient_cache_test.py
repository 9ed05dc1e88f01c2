"""Tests for gradient_cache."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.training import gradient_cache
import numpy as np


def embed(kernel, index, rows):
  del index
  hidden = jnp.tanh(rows @ kernel)
  return jnp.tanh(hidden @ kernel.T)


def loss(kernel, rows, num_parts):
  """A loss in which each row depends on all others."""
  outputs = gradient_cache.map_parts(
      lambda *part: embed(kernel, *part), rows, num_parts
  )
  return jnp.mean(jax.nn.logsumexp(outputs @ outputs.T, axis=1))


def random(*shape):
  values = np.random.default_rng(0).standard_normal(shape)
  return jnp.asarray(values, jnp.float32)


class MapPartsTest(parameterized.TestCase):

  @parameterized.parameters(2, 3, 12)
  def test_parts_change_neither_loss_nor_gradient(self, num_parts):
    kernel, rows = random(4, 6), random(12, 4)
    whole = jax.value_and_grad(loss)(kernel, rows, 1)
    split = jax.value_and_grad(loss)(kernel, rows, num_parts)
    np.testing.assert_allclose(split[0], whole[0], rtol=1e-6)
    np.testing.assert_allclose(split[1], whole[1], rtol=1e-5, atol=1e-6)

  def test_parts_are_interleaved(self):
    seen = gradient_cache.map_parts(
        lambda index, rows: rows * 10 + index, jnp.arange(6), 2
    )
    np.testing.assert_array_equal(seen, [0, 11, 20, 31, 40, 51])

  def test_what_is_between_is_not_kept(self):
    kernel, rows = random(8, 4096), random(64, 8)
    gradient = jax.jit(jax.grad(loss), static_argnums=2)
    whole, split = (
        gradient.lower(kernel, rows, n).compile().memory_analysis()
        for n in (1, 8)
    )
    # 64 rows of 4096 hidden values, or 8 of them and a gradient.
    self.assertGreater(whole.temp_size_in_bytes, 4 * 64 * 4096)
    self.assertLess(split.temp_size_in_bytes, whole.temp_size_in_bytes / 2)

  @parameterized.parameters(0, 5)
  def test_rejects_parts_that_do_not_divide(self, num_parts):
    with self.assertRaisesRegex(
        ValueError, f'divide a batch of 12, but is {num_parts}. Set TOWER_MICRO'
    ):
      loss(random(4, 6), random(12, 4), num_parts)


if __name__ == '__main__':
  absltest.main()
