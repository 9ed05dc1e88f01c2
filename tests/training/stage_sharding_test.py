"""Tests that a stage trains alike on one device and on eight."""

import json
import pathlib
import subprocess
import sys

from absl.testing import absltest
from musiclm_jax.training import sharding
import pytest

# The devices of a process cannot change, so that this needs one of its own. Of
# plain gradient descent the parameters show the gradients.
SCRIPT = """
import json
import jax, numpy as np, optax
from jax.sharding import Mesh
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.training import programs, sharding, stage as stage_lib

stage = stages.get_stage('coarse', 0.08)
rng = np.random.default_rng(0)
ids = lambda *shape: rng.integers(1024, size=shape)
batch = {
    'inputs': stage.to_ids(ids(8, 1, 12), stage.inputs[0]).reshape(8, -1),
    'targets': stage.to_ids(ids(8, 4, 4), stage.targets).reshape(8, -1)}
semantic = stage.to_ids(ids(8, 2, 1), stage.inputs[1]).reshape(8, -1)
batch['inputs'] = np.concatenate([batch['inputs'], semantic], axis=1)
batch = {k: v.astype(np.int32) for k, v in batch.items()}

def train(shape, fsdp=False, scan_layers=False, num_microbatches=1):
  config = transformer.TransformerConfig(
      num_layers=2, num_heads=4, head_dim=8, embed_dim=32, mlp_dim=64,
      dropout=0.0, scan_layers=scan_layers,
      remat='full' if scan_layers else 'none')
  model = stage_lib.StageModel(stage, config, optax.sgd(1.0, momentum=0.9))
  devices = np.array(jax.devices()[:shape[0] * shape[1]])
  mesh = Mesh(devices.reshape(shape), ('data', 'model'))
  program = programs.Program(
      model, mesh, batch, num_microbatches, 0, sharding.rules(fsdp))
  state = program.initial_state()
  before = jax.device_get(state.params)
  for _ in range(2):
    state, metrics, _ = program.train_step(state, batch)
  moved = jax.tree.map(lambda a, b: a - b, before, jax.device_get(state.params))
  return state, moved, float(metrics['loss'].compute())

def share(x):
  return x.addressable_shards[0].data.size / x.size

MESHES = [((8, 1), False), ((2, 4), False), ((8, 1), True), ((4, 2), True)]
results = {}
for scan_layers in (False, True):
  _, expected, loss = train((1, 1), scan_layers=scan_layers)
  norm = float(optax.global_norm(expected))
  for shape, fsdp in MESHES[-1:] if scan_layers else MESHES:
    state, moved, other = train(
        shape, fsdp, scan_layers, num_microbatches=2 if scan_layers else 1)
    error = max(jax.tree.leaves(jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), moved, expected))) / norm
    layer = state.params['layers' if scan_layers else 'layers_0']
    trace = state.opt_state[0].trace['layers' if scan_layers else 'layers_0']
    results[f'{shape} {fsdp} {scan_layers}'] = {
        'norm': norm, 'error': error, 'loss': abs(other - loss),
        'share': share(layer['mlp']['up']['kernel']),
        'trace': share(trace['mlp']['up']['kernel']),
        'head': share(state.params['head'])}
print(json.dumps(results))
"""


@pytest.mark.slow
class StageShardingTest(absltest.TestCase):

  def test_trains_alike(self):
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        env={
            'PYTHONPATH': str(pathlib.Path(sharding.__file__).parents[2]),
            'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
            'JAX_PLATFORMS': 'cpu',
        },
        capture_output=True,
    )
    self.assertEqual(done.returncode, 0, done.stderr.decode()[-2000:])
    results = json.loads(done.stdout)
    # What each device holds of a matrix, and of the head.
    shares = {
        '(8, 1) False': (1, 1),
        '(2, 4) False': (1 / 4, 1 / 4),
        '(8, 1) True': (1 / 8, 1 / 8),
        '(4, 2) True': (1 / 8, 1 / 8),
    }
    self.assertLen(results, len(shares) + 1)
    for name, found in results.items():
      with self.subTest(name):
        matrix, head = shares[name.rpartition(' ')[0]]
        self.assertGreater(found['norm'], 0.1)
        self.assertLess(found['error'], 1e-5)
        self.assertLess(found['loss'], 1e-5)
        self.assertEqual(found['share'], matrix)
        # The optimizer's state is split as the parameters are.
        self.assertEqual(found['trace'], matrix)
        self.assertEqual(found['head'], head)


if __name__ == '__main__':
  absltest.main()
