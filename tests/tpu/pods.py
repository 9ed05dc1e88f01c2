"""Runs what the scripts for TPU pods send to hosts, in a clean shell here."""

import os
import pathlib
import subprocess
import tempfile

from absl.testing import absltest

TPU = pathlib.Path(__file__).parents[2] / 'tpu'
SLICE = {'TPU': 'pod', 'ZONE': 'here'}


def run_script(script, *arguments, **environment):
  """Runs a script as a user does."""
  return subprocess.run(
      ['bash', str(TPU / script), *map(str, arguments)],
      env={'PATH': os.environ['PATH'], **environment},
      capture_output=True,
      text=True,
      check=False,
  )


def commands(script, *arguments):
  """Returns the words of each command that a script would run."""
  result = run_script(script, *arguments, **SLICE, DRY_RUN='1')
  assert result.returncode == 0, result.stderr
  return [_words(line) for line in result.stdout.splitlines()]


def _words(line):
  """Splits a line as bash does, which wrote it."""
  code = 'eval "words=($1)"; printf "%s\\0" "${words[@]}"'
  result = subprocess.run(
      ['bash', '-c', code, 'bash', line], capture_output=True, check=True
  )
  return result.stdout.decode().removesuffix('\0').split('\0')


class PodTest(absltest.TestCase):
  """A host with a home of its own, where stubs play what is installed."""

  def setUp(self):
    super().setUp()
    self.home = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write_stub(self, path, code):
    """Writes a program, given its path in the home and its bash code."""
    stub = self.home / path
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.write_text(f'#!/bin/bash\n{code}\n')
    stub.chmod(0o755)
    return stub

  def run_on_host(self, command, **environment):
    """Runs what gcloud is to run on hosts, without the user's environment."""
    return subprocess.run(
        ['/bin/bash', '-c', command.removeprefix('--command=')],
        env={'HOME': str(self.home), **environment},
        cwd='/',
        capture_output=True,
        text=True,
        check=False,
    )

  def read(self, name):
    return (self.home / name).read_text().splitlines()
