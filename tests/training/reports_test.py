"""Tests for reports."""

import pathlib
import sys
import tempfile
import time
from unittest import mock

from absl.testing import absltest
from musiclm_jax.training import costs
from musiclm_jax.training import reports
import numpy as np
import optax

from tests.training import fake

MODEL = fake.FakeModel(optax.identity())


def tone(frequency):
  seconds = np.arange(12000) / 24000
  return np.sin(2 * np.pi * frequency * seconds).astype(np.float32)


class ReporterTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.model_dir = self.enterContext(tempfile.TemporaryDirectory())

  def make_reporter(self, first_step=0, tensorboard=False):
    return reports.Reporter(
        self.model_dir, MODEL, first_step, 10, tensorboard, config='a = 1'
    )

  def test_final_metrics_are_the_last_of_each(self):
    reporter = self.make_reporter()
    reporter.train(5, {'loss': 3.0})
    reporter.evaluation(5, {'loss': 4.0})
    reporter.train(10, {'loss': 2.0})
    reporter.close()
    metrics = reports.final_metrics(self.model_dir)
    self.assertEqual(metrics['train/loss'], 2.0)
    self.assertEqual(metrics['eval/loss'], 4.0)
    self.assertIn('train/steps_per_second', metrics)

  def test_tells_rates(self):
    reporter = reports.Reporter(
        self.model_dir, MODEL, 0, 10, False,
        rates=costs.Rates('tokens', 100, examples=4, flops=1000, peak=1e9),
    )  # fmt: skip
    reporter.train(5, {'loss': 3.0})
    reporter.close()
    metrics = reports.final_metrics(self.model_dir)
    speed = metrics['train/steps_per_second']
    self.assertAlmostEqual(metrics['train/tokens_per_second'] / speed, 100)
    self.assertAlmostEqual(metrics['train/flops_per_second'] / speed, 1000)
    self.assertAlmostEqual(metrics['train/mfu'] / speed, 1e-6)

  def test_tells_how_long_it_waited_for_data(self):
    reporter = self.make_reporter()
    for _ in range(2):
      with mock.patch.object(time, 'monotonic', side_effect=[100, 103]):
        with reporter.waiting():
          pass
    reporter.train(5, {'loss': 3.0})
    reporter.restart_clock(5)
    reporter.train(6, {'loss': 3.0})
    reporter.close()
    first, second = reports.read_metrics(self.model_dir)
    elapsed = 5 / first['steps_per_second']
    self.assertAlmostEqual(first['waiting_for_data'] * elapsed, 6)
    self.assertEqual(second['waiting_for_data'], 0)

  def test_forgets_steps_that_will_run_again(self):
    reporter = self.make_reporter()
    for step in (2, 4, 6):
      reporter.train(step, {'loss': 1.0})
    reporter.close()
    self.make_reporter(first_step=4).close()
    steps = [r['step'] for r in reports.read_metrics(self.model_dir)]
    self.assertEqual(steps, [2, 4])

  def test_writes_tensorboard_files(self):
    from tensorboard.backend.event_processing import event_accumulator

    reporter = self.make_reporter(tensorboard=True)
    reporter.train(5, {'loss': 3.0})
    reporter.audio(5, {'original': tone(440)})
    reporter.close()
    events = event_accumulator.EventAccumulator(self.model_dir).Reload()
    tags = {name: events.Tags()[name] for name in ('audio', 'images')}
    found = str(events.Tags())
    self.assertIn('train/loss', found, tags)
    self.assertIn('original/log_mel', found)
    self.assertIn('config', found)
    path = pathlib.Path(self.model_dir) / 'config.gin'
    self.assertRegex(path.read_text(), '^a = 1\n# sha256 of the above: .*\n$')

  def test_warns_when_a_symptom_appears_and_no_longer(self):
    from tensorboard.backend.event_processing import event_accumulator

    reporter = self.make_reporter(tensorboard=True)
    said = []
    reporter.say = said.append
    for step, loss in ((1, 4.0), (30, 9.0), (60, 9.5), (90, 3.0), (120, 9.0)):
      reporter.train(step, {'loss': loss})
    reporter.close()
    told = [line.split()[1] for line in said]
    self.assertEqual(
        told,
        ['1/10', '30/10', 'divergence:', '60/10', '90/10', '120/10']
        + ['divergence:'],
    )
    self.assertRegex(
        said[2],
        '^warning: divergence: loss is 9, .* under 6: it started at 4 .*; low',
    )
    events = event_accumulator.EventAccumulator(self.model_dir).Reload()
    self.assertIn('warning', str(events.Tags()['tensors']))

  def test_a_resumed_run_warns_of_what_came_before(self):
    reporter = self.make_reporter()
    for step, loss in ((1, 4.0), (30, 9.0)):
      reporter.train(step, {'loss': loss})
    reporter.close()
    resumed, said = self.make_reporter(first_step=30), []
    resumed.say = said.append
    resumed.train(31, {'loss': 9.0})
    resumed.close()
    self.assertIn('warning: divergence', said[-1])

  def test_tensorboard_without_tensorflow(self):
    with mock.patch.dict(sys.modules, {'clu.metric_writers': None}):
      with self.assertRaisesRegex(ValueError, 'or set TENSORBOARD = False'):
        self.make_reporter(tensorboard=True)


class SpectrogramImageTest(absltest.TestCase):

  def test_low_notes_are_below(self):
    rows = []
    for frequency in (200, 8000):
      image = reports.spectrogram_image(tone(frequency), 24000)
      self.assertEqual(
          (image.shape[0], image.shape[1], image.shape[3]), (1, 80, 1)
      )
      self.assertEqual(image.dtype, np.uint8)
      self.assertEqual(image.max(), 255)
      rows.append(image[0, :, image.shape[2] // 2, 0].argmax())
    low, high = rows
    self.assertGreater(low, high)

  def test_silence(self):
    image = reports.spectrogram_image(np.zeros(12000, np.float32), 24000)
    self.assertEqual(np.ptp(image), 0)


if __name__ == '__main__':
  absltest.main()
