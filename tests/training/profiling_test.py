"""Tests for profiling."""

import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax.cli import running
from musiclm_jax.training import profiling


class ProfilerTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = self.enterContext(tempfile.TemporaryDirectory())
    self.said = []
    self.waits = 0

  def wait(self):
    self.waits += 1

  def take_steps(self, steps, profile):
    """Returns what was begun and ended, and the steps between."""
    events = []
    with (
        mock.patch.object(
            jax.profiler, 'start_trace', lambda path: events.append('start')
        ),
        mock.patch.object(
            jax.profiler, 'stop_trace', lambda: events.append('stop')
        ),
    ):
      profiler = profiling.Profiler(
          self.dir, profile, self.wait, self.said.append
      )
      for step in steps:
        with profiler.step(step):
          events.append(step)
      profiler.close()
    return events

  @parameterized.named_parameters(
      ('all', range(1, 6), (2, 4), [1, 'start', 2, 3, 'stop', 4, 5]),
      ('resumed_within', range(3, 6), (2, 5), ['start', 3, 4, 'stop', 5]),
      ('ends_within', range(1, 4), (3, 9), [1, 2, 'start', 3, 'stop']),
      ('resumed_after', range(7, 9), (2, 5), [7, 8]),
      ('none', range(1, 3), None, [1, 2]),
  )
  def test_traces(self, steps, profile, expected):
    self.assertEqual(self.take_steps(steps, profile), expected)
    # Before and after, for steps whose end is not waited for otherwise.
    self.assertEqual(self.waits, 2 if 'start' in expected else 0)

  def test_writes_what_xprof_reads(self):
    profiler = profiling.Profiler(self.dir, (1, 2), self.wait, self.said.append)
    with profiler.step(1):
      jax.block_until_ready(jax.numpy.ones(3) + 1)
    (found,) = pathlib.Path(self.dir).rglob('*.xplane.pb')
    self.assertIn('plugins/profile', str(found))
    self.assertIn(b'train', found.read_bytes())
    self.assertIn('traced steps', self.said[0])

  def test_failure_ends_nothing(self):
    error = RuntimeError('another trace is under way')
    with mock.patch.object(jax.profiler, 'start_trace', side_effect=error):
      profiler = profiling.Profiler(
          self.dir, (1, 2), self.wait, self.said.append
      )
      with profiler.step(1):
        pass
    self.assertIn('tracing failed, training goes on', self.said[0])
    self.assertLen(self.said, 1)

  @parameterized.parameters('5', '5:5', '0:3', 'a:b', '7:3')
  def test_command_refuses(self, steps):
    with self.assertRaises(SystemExit):
      running.main(['train', '--profile', steps])


if __name__ == '__main__':
  absltest.main()
