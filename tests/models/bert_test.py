"""Tests for bert."""

from absl.testing import absltest
import jax
from musiclm_jax.models import bert
import numpy as np

CONFIG = bert.BertConfig(
    vocab_size=30,
    num_layers=1,
    num_heads=2,
    embed_dim=8,
    mlp_dim=16,
    max_length=6,
    dropout_rate=0.5,
    pooling='mean',
)
IDS = np.array([[2, 5, 9, 3, 0, 0], [2, 7, 3, 0, 0, 0]], np.int32)


class BertTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    model = bert.Bert(CONFIG)
    cls.variables = jax.jit(model.init)(jax.random.key(0), IDS)
    cls.apply = staticmethod(
        jax.jit(model.apply, static_argnames=('deterministic', 'method'))
    )

  def test_padding_changes_nothing(self):
    pooled = self.apply(self.variables, IDS)
    shorter = self.apply(self.variables, IDS[1:, :3])
    np.testing.assert_allclose(pooled[1:], shorter, atol=1e-5)

  def test_pooling(self):
    encoded = np.asarray(self.apply(self.variables, IDS, method='encode'))
    mean = self.apply(self.variables, IDS)
    np.testing.assert_allclose(mean[0], encoded[0, :4].mean(0), atol=1e-5)
    config = bert.BertConfig(**{**vars(CONFIG), 'pooling': 'cls'})
    first = jax.jit(bert.Bert(config).apply)(self.variables, IDS)
    np.testing.assert_allclose(first, encoded[:, 0], atol=1e-6)

  def test_a_row_of_padding_is_finite(self):
    pooled = self.apply(self.variables, np.zeros_like(IDS))
    self.assertTrue(np.isfinite(pooled).all())

  def test_dropout_only_when_asked(self):
    rngs = {'dropout': jax.random.key(1)}
    dropped = self.apply(self.variables, IDS, deterministic=False, rngs=rngs)
    kept = self.apply(self.variables, IDS)
    self.assertGreater(np.abs(dropped - kept).max(), 0.01)

  def test_table_is_padded_to_a_multiple_of_128(self):
    table = self.variables['params']['tokens']['embedding']
    self.assertEqual(table.shape, (128, 8))

  def test_rejects_unknown_pooling(self):
    with self.assertRaisesRegex(ValueError, r"\('cls', 'mean'\).*'max'"):
      bert.BertConfig(pooling='max')


if __name__ == '__main__':
  absltest.main()
