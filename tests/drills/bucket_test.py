"""A bucket in place of folders: it trains, dies, goes on, and makes music."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl.testing import absltest
import gin
import jax
from jax.experimental.compilation_cache import compilation_cache
from musiclm_jax import cli
from musiclm_jax import paths
from musiclm_jax.audio import io as audio_io
from musiclm_jax.data import datasets
from musiclm_jax.data import token_dataset
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base as tokenizers
from musiclm_jax.training import checkpoints
from musiclm_jax.training import reports
import numpy as np
import pytest

from tests import bucket
from tests import random_model

SIZE = pathlib.Path(__file__).parents[1] / 'campaigns' / 'smallest.gin'
FRAMES = (tokenizers.SEMANTIC, tokenizers.COARSE, tokenizers.FINE)
# The command, which stops for ever before step 13, until it is killed.
SCRIPT = """
import sys, time
from musiclm_jax import cli
from musiclm_jax.training import run

step = run.Run.step

def step_or_stop(self, number, batch):
  if number == 13:
    time.sleep(600)
  step(self, number, batch)

run.Run.step = step_or_stop
sys.exit(cli.main(sys.argv[1:]))
"""


def write_tokens(data_dir, lineage):
  """Writes tokens without music behind them."""
  rng = np.random.default_rng(0)
  width = random_model.MULAN_CONFIG.embed_dim

  def example(i):
    return f'{i}', {
        **{
            s.name: rng.integers(
                s.codebook_size,
                size=(s.num_frames(6.0), s.num_quantizers),
                dtype=np.int32,
            )
            for s in FRAMES
        },
        'mulan': rng.normal(size=(3, width)).astype(np.float32),
        'mulan_text': rng.normal(size=(1, width)).astype(np.float32),
        'captions': ['piano'],
        'caption_weights': np.ones(1, np.float32),
        'id': f'{i}',
        'work': f'{i}',
    }

  written = (tokenizers.MULAN, *FRAMES)
  datasets.write_dataset(
      token_dataset.NAME,
      data_dir,
      {'train': map(example, range(6)), 'validation': map(example, range(2))},
      token_dataset.features(written, {'mulan': width}),
      metadata={
          'lineage': lineage,
          'streams': [s.to_json() for s in written],
          'mulan_window_seconds': 4.0,
      },
      arrays={
          'mulan_codebooks': rng.normal(size=(12, 1024, width)).astype(
              np.float32
          )
      },
  )


@pytest.mark.slow
class BucketDrill(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.bucket = bucket.start(self)
    self.here = self.enterContext(tempfile.TemporaryDirectory())
    self.enterContext(
        mock.patch.dict(os.environ, {'XDG_CACHE_HOME': f'{self.here}/cache'})
    )
    # Its folder goes with this test.
    self.addCleanup(compilation_cache.reset_cache)
    before = jax.config.values['jax_compilation_cache_dir']
    self.addCleanup(jax.config.update, 'jax_compilation_cache_dir', before)
    self.addCleanup(gin.clear_config)

  def run_command(self, *argv):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      status = cli.main(argv)
    self.assertEqual(status, 0, err.getvalue())
    return out.getvalue()

  def flags(self, root):
    return [
        '--gin_file=stages/semantic.gin',
        f'--gin_file={SIZE}',
        f'--gin.MODEL_DIR={root + "/run"!r}',
        f'--gin.DATA_DIR={root + "/data"!r}',
        '--gin.TRAIN_STEPS=20',
        '--gin.CHECKPOINT_PERIOD=5',
        '--gin.EVAL_PERIOD=10',
        '--gin.LOG_PERIOD=5',
        '--gin.BATCH_SIZE=2',
        '--gin.TENSORBOARD=False',
    ]

  def train_and_kill(self):
    """Kills a training once its step 10 is saved, and it has gone on."""
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT, 'train', *self.flags(self.bucket)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    run = self.bucket + '/run'
    deadline = time.monotonic() + 300
    while max(checkpoints.complete_steps(run), default=0) < 10:
      if process.poll() is not None or time.monotonic() > deadline:
        process.kill()
        self.fail(process.communicate()[1].decode())
      time.sleep(0.5)
    process.kill()
    process.communicate()
    self.assertTrue(paths.to_path(f'{run}/.musiclm.lock').exists())

  def train(self):
    """Trains here and in the bucket; the latter is cut off once."""
    for root in (self.here, self.bucket):
      lineage = random_model.write_random_model(f'{root}/model')
      write_tokens(f'{root}/data', lineage)
    self.train_and_kill()
    for root in (self.bucket, self.here):
      self.run_command('train', *self.flags(root))
    times = ('_per_second', 'waiting_for_data')
    here, there = [
        [
            {k: v for k, v in r.items() if not k.endswith(times)}
            for r in reports.read_metrics(f'{root}/run')
        ]
        for root in (self.here, self.bucket)
    ]
    self.assertEqual(here, there)
    jax.tree.map(
        np.testing.assert_array_equal,
        checkpoints.restore_variables(f'{self.here}/run'),
        checkpoints.restore_variables(f'{self.bucket}/run'),
    )
    self.assertEqual(checkpoints.complete_steps(f'{self.bucket}/run'), [15, 20])

  def export(self):
    for root in (self.here, self.bucket):
      self.run_command('export', f'--output={root}/model', *self.flags(root))
    here, there = [
        parts.read_description(f'{root}/model', 'semantic')
        for root in (self.here, self.bucket)
    ]
    self.assertEqual(here, there)

  def generate(self):
    common = [f'--model={self.bucket}/model', '--dtype=float32']
    take, made = f'{self.bucket}/a.json', f'{self.bucket}/a.wav'
    self.run_command(
        'generate', 'slow piano', '--seconds=1', *common,
        f'--output={made}', f'--save_take={take}',
    )  # fmt: skip
    self.assertIn('"slow piano"', self.run_command('show', made))
    again = f'{self.here}/b.wav'
    self.run_command('generate', f'--take={take}', f'--output={again}', *common)
    np.testing.assert_array_equal(
        *[audio_io.read_audio(path, 24000) for path in (made, again)]
    )

  def batch(self):
    listed = paths.to_path(f'{self.bucket}/list.txt')
    listed.write_text('slow piano\nfast piano\nno piano\n')
    folder = paths.to_path(f'{self.bucket}/made')
    argv = [
        'batch', str(listed), f'--model={self.bucket}/model', '--dtype=float32',
        f'--output_dir={folder}', '--seconds=1', '--batch_size=2',
    ]  # fmt: skip
    content = lambda: {p.name: p.read_bytes() for p in paths.files_in(folder)}
    self.assertIn('3 made, 0 skipped', self.run_command(*argv))
    before = content()
    self.assertEqual(sorted(before), [f'00000{i}.wav' for i in (1, 2, 3)])
    (folder / '000002.wav').unlink()
    self.assertIn('1 made, 2 skipped', self.run_command(*argv))
    self.assertEqual(content(), before)

  def test_everything(self):
    self.train()
    self.export()
    self.generate()
    self.batch()


if __name__ == '__main__':
  absltest.main()
