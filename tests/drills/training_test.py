"""Drills of training: what goes wrong around a run, and what is left of it."""

import contextlib
import io
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
import jax
from jax.experimental.compilation_cache import compilation_cache
from musiclm_jax import cli
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import progress
from musiclm_jax.data import batches
from musiclm_jax.training import checkpoints
from musiclm_jax.training import fake
from musiclm_jax.training import gin_flags
from musiclm_jax.training import health
from musiclm_jax.training import optimizers
from musiclm_jax.training import reports
from musiclm_jax.training import sharding
from musiclm_jax.training import trainer
import numpy as np
import pytest

TIMES = ('steps_per_second', 'examples_per_second', 'flops_per_second')
# A run in a process of its own: slow steps, or for ever at its first.
SCRIPT = """
import sys, time
from musiclm_jax import cli

def run(args, rest):
  # Once the command has set what libraries say.
  from musiclm_jax.data import batches
  from musiclm_jax.training import fake, optimizers, trainer
  from musiclm_jax.training import run as run_lib

  class Model(fake.FakeModel):
    def loss_fn(self, *args):
      if sys.argv[2] == 'compiles':
        print('compiles', flush=True)
        time.sleep(600)
      return super().loss_fn(*args)

  def make_example(record, rng):
    time.sleep(0.01)
    return record

  if sys.argv[2] == 'saves':  # For ever.
    run_lib.Run.save = lambda *args: time.sleep(600)
  trainer.train(
      Model(optimizers.adamw(0.01, 5, 40), dropout=0.1), sys.argv[1],
      batches.Batches(fake.examples(37), make_example, 8),
      batches.Batches(fake.examples(12), make_example, 8, shuffle=False),
      60, eval_period=20, checkpoint_period=20, log_period=4,
      tensorboard=sys.argv[2] == 'trains')

cli._doctor = run
sys.exit(cli.main(['doctor', 'x']))
"""


_cleanup = contextlib.ExitStack()


def setUpModule():
  """Compiles what the same tiny trainings have in common only once."""
  folder = _cleanup.enter_context(tempfile.TemporaryDirectory())
  for name, value in (
      ('jax_compilation_cache_dir', folder),
      ('jax_persistent_cache_min_compile_time_secs', 0.0),
  ):
    _cleanup.callback(jax.config.update, name, jax.config.values[name])
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def tearDownModule():
  _cleanup.close()
  compilation_cache.reset_cache()


def make_batches(count=37, batch_size=8, **options):
  return batches.Batches(
      fake.examples(count), lambda record, rng: record, batch_size, **options
  )


def make_model():
  return fake.FakeModel(optimizers.adamw(0.01, 5, 40), dropout=0.1)


def train(model_dir, train_batches=None, train_steps=20, **options):
  """Trains; returns the last metrics and what was written to stderr."""
  options = {
      'model': make_model(),
      'eval_batches': make_batches(12, shuffle=False),
      'eval_period': 10,
      'checkpoint_period': 5,
      'log_period': 2,
      'tensorboard': False,
      **options,
  }
  stderr = io.StringIO()
  with contextlib.redirect_stderr(stderr):
    metrics = trainer.train(
        model_dir=model_dir,
        train_batches=train_batches or make_batches(),
        train_steps=train_steps,
        **options,
    )
  return metrics, stderr.getvalue()


def records(model_dir):
  return [
      {k: v for k, v in record.items() if k not in TIMES}
      for record in reports.read_metrics(model_dir)
  ]


class Acting(batches.Batches):
  """Does something once, when the batch at a position is asked for."""

  def __init__(self, position, action, **options):
    super().__init__(
        fake.examples(37), lambda record, rng: record, 8, **options
    )
    self._acts_at = position
    self._action = action

  def __next__(self):
    if self.position == self._acts_at:
      self._acts_at = None
      self._action()
    return super().__next__()


def wait_for_checkpoint(model_dir):
  while not checkpoints.complete_steps(model_dir):
    time.sleep(0.01)


def send(signum):
  os.kill(os.getpid(), signum)


class Drill(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.model_dir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())
    )

  def assert_same_run(self, one, other):
    self.assertEqual(records(one), records(other))
    jax.tree.map(
        np.testing.assert_array_equal,
        checkpoints.restore_variables(one),
        checkpoints.restore_variables(other),
    )

  def other_dir(self):
    return self.enterContext(tempfile.TemporaryDirectory())


