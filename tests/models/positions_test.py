"""Tests for positions."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import positions
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
import numpy as np
import torch
import transformers
from transformers.models.t5 import modeling_t5


class RelativeBucketsTest(parameterized.TestCase):

  @parameterized.product(
      sizes=((32, 128), (32, 1024), (16, 100)), bidirectional=(False, True)
  )
  def test_equals_transformers(self, sizes, bidirectional):
    relative = np.arange(-1500, 1500)
    num_buckets, max_distance = sizes
    expected = modeling_t5.T5Attention._relative_position_bucket(
        torch.tensor(relative), bidirectional, num_buckets, max_distance
    )
    buckets = positions.relative_buckets(
        jnp.asarray(relative), num_buckets, max_distance, bidirectional
    )
    np.testing.assert_array_equal(buckets, expected)

  def test_buckets_by_hand(self):
    # 4 exact ones, then 4 that double: 4-7, 8-15, 16-31, and 32 on.
    relative = jnp.array([2, 0, -3, -4, -7, -8, -15, -16, -31, -32, -999])
    buckets = positions.relative_buckets(relative, 8, 64)
    np.testing.assert_array_equal(buckets, [0, 0, 3, 4, 4, 5, 5, 6, 6, 7, 7])


class BiasTest(absltest.TestCase):

  def test_equals_transformers(self):
    num_heads, length = 3, 300
    config = transformer.TransformerConfig(
        num_layers=1,
        num_heads=num_heads,
        head_dim=4,
        embed_dim=12,
        mlp_dim=8,
        max_distance=128,
    )
    theirs = modeling_t5.T5Attention(
        transformers.T5Config(
            d_model=12,
            d_kv=4,
            num_heads=num_heads,
            relative_attention_num_buckets=config.num_buckets,
            relative_attention_max_distance=config.max_distance,
            is_decoder=True,
        ),
        layer_idx=0,
        has_relative_attention_bias=True,
    )
    table = (
        np.random.default_rng(0).normal(size=(num_heads, 32)).astype(np.float32)
    )
    with torch.no_grad():
      theirs.relative_attention_bias.weight.copy_(torch.tensor(table.T))
      expected = theirs.compute_bias(length, length).numpy()

    module = transformer.StageTransformer(config, stages.get_stage('semantic'))
    params = {
        'position_bias': jnp.asarray(table),
        'head': np.zeros((1, 1024, 12)),
    }
    steps = jnp.arange(length)
    frames = jnp.full(length, positions.NO_FRAME)
    bias = module.apply({'params': params}, steps, steps, frames, method='bias')
    causal = np.tril(np.ones((length, length), bool))
    np.testing.assert_allclose(
        bias[..., causal], expected[..., causal], rtol=1e-6
    )
    self.assertEqual(np.max(bias[..., ~causal]), transformer.MASKED)


class NearFirstTest(absltest.TestCase):

  def test_falls_with_distance_on_both_sides(self):
    table = positions.near_first(jax.random.key(0), (2, 8))
    # Distances 0 to 3 of keys before, then of keys after.
    expected = np.array([0, -1, -2, -3] * 2)
    np.testing.assert_allclose(table, [expected, expected / 16])


class FramesTest(absltest.TestCase):

  def test_coarse(self):
    stage = stages.get_stage('coarse')
    # 12 MuLan tokens, 2 semantic frames at half the rate, 3 coarse frames.
    frames = positions.frames(stage, 14, 12)
    expected = [-1] * 12 + [0, 2] + [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(frames, expected)

  def test_fine(self):
    frames = positions.frames(stages.get_stage('fine'), 8, 16)
    expected = [0] * 4 + [1] * 4 + [0] * 8 + [1] * 8
    np.testing.assert_array_equal(frames, expected)

  def test_semantic(self):
    frames = positions.frames(stages.get_stage('semantic'), 12, 3)
    np.testing.assert_array_equal(frames, [-1] * 12 + [0, 1, 2])

  def test_windows_are_not_in_the_sequence(self):
    stage = stages.get_stage('coarse_melody', 7.0)
    frames = positions.frames(stage, 12 + 175, 4 * 350)
    np.testing.assert_array_equal(frames[:12], positions.NO_FRAME)
    np.testing.assert_array_equal(frames[12:187], 2 * np.arange(175))
    np.testing.assert_array_equal(frames[187:], np.repeat(np.arange(350), 4))


if __name__ == '__main__':
  absltest.main()
