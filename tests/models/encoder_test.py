"""Tests for encoder."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax.models import encoder
import numpy as np


class EncoderLayerTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.layer = encoder.EncoderLayer(8, 16, 3, head_dim=4, dropout_rate=0.5)
    rng = np.random.default_rng(0)
    cls.x = jnp.asarray(rng.standard_normal((2, 5, 8), np.float32))
    init = jax.jit(lambda key: cls.layer.init(key, cls.x, True))
    cls.params = init(jax.random.key(0))['params']
    cls.apply = staticmethod(
        jax.jit(cls.layer.apply, static_argnames='deterministic')
    )

  def test_heads_need_not_divide_the_width(self):
    shapes = jax.tree.map(jnp.shape, self.params['attention'])
    self.assertEqual(shapes['query']['kernel'], (8, 12))
    self.assertEqual(shapes['out']['kernel'], (12, 8))

  def test_adds_to_the_residual_stream(self):
    silenced = {
        **self.params,
        'attention': jax.tree.map(jnp.zeros_like, self.params['attention']),
        'mlp_out': jax.tree.map(jnp.zeros_like, self.params['mlp_out']),
    }
    y = self.apply({'params': silenced}, self.x, deterministic=True)
    np.testing.assert_array_equal(y, self.x)

  def test_order_of_positions_is_not_known_to_it(self):
    order = np.array([3, 0, 4, 1, 2])
    y = self.apply({'params': self.params}, self.x, deterministic=True)
    permuted = self.apply(
        {'params': self.params}, self.x[:, order], deterministic=True
    )
    np.testing.assert_allclose(permuted, y[:, order], atol=1e-5)
    self.assertGreater(np.abs(y - self.x).max(), 0.1)

  def test_dropout_only_when_asked(self):
    rngs = {'dropout': jax.random.key(1)}
    variables = {'params': self.params}
    dropped = self.apply(variables, self.x, deterministic=False, rngs=rngs)
    kept = self.apply(variables, self.x, deterministic=True)
    self.assertGreater(np.abs(dropped - kept).max(), 0.1)


if __name__ == '__main__':
  absltest.main()
