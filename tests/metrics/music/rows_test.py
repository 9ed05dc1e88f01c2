"""Tests for rows."""

from absl.testing import absltest
from musiclm_jax.metrics import estimates
from musiclm_jax.metrics.music import rows
import numpy as np


class RowsTest(absltest.TestCase):

  def test_a_column_for_each_system(self):
    found = [
        rows.Row('obedience', 'key', 'a', 0.5, 0.1, 8, 0.04),
        rows.Row('obedience', 'key', 'reference', 0.9, None, 6, 0.05),
        rows.Row('musicality', 'silence', 'b', 0.25, 0.0, 7),
    ]
    self.assertEqual(
        rows.table(found, ['a', 'b', 'reference']),
        [
            {
                'about': 'obedience',
                'measure': 'key',
                'a': '0.500 ± 0.100',
                'b': '',
                'reference': '0.900',
                'chance': '0.050',
                'clips': 8,
            },
            {
                'about': 'musicality',
                'measure': 'silence',
                'a': '',
                'b': '0.250 ± 0.000',
                'reference': '',
                'chance': '',
                'clips': 7,
            },
        ],
    )

  def test_one_clip_has_no_error(self):
    found = rows.of_estimate('x', 'y', 'z', estimates.mean(np.array([0.5])))
    self.assertIsNone(found.standard_error)
    self.assertEqual((found.value, found.count), (0.5, 1))


if __name__ == '__main__':
  absltest.main()