class DiagnosisTest(Drill):
  """A diagnosis may never end a run.

  Siblings: warnings, metrics.jsonl, TensorBoard, audio, counting operations,
  and the whole evaluation, which comes after the checkpoint.
  """

  def test_a_held_out_loss_of_0(self):
    # One validation clip: a batch of it and its copies has no negatives.
    ways = ('audio_to_text_accuracy', 'text_to_audio_accuracy')
    told = [
        {'step': s, 'split': 'train', 'loss': 1.5, 'chance_ratio': 0.6}
        for s in (100, 150)
    ]
    for loss, ratio in ((0.0, 0.0), (1.0, 0.0)):
      held_out = {
          'loss': loss,
          'chance_ratio': ratio,
          **dict.fromkeys(ways, 1.0),
      }
      found = health.examine(
          [*told, {'step': 150, 'split': 'eval', **held_out}]
      )
      self.assertEqual(found, [])
    contrastive = {'contrastive_loss': 0.0, 'contrastive_chance': 0.0}
    lone = [
        {'step': s, 'split': 'train', 'loss': 1.0, **contrastive}
        for s in (100, 150)
    ]
    self.assertEqual(health.examine(lone), [])

  def test_batches_without_negatives_are_told(self):
    same = [
        {'step': s, 'split': 'train', 'loss': 0.0, 'chance_ratio': 0.0}
        for s in (1, 50)
    ]
    self.assertEqual(
        [f.name for f in health.examine(same)], ['nothing to tell apart']
    )

  @parameterized.parameters(
      (
          'musiclm_jax.training.health.examine',
          'looking for what is wrong failed',
      ),
      (
          'musiclm_jax.training.run_files.append_metrics',
          'writing metrics.jsonl',
      ),
      ('musiclm_jax.training.programs.Program.eval_step', 'evaluation failed'),
      ('musiclm_jax.training.costs.rates', 'speed is told in steps alone'),
  )
  def test_one_line_and_on(self, what, message):
    for error in (ZeroDivisionError('division by zero'), OSError('full')):
      model_dir = self.other_dir()
      with mock.patch(what, side_effect=error):
        _, stderr = train(model_dir, train_steps=10)
      self.assertRegex(stderr, f'{message}.*{error}')
      self.assertNotIn('Traceback', stderr)
      self.assertEqual(checkpoints.complete_steps(model_dir), [5, 10])

  def test_audio(self):
    model = make_model()
    model.summaries = mock.Mock(side_effect=ZeroDivisionError('by zero'))
    writer = mock.Mock()
    writer.write_scalars.side_effect = OSError('No space left on device')
    writer.close.side_effect = OSError('No space left on device')
    with mock.patch.object(reports, '_tensorboard_writer', return_value=writer):
      metrics, stderr = train(
          self.model_dir, train_steps=10, model=model, tensorboard=True
      )
    self.assertIn('writing audio failed, training goes on', stderr)
    self.assertIn('writing TensorBoard files failed', stderr)
    self.assertIn('eval/loss', metrics)

  def test_the_checkpoint_comes_first(self):
    class Killed(BaseException):
      pass

    whole = self.other_dir()
    train(whole)
    with mock.patch(
        'musiclm_jax.training.programs.Program.eval_step', side_effect=Killed
    ):
      for _ in range(3):
        with contextlib.suppress(Killed):
          train(self.model_dir)
        self.assertEqual(checkpoints.complete_steps(self.model_dir)[-1], 10)
      # What was cut off is made up for.
    train(self.model_dir)
    self.assert_same_run(self.model_dir, whole)


