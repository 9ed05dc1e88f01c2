"""Tests for costs."""

import dataclasses
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.training import costs
from musiclm_jax.training import devices
from musiclm_jax.training import stage as stage_lib
import numpy as np
import optax

from tests.training import fake

CONFIG = transformer.TransformerConfig(
    num_layers=3,
    num_heads=4,
    head_dim=32,
    embed_dim=128,
    mlp_dim=512,
    dropout=0.0,
)
BATCH = 2


def make_model(**changes):
  return stage_lib.StageModel(
      stages.get_stage('semantic', 4.0),
      dataclasses.replace(CONFIG, **changes),
      optax.adam(1e-3),
  )


def specs_of(model, batch=BATCH):
  return {
      name: jax.ShapeDtypeStruct((batch, length), jnp.int32)
      for name, length in model.stage.feature_lengths.items()
  }


class CountFlopsTest(absltest.TestCase):

  def test_products_by_hand(self):
    a, b = jnp.ones((2, 3, 4)), jnp.ones((2, 4, 5))
    self.assertEqual(costs.count_flops(jnp.matmul, a, b), 2 * 2 * 3 * 4 * 5)

  def test_convolutions_by_hand(self):
    def convolve(x, kernel):
      return jax.lax.conv_general_dilated(
          x, kernel, (2,), 'VALID', dimension_numbers=('NHC', 'HIO', 'NHC')
      )

    # 8 outputs of 6 channels, each of 3 frames of 5 channels.
    flops = costs.count_flops(
        convolve, jnp.ones((1, 17, 5)), jnp.ones((3, 5, 6))
    )
    self.assertEqual(flops, 2 * 8 * 6 * 3 * 5)

  def test_loops_count_as_often_as_they_run(self):
    def loop(x):
      return jax.lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, length=7)[0]

    self.assertEqual(costs.count_flops(loop, jnp.ones((4, 4))), 7 * 2 * 4**3)


class TrainFlopsTest(parameterized.TestCase):

  @parameterized.product(
      scan_layers=(False, True), remat=('none', 'dots', 'full')
  )
  def test_closed_form_of_a_stage(self, scan_layers, remat):
    model = make_model(scan_layers=scan_layers, remat=remat)
    c, lengths = CONFIG, model.stage.feature_lengths
    length = sum(lengths.values())
    # qkv and out, gate, up and down; then keys with queries, and values.
    layer = length * (4 * c.embed_dim**2 + 3 * c.embed_dim * c.mlp_dim)
    layer += 2 * length**2 * c.embed_dim
    head = lengths['targets'] * c.embed_dim * 1024
    # Two products of the backward pass to one of the forward pass.
    expected = 3 * 2 * BATCH * (c.num_layers * layer + head)
    self.assertEqual(costs.train_flops(model, specs_of(model)), expected)

  def test_xla_counts_about_as_many(self):
    model = make_model()
    specs = specs_of(model)
    loss, args = costs.loss_of(model, costs.variables(model, specs), specs)
    lowered = jax.jit(jax.grad(loss)).lower(*args)
    found = costs.train_flops(model, specs)
    # XLA's count has everything else, too: softmax, norms, GELU.
    self.assertBetween(lowered.cost_analysis()['flops'] / found, 1, 1.15)

  def test_mutables(self):
    model = fake.FakeModel(optax.sgd(0.1))
    specs = {
        'x': jax.ShapeDtypeStruct((8, 4), jnp.float32),
        'y': jax.ShapeDtypeStruct((8,), jnp.float32),
    }
    # 4 to 8 to 1, without the gradient of the input.
    products = 8 * (4 * 8 * 2 + 8 * 3)
    self.assertEqual(costs.train_flops(model, specs), 2 * products)


class RatesTest(absltest.TestCase):

  def test_by_hand(self):
    rates = costs.Rates(
        'tokens', count=100, examples=5, flops=1000, peak=10000.0
    )
    self.assertEqual(
        rates.at(4.0),
        {
            'tokens_per_second': 400,
            'examples_per_second': 20,
            'flops_per_second': 4000,
            'mfu': 0.4,
        },
    )

  def test_of_a_run(self):
    model = make_model()
    specs = specs_of(model)
    rates = costs.rates(model, specs)
    self.assertEqual(rates.flops, costs.train_flops(model, specs))
    if jax.default_backend() == 'cpu':  # Whose peak nobody knows.
      self.assertNotIn('mfu', rates.at(1.0))
    with mock.patch.object(
        devices, 'find', return_value=devices.get_device('v4')
    ):
      rates = costs.rates(model, specs)
    self.assertEqual(rates.peak, 275e12 * jax.device_count())


class BytesTest(absltest.TestCase):

  def test_rematerialization_keeps_less(self):
    kept = {}
    for remat in transformer.REMATS:
      model = make_model(remat=remat)
      kept[remat] = costs.kept_bytes(model, specs_of(model))
    self.assertGreater(kept['none'], kept['dots'])
    self.assertGreater(kept['dots'], kept['full'])
    # The input of each layer at least.
    length = sum(model.stage.feature_lengths.values())
    inputs = 4 * BATCH * CONFIG.num_layers * length * CONFIG.embed_dim
    self.assertBetween(kept['full'], inputs, kept['none'] / 2)

  def test_grows_with_the_rows(self):
    model = make_model()
    one, two, four = (
        costs.activation_bytes(model, specs_of(model, rows))
        for rows in (1, 2, 4)
    )
    # All but what rows share: the bias of attention.
    np.testing.assert_allclose(four - two, 2 * (two - one), rtol=0.01)

  def test_units(self):
    model = make_model()
    self.assertEqual(
        costs.units(specs_of(model)), ('tokens', BATCH * (12 + 100))
    )
    audio = {'audio': jax.ShapeDtypeStruct((3, 100), jnp.float32)}
    self.assertEqual(costs.units(audio), ('examples', 3))


if __name__ == '__main__':
  absltest.main()
