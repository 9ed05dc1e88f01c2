"""Tests for report."""

import math

from absl.testing import absltest
from musiclm_jax.metrics import report


class ReportTest(absltest.TestCase):

  def test_render_lines_up(self):
    rows = [
        {'part': 'mulan', 'metric': 'median rank', 'value': 2.0, 'chance': 4.5},
        {'part': 'fine', 'metric': 'nats', 'value': math.pi, 'chance': None},
    ]
    lines = report.render(rows).splitlines()
    self.assertEqual(lines[1].split(), 'mulan median rank 2.000 4.500'.split())
    self.assertEqual(lines[2].split(), ['fine', 'nats', '3.142'])


if __name__ == '__main__':
  absltest.main()