class NothingIsDeletedTest(Drill):
  """What a user has is never deleted.

  Siblings: a folder, a file, a link, a folder or a file named like a step, a
  file in a checkpoint; config.gin and metrics.jsonl of something else.
  """

  def test_what_lies_among_checkpoints(self):
    train(self.model_dir, train_steps=5)
    folder = self.model_dir / 'checkpoints'
    other = pathlib.Path(self.other_dir())
    (other / 'a').write_text('a')
    mine = ['100_backup/weights', 'notes.txt', '77/notes.txt', '007/a']
    mine.append('5/notes.txt')  # A checkpoint that would be old enough.
    for name in mine:
      (folder / name).parent.mkdir(exist_ok=True)
      (folder / name).write_text('mine')
    (folder / 'link').symlink_to(other)
    (folder / '88').symlink_to(other)
    # What killed runs leave.
    (folder / '10.orbax-checkpoint-tmp' / 'variables').mkdir(parents=True)
    (folder / '10' / 'variables').mkdir(parents=True)
    (folder / '10' / '_CHECKPOINT_METADATA').write_text('{}')
    _, stderr = train(self.model_dir, train_steps=20)
    for name in mine:
      self.assertEqual((folder / name).read_text(), 'mine')
    self.assertEqual((other / 'a').read_text(), 'a')
    self.assertTrue((folder / 'link').is_symlink())
    self.assertFalse((folder / '10.orbax-checkpoint-tmp').exists())
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 15, 20])
    self.assertRegex(stderr, 'checkpoints/77 is no checkpoint .* left alone')

  def test_a_name_that_is_taken(self):
    folder = self.model_dir / 'checkpoints'
    folder.mkdir()
    (folder / '10').write_text('mine')
    with self.assertRaisesRegex(
        errors.UserError, 'checkpoints/10 must be free'
    ):
      train(self.model_dir)
    self.assertEqual((folder / '10').read_text(), 'mine')

  @parameterized.parameters('config.gin', 'metrics.jsonl')
  def test_files_of_something_else(self, name):
    (self.model_dir / name).write_text('MODEL = 3\n')
    with self.assertRaisesRegex(errors.UserError, f'{name} must be free'):
      train(self.model_dir, describe_config=lambda: 'a = 1')
    self.assertEqual((self.model_dir / name).read_text(), 'MODEL = 3\n')


