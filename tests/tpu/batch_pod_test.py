"""Tests for batch_pod.sh, where stubs play gcloud and what hosts run."""

import os
import pathlib
import subprocess
import tempfile

from absl.testing import absltest

SCRIPT = pathlib.Path(__file__).parents[2] / 'tpu' / 'batch_pod.sh'
ARGUMENTS = ['/mnt/a b/prompts.jsonl', '--output_dir=/mnt/$out']
# gcloud runs its last argument as each of two hosts would.
STUBS = {
    'gcloud': """
printf '%s\\n' "$@" >> "$LOG/gcloud"
for HOST in 0 1; do
  HOST=$HOST bash -c "${!##--command=}" || status=$?
done
exit ${status:-0}""",
    'curl': """
case "${!#}" in
  */agent-worker-number) printf $HOST ;;
  */worker-network-endpoints) printf 'a:1:10.0.0.1,b:2:10.0.0.2' ;;
  *) exit 22 ;;
esac""",
    'pip': 'printf "%s\\n" "$@" >> "$LOG/pip"',
    'musiclm': """
shard="${@: -3:1}"
env | grep ^TPU_ > "$LOG/$shard.env"
printf '%s\\n' "$@" > "$LOG/$shard.arguments"
[[ $shard != "${FAILS:-}" ]]""",
}


class BatchPodTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.log = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (self.log / 'bin').mkdir()
    for name, code in STUBS.items():
      stub = self.log / 'bin' / name
      stub.write_text(f'#!/bin/bash\n{code}\n')
      stub.chmod(0o755)

  def run_script(self, *arguments, **environment):
    path = f'{self.log}/bin:{os.environ["PATH"]}'
    return subprocess.run(
        ['bash', str(SCRIPT), *arguments],
        env={'PATH': path, 'LOG': str(self.log), **environment},
        capture_output=True,
        text=True,
        check=False,
    )

  def run_pod(self, **environment):
    settings = {'TPU': 'pod', 'ZONE': 'here', 'PACKAGE': 'a.whl[x]'}
    return self.run_script(*ARGUMENTS, **settings, **environment)

  def read(self, name):
    return (self.log / name).read_text().splitlines()

  def test_every_chip_of_every_host_makes_a_shard(self):
    result = self.run_pod()
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertContainsSubset(
        ['pod', '--zone=here', '--worker=all'], self.read('gcloud')
    )
    self.assertEqual(self.read('pip').count('a.whl[x]'), 2)
    self.assertLen(list(self.log.glob('*.arguments')), 8)
    for shard in range(8):
      self.assertEqual(
          self.read(f'{shard}.arguments'),
          ['batch', *ARGUMENTS, '--shard', str(shard), '--num_shards', '8'],
      )
      port = 8476 + shard % 4
      self.assertSameElements(
          self.read(f'{shard}.env'),
          ['TPU_CHIPS_PER_PROCESS_BOUNDS=1,1,1', 'TPU_PROCESS_BOUNDS=1,1,1',
           f'TPU_VISIBLE_DEVICES={shard % 4}',
           f'TPU_MESH_CONTROLLER_PORT={port}',
           f'TPU_MESH_CONTROLLER_ADDRESS=localhost:{port}'],
      )  # fmt: skip

  def test_number_of_chips(self):
    self.assertEqual(self.run_pod(CHIPS='1').returncode, 0)
    self.assertEqual(self.read('1.arguments')[-3:], ['1', '--num_shards', '2'])
    self.assertLen(list(self.log.glob('*.arguments')), 2)

  def test_one_shard_that_fails_stops_no_other(self):
    self.assertEqual(self.run_pod(FAILS='1').returncode, 1)
    self.assertLen(list(self.log.glob('*.arguments')), 8)

  def test_dry_run_runs_nothing(self):
    result = self.run_pod(DRY_RUN='1', BUCKET='music')
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertIn('gcsfuse', result.stdout)
    self.assertFalse((self.log / 'gcloud').exists())

  def test_says_what_is_missing(self):
    result = self.run_script(*ARGUMENTS, ZONE='here')
    self.assertIn('TPU must be the name', result.stderr)
    result = self.run_script(TPU='pod', ZONE='here', PACKAGE='a')
    self.assertEqual(result.returncode, 2)
    self.assertIn('must be those of `musiclm batch`', result.stderr)


if __name__ == '__main__':
  absltest.main()
