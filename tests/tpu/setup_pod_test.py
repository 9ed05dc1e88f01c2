"""Tests for create.sh, setup.sh and delete.sh, where a stub plays gcloud."""

import os

from absl.testing import absltest
from absl.testing import parameterized

from tests.tpu import pods

UV = """
printf '%s\\n' "$@" >> ~/uv
if [[ $1 == venv ]]; then
  mkdir -p "${@: -1}/bin"
  printf '#!/bin/bash\\necho installed\\n' > "${@: -1}/bin/python"
  chmod +x "${@: -1}/bin/python"
fi"""
# Says the states of a slice in turn.
GCLOUD = """
printf '%s ' "$@" >> "$LOG/gcloud"
if [[ $* == *describe* ]]; then
  read -r state rest < "$LOG/states"
  echo "$rest" > "$LOG/states"
  echo $state
fi"""


class SetupPodTest(pods.PodTest, parameterized.TestCase):

  def test_installs_a_wheel_of_this_machine_on_every_host(self):
    wheel = self.home / 'a b.whl'
    wheel.touch()
    copy, (*gcloud, command) = pods.commands('setup.sh', wheel)
    self.assertContainsSubset(
        ['scp', str(wheel), 'pod:/tmp/a b.whl', '--worker=all'], copy
    )
    self.assertContainsSubset(['ssh', 'pod', '--worker=all'], gcloud)
    self.write_stub('musiclm/uv/bin/uv', UV)
    result = self.run_on_host(command)
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertEqual(result.stdout, 'installed\n')
    asked = self.read('uv')
    self.assertIn('>=3.11,<3.13', asked)
    self.assertIn('musiclm_jax[train,tpu,gcs] @ file:///tmp/a b.whl', asked)
    self.assertIn(f'{self.home}/musiclm/venv/bin/python', asked)

  def test_takes_urls(self):
    url = 'git+https://example.com/musiclm_jax'
    ((*_, command),) = pods.commands('setup.sh', url)
    self.assertStartsWith(command, f'--command=set -- {url}\n')

  def test_says_what_is_missing(self):
    result = pods.run_script('setup.sh', 'none.whl', **pods.SLICE)
    self.assertEqual(result.returncode, 2)
    self.assertIn("wheel that is there, or a URL, but is 'none.whl'",
                  result.stderr)  # fmt: skip
    result = pods.run_script('create.sh', 'v9-8', **pods.SLICE)
    self.assertEqual(result.returncode, 2)
    self.assertIn('like v4-32, v5litepod-16', result.stderr)

  @parameterized.parameters(
      ('v4-32', 'tpu-ubuntu2204-base'),
      ('v5litepod-16', 'v2-alpha-tpuv5-lite'),
      ('v5p-32', 'v2-alpha-tpuv5'),
      ('v6e-16', 'v2-alpha-tpuv6e'),
  )
  def test_asks_for_a_slice(self, accelerator, version):
    ((*words, last),) = pods.commands('create.sh', accelerator, '--spot')
    self.assertEqual(last, '--spot')
    self.assertContainsSubset(
        [
            'queued-resources', 'create', 'pod', '--node-id=pod',
            f'--accelerator-type={accelerator}', f'--runtime-version={version}',
        ],
        words,
    )  # fmt: skip

  @parameterized.parameters(
      ('ACCEPTED PROVISIONING ACTIVE', 0), ('ACCEPTED FAILED ACTIVE', 1)
  )
  def test_waits_until_it_is_there(self, states, status):
    (self.home / 'states').write_text(states)
    self.write_stub('bin/gcloud', GCLOUD)
    result = pods.run_script(
        'create.sh',
        'v4-8',
        **pods.SLICE,
        PATH=f'{self.home}/bin:{os.environ["PATH"]}',
        LOG=str(self.home),
        POLL_SECONDS='0',
    )
    self.assertEqual(result.returncode, status, result.stderr)
    self.assertEqual(result.stderr.count('pod: '), 3 if status == 0 else 2)

  def test_gives_it_back(self):
    (words,) = pods.commands('delete.sh')
    self.assertContainsSubset(['delete', 'pod', '--force', '--quiet'], words)


if __name__ == '__main__':
  absltest.main()