class SignalsTest(Drill):
  """Training saves at a signal, and says how to go on.

  Siblings: SIGTERM and SIGINT; in a step, in the wait for data, in evaluation,
  in compilation; a second signal; another thread.
  """

  @parameterized.parameters(signal.SIGTERM, signal.SIGINT)
  def test_saves_and_goes_on_the_same(self, signum):
    whole = self.other_dir()
    train(whole)
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    for position in (7, 13, 16):
      acting = Acting(position, lambda: send(signum))
      with self.assertRaisesRegex(
          errors.Interrupted,
          f'saved step {position} in .*; run the same command',
      ) as caught:
        train(self.model_dir, acting)
      self.assertEqual(caught.exception.signum, signum)
      self.assertIn(position, checkpoints.complete_steps(self.model_dir))
    train(self.model_dir)
    self.assert_same_run(self.model_dir, whole)
    after = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    self.assertEqual(before, after)

  def test_in_the_wait_for_data(self):
    def wait():
      threading.Timer(0.2, send, [signal.SIGTERM]).start()
      time.sleep(60)

    start = time.monotonic()
    with self.assertRaisesRegex(errors.Interrupted, 'saved step 3'):
      train(self.model_dir, Acting(3, wait))
    self.assertLess(time.monotonic() - start, 20)

  def test_in_evaluation(self):
    held_out = Acting(1, lambda: send(signal.SIGINT), shuffle=False)
    with self.assertRaisesRegex(errors.Interrupted, 'saved step 10'):
      train(self.model_dir, eval_batches=held_out)
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 10])

  def test_bad_data_ends_it_likewise(self):
    def fail():
      raise errors.UserError('music.array_record is damaged')

    with self.assertRaisesRegex(errors.UserError, 'is damaged'):
      train(self.model_dir, Acting(7, fail))
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 7])

  def test_in_another_thread(self):
    threads = []
    thread = threading.Thread(
        target=lambda: threads.append(train(self.model_dir, train_steps=5))
    )
    thread.start()
    thread.join()
    self.assertLen(threads, 1)

  def start(self, how):
    script = self.model_dir / 'script.py'
    script.write_text(SCRIPT)
    inherited = dict(os.environ)
    inherited.pop('TF_CPP_MIN_LOG_LEVEL', None)  # JAX sets it.
    return subprocess.Popen(
        [sys.executable, str(script), str(self.model_dir / 'run'), how],
        env={
            **inherited,
            'PYTHONPATH': str(pathlib.Path(trainer.__file__).parents[2]),
            'JAX_PLATFORMS': 'cpu',
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

  def test_in_compilation(self):
    process = self.start('compiles')
    self.assertEqual(process.stdout.readline(), 'compiles\n')
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    self.assertLess(time.monotonic() - start, 10)
    self.assertEqual(process.returncode, 143)
    self.assertIn('stopped: nothing was learned yet; run the same', stderr)
    self.assertNotIn('Traceback', stderr)

  def test_a_second_signal(self):
    process = self.start('saves')
    self.wait_for_step(process, 4)
    for _ in range(2):
      process.send_signal(signal.SIGTERM)
      time.sleep(0.5)
    _, stderr = process.communicate(timeout=10)
    self.assertEqual(process.returncode, 143)
    self.assertIn('SIGTERM: saves and stops; once more to stop at', stderr)
    self.assertIn('stopped at once: nothing was learned yet', stderr)

  @pytest.mark.slow
  def test_as_a_command(self):
    """It says what it saved, and nothing is said that is not ours."""
    process = self.start('trains')
    self.wait_for_step(process, 8)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    self.assertEqual(process.returncode, 130)
    lines = stderr.strip().splitlines()
    self.assertRegex(lines[-1], '^musiclm: saved step [0-9]+ in .*same command')
    for line in lines:
      self.assertRegex(line, '^(musiclm: |step |warning: )')

  def wait_for_step(self, process, step):
    while process.poll() is None:
      told = reports.read_metrics(self.model_dir / 'run')
      if told and told[-1]['step'] >= step:
        return
      time.sleep(0.01)
    self.fail(process.communicate()[1])


class TwoAtOnceTest(Drill):

  def test_the_second_names_the_first(self):
    with files.lock(self.model_dir, 'musiclm train'):
      with self.assertRaisesRegex(
          errors.UserError, f'`musiclm train` .process {os.getpid()}'
      ):
        train(self.model_dir)
    self.assertFalse((self.model_dir / 'checkpoints').exists())

  def test_export_reads_what_is_whole_meanwhile(self):
    def read():
      wait_for_checkpoint(self.model_dir)
      self.assertIn('params', checkpoints.restore_variables(self.model_dir))

    train(self.model_dir, Acting(7, read))


class ChangedSettingsTest(Drill):
  """What changes on resume is told, or refused if it can't go on exactly.

  Siblings: batch size, random seed, data, steps, microbatches, learning rate.
  """

  def setUp(self):
    super().setUp()
    train(self.model_dir, train_steps=10, describe_config=lambda: 'B = 8\n')

  @parameterized.parameters(16, 4, 40)
  def test_a_batch_size_that_goes_on_at_the_next_example(self, batch_size):
    seen = []
    source = make_batches(batch_size=batch_size)
    source._make_example = lambda record, rng: seen.append(record) or record
    config = f'B = {batch_size}\nOTHER = 1\n'
    _, stderr = train(
        self.model_dir, source, train_steps=11, describe_config=lambda: config
    )
    self.assertIn(f'config changed on resume: B 8 -> {batch_size}\n', stderr)
    # The first batch is read for its shapes.
    expected = make_batches(batch_size=batch_size).batch_at(80 // batch_size)
    told = [float(record['y']) for record in seen]
    self.assertContainsSubset(expected['y'].tolist(), told)

  @parameterized.named_parameters(
      ('batch_size', {'train_batches': make_batches(batch_size=12)},
       'BATCH_SIZE must divide the 80 examples .* of 8, but is 12.*Set.* to 8'),
      ('seed', {'random_seed': 1}, 'RANDOM_SEED must stay .*0.* but is now 1'),
      ('data', {'train_batches': make_batches(count=38)},
       'data must be .*37 records.*but .* now 38 records'),
  )  # fmt: skip
  def test_refuses(self, options, message):
    with self.assertRaisesRegex(errors.UserError, message):
      train(self.model_dir, **options)
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 10])

  def test_says_what_changed(self):
    _, stderr = train(
        self.model_dir,
        num_microbatches=2,
        describe_config=lambda: 'B = 8\nC = 3\n',
    )
    self.assertNotIn('config changed', stderr)
    _, stderr = train(
        self.model_dir,
        train_steps=30,
        model=fake.FakeModel(optimizers.adamw(0.1, 5, 40)),
        describe_config=lambda: 'B = 8\nC = %D\nD = 4\n',
    )
    self.assertIn('config changed on resume: C 3 -> 4\n', stderr)


class PlacesTest(Drill):

  def test_a_model_axis_over_processes(self):
    device = lambda process: mock.Mock(process_index=process)
    mesh = lambda *rows: np.array([[device(p) for p in row] for row in rows])
    sharding.check_processes(mesh([0, 0], [1, 1]))
    # Rows may lie anywhere, as long as their process holds them.
    sharding.check_processes(mesh([0], [1], [0], [1]))
    with self.assertRaisesRegex(
        errors.UserError, 'num_model_partitions must .*2 at most, but 4 devices'
    ):
      sharding.check_processes(mesh([0, 0, 1, 1]))
    with self.assertRaisesRegex(errors.UserError, 'num_model_partitions must'):
      sharding.check_processes(mesh([0, 1], [0, 1]))
    with self.assertRaisesRegex(errors.UserError, r'as many.*\[1, 2\]'):
      sharding.check_processes(mesh([0], [1], [1]))

  @parameterized.parameters(
      'gs://bucket/run', 's3://bucket', 'http://host/run', 'gs:/bucket/run'
  )
  def test_buckets(self, place):
    self.enterContext(contextlib.chdir(self.model_dir))
    with self.assertRaisesRegex(errors.UserError, 'folder of this machine'):
      train(place)
    flags = ['--gin_file=models/soundstream.gin', '--gin_file=sizes/tiny.gin']
    flags += [f'--gin.MODEL_DIR={place!r}', "--gin.DATA_DIR='data'"]
    for argv in (['train', *flags], ['export', '--output=model', *flags]):
      stderr = io.StringIO()
      with contextlib.redirect_stderr(stderr):
        self.assertEqual(cli.main(argv), 2)
      self.assertIn('MODEL_DIR must be a folder of this', stderr.getvalue())
    self.assertEqual(os.listdir(self.model_dir), [])
    gin.clear_config()


class BitsTest(Drill):
  """A damaged file of a run is refused by its name, or does no harm."""

  def damaged(self, path):
    """Yields after each flip of a bit and each cut of a file."""
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(len(good), size=6):
      bad = bytearray(good)
      bad[position] ^= 1 << rng.integers(8)
      path.write_bytes(bad)
      yield
    for size in (0, len(good) // 2, len(good) - 1):
      path.write_bytes(good[:size])
      yield
    path.write_bytes(good)

  def test_checkpoints(self):
    train(self.model_dir, train_steps=10)
    step = self.model_dir / 'checkpoints' / '10'
    paths = [p for p in step.rglob('*') if p.is_file() and p.stat().st_size]
    self.assertIn(step / 'checksums.json', paths)
    for path in paths:
      for _ in self.damaged(path):
        with self.assertRaisesRegex(
            errors.UserError, f'{path.name}.*Delete .*/10 to go on from step 5'
        ):
          checkpoints.restore_variables(self.model_dir)
    checkpoints.restore_variables(self.model_dir)

  def test_checksums_of_older_versions(self):
    train(self.model_dir, train_steps=5)
    path = self.model_dir / 'checkpoints' / '5' / 'checksums.json'
    path.write_text(json.dumps(json.loads(path.read_text())['files']))
    checkpoints.restore_variables(self.model_dir)

  def test_metrics(self):
    train(self.model_dir, train_steps=10)
    good = reports.read_metrics(self.model_dir)
    for _ in self.damaged(self.model_dir / 'metrics.jsonl'):
      stderr = io.StringIO()
      with contextlib.redirect_stderr(stderr):
        told = reports.read_metrics(self.model_dir)
      for record in told:
        self.assertIn(record, good)
      if told != good[: len(told)]:
        self.assertIn(
            'metrics.jsonl is damaged or cut off in line', stderr.getvalue()
        )

  def test_config(self):
    train(self.model_dir, train_steps=5, describe_config=lambda: 'A = 1\n' * 9)
    for _ in self.damaged(self.model_dir / 'config.gin'):
      with self.assertRaisesRegex(
          errors.UserError, 'config.gin must be as|read'
      ):
        gin_flags.parse_run(self.model_dir, {})


class FullDiskTest(Drill):

  def test_the_last_checkpoint_stays(self):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():  # Less than an array of the checkpoint takes.
      wait_for_checkpoint(self.model_dir)
      resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))

    try:
      with self.assertRaisesRegex(
          errors.WriteError,
          'checkpoint of step 10 must be written .*File too large. Step 5 is'
          ' safe.*run the same command',
      ):
        train(self.model_dir, Acting(7, fill))
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
    folder = self.model_dir / 'checkpoints'
    self.assertEqual(os.listdir(folder), ['5'])
    train(self.model_dir)

  def test_a_save_that_failed_is_told_at_once(self):
    seal = 'musiclm_jax.training.step_folders.seal'
    batch = Acting(100, None)
    with mock.patch(seal, side_effect=OSError(28, 'No space left on device')):
      with self.assertRaisesRegex(errors.WriteError, 'step 5 .*No step is sav'):
        train(self.model_dir, batch, train_steps=4000, checkpoint_period=5,
              eval_batches=None)  # fmt: skip
    self.assertLess(batch.position, 4000)


