"""Tests that the gin files of a part run under t5x, where t5x is at hand."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from absl.testing import absltest
from absl.testing import parameterized
from flax import core
import jax
import jax.numpy as jnp
from musiclm_jax.data import datasets
from musiclm_jax.data import token_dataset
from musiclm_jax.tokenizers import base as tokenizers
from musiclm_jax.training import export
from musiclm_jax.training import gin_flags
from musiclm_jax.training import optimizers
import numpy as np

from tests.training import fake

T5X = importlib.util.find_spec('t5x')


def write_tokens(data_dir):
  rng = np.random.default_rng(0)

  def example(name):
    def tokens(frames, quantizers):
      return rng.integers(1024, size=(frames, quantizers), dtype=np.int32)

    return name, {
        'semantic': tokens(100, 1),
        'coarse': tokens(200, 4),
        'fine': tokens(200, 8),
        'melody': np.zeros((0, 24), np.int32),
        'melody_hum': np.zeros((0, 24), np.int32),
        'mulan': rng.normal(size=(3, 4)).astype(np.float32),
        'mulan_text': rng.normal(size=(1, 4)).astype(np.float32),
        'captions': ['piano'],
        'caption_weights': np.ones(1, np.float32),
        'id': name,
        'work': name,
    }

  datasets.write_dataset(
      token_dataset.NAME,
      data_dir,
      {s: [example(f'{s}{i}') for i in range(4)] for s in token_dataset.SPLITS},
      token_dataset.features(tokenizers.PAPER, {'mulan': 4}, ('melody',)),
      metadata={'lineage': {}, 'mulan_window_seconds': 1.0},
      arrays={
          'mulan_codebooks': rng.normal(size=(12, 1024, 4)).astype(np.float32)
      },
  )


@unittest.skipIf(T5X is None, 't5x is not installed')
class T5xTest(parameterized.TestCase):

  def run_program(self, program, folder, *flags):
    """Runs a program of t5x on a small semantic stage; returns its log."""
    names = {'train': 'pretrain'}
    done = subprocess.run(
        [
            sys.executable,
            str(pathlib.Path(T5X.origin).parent / f'{program}.py'),
            f'--gin_search_paths={gin_flags.gin_dir()}',
            f'--gin_file=t5x/{names.get(program, program)}.gin',
            '--gin_file=stages/semantic.gin',
            '--gin_file=sizes/tiny/stages.gin',
            f'--gin.DATA_DIR={folder!r}',
            '--gin.BATCH_SIZE=4',
            '--gin.semantic/stages.get_stage.crop_seconds=2.0',
            *flags,
        ],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )
    log = done.stderr.decode()
    self.assertEqual(done.returncode, 0, log[-3000:])
    return log

  def train(self, folder, *flags):
    return self.run_program(
        'train',
        folder,
        f'--gin.MODEL_DIR={folder + "/model"!r}',
        '--gin.TRAIN_STEPS=20',
        '--gin.EVAL_PERIOD=20',
        '--gin.CHECKPOINT_PERIOD=20',
        *flags,
    )

  @parameterized.parameters(
      ([],),
      (
          [
              '--gin.FSDP=True',
              '--gin.transformer.TransformerConfig.scan_layers=True',
              "--gin.transformer.TransformerConfig.remat='dots'",
          ],
      ),
      (
          [
              '--gin.SEMANTIC_OPTIMIZER=@semantic/optimizers.muon()',
              '--gin.optimizers.muon.peak_learning_rate=4e-3',
              '--gin.optimizers.muon.warmup_steps=5',
          ],
      ),
  )
  def test_a_stage_trains(self, flags):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    write_tokens(folder)
    log = self.train(folder, *flags)
    loss = re.search(r'\[20\] collection=train .*\bloss=([0-9.]+)', log)
    self.assertIsNotNone(loss, log[-3000:])
    # ln 1024 at the start; four examples are soon half learnt by heart.
    self.assertLess(float(loss[1]), 6.9)
    self.assertTrue(pathlib.Path(folder, 'model', 'checkpoint_20').exists())

  def test_is_evaluated_and_scored(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    write_tokens(folder)
    self.train(folder)
    checkpoint = f'--gin.CHECKPOINT_PATH={folder + "/model/checkpoint_20"!r}'
    self.run_program(
        'eval', folder, checkpoint, f'--gin.EVAL_OUTPUT_DIR={folder + "/e"!r}'
    )
    self.run_program(
        'infer', folder, checkpoint, f'--gin.INFER_OUTPUT_DIR={folder + "/i"!r}'
    )
    lines = lambda name: [
        json.loads(line)
        for line in pathlib.Path(folder, name).read_text().splitlines()
    ]
    (evaluated,) = lines('e/inference_eval/music_stage-metrics.jsonl')
    inferred = lines('i/music_stage-score.jsonl-00000-of-00001')
    self.assertEqual(evaluated['step'], 20)
    self.assertLen(inferred, 4)
    nats = -np.mean([line['score'] for line in inferred]) / 50
    self.assertAlmostEqual(evaluated['nats'], nats, places=3)
    variables = export.restore_variables(folder + '/model')
    leaves = jax.tree.leaves(variables['params'])
    self.assertTrue(all(np.isfinite(leaf).all() for leaf in leaves))

  def test_mutables_and_optimizer_are_of_its_types(self):
    from musiclm_jax.training import t5x as adapter
    from t5x import optimizers as t5x_optimizers

    optimizer = optimizers.adamw(0.1, 2, 10)
    model = adapter.adapt(fake.FakeModel(optimizer))
    variables = model.get_initial_variables(jax.random.key(0), {'x': (8, 4)})
    statistics = core.freeze({'statistics': variables['statistics']})
    rows = fake.examples(8)
    batch = {k: jnp.stack([r[k] for r in rows]) for k in rows[0]}
    _, (_, updated) = model.loss_fn(
        variables['params'], batch, None, statistics
    )
    self.assertIsInstance(updated, core.FrozenDict)
    self.assertIsInstance(model.optimizer_def, t5x_optimizers.OptaxWrapper)
    self.assertEqual(adapter.learning_rate(optimizer)(1), 0.1)


if __name__ == '__main__':
  absltest.main()
