"""Tests of `musiclm show`, and of what `musiclm generate` writes for it."""

import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import cli
from musiclm_jax.audio import io as audio_io
from musiclm_jax.cli import generate
from musiclm_jax.models import parts
import numpy as np

from tests.sampling import take_test


def run(*argv):
  """Returns the exit status, and what was written to stdout and stderr."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main([str(x) for x in argv])
  return status, out.getvalue(), err.getvalue()


class ShowTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.model = self.dir / 'model'
    self.sha256 = parts.save(self.model, 'fine', {}, {})

  def generate(self, path, *argv):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 4800)
    made = take_test.make_take(), audio.astype(np.float32), 24000
    with mock.patch.object(generate, '_made', return_value=made):
      status, _, err = run(
          'generate', 'piano', '--model', self.model, '--output', path, *argv
      )
    self.assertEqual(status, 0, err)

  @parameterized.parameters('wav', 'flac', 'ogg', 'mp3')
  def test_files_say_what_they_were_made_of(self, suffix):
    path, manifest = self.dir / f'a.{suffix}', self.dir / 'a.json'
    self.generate(path, '--manifest', manifest)
    status, out, err = run('show', path)
    self.assertEqual((status, err), (0, ''))
    found = json.loads(out)
    self.assertEqual(found['prompts'], [[0.0, 'piano']])
    self.assertEqual(found['manifest']['parts'], {'fine': self.sha256})
    # The model is of before there were ledgers.
    unknown = {'licenses': {}, 'unknown': ['fine']}
    self.assertEqual(found['manifest']['music'], unknown)
    self.assertEqual(json.loads(manifest.read_text()), found)

  def test_says_that_a_file_was_changed(self):
    path = self.dir / 'a.wav'
    self.generate(path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    status, _, err = run('show', path)
    self.assertEqual(status, 0)
    self.assertIn('a.wav was changed after it was made', err)

  def test_needs_a_file_of_ours(self):
    path = self.dir / 'a.wav'
    audio_io.write_audio(path, np.zeros(100, np.float32), 8000)
    status, _, err = run('show', path)
    self.assertEqual(status, 2)
    self.assertRegex(err, r"a.wav' must be a file that `musiclm generate`")

  def test_the_manifest_must_be_another_file(self):
    path = self.dir / 'a.wav'
    status, _, err = run('generate', 'x', '--output', path, '--manifest', path)
    self.assertEqual(status, 2)
    self.assertRegex(err, '--output must be another file than --manifest')


if __name__ == '__main__':
  absltest.main()
