"""Tests for discriminators."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import discriminators
import numpy as np


class GroupedConvTest(parameterized.TestCase):

  @parameterized.parameters(97, 100)
  def test_matches_a_grouped_convolution(self, length):
    conv = discriminators.GroupedConv(8, 12, jnp.dtype('float32'))
    x = jax.random.normal(jax.random.key(0), (2, length, 8))
    variables = conv.init(jax.random.key(1), x)
    expected = jax.lax.conv_general_dilated(
        x,
        variables['params']['kernel'],
        window_strides=(4,),
        padding='SAME',
        dimension_numbers=('NWC', 'WIO', 'NWC'),
        feature_group_count=2,
    )
    np.testing.assert_allclose(conv.apply(variables, x), expected, atol=1e-5)


class DiscriminatorsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    config = discriminators.DiscriminatorConfig(
        stft_channels=2,
        stft_window=128,
        stft_hop=32,
        other_stft_windows=(256,),
        wave_channels=4,
        wave_scales=2,
    )
    cls.module = discriminators.Discriminators(config)
    cls.audio = jax.random.normal(jax.random.key(0), (2, 512))
    # Values of our own: initializers take longer to compile than networks.
    shapes = jax.eval_shape(
        lambda: cls.module.init(jax.random.key(1), cls.audio)['params']
    )
    rng = np.random.default_rng(0)
    cls.params = jax.tree.map(
        lambda x: rng.normal(scale=0.3, size=x.shape).astype(np.float32), shapes
    )

    def total(params):
      judgements = cls.module.apply({'params': params}, cls.audio)
      return sum(jnp.sum(logits) for logits, _ in judgements), judgements

    cls.gradients, cls.judgements = jax.jit(jax.grad(total, has_aux=True))(
        cls.params
    )

  def test_logits_are_over_time(self):
    shapes = [logits.shape for logits, _ in self.judgements]
    # 17 spectra, and 9, their rates halved three times; waves fall by 4 four
    # times.
    self.assertEqual(shapes, [(2, 3), (2, 2), (2, 2), (2, 1)])

  def test_features_are_of_every_layer(self):
    stft, other, *waves = [features for _, features in self.judgements]
    self.assertLen(stft, 7)
    self.assertEqual(other[0].shape, (2, 9, 128, 2))
    self.assertEqual(stft[0].shape, (2, 17, 64, 2))
    self.assertEqual(stft[-1].shape, (2, 3, 1, 32))
    for features in waves:
      self.assertLen(features, 6)
    self.assertEqual([f[0].shape[1] for f in waves], [512, 256])

  @parameterized.parameters(64, 200)
  def test_rejects_windows_whose_bins_cannot_be_halved(self, window):
    with self.assertRaisesRegex(ValueError, f'of 128, .*one is {window}'):
      discriminators.DiscriminatorConfig(other_stft_windows=(window,))

  def test_all_of_it_is_trained(self):
    for gradient in jax.tree.leaves(self.gradients):
      self.assertGreater(float(jnp.abs(gradient).max()), 0)


if __name__ == '__main__':
  absltest.main()
