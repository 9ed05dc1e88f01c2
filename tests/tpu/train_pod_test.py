"""Tests for train_pod.sh, which can only be run to its end on a TPU pod."""

import os
import pathlib
import shlex
import subprocess

from absl.testing import absltest

SCRIPT = pathlib.Path(__file__).parents[2] / 'tpu' / 'train_pod.sh'
FLAGS = ['--gin_file=stages/semantic.gin', '--gin.DATA_DIR="/mnt/a b"']


def run(*flags, **environment):
  return subprocess.run(
      ['bash', str(SCRIPT), *flags],
      env={'PATH': os.environ['PATH'], 'PACKAGE': 'a.whl[x]', **environment},
      capture_output=True,
      text=True,
      check=False,
  )


class TrainPodTest(absltest.TestCase):

  def remote(self, **environment):
    """Returns the arguments of gcloud, and the words that each host runs."""
    result = run(*FLAGS, TPU='pod', ZONE='here', DRY_RUN='1', **environment)
    self.assertEqual(result.returncode, 0, result.stderr)
    *gcloud, command = shlex.split(result.stdout)
    return gcloud, shlex.split(command.removeprefix('--command='))

  def test_every_host_trains_with_the_flags_as_given(self):
    gcloud, words = self.remote()
    self.assertContainsSubset(['pod', '--zone=here', '--worker=all'], gcloud)
    self.assertEqual(words[-5:-2], ['musiclm', 'train', '--distributed'])
    self.assertEqual(words[-2:], FLAGS)
    self.assertIn('a.whl[x]', words)
    self.assertNotIn('gcsfuse', words)

  def test_mounts_the_bucket(self):
    _, words = self.remote(BUCKET='music')
    self.assertIn('gcsfuse', words)

  def test_says_what_is_missing(self):
    self.assertIn('TPU must be the name', run(*FLAGS, ZONE='here').stderr)
    result = run(TPU='pod', ZONE='here')
    self.assertEqual(result.returncode, 2)
    self.assertIn('must be those of `musiclm train`', result.stderr)


if __name__ == '__main__':
  absltest.main()
