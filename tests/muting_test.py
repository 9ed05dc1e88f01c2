"""Tests for muting."""

import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
from musiclm_jax import muting

SCRIPT = """
import os, sys
from musiclm_jax import muting
with muting.importing_tensorflow():
  os.write(2, b'noise\\n')
  print('ours', file=sys.stderr)
os.write(2, b'after\\n')
"""


def stderr_of(level):
  return subprocess.run(
      [sys.executable, '-c', SCRIPT],
      env={
          **os.environ,
          'PYTHONPATH': str(pathlib.Path(muting.__file__).parents[1]),
          'TF_CPP_MIN_LOG_LEVEL': level,
      },
      capture_output=True,
      text=True,
      check=True,
  ).stderr.split()


class MutingTest(absltest.TestCase):

  def test_heeds_the_level(self):
    self.assertEqual(stderr_of('3'), ['ours', 'after'])
    self.assertEqual(stderr_of('0'), ['noise', 'ours', 'after'])


if __name__ == '__main__':
  absltest.main()
