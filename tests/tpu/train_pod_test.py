"""Tests for train_pod.sh, which can only be run to its end on a TPU pod."""

import subprocess

from absl.testing import absltest
from absl.testing import parameterized
import yaml

from tests.tpu import pods

FLAGS = ['--gin_file=stages/semantic.gin', '--gin.DATA_DIR="gs://a b"']
# Ends with each of the statuses in turn: 2 before the first step, "late" with 2
# after it; "done" is 0 after the last one.
MUSICLM = """
printf '%s\\n' "$@" >> ~/arguments
read -r status rest < ~/statuses
echo "$rest" > ~/statuses
if [[ $status != 2 ]]; then echo 'step 5/9'; fi
if [[ $status == late ]]; then exit 2; fi
if [[ $status == done ]]; then echo 'gs://b/run: done at step 9'; exit 0; fi
exit $status"""


class TrainPodTest(pods.PodTest, parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.write_stub('musiclm/venv/bin/musiclm', MUSICLM)

  def train(self, statuses, **environment):
    (self.home / 'statuses').write_text(statuses)
    ((*gcloud, command),) = pods.commands('train_pod.sh', *FLAGS)
    self.assertContainsSubset(['pod', '--zone=here', '--worker=all'], gcloud)
    return self.run_on_host(command, PAUSE_SECONDS='0', **environment)

  def test_every_host_trains_with_the_flags_as_given(self):
    result = self.train('done')
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertEqual(self.read('arguments'), ['train', '--distributed', *FLAGS])

  @parameterized.named_parameters(
      ('killed_twice', '137 134 done 9', 0, 3),
      ('preempted_twice', '0 0 done 9', 0, 3),
      ('mistake_of_the_user', '2 done', 2, 1),
      ('storage_away_while_it_trains', 'late done', 0, 2),
      ('storage_away_when_it_starts_again', '137 2 done', 0, 3),
      ('interrupted', '130 done', 130, 1),
  )
  def test_starts_again(self, statuses, status, times):
    result = self.train(statuses)
    self.assertEqual(result.returncode, status, result.stderr)
    self.assertEqual(self.read('arguments').count('train'), times)

  def test_gives_up(self):
    result = self.train('0 1 0 done', MAX_RESTARTS='2')
    self.assertEqual(result.returncode, 1)
    self.assertIn('was preempted: starts again', result.stderr)
    self.assertEqual(self.read('arguments').count('train'), 3)
    self.assertIn('ended with status 1: starts again', result.stderr)

  def test_says_what_is_missing(self):
    result = pods.run_script('train_pod.sh', *FLAGS, ZONE='here')
    self.assertIn('TPU must be the name', result.stderr)
    result = pods.run_script('train_pod.sh', **pods.SLICE)
    self.assertEqual(result.returncode, 2)
    self.assertIn('must be those of `musiclm train`', result.stderr)

  def test_skypilot_runs_the_same(self):
    task = yaml.safe_load((pods.TPU / 'sky.yaml').read_text())
    (self.home / 'statuses').write_text('done')
    flags = """--gin_file=x --gin.DATA_DIR='"gs://a b"'"""
    result = subprocess.run(
        ['/bin/bash', '-c', task['run']],
        env={'HOME': str(self.home), **task['envs'], 'FLAGS': flags},
        cwd=pods.TPU.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertEqual(
        self.read('arguments'),
        ['train', '--distributed', '--gin_file=x', '--gin.DATA_DIR="gs://a b"'],
    )


if __name__ == '__main__':
  absltest.main()
