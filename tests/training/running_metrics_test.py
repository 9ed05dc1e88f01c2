"""Tests for running_metrics."""

import json

from absl.testing import absltest
import jax.numpy as jnp
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import running_metrics
import numpy as np


def step(loss):
  return model_lib.average(loss=jnp.float32(loss))


class RunningMetricsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.losses = rng.normal(size=9).astype(np.float32)
    # Steps 2 and 3 were skipped, and step 7.
    self.skipped = [0, 0, 1, 2, 0, 0, 0, 1, 0]

  def fill(self, running, steps):
    for i in steps:
      running.add(step(self.losses[i]), jnp.int32(self.skipped[i]))

  def test_leaves_out_skipped_steps(self):
    running = running_metrics.RunningMetrics()
    self.fill(running, range(9))
    metrics, most = running.flush()
    self.assertEqual(metrics['skipped_steps'], 3)
    self.assertEqual(most, 2)
    taken = [i for i in range(9) if not self.skipped[i]]
    self.assertAlmostEqual(metrics['loss'], np.mean(self.losses[taken]), 6)

  def test_tells_the_same_however_often_it_was_kept(self):
    whole = running_metrics.RunningMetrics()
    self.fill(whole, range(9))
    for cuts in ((4,), (1, 3, 8), range(1, 9)):
      running, start = running_metrics.RunningMetrics(), 0
      for cut in (*cuts, 9):
        self.fill(running, range(start, cut))
        running, start = (
            running_metrics.RunningMetrics(
                json.loads(json.dumps(running.keep()))
            ),
            cut,
        )
      # Kept when it was full, and of a step since.
      again = running_metrics.RunningMetrics()
      self.fill(again, range(9))
      self.fill(again, [0])
      self.fill(running, [0])
      self.assertEqual(running.flush(), again.flush())

  def test_is_empty_once_flushed(self):
    running = running_metrics.RunningMetrics(
        {'metrics': {}, 'skipped': 2, 'most': 2}
    )
    self.fill(running, [0])
    self.assertEqual(running.flush()[0]['skipped_steps'], 2)
    self.assertEqual(running.keep(), {})


if __name__ == '__main__':
  absltest.main()
