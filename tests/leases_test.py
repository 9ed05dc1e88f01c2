"""Tests for leases."""

import os
import subprocess
import threading
import time
from unittest import mock

from absl.testing import absltest
from musiclm_jax import leases
from musiclm_jax import paths

from tests import bucket

ABOUT = {'what': 'musiclm train', 'pid': '1', 'host': 'here', 'since': 'noon'}


class LeasesTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.path = paths.to_path(bucket.start(self)) / 'run' / '.lock'
    for name, seconds in (('RENEWAL', 0.2), ('PATIENCE', 1.0), ('_POLL', 0.1)):
      self.enterContext(mock.patch.object(leases, name, seconds))

  def be_patient(self):
    """However slow the machine is, nobody is taken for dead."""
    self.enterContext(mock.patch.object(leases, 'PATIENCE', 60.0))

  def write(self, **changes):
    there = leases._Object(self.path)
    return there, there.write(ABOUT | changes, 0)

  def test_one_at_a_time(self):
    self.be_patient()
    with leases.holding(self.path, ABOUT):
      with self.assertRaises(leases.HeldError) as caught:
        with leases.holding(self.path, ABOUT):
          self.fail('it was held twice')
      self.assertEqual(caught.exception.holder['pid'], '1')
      self.assertTrue(self.path.exists())
    self.assertFalse(self.path.exists())
    with leases.holding(self.path, ABOUT):
      pass

  def test_of_many_at_once_one_holds_it(self):
    self.be_patient()
    held, others = [], []
    ready, done = threading.Barrier(4), threading.Event()

    def hold():
      ready.wait()
      try:
        with leases.holding(self.path, ABOUT):
          held.append(1)
          done.wait()
      except leases.HeldError:
        others.append(1)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
      thread.start()
    while len(held) + len(others) < 4:
      time.sleep(0.05)
    done.set()
    for thread in threads:
      thread.join()
    self.assertLen(held, 1)

  def test_takes_over_what_is_not_renewed(self):
    self.write(host='there')
    start = time.monotonic()
    with leases.holding(self.path, ABOUT):
      self.assertGreater(time.monotonic() - start, 1.0)

  def test_takes_over_at_once_from_the_dead_of_this_machine(self):
    dead = subprocess.Popen(['true'])
    dead.wait()
    self.write(pid=str(dead.pid), machine=leases._this_machine())
    self.enterContext(mock.patch.object(leases, 'PATIENCE', 60.0))
    with leases.holding(self.path, ABOUT):
      pass

  def test_waits_for_the_living_of_this_machine(self):
    self.write(pid=str(os.getpid()), machine=leases._this_machine())
    start = time.monotonic()
    with leases.holding(self.path, ABOUT):
      self.assertGreater(time.monotonic() - start, 1.0)

  def test_who_lost_it_ends(self):
    ended = threading.Event()
    self.enterContext(mock.patch('os._exit', lambda status: ended.set()))
    with leases.holding(self.path, ABOUT):
      self.path.write_text('{}')  # Another process took it.
      self.assertTrue(ended.wait(5))
    self.assertTrue(self.path.exists())  # It is the other's.

  def test_an_answer_that_was_lost(self):
    there, generation = self.write(token='a')
    self.assertEqual(there.write({**ABOUT, 'token': 'a'}, 0), generation)
    self.assertIsNone(there.write({**ABOUT, 'token': 'b'}, 0))


if __name__ == '__main__':
  absltest.main()