class SilenceTest(Drill):

  def test_says_what_takes_long(self):
    model = make_model()
    loss_fn = model.loss_fn

    def slow(*args):
      time.sleep(progress.PATIENCE + 0.5)
      return loss_fn(*args)

    model.loss_fn = slow
    with mock.patch('musiclm_jax.training.costs.rates', return_value=None):
      _, stderr = train(self.model_dir, train_steps=1, model=model)
    self.assertIn('musiclm: compiling the training step …', stderr)

  def test_says_steps_that_take_long(self):
    with mock.patch.object(reports, 'SILENCE', 0.0):
      _, stderr = train(self.model_dir, train_steps=3, log_period=100)
    self.assertIn('step 2/3\n', stderr)


VALUES = (
    "BATCH_SIZE='eight'", 'BATCH_SIZE=None', 'TRAIN_STEPS=0', 'TRAIN_STEPS=-1',
    'TRAIN_STEPS=1.5', 'TRAIN_STEPS=True', 'LOG_PERIOD=0', 'EVAL_PERIOD=-3',
    'CHECKPOINT_PERIOD=0', 'trainer.train.num_microbatches=0', 'RANDOM_SEED=-1',
    'trainer.train.num_model_partitions=0', 'trainer.train.eval_steps=0',
    'RANDOM_SEED=99999999999', "TENSORBOARD='no'", 'FSDP=3', 'MODEL_DIR=3',
    'DATA_DIR=None', 'MODEL=None', 'OPTIMIZER=3', 'TASK_FEATURE_LENGTHS=3',
    "TASK_FEATURE_LENGTHS={'inputs': 'a'}", 'TEXT_PROBABILITY=2',
    'semantic/optimizers.adamw.peak_learning_rate=-0.1',
    'semantic/optimizers.adamw.peak_learning_rate=1e400',
    'semantic/optimizers.adamw.warmup_steps=-1', 'INITIAL_MODEL=4',
    'transformer.TransformerConfig.num_heads=0',
    "transformer.TransformerConfig.num_layers='three'",
    'transformer.TransformerConfig.dropout=-1', 'MIXTURE_OR_TASK_NAME=4',
    "semantic/stages.get_stage.crop_seconds='a'", 'TASK_OPTIONS=3',
)  # fmt: skip


class GinValuesTest(parameterized.TestCase):
  """A value that can't be is refused by its name, before the work."""

  @parameterized.parameters(*VALUES)
  def test_refuses(self, binding):
    self.addCleanup(gin.clear_config)
    name = binding.partition('=')[0]
    flags = ['--gin_file=stages/semantic.gin', '--gin_file=sizes/tiny.gin']
    flags += ["--gin.MODEL_DIR='m'", "--gin.DATA_DIR='d'", f'--gin.{binding}']
    with self.assertRaisesRegex(errors.UserError, f'{name} must be') as caught:
      gin_flags.parse(flags)
    self.assertNotIn('\n', str(caught.exception))


if __name__ == '__main__':
  absltest.main()
