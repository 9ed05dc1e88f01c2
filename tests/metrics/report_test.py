"""Tests for report."""

import math

from absl.testing import absltest
from musiclm_jax.metrics import report
import numpy as np


class ReportTest(absltest.TestCase):

  def test_perplexity_of_one_code_is_one(self):
    self.assertAlmostEqual(report.perplexity(np.full(9, 3), 1024), 1.0)

  def test_perplexity_counts_codes_in_effect(self):
    # Half, a quarter, a quarter: 1.5 bits.
    tokens = np.array([0, 0, 1, 2])
    self.assertAlmostEqual(report.perplexity(tokens, 1024), 2**1.5)

  def test_render_lines_up(self):
    rows = [
        {'part': 'mulan', 'metric': 'median rank', 'value': 2, 'chance': 4.5},
        {'part': 'fine', 'metric': 'nats', 'value': math.pi, 'chance': None},
    ]
    lines = report.render(rows).splitlines()
    self.assertEqual(lines[1].split(), 'mulan median rank 2.000 4.500'.split())
    self.assertEqual(lines[2].split(), ['fine', 'nats', '3.142'])


if __name__ == '__main__':
  absltest.main()
