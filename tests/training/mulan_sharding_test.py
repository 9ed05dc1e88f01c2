"""Tests that MuLan learns the same on one device as on many."""

import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
# The devices of a process cannot change, so that each count needs one of its
# own. One step of plain gradient descent shows the gradient.
SCRIPT = """
import sys
from flax import traverse_util
import jax, numpy as np, optax
from musiclm_jax.models import bert
from musiclm_jax.models import mulan as mulan_model
from musiclm_jax.models import resnet
from musiclm_jax.training import mulan
from musiclm_jax.training import programs
from musiclm_jax.training import sharding

vocab, output, num_model_partitions, tower_microbatches = sys.argv[1:]
config = mulan_model.MuLanConfig(
    audio=resnet.ResNetConfig(
        num_mels=16, stage_sizes=(1,), width=8, num_groups=2),
    text=bert.BertConfig(
        num_layers=1, num_heads=2, embed_dim=16, mlp_dim=32, max_length=12,
        dropout_rate=0.0),
    embed_dim=8, window_seconds=0.25, num_time_masks=0, num_mel_masks=0)
rng = np.random.default_rng(0)
batch = {
    'audio': rng.uniform(-1, 1, (16, config.window_samples)).astype('float32'),
    'text_ids': rng.integers(4, 60, (16, 12)).astype('int32'),
}
model = mulan.MuLanModel(
    config, optax.sgd(1.0), vocab, tower_microbatches=int(tower_microbatches))
program = programs.Program(
    model, sharding.make_mesh(int(num_model_partitions)), batch, 1, 0)
state = program.initial_state()
before = traverse_util.flatten_dict(jax.device_get(state.params), sep='/')
state, metrics, _ = program.train_step(state, batch)
after = traverse_util.flatten_dict(jax.device_get(state.params), sep='/')
np.savez(
    output, devices=jax.device_count(), loss=metrics['loss'].compute(),
    **{name: before[name] - after[name] for name in before})
"""


def run(num_devices, num_model_partitions=1, tower_microbatches=1):
  """Returns the loss and the gradients of a step of the trainer's program."""
  with tempfile.TemporaryDirectory() as folder:
    vocab, output = (pathlib.Path(folder, n) for n in ('vocab.txt', 'out.npz'))
    pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', *map(str, range(60))]
    vocab.write_text(''.join(f'{piece}\n' for piece in pieces))
    options = map(str, (num_model_partitions, tower_microbatches))
    flag = f'--xla_force_host_platform_device_count={num_devices}'
    subprocess.run(
        [sys.executable, '-c', SCRIPT, vocab, output, *options],
        env={
            'PYTHONPATH': str(ROOT),
            'XLA_FLAGS': flag,
            'JAX_PLATFORMS': 'cpu',
        },
        check=True,
    )
    return dict(np.load(output))


@pytest.mark.slow
class MuLanShardingTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.expected = run(num_devices=1)

  def check(self, found):
    expected = dict(self.expected)
    self.assertEqual((expected.pop('devices'), found.pop('devices')), (1, 8))
    np.testing.assert_allclose(
        found.pop('loss'), expected.pop('loss'), atol=1e-5
    )
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in expected.values()))
    self.assertGreater(norm, 0.1)
    for name, gradient in expected.items():
      np.testing.assert_allclose(
          found[name], gradient, atol=1e-5 * norm, err_msg=name
      )

  def test_rows_on_eight_devices(self):
    self.check(run(num_devices=8))

  def test_both_axes_of_the_mesh_and_towers_in_parts(self):
    self.check(run(8, num_model_partitions=2, tower_microbatches=2))


if __name__ == '__main__':
  absltest.main()
