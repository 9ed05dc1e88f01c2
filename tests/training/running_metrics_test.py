"""Tests for windows."""

import json

from absl.testing import absltest
import jax.numpy as jnp
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import windows
import numpy as np


def step(loss):
  return model_lib.average(loss=jnp.float32(loss))


class WindowTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.losses = rng.normal(size=9).astype(np.float32)
    # Steps 2 and 3 were skipped, and step 7.
    self.skipped = [0, 0, 1, 2, 0, 0, 0, 1, 0]

  def fill(self, window, steps):
    for i in steps:
      window.add(step(self.losses[i]), jnp.int32(self.skipped[i]))

  def test_leaves_out_skipped_steps(self):
    window = windows.Window()
    self.fill(window, range(9))
    metrics, most = window.flush()
    self.assertEqual(metrics['skipped_steps'], 3)
    self.assertEqual(most, 2)
    taken = [i for i in range(9) if not self.skipped[i]]
    self.assertAlmostEqual(metrics['loss'], np.mean(self.losses[taken]), 6)

  def test_tells_the_same_however_often_it_was_kept(self):
    whole = windows.Window()
    self.fill(whole, range(9))
    for cuts in ((4,), (1, 3, 8), range(1, 9)):
      window, start = windows.Window(), 0
      for cut in (*cuts, 9):
        self.fill(window, range(start, cut))
        window, start = (
            windows.Window(json.loads(json.dumps(window.keep()))),
            cut,
        )
      # Kept when it was full, and of a step since.
      again = windows.Window()
      self.fill(again, range(9))
      self.fill(again, [0])
      self.fill(window, [0])
      self.assertEqual(window.flush(), again.flush())

  def test_is_empty_once_flushed(self):
    window = windows.Window({'metrics': {}, 'skipped': 2, 'most': 2})
    self.fill(window, [0])
    self.assertEqual(window.flush()[0]['skipped_steps'], 2)
    self.assertEqual(window.keep(), {})


if __name__ == '__main__':
  absltest.main()
