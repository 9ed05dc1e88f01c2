"""Drills of training: diagnoses, settings that change, places and silence."""

import contextlib
import io
import os
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
from jax.sharding import Mesh
from musiclm_jax import cli
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import progress
from musiclm_jax.training import checkpoints
from musiclm_jax.training import health
from musiclm_jax.training import optimizers
from musiclm_jax.training import reports
from musiclm_jax.training import sharding
from musiclm_jax.training import tensorboard
from musiclm_jax.training import trainer
import numpy as np

from tests.training import fake

from tests.drills import training_drill

setUpModule = training_drill.setUpModule
tearDownModule = training_drill.tearDownModule


class DiagnosisTest(training_drill.Drill):
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
        _, stderr = training_drill.train(model_dir, train_steps=10)
      self.assertRegex(stderr, f'{message}.*{error}')
      self.assertNotIn('Traceback', stderr)
      self.assertEqual(checkpoints.complete_steps(model_dir), [5, 10])

  def test_audio(self):
    model = training_drill.make_model()
    model.writes_audio = True
    model.summaries = mock.Mock(side_effect=ZeroDivisionError('by zero'))
    writer = mock.Mock()
    writer.write_scalars.side_effect = OSError('No space left on device')
    writer.close.side_effect = OSError('No space left on device')
    with mock.patch.object(tensorboard, 'Writer', return_value=writer):
      metrics, stderr = training_drill.train(
          self.model_dir, train_steps=10, model=model, tensorboard=True
      )
    self.assertIn('writing audio failed, training goes on', stderr)
    self.assertIn('writing TensorBoard files failed', stderr)
    self.assertIn('eval/loss', metrics)

  def test_the_checkpoint_comes_first(self):
    class Killed(BaseException):
      pass

    whole = self.other_dir()
    training_drill.train(whole)
    with mock.patch(
        'musiclm_jax.training.programs.Program.eval_step', side_effect=Killed
    ):
      for _ in range(3):
        with contextlib.suppress(Killed):
          training_drill.train(self.model_dir)
        self.assertEqual(checkpoints.complete_steps(self.model_dir)[-1], 10)
      # What was cut off is made up for.
    training_drill.train(self.model_dir)
    self.assert_same_run(self.model_dir, whole)


class TwoAtOnceTest(training_drill.Drill):

  def test_the_second_names_the_first(self):
    with files.lock(self.model_dir, 'musiclm train'):
      with self.assertRaisesRegex(
          errors.UserError, f'`musiclm train` .process {os.getpid()}'
      ):
        training_drill.train(self.model_dir)
    self.assertFalse((self.model_dir / 'checkpoints').exists())

  def test_export_reads_what_is_whole_meanwhile(self):
    def read():
      training_drill.wait_for_checkpoint(self.model_dir)
      self.assertIn('params', checkpoints.restore_variables(self.model_dir))

    training_drill.train(self.model_dir, training_drill.Acting(7, read))


class ChangedSettingsTest(training_drill.Drill):
  """What changes on resume is told, or refused if it can't go on exactly.

  Siblings: batch size, random seed, data, steps, microbatches, learning rate.
  """

  def setUp(self):
    super().setUp()
    training_drill.train(
        self.model_dir, train_steps=10, describe_config=lambda: 'B = 8\n'
    )

  @parameterized.parameters(16, 4, 40)
  def test_a_batch_size_that_goes_on_at_the_next_example(self, batch_size):
    seen = []
    source = training_drill.make_batches(batch_size=batch_size)
    source._make_example = lambda record, rng: seen.append(record) or record
    config = f'B = {batch_size}\nOTHER = 1\n'
    _, stderr = training_drill.train(
        self.model_dir, source, train_steps=11, describe_config=lambda: config
    )
    self.assertIn(f'config changed on resume: B 8 -> {batch_size}\n', stderr)
    # The first batch is read for its shapes.
    expected = training_drill.make_batches(batch_size=batch_size).batch_at(
        80 // batch_size
    )
    told = [float(record['y']) for record in seen]
    self.assertContainsSubset(expected['y'].tolist(), told)

  @parameterized.named_parameters(
      ('batch_size',
       {'train_batches': training_drill.make_batches(batch_size=12)},
       'BATCH_SIZE must divide the 80 examples .* of 8, but is 12.*Set.* to 8'),
      ('seed', {'random_seed': 1}, 'RANDOM_SEED must stay .*0.* but is now 1'),
      ('data', {'train_batches': training_drill.make_batches(count=38)},
       'data must be .*37 records.*but .* now 38 records'),
  )  # fmt: skip
  def test_refuses(self, options, message):
    with self.assertRaisesRegex(errors.UserError, message):
      training_drill.train(self.model_dir, **options)
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 10])

  def test_says_what_changed(self):
    _, stderr = training_drill.train(
        self.model_dir,
        partitioning=trainer.Partitioning(num_microbatches=2),
        describe_config=lambda: 'B = 8\nC = 3\n',
    )
    self.assertNotIn('config changed', stderr)
    _, stderr = training_drill.train(
        self.model_dir,
        train_steps=30,
        model=fake.FakeModel(optimizers.adamw(0.1, 5, 40)),
        describe_config=lambda: 'B = 8\nC = %D\nD = 4\n',
    )
    self.assertIn('config changed on resume: C 3 -> 4\n', stderr)


