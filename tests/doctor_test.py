"""Tests for doctor."""

import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
from musiclm_jax import doctor
from musiclm_jax.metrics import oracle
from musiclm_jax.training import gin_flags
from musiclm_jax.training import run_files
import numpy as np

from tests import random_model

RUN = """
from __gin__ import dynamic_registration
from musiclm_jax.data import batches
from tests.training import fake
from musiclm_jax.training import optimizers
from musiclm_jax.training import trainer

MODEL = @fake.FakeModel()
OPTIMIZER = @optimizers.adamw()
MIXTURE_OR_TASK_NAME = 'none'
TASK_FEATURE_LENGTHS = None
DATA_DIR = 'none'
BATCH_SIZE = 32
TRAIN_STEPS = 100
LOG_PERIOD = 10
TENSORBOARD = False
trainer.train:
  train_batches = @train/batches.Batches()
  eval_batches = @eval/batches.Batches()
batches.Batches:
  source = @fake.examples()
  make_example = @fake.make_example
  batch_size = %BATCH_SIZE
eval/batches.Batches.shuffle = False
fake.examples.count = 64
fake.FakeModel.optimizer_def = %OPTIMIZER
optimizers.adamw:
  peak_learning_rate = 0.02
  warmup_steps = 90
  train_steps = %TRAIN_STEPS
"""
STUCK = [
    {'step': step, 'split': 'train', 'loss': 6.93, 'accuracy': 0.001}
    for step in (1, 50, 100)
]
COLLAPSED = [
    {
        'step': step,
        'split': 'train',
        'loss': 30.0,
        'mel_loss': 14.0,
        'codebook_perplexity_q03': 1.0,
    }
    for step in (1, 50, 100)
]
FINE = [
    {'step': step, 'split': 'train', 'loss': 7 - step / 50, 'accuracy': 0.1}
    for step in (1, 50, 100)
]


class DoctorTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model_dir = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(cls.model_dir)

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.enterContext(contextlib.redirect_stderr(io.StringIO()))
    self.addCleanup(gin.clear_config)

  def train(self, *flags):
    path = self.folder / 'part.gin'
    path.write_text(RUN)
    model_dir = self.folder / 'run'
    gin_flags.train_main(
        [f'--gin_file={path}', f"--gin.MODEL_DIR='{model_dir}'", *flags]
    )
    return model_dir

  def write(self, name, records):
    (self.folder / name).mkdir()
    lines = ''.join(json.dumps(record) + '\n' for record in records)
    (self.folder / name / 'metrics.jsonl').write_text(lines)

  def test_a_healthy_run_is_ok(self):
    self.assertEqual(doctor.examine(self.train()), 'run: ok')

  def test_a_learning_rate_that_is_too_high(self):
    told = doctor.examine(
        self.train('--gin.optimizers.adamw.peak_learning_rate=20.0')
    )
    self.assertRegex(told, '(?m)^run: sick: divergence: loss is .*too high')
    self.assertRegex(
        told, '(?m)^run: sick: one batch is not learned: loss goes'
    )

  def test_a_learning_rate_that_is_too_low(self):
    told = doctor.examine(
        self.train('--gin.optimizers.adamw.peak_learning_rate=1e-6')
    )
    self.assertRegex(
        told,
        '^run: sick: one batch is not learned: loss goes from .* in 50 steps,'
        ' should be 10% lower at least - .*; try a tenth and ten times',
    )

  def test_stages_inherit_what_is_wrong_with_tokenizers(self):
    (self.folder / 'model').symlink_to(self.model_dir)
    self.write('fine', STUCK)
    self.write('semantic', FINE)
    self.write('soundstream', COLLAPSED)
    lines = doctor.examine(self.folder).splitlines()
    self.assertRegex(
        lines[0],
        'soundstream: sick: codebook collapse: quantizer 3 uses 1.0 codes',
    )
    self.assertIn('one-batch gate not made: ', lines[1])
    self.assertEqual(lines[2], 'semantic: ok')
    self.assertIn('oracle swap not made: ', lines[4])
    self.assertRegex(lines[5], '^fine: sick: loss at chance: 1.000 of chance')
    self.assertIn('inherits what is wrong with soundstream', lines[8])
    self.assertEqual(lines[9], 'at fault: soundstream')

  def test_runs_follow_those_they_depend_on(self):
    (self.folder / 'model').symlink_to(self.model_dir)
    for name in ('another', 'coarse', 'fine', 'mulan', 'semantic', 'w2v_bert'):
      self.write(name, FINE)
    (self.folder / 'notes').mkdir()
    found = doctor.Doctor(self.folder)
    self.assertEqual(
        list(found.runs),
        ['w2v_bert', 'mulan', 'semantic', 'coarse', 'fine', 'another'],
    )
    self.assertEqual(found.stages['coarse'].targets.name, 'coarse')

  def test_the_config_of_a_run_says_its_stage(self):
    gin_flags.parse(
        [
            '--gin_file=stages/fine.gin',
            '--gin_file=sizes/tiny.gin',
            "--gin.MODEL_DIR='m'",
            "--gin.DATA_DIR='d'",
        ]
    )
    self.write('mine', FINE)
    run_files.write_config(self.folder / 'mine', gin.config_str())
    found = doctor.Doctor(self.folder)
    self.assertEqual(found.stages['mine'].targets.name, 'fine')

  def test_a_run_without_records(self):
    self.write('mulan', [])
    self.write('w2v_bert', [])
    told = doctor.examine(self.folder)
    self.assertIn('mulan/metrics.jsonl holds no records', told)
    self.assertIn('at fault: no part', told)

  @parameterized.parameters(
      (0.2, '^coarse: ok', 'nats per token with its own conditioning'),
      (0.0, '^coarse: sick: conditioning ignored: 5.000 nats', 'train longer'),
  )
  def test_oracle_swaps(self, gain, *messages):
    self.write('coarse', FINE)
    (self.folder / 'model').symlink_to(self.model_dir)
    noise = np.random.default_rng(0).normal(0, 0.1, 64)
    noise -= noise.mean()
    nats = np.stack([np.full(64, 5.0), 5.0 + gain + noise])
    found = oracle.Swap(nats, np.array([[3.0], [4.0]]))
    with mock.patch.object(oracle, 'swap', return_value=found) as swap:
      told = doctor.examine(self.folder)
    for message in (*messages, 'decoded, 3.0 and 4.0 dB from the original'):
      self.assertRegex(told, message)
    swap.assert_called_once_with(
        self.folder / 'data', self.folder / 'model', 'coarse'
    )

  def test_needs_a_run(self):
    with self.assertRaisesRegex(FileNotFoundError, 'MODEL_DIR of a run.*does'):
      doctor.examine(self.folder)


if __name__ == '__main__':
  absltest.main()
