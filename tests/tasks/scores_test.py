"""Tests for scores."""

from absl.testing import absltest
from musiclm_jax.tasks import scores
import numpy as np


class MeanScoresTest(absltest.TestCase):

  def test_means_are_over_all_that_is_counted(self):
    sums = {
        'nats': np.array([[6.0, 2.0], [1.0, 0.0]]),
        'count': np.array([[3.0, 2.0], [1.0, 0.0]]),
    }
    metric = scores.MeanScores.from_model_output([], (np.zeros(2), sums), {})
    self.assertEqual(
        metric.compute(),
        {'nats': 9 / 6, 'nats_q1': 7 / 4, 'nats_q2': 2 / 2},
    )

  def test_padding_does_not_count(self):
    sums = {'si_sdr': np.array([3.0, 5.0, 100.0]), 'count': np.ones(3)}
    metric = scores.MeanScores.from_model_output(
        [], (np.zeros(3), sums), {}, mask=np.array([1, 1, 0])
    )
    self.assertEqual(metric.compute(), {'si_sdr': 4.0})


if __name__ == '__main__':
  absltest.main()
