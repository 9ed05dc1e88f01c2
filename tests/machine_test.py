"""Tests for machine."""

import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import machine


class NumCpusTest(parameterized.TestCase):

  def limit(self, text):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    path = pathlib.Path(folder, 'cpu.max')
    path.write_text(text)
    self.enterContext(mock.patch.object(machine, '_CGROUP_LIMIT', path))

  @mock.patch.object(os, 'cpu_count', return_value=80)
  @mock.patch.object(os, 'sched_getaffinity', return_value={3, 7, 9})
  def test_affinity_counts_not_the_host(self, *_):
    self.limit('max 100000\n')
    self.assertEqual(machine.num_cpus(), 3)

  @parameterized.parameters(
      ('200000 100000', 2), ('10000 100000', 1), ('max 100000', 8), ('', 8)
  )
  @mock.patch.object(os, 'sched_getaffinity', return_value=set(range(8)))
  def test_limit_of_a_container(self, text, expected, _):
    self.limit(text)
    self.assertEqual(machine.num_cpus(), expected)

  @mock.patch.object(os, 'cpu_count', return_value=None)
  def test_systems_without_affinity(self, _):
    missing = pathlib.Path(tempfile.gettempdir(), 'no such file')
    self.enterContext(mock.patch.object(machine, '_CGROUP_LIMIT', missing))
    with mock.patch.object(machine, 'os', mock.Mock(spec=['cpu_count'])) as m:
      m.cpu_count.return_value = None
      self.assertEqual(machine.num_cpus(), 1)


if __name__ == '__main__':
  absltest.main()
