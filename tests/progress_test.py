"""Tests for progress."""

import contextlib
import io
import time

from absl.testing import absltest
from musiclm_jax import progress


def told(seconds, patience):
  """Returns what is said of work that takes so long."""
  stderr = io.StringIO()
  with contextlib.redirect_stderr(stderr):
    with progress.telling('counting', patience):
      time.sleep(seconds)
  return stderr.getvalue()


class TellingTest(absltest.TestCase):

  def test_short_work_is_silent(self):
    self.assertEqual(told(0.0, 5.0), '')

  def test_long_work_is_told(self):
    self.assertEqual(told(0.3, 0.1), 'musiclm: counting …\n')

  def test_very_long_work_says_what_it_took(self):
    self.assertIn('musiclm: counting: 0 s', told(0.3, 0.01))

  def test_errors_pass(self):
    with self.assertRaises(KeyError):
      with progress.telling('counting'):
        raise KeyError


if __name__ == '__main__':
  absltest.main()
