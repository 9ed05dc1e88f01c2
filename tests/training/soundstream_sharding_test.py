"""Tests that the codec trains alike on one device and on eight."""

import json
import pathlib
import subprocess
import sys

from absl.testing import absltest
from musiclm_jax.training import sharding
import pytest

# The devices of a process cannot change, so that this needs one of its own.
SCRIPT = """
import json
import jax, numpy as np, optax
from jax.sharding import Mesh
from musiclm_jax.models import discriminators, soundstream as codec
from musiclm_jax.training import losses, programs, soundstream

losses.MEL_WINDOWS = (64, 256)  # Less to compile.

# Counts that decay fast, so that codes die within a few steps.
model = soundstream.SoundStreamModel(
    codec.SoundStreamConfig(strides=(20,), channels=2, embed_dim=8,
                            num_quantizers=2, codebook_size=16, decay=0.3),
    discriminators.DiscriminatorConfig(
        stft_channels=2, stft_window=128, stft_hop=32, wave_channels=4,
        wave_scales=1),
    optax.sgd(1e-3))
rng = np.random.default_rng(0)
batches = [
    {'audio': rng.normal(scale=s, size=(8, 320)).astype(np.float32)}
    for s in (0.2, 0.02)]

def train(num_devices):
  devices = np.array(jax.devices()[:num_devices])
  mesh = Mesh(devices.reshape(-1, 1), ('data', 'model'))
  program = programs.Program(model, mesh, batches[0], 1, random_seed=0)
  state, history = program.initial_state(), []
  for batch in batches:
    state, metrics, _ = program.train_step(state, batch)
    books = jax.device_get(state.mutables['codebooks']['quantizer'])
    history.append((books, float(metrics['dead_codes'].compute())))
  return history, state

def difference(a, b):
  # At least 1e-9: biases whose branches begin at zero have moved by 1e-10 only,
  # in sums that cancel, where others have by 1e-5. A device that is left out
  # changes them by more than that, too.
  return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9))

(one, one_state), (eight, eight_state) = train(1), train(8)
params = [jax.device_get(s.params) for s in (one_state, eight_state)]
kernel = eight_state.params['generator']['encoder']['first']['kernel']
print(json.dumps({
    'devices': len(kernel.sharding.device_set),
    'dead': [(a, b) for (_, a), (_, b) in zip(one, eight)],
    'codes': [difference(a['codes'], b['codes'])
              for (a, _), (b, _) in zip(one, eight)],
    'counts': [difference(a['counts'], b['counts'])
               for (a, _), (b, _) in zip(one, eight)],
    'moved': difference(one[1][0]['codes'], one[0][0]['codes']),
    'params': max(map(difference, *map(jax.tree.leaves, params))),
}))
"""


@pytest.mark.slow
class ReplicasTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    flags = (
        '--xla_force_host_platform_device_count=8',
        '--xla_backend_optimization_level=0',  # Compiles faster.
    )
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        env={
            'PYTHONPATH': str(pathlib.Path(sharding.__file__).parents[2]),
            'XLA_FLAGS': ' '.join(flags),
            'JAX_PLATFORMS': 'cpu',
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    cls.found = json.loads(done.stdout)

  def test_eight_devices_took_part(self):
    self.assertEqual(self.found['devices'], 8)

  def test_first_step_initializes_the_same_codebooks(self):
    self.assertLess(self.found['codes'][0], 1e-5)
    self.assertLess(self.found['counts'][0], 1e-5)

  def test_later_steps_move_and_revive_the_same_codes(self):
    one, eight = self.found['dead'][1]
    self.assertGreater(one, 0)
    self.assertEqual(one, eight)
    self.assertGreater(self.found['moved'], 0.1)
    self.assertLess(self.found['codes'][1], 1e-5)
    self.assertLess(self.found['counts'][1], 1e-5)

  def test_networks_learn_the_same(self):
    self.assertLess(self.found['params'], 1e-4)


if __name__ == '__main__':
  absltest.main()
