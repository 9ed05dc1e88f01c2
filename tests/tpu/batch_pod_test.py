"""Tests for batch_pod.sh, where stubs play the metadata server and a host."""

from absl.testing import absltest

from tests.tpu import pods

ARGUMENTS = ['gs://a b/prompts.jsonl', '--output_dir=gs://$out']
CURL = """
case "${!#}" in
  */agent-worker-number) printf $HOST ;;
  */worker-network-endpoints) printf 'a:1:10.0.0.1,b:2:10.0.0.2' ;;
  *) exit 22 ;;
esac"""
MUSICLM = """
shard="${@: -3:1}"
env | grep ^TPU_ > ~/$shard.env
printf '%s\\n' "$@" > ~/$shard.arguments
[[ $shard != "${FAILS:-}" ]]"""


class BatchPodTest(pods.PodTest):

  def setUp(self):
    super().setUp()
    self.curl = self.write_stub('curl', CURL)
    self.write_stub('musiclm/venv/bin/musiclm', MUSICLM)

  def make_chips(self, names):
    for name in names:
      path = self.home / 'system' / 'dev' / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.touch()

  def run_pod(self, **environment):
    """Runs both hosts; returns their results."""
    ((*gcloud, command),) = pods.commands('batch_pod.sh', *ARGUMENTS)
    self.assertContainsSubset(['pod', '--zone=here', '--worker=all'], gcloud)
    return [
        self.run_on_host(
            command,
            HOST=host,
            CURL=str(self.curl),
            SYSTEM=str(self.home / 'system'),
            **environment,
        )
        for host in '01'
    ]

  def test_every_chip_of_every_host_makes_a_shard(self):
    self.make_chips(['accel0', 'accel1', 'accel2', 'accel3'])
    for result in self.run_pod():
      self.assertEqual(result.returncode, 0, result.stderr)
    self.assertLen(list(self.home.glob('*.arguments')), 8)
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

  def test_later_hosts_name_their_chips_otherwise(self):
    self.make_chips(['vfio/0', 'vfio/vfio'])
    self.run_pod()
    self.assertEqual(self.read('1.arguments')[-3:], ['1', '--num_shards', '2'])
    self.assertLen(list(self.home.glob('*.arguments')), 2)

  def test_one_shard_that_fails_stops_no_other(self):
    self.make_chips(['accel0', 'accel1', 'accel2', 'accel3'])
    statuses = [result.returncode for result in self.run_pod(FAILS='1')]
    self.assertEqual(statuses, [1, 0])
    self.assertLen(list(self.home.glob('*.arguments')), 8)

  def test_says_what_is_missing(self):
    for result in self.run_pod():
      self.assertEqual(result.returncode, 2)
      self.assertIn('must have TPU chips', result.stderr)
    result = pods.run_script('batch_pod.sh', *ARGUMENTS, ZONE='here')
    self.assertIn('TPU must be the name', result.stderr)
    result = pods.run_script('batch_pod.sh', **pods.SLICE)
    self.assertEqual(result.returncode, 2)
    self.assertIn('must be those of `musiclm batch`', result.stderr)


if __name__ == '__main__':
  absltest.main()
