"""Tests for jobs, and of training in jobs of several processes."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
from musiclm_jax.training import checkpoints
from musiclm_jax.training import jobs
from musiclm_jax.training import reports
from musiclm_jax.training import sharding
import numpy as np
import pytest

from tests.training import job

ROOT = pathlib.Path(jobs.__file__).parents[2]


def start(num_processes, num_devices, *arguments):
  """Starts the processes of a job, as Open MPI does."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  return [
      subprocess.Popen(
          [sys.executable, '-m', 'tests.training.job', *map(str, arguments)],
          cwd=ROOT,
          env={
              'PATH': os.environ['PATH'],
              'PYTHONPATH': str(ROOT),
              'XLA_FLAGS': (
                  f'--xla_force_host_platform_device_count={num_devices}'
                  ' --xla_backend_optimization_level=0'
              ),
              'JAX_PLATFORMS': 'cpu',
              'JAX_COORDINATOR_ADDRESS': address,
              'OMPI_MCA_orte_hnp_uri': '1.0;tcp://127.0.0.1:1',
              'OMPI_COMM_WORLD_SIZE': str(num_processes),
              'OMPI_COMM_WORLD_RANK': str(index),
              'OMPI_COMM_WORLD_LOCAL_RANK': str(index),
          },
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
      )
      for index in range(num_processes)
  ]


def finish(process):
  """Returns what a process wrote to stdout."""
  out, err = process.communicate()
  assert process.returncode == 0, err.decode()
  return out.decode()


@pytest.mark.slow
class JobsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.expected = job.two_steps(sharding.make_mesh())
    self.model_dir = self.enterContext(tempfile.TemporaryDirectory())
    self.running = []
    self.addCleanup(self.end_all)

  def end_all(self):
    for process in self.running:
      with contextlib.suppress(OSError):
        process.kill()
      process.communicate()

  def assert_as_expected(self, losses_and_norms, name):
    np.testing.assert_allclose(
        losses_and_norms, self.expected, atol=1e-5, rtol=0, err_msg=name
    )

  def on_meshes(self, num_processes, num_devices):
    """Yields what each process found, once its training is as expected."""
    self.running = start(num_processes, num_devices, 'meshes')
    for process in self.running:
      found = json.loads(finish(process).splitlines()[-1])
      for name in job.MESHES:
        self.assert_as_expected(found[name], name)
      yield found

  def test_four_processes_train_as_one_on_every_mesh(self):
    for found in self.on_meshes(4, 1):
      self.assertEqual(found['decided'], 0)
      self.assertIsNone(found['same'])
      self.assertEqual(found['not_same'], 'not [1, 2, 3]')
      self.assertIsNone(found['rows'])
      self.assertRegex(found['other_rows'], 'must make the same row')

  def test_hosts_of_several_devices_train_as_one_on_every_mesh(self):
    self.assertLen(list(self.on_meshes(2, 2)), 2)

  def train(self, step):
    """Starts a job, and returns its processes once it took some steps."""
    self.running = start(2, 1, 'train', self.model_dir, 10_000)
    while all(p.poll() is None for p in self.running):
      metrics = reports.read_metrics(self.model_dir)
      if metrics and metrics[-1]['step'] >= step:
        return self.running
      time.sleep(0.05)
    self.fail([p.communicate()[1].decode() for p in self.running])

  def preempt(self, processes):
    """Ends a job; returns the step that it saved."""
    # As SIGTERM, which it becomes.
    processes[1].send_signal(signal.SIGINT)
    told = [finish(p) for p in processes]
    saved = max(checkpoints.complete_steps(self.model_dir))
    for line in told:
      self.assertIn(f'saved step {saved} in {self.model_dir}; run', line)
    return saved

  def test_a_signal_to_one_process_saves_and_ends_all(self):
    saved = self.preempt(self.train(5))
    self.assertGreaterEqual(saved, 5)
    self.assert_as_expected(
        [
            record[name]
            for record in reports.read_metrics(self.model_dir)[:2]
            for name in ('loss', 'gradient_norm')
        ],
        'two processes share a model axis',
    )
    # It goes on from there, until one dies.
    processes = self.train(saved + 5)
    processes[1].kill()
    killed = time.monotonic()
    processes[0].communicate()
    self.assertLess(time.monotonic() - killed, 30)
    self.assertNotEqual(processes[0].returncode, 0)
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [saved])


if __name__ == '__main__':
  absltest.main()
