"""Tests that eight devices sample what one does."""

import json
import os
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import pytest

# The devices of a process cannot change, so that this needs one of its own.
SCRIPT = """
import json
import jax, jax.numpy as jnp, numpy as np
from unittest import mock
from musiclm_jax.models import transformer
from musiclm_jax.sampling import choosing, decode, spreading
from musiclm_jax.stages import base as stages

def make(name, seconds):
  stage = stages.get_stage(name, seconds)
  # Wide enough for the layout that stacks the layers.
  config = transformer.TransformerConfig(
      num_layers=2, num_heads=2, head_dim=64, embed_dim=128, mlp_dim=128,
      frame_bias=True)
  module = transformer.StageTransformer(config, stage)
  shapes = [
      jnp.zeros((1, n), jnp.int32) for n in stage.feature_lengths.values()]
  expected = jax.eval_shape(module.init, jax.random.key(0), *shapes)['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: (0.1 if x.ndim > 1 else 1) * jnp.asarray(
          rng.normal(size=x.shape), x.dtype), expected)
  return stage, decode.StageDecoder(stage, config, params)

def inputs(stage, rows, seed):
  rng = np.random.default_rng(seed)
  return {
      s.name: rng.integers(
          s.codebook_size, dtype=np.int32,
          size=(rows, s.num_frames(stage.crop_seconds), s.num_quantizers))
      for s in stage.inputs}

def sample(stage, decoder, rows, guided, known):
  rng = np.random.default_rng(2)
  targets = stage.targets
  prefix = rng.integers(
      targets.codebook_size, size=(rows, known, targets.num_quantizers))
  config = choosing.SamplingConfig(guidance_scale=2.0 if guided else 1.0)
  return decoder.sample(
      inputs(stage, rows, 0), prefix.astype(np.int32),
      targets.num_frames(stage.crop_seconds),
      np.arange(2 * rows).reshape(rows, 2), np.zeros(rows, int), config,
      inputs(stage, rows, 1) if guided else None)

decode.MAX_ROWS = 2  # Of a device, so that some have to wait their turn.
results = {'devices': jax.local_device_count()}
for rows in (1, 6, 8, 16, 19):
  results[f'{rows} share'] = spreading.num_devices(rows)
for name, seconds in (('semantic', 1.0), ('coarse', 0.24)):
  stage, decoder = make(name, seconds)
  for rows in (3, 8, 19):
    for guided in ((False, True) if name == 'coarse' else (False,)):
      args = stage, decoder, rows, guided, 1
      spread = sample(*args)
      with mock.patch.object(jax, 'local_device_count', return_value=1):
        alone = sample(*args)
      results[f'{name} {rows} {guided}'] = bool(np.array_equal(spread, alone))
      results[f'{name} {rows} {guided} codes'] = len(np.unique(alone))
print(json.dumps(results))
"""


@pytest.mark.slow
class SpreadingTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    flags = '--xla_force_host_platform_device_count=8'
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        env={**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        check=True,
    )
    cls.results = json.loads(result.stdout.splitlines()[-1])

  def test_rows_are_shared_evenly(self):
    self.assertEqual(self.results['devices'], 8)
    for rows, devices in ((1, 1), (6, 6), (8, 8), (16, 8), (19, 1)):
      self.assertEqual(self.results[f'{rows} share'], devices)

  @parameterized.product(
      case=('semantic', 'coarse', 'guided coarse'),
      rows=(3, 8, 19),
  )
  def test_samples_what_one_device_does(self, case, rows):
    name = f"{case.split()[-1]} {rows} {'guided' in case}"
    self.assertTrue(self.results[name])
    self.assertGreater(self.results[f'{name} codes'], rows)


if __name__ == '__main__':
  absltest.main()
