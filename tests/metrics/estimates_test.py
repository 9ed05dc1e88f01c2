"""Tests for estimates."""

from absl.testing import absltest
from musiclm_jax.metrics import estimates
import numpy as np


class EstimatesTest(absltest.TestCase):

  def test_mean_by_hand(self):
    found = estimates.mean(np.array([1.0, 2.0, 6.0]))
    self.assertEqual(found.value, 3.0)
    # Squared deviations 4, 1 and 9: a variance of 7, of the mean of 7 / 3.
    self.assertAlmostEqual(found.standard_error, (7 / 3) ** 0.5)
    self.assertEqual(found.count, 3)

  def test_of_one_clip_the_error_is_not_known(self):
    self.assertTrue(np.isnan(estimates.mean(np.ones(1)).standard_error))

  def test_rejects(self):
    with self.assertRaisesRegex(ValueError, 'is of 0'):
      estimates.mean(np.zeros(0))
    with self.assertRaisesRegex(ValueError, 'of 2, 1 of them not finite'):
      estimates.mean(np.array([1.0, np.nan]))


if __name__ == '__main__':
  absltest.main()