class PlacesTest(training_drill.Drill):

  def test_rows_follow_the_mesh(self):
    device = lambda process: mock.Mock(process_index=process, slice_index=0)

    def rows(*owners):
      devices = np.array([[device(p) for p in row] for row in owners])
      mesh = Mesh(devices, sharding.AXES)
      with mock.patch.object(sharding.jax, 'process_count', lambda: 2):
        return sharding.rows_of_processes(mesh, 4)

    self.assertEqual(rows([0, 0], [1, 1]), [(0, 1), (2, 3)])
    # A model axis over both.
    self.assertEqual(rows([0, 0, 1, 1]), [(0, 1, 2, 3)] * 2)
    self.assertEqual(rows([0, 1], [0, 1]), [(0, 1, 2, 3)] * 2)
    # Rows may lie anywhere, and hosts be of different sizes.
    self.assertEqual(rows([0], [1], [0], [1]), [(0, 2), (1, 3)])
    self.assertEqual(rows([0], [1], [1], [1]), [(0,), (1, 2, 3)])
    with self.assertRaisesRegex(errors.UserError, 'multiple of 3 .* is 4'):
      rows([0], [1], [1])

  def test_slices(self):
    def arrange(num_slices, per_slice, num_model_partitions):
      devices = [
          mock.Mock(slice_index=i // per_slice, id=i, platform='cpu')
          for i in range(num_slices * per_slice)
      ]
      arranged = sharding.arrange(devices, num_model_partitions)
      return [[d.id for d in row] for row in arranged]

    self.assertEqual(arrange(2, 2, 1), [[0], [1], [2], [3]])
    self.assertEqual(arrange(2, 2, 2), [[0, 1], [2, 3]])
    self.assertEqual(arrange(2, 2, 4), [[0, 1, 2, 3]])
    # Two devices of each of three slices.
    [row, _] = arrange(3, 4, 6)
    self.assertEqual(sorted(i // 4 for i in row), [0, 0, 1, 1, 2, 2])
    with self.assertRaisesRegex(errors.UserError, r'every slice .*\[1, 2\]'):
      devices = [mock.Mock(slice_index=i) for i in (0, 0, 1)]
      sharding.arrange(devices, 1)

  @parameterized.parameters('s3://bucket', 'http://host/run', 'gs:/bucket/run')
  def test_places_out_of_reach(self, place):
    self.enterContext(contextlib.chdir(self.model_dir))
    with self.assertRaisesRegex(errors.UserError, 'on this machine, or in'):
      training_drill.train(place)
    flags = ['--gin_file=models/soundstream.gin', '--gin_file=sizes/tiny.gin']
    flags += [f'--gin.MODEL_DIR={place!r}', "--gin.DATA_DIR='data'"]
    for argv in (['train', *flags], ['export', '--output=model', *flags]):
      stderr = io.StringIO()
      with contextlib.redirect_stderr(stderr):
        self.assertEqual(cli.main(argv), 2)
      self.assertIn('MODEL_DIR must be on this machine', stderr.getvalue())
    self.assertEqual(os.listdir(self.model_dir), [])
    gin.clear_config()


class SilenceTest(training_drill.Drill):

  def test_says_what_takes_long(self):
    model = training_drill.make_model()
    loss_fn = model.loss_fn

    def slow(*args):
      time.sleep(progress.PATIENCE + 0.5)
      return loss_fn(*args)

    model.loss_fn = slow
    with mock.patch('musiclm_jax.training.costs.rates', return_value=None):
      _, stderr = training_drill.train(
          self.model_dir, train_steps=1, model=model
      )
    self.assertIn('musiclm: compiling the training step …', stderr)

  def test_says_steps_that_take_long(self):
    with mock.patch.object(reports, 'SILENCE', 0.0):
      _, stderr = training_drill.train(
          self.model_dir, train_steps=3, log_period=100
      )
    self.assertIn('step 2/3\n', stderr)


if __name__ == '__main__':
  absltest.main()
