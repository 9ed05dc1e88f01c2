"""Tests for workers."""

import os
import signal
import time

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.data import workers


def square(number):
  if number < 0:
    raise errors.UserError('no such number')
  return number**2


def die(number):
  if number == 3:
    os.kill(os.getpid(), signal.SIGKILL)
  return number


def sleep(seconds):
  time.sleep(seconds)


class WorkersTest(absltest.TestCase):

  def map(self, function, items, num_workers=2):
    with workers.pool(num_workers) as pool:
      results = workers.ordered_map(pool, num_workers, str, function, items)
      return list(results)

  def test_order_is_kept(self):
    self.assertEqual(self.map(square, range(9)), [i**2 for i in range(9)])

  def test_errors_are_those_of_the_function(self):
    with self.assertRaisesRegex(errors.UserError, 'no such number'):
      self.map(square, [1, -1, 2])

  def test_a_killed_process_is_told(self):
    with self.assertRaisesRegex(
        errors.UserError, r'killed at .*3.*memory ran out.*--num_workers.* 2'
    ):
      self.map(die, range(9))

  def test_an_interrupt_waits_for_nothing(self):
    start = time.monotonic()
    with self.assertRaises(KeyboardInterrupt):
      with workers.pool(1) as pool:
        pool.submit(sleep, 60)
        raise KeyboardInterrupt
    self.assertLess(time.monotonic() - start, 30)


if __name__ == '__main__':
  absltest.main()
