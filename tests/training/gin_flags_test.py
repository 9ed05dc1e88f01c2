"""Tests for gin_flags."""

import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import gin
from musiclm_jax.training import gin_flags
from musiclm_jax.training import run_files
from musiclm_jax.training import trainer

from tests.training import fake

# What a file of models/ or stages/ binds.
PART = """
from __gin__ import dynamic_registration
from tests.training import fake
from musiclm_jax.training import optimizers

MODEL = @fake.FakeModel()
OPTIMIZER = @optimizers.adamw()
MIXTURE_OR_TASK_NAME = 'music_fake'
TASK_FEATURE_LENGTHS = {'x': 4}
BATCH_SIZE = 8
TRAIN_STEPS = 20
fake.FakeModel.optimizer_def = %OPTIMIZER
optimizers.adamw:
  peak_learning_rate = 0.01
  warmup_steps = 5
  train_steps = %TRAIN_STEPS
"""
# Batches without a dataset.
RUN = """
from __gin__ import dynamic_registration
from musiclm_jax.data import batches
from tests.training import fake
from musiclm_jax.training import trainer

trainer.train:
  train_batches = @train/batches.Batches()
  eval_batches = @eval/batches.Batches()
batches.Batches:
  source = @fake.examples()
  make_example = @fake.make_example
  batch_size = %BATCH_SIZE
eval/batches.Batches.shuffle = False
fake.examples.count = 37
"""
# How runs of before bound the arguments that are in groups now.
BEFORE = """
trainer.train.model = %MODEL
trainer.train.train_batches = @train/batches.Batches()
trainer.train.eval_batches = @eval/batches.Batches()
trainer.train.model_dir = 'm'
trainer.train.train_steps = %TRAIN_STEPS
trainer.train.log_period = 7
trainer.train.num_microbatches = 2
MODEL_DIR = 'm'
"""
DIRS = ('--gin.MODEL_DIR="m"', '--gin.DATA_DIR="d"')


class GinFlagsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())
    ).resolve()
    (self.folder / 'part.gin').write_text(PART)
    (self.folder / 'run.gin').write_text(RUN)
    self.part = f'--gin_file={self.folder}/part.gin'
    self.addCleanup(gin.clear_config)

  def test_trains(self):
    model_dir = self.folder / 'model'
    metrics = gin_flags.train_main(
        [
            self.part,
            '--gin_file=run.gin',
            f'--gin_search_paths=/nowhere,{self.folder}',
            f'--gin.MODEL_DIR="{model_dir}"',
            '--gin.DATA_DIR="unused"',
            '--gin.TENSORBOARD=False',
            '--gin.TRAIN_STEPS=7',
        ]
    )
    self.assertIn('eval/loss', metrics)
    config = (model_dir / 'config.gin').read_text()
    self.assertIn('TRAIN_STEPS = 7', config)
    self.assertIn('checkpoints', os.listdir(model_dir))

  def test_keeps_compiled_programs(self):
    cache = self.folder / 'cache'
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != 'JAX_COMPILATION_CACHE_DIR'
    }
    argv = [
        self.part,
        '--gin_file=run.gin',
        f'--gin_search_paths={self.folder}',
        '--gin.DATA_DIR="unused"',
        '--gin.TENSORBOARD=False',
        '--gin.TRAIN_STEPS=2',
    ]
    kept = []
    for i in range(2):
      subprocess.run(
          [sys.executable, '-m', 'musiclm_jax.cli', 'train', *argv]
          + [f'--gin.MODEL_DIR="{self.folder}/model{i}"'],
          env={**environment, 'XDG_CACHE_HOME': str(cache)},
          check=True,
          capture_output=True,
      )
      programs = (cache / 'musiclm_jax' / 'compiled').glob('*-cache')
      kept.append({p.name for p in programs})
    self.assertNotEmpty(kept[0])
    self.assertEqual(kept[0], kept[1])  # The second had them all.

  def test_later_bindings_win(self):
    (self.folder / 'size.gin').write_text('BATCH_SIZE = 2\nTRAIN_STEPS = 30\n')
    size = f'--gin_file={self.folder}/size.gin'
    # Flags come last, wherever they stand; files in order, the run file first.
    gin_flags.parse(['--gin.TRAIN_STEPS=40', self.part, size, *DIRS])
    self.assertEqual(gin_flags.value_of('BATCH_SIZE'), 2)
    self.assertEqual(gin_flags.value_of('TRAIN_STEPS'), 40)
    gin_flags.parse([size, self.part, '--gin_file=runs/train.gin', *DIRS])
    self.assertEqual(gin_flags.value_of('BATCH_SIZE'), 8)

  def test_parsing_again_forgets(self):
    gin_flags.parse([self.part, '--gin.LOG_PERIOD=3', *DIRS])
    gin_flags.parse([self.part, *DIRS])
    self.assertEqual(gin_flags.value_of('LOG_PERIOD'), 50)

  def test_names_of_before(self):
    block = 'trainer.train:\n  eval_steps = 4\n  # Of devices.\n  fsdp = True\n'
    (self.folder / 'old.gin').write_text(RUN + block)
    gin_flags.parse(
        [
            self.part,
            f'--gin_file={self.folder}/old.gin',
            '--gin.trainer.train.num_microbatches=2',
            *DIRS,
        ]
    )
    schedule = gin_flags.train_argument('schedule')
    self.assertEqual((schedule.train_steps, schedule.eval_steps), (20, 4))
    self.assertEqual(
        gin_flags.train_argument('partitioning'),
        trainer.Partitioning(fsdp=True, num_microbatches=2),
    )

  def test_runs_of_before(self):
    run = RUN.replace('from __gin__ import dynamic_registration\n', '')
    run_files.write_config(self.folder, PART + run + BEFORE)
    gin_flags.parse_run(self.folder, {'TRAIN_STEPS': 30})
    self.assertEqual(
        gin_flags.train_argument('schedule'), trainer.Schedule(30, log_period=7)
    )
    self.assertEqual(
        gin_flags.train_argument('partitioning'),
        trainer.Partitioning(num_microbatches=2),
    )

  def test_makes_what_a_macro_stands_for(self):
    gin_flags.parse([self.part, *DIRS])
    model = gin_flags.value_of('MODEL')
    self.assertIsInstance(model, fake.FakeModel)
    self.assertIsNot(gin_flags.value_of('MODEL'), model)

  @parameterized.parameters(
      ('--gin_file=stages/semantik.gin', 'Did you mean stages/semantic.gin'),
      ('--gin.TRAIN_STPS=3', "'TRAIN_STPS'. Did you mean TRAIN_STEPS"),
      (
          '--gin.trainer.Schedule.stepz=3',
          'named .stepz.*trainer.Schedule.train_steps',
      ),
      ('--gin.trainr.train.eval_steps=3', "matching 'trainr.train'.*trainer"),
      ('--gin.MODEL_DIR=/tmp/x', """must be a gin value.*'"/tmp/x"'"""),
      ('--gin.DATA_DIR=%gin.REQUIRED', 'DATA_DIR must be set.*--gin.DATA_DIR='),
      ('--steps=3', 'must be --gin_file=FILE.*got --steps=3'),
  )
  def test_says_what_is_wrong(self, argument, message):
    with self.assertRaisesRegex(ValueError, message) as caught:
      gin_flags.parse([self.part, *DIRS, argument])
    self.assertNotIn('\n', str(caught.exception))

  def test_needs_a_part(self):
    with self.assertRaisesRegex(ValueError, 'a part must be named'):
      gin_flags.parse(DIRS)

  def test_needs_a_size(self):
    lines = [x for x in PART.splitlines() if 'warmup_steps' not in x]
    (self.folder / 'part.gin').write_text('\n'.join(lines))
    gin_flags.parse([self.part, *DIRS])
    with self.assertRaisesRegex(ValueError, 'warmup_steps.*adamw.*of a size'):
      gin_flags.value_of('MODEL')

  def test_a_file_that_does_not_parse(self):
    path = self.folder / 'bad.gin'
    path.write_text('BATCH_SIZE = = 3\n')
    with self.assertRaisesRegex(ValueError, 'bad.gin must be a gin file, but'):
      gin_flags.parse([self.part, f'--gin_file={path}', *DIRS])

  def test_errors_of_the_run_are_one_line(self):
    with self.assertRaisesRegex(ValueError, "but is 'music_fake'") as caught:
      gin_flags.train_main([self.part, *DIRS])
    self.assertNotIn('\n', str(caught.exception))


if __name__ == '__main__':
  absltest.main()
