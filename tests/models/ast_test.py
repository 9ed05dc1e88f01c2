"""Tests for ast."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax.models import ast
import numpy as np

TINY = ast.AstConfig(
    num_mels=16,
    patch_size=8,
    stride=4,
    num_layers=1,
    num_heads=2,
    embed_dim=8,
    mlp_dim=16,
    dropout_rate=0.5,
)


class AstTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    model = ast.Ast(TINY, num_frames=25)
    rng = np.random.default_rng(0)
    cls.log_mel = rng.standard_normal((2, 25, 16), np.float32)
    cls.variables = jax.jit(model.init)(jax.random.key(1), cls.log_mel)
    cls.apply = staticmethod(
        jax.jit(model.apply, static_argnames='deterministic')
    )

  def test_parameters_of_vit_b(self):
    model = ast.Ast(ast.AstConfig(), num_frames=1001)
    log_mel = jax.ShapeDtypeStruct((1, 1001, 128), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), log_mel)
    d, mlp = 768, 3072
    block = 4 * (d * d + d) + (d * mlp + mlp) + (mlp * d + d) + 4 * d
    patches = 99 * 12  # 16 x 16 at stride 10, over 1001 frames and 128 bands.
    embeddings = (16 * 16 * d + d) + d + (1 + patches) * d
    self.assertEqual(
        sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes['params'])),
        12 * block + embeddings + 2 * d,
    )

  def test_num_patches(self):
    # Frames 0-7, 4-11, … 16-23; bands 0-7, 4-11, 8-15.
    self.assertEqual(TINY.num_patches(25), 5 * 3)

  def test_order_of_patches_matters(self):
    forward = self.apply(self.variables, self.log_mel)
    backward = self.apply(self.variables, self.log_mel[:, ::-1])
    self.assertEqual(forward.shape, (2, 8))
    self.assertGreater(np.abs(forward - backward).max(), 1e-3)

  def test_every_patch_is_read(self):
    def first(log_mel):
      return self.apply(self.variables, log_mel)[0, 0]

    gradient = jax.grad(first)(self.log_mel)
    # The last of 25 frames is beyond the last patch.
    self.assertTrue(np.all(gradient[0, :24] != 0))
    np.testing.assert_array_equal(gradient[1], 0)

  def test_dropout_only_when_asked(self):
    rngs = {'dropout': jax.random.key(2)}
    dropped = self.apply(
        self.variables, self.log_mel, deterministic=False, rngs=rngs
    )
    kept = self.apply(self.variables, self.log_mel)
    self.assertGreater(np.abs(dropped - kept).max(), 0.01)


if __name__ == '__main__':
  absltest.main()
