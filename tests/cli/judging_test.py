"""Tests of `musiclm evaluate music`."""

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
from musiclm_jax.cli import batch as batch_verb
from musiclm_jax.cli import judging
from musiclm_jax.metrics.embedders import table
from musiclm_jax.metrics.music import ears
from musiclm_jax.metrics import obedience
from musiclm_jax.sampling import pretrained
from musiclm_jax.sampling import provenance
import numpy as np
from tests.metrics.music import bands
from tests import needs
from tests import random_model

RATE = 24000
SECONDS = 1.5
PROMPTS = {'waltz': 'a low waltz', 'march': 'a high march'}
MEASURED = ears.Measured(
    obedience.Heard(96.0, 3, 9, np.zeros(8, int), np.zeros(16, bool)),
    {'pulse clarity': 0.5},
    {},
)


def run(*argv):
  """Returns the exit status, and what was written to stdout and stderr."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main(['evaluate', *map(str, argv)])
  return status, out.getvalue(), err.getvalue()


class Noises:
  """A model that makes noise, and notes what it is asked for."""

  sample_rate = RATE

  def __init__(self, *args):
    self.asked = []

  def generate(self, pieces, seed, seconds, progress):
    del progress
    self.asked += zip(pieces, seed)
    rng = np.random.default_rng(0)
    shape = len(pieces), round(seconds * RATE)
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


class JudgingTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.list = self.dir / 'list.jsonl'
    self.write_list()
    for name in PROMPTS:
      time = np.arange(round(SECONDS * RATE)) / RATE
      audio = np.sin(2 * np.pi * 220 * time).astype(np.float32) / 2
      audio_io.write_audio(self.dir / 'true' / f'{name}.wav', audio, RATE)
    # What is heard in a clip has tests of its own.
    self.enterContext(mock.patch.object(ears, 'measure', lambda task: MEASURED))
    self.enterContext(
        mock.patch.object(ears, 'diversity', lambda task: {'timbre': 3.0})
    )
    self.model = Noises()
    self.enterContext(
        mock.patch.object(batch_verb, 'Interruptible', lambda *args: self.model)
    )
    self.enterContext(mock.patch.object(judging, '_BATCH_SIZE', 2))

  def write_list(self, **fields):
    lines = [
        {'id': id_, 'prompt': text, 'seconds': SECONDS, **fields}
        for id_, text in PROMPTS.items()
    ]
    self.list.write_text('\n'.join(map(json.dumps, lines)))

  @mock.patch.object(table, 'load', lambda spec: bands.Bands())
  @needs.basic_pitch
  def test_the_model_beside_true_audio(self):
    argv = (
        *('music', '--prompts', self.list, '--output_dir', self.dir / 'made'),
        *('--takes', 2, '--reference', self.dir / 'true'),
        *('--json', self.dir / 'found.json'),
    )
    status, out, err = run(*argv)
    self.assertEqual(status, 0, err)
    for part in ('2 of 2 prompts', 'cosine to the prompt (bands)', 'reference'):
      self.assertIn(part, out)
    made = sorted(path.name for path in (self.dir / 'made').glob('*.wav'))
    takes = [f'{id_}{x}.wav' for id_ in PROMPTS for x in ('', '-take2')]
    self.assertEqual(made, sorted(takes))
    self.assertEqual({seed for _, seed in self.model.asked}, {0, 1})
    found = json.loads((self.dir / 'found.json').read_text())
    values = {(x['measure'], x['system']): x for x in found['rows']}
    self.assertEqual(values['timbre between takes', 'model']['count'], 2)
    self.assertEqual(
        found['about']['systems']['model']['model_sha256'],
        provenance.model_sha256(pretrained.find(None)),
    )
    self.assertIn(('pulse clarity', 'reference'), values)
    # Another run makes nothing anew.
    self.model.asked.clear()
    status, _, err = run(*argv)
    self.assertEqual(status, 0, err)
    self.assertEmpty(self.model.asked)
    self.assertIn('0 made, 4 skipped', err)

  @mock.patch.object(table, 'load', lambda spec: bands.Bands())
  @needs.basic_pitch
  def test_plans_that_the_model_does_not_read(self):
    self.write_list(plan={'bpm': 96, 'metre': '3/4', 'key': 'A minor'})
    random_model.write_random_model(self.dir / 'model')
    status, out, err = run(
        *('music', '--prompts', self.list, '--output_dir', self.dir / 'made'),
        *('--model', self.dir / 'model'),
    )
    self.assertEqual(status, 0, err)
    self.assertIn('the model reads no beat and no key', err)
    self.assertIn('without plans', out)
    self.assertRegex(out, r'obedience +tempo within 4% +1.000')

  @mock.patch.object(table, 'load', lambda spec: bands.Bands())
  @needs.basic_pitch
  def test_clips_of_others(self):
    status, out, err = run(
        *('music', '--prompts', self.list, '--audio', self.dir / 'true'),
        *('--audio', f'again={self.dir / "true"}', '--max_clips', 1),
    )
    self.assertEqual(status, 0, err)
    self.assertIn('1 of 2 prompts', out)
    self.assertIn('missing: 1 prompts, by --max_clips', out)
    self.assertRegex(out, r'measure +true +again')
    self.assertEmpty(self.model.asked)

  @parameterized.parameters(
      (['--prompts', 'x.txt'], 'there must be clips to judge'),
      (['--output_dir', 'x'], 'there must be prompts'),
      (
          ['--output_dir', 'x', '--prompts', 'x', '--benchmark', 'attm'],
          '--prompts must be without --benchmark',
      ),
      (['--audio', 'x', '--data', 'y', '--takes', 2], '--takes must be with'),
      (
          ['--output_dir', 'x', '--benchmark', 'attm'],
          '--data must be the folder',
      ),
      (['--output_dir', 'x', '--benchmark', 'x'], 'benchmark must be one of'),
      (
          ['--audio', 'x', '--data', 'y', '--plot', 'x.png'],
          '--plot must be with',
      ),
      (
          ['--audio', 'x', '--data', 'y', '--embedder', 'no'],
          'embedder must be one',
      ),
      (
          ['--audio', 'x', '--data', 'y', '--report', 'gs://b/r'],
          '--report must be on this machine',
      ),
      (['--audio', 'gs://b/x', '--data', 'y'], '--audio must be on this'),
      (
          ['--audio', 'x', '--data', 'y', '--max_clips', 0],
          '--max_clips must be at least 1',
      ),
  )
  def test_wrong_flags(self, flags, message):
    status, _, err = run('music', *flags)
    self.assertEqual(status, 2)
    self.assertIn(message, err)

  def test_names_of_columns(self):
    true = self.dir / 'true'
    for names in ((f'model={true}',), (f'a={true}', f'a={true}')):
      flags = [x for name in names for x in ('--audio', name)]
      status, _, err = run('music', '--prompts', self.list, *flags)
      self.assertEqual(status, 2)
      self.assertIn('names of --audio must differ', err)

  def test_the_codec_needs_true_audio_of_the_prompts(self):
    status, _, err = run(
        *('music', '--prompts', self.list, '--audio', self.dir / 'true'),
        *('--codec_passed', self.dir / 'coded'),
    )
    self.assertEqual(status, 2)
    self.assertIn('--codec_passed must be with true audio', err)

  def test_flags_of_music_are_for_music(self):
    status, _, err = run('codec', '--data', 'x', '--report', 'y')
    self.assertEqual(status, 2)
    self.assertIn('--report must be with `musiclm evaluate music`', err)
    status, _, err = run('codec')
    self.assertEqual(status, 2)
    self.assertIn('--data must be the folder of a dataset', err)


if __name__ == '__main__':
  absltest.main()
