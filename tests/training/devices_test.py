"""Tests for devices."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax.training import devices


class DevicesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('TPU v5', 'v5p'),
      ('TPU v5 lite', 'v5e'),
      ('TPU v4', 'v4'),
      ('NVIDIA A100-SXM4-40GB', 'a100-40gb'),
      ('NVIDIA H100 80GB HBM3', 'h100'),
  )
  def test_finds_what_jax_names(self, kind, name):
    self.assertIs(devices.find(kind), devices.get_device(name))

  @parameterized.parameters('cpu', 'TPU v99', 'NVIDIA H100 PCIe')
  def test_does_not_guess(self, kind):
    self.assertIsNone(devices.find(kind))

  def test_memory_is_that_of_the_fullest_device(self):
    limits = {'peak_bytes_in_use': 3 << 30, 'bytes_limit': 32 << 30}
    local = [
        mock.Mock(
            **{'memory_stats.return_value': {'bytes_in_use': n, **limits}}
        )
        for n in (1 << 30, 2 << 30)
    ]
    with mock.patch.object(jax, 'local_devices', return_value=local):
      self.assertEqual(
          devices.memory(),
          '2.00 GiB in use, 3.00 GiB at most so far, of 32.00 GiB',
      )

  def test_memory_of_a_cpu_is_not_known(self):
    self.assertEqual(devices.memory(), '')

  def test_rejects_an_unknown_name(self):
    with self.assertRaisesRegex(ValueError, "one of .*'v5p'.* is 'v99'"):
      devices.get_device('v99')


if __name__ == '__main__':
  absltest.main()
