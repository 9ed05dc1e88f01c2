"""Tests for planning."""

import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import plan
from musiclm_jax.sampling import provenance
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import plan_streams
import numpy as np
from tests import random_model
from tests.cli import running_test


class PlanningTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.models = pathlib.Path(folder)
    known = {**stages.PAPER_STREAMS, **plan_streams.STREAMS}
    for name, read in (('plan', plan_streams.NAMES), ('none', ())):
      semantic = stages.get_stage(
          'semantic', 4.0, ('mulan', *read), known=known
      )
      coarse = stages.get_stage('coarse', 1.0)
      random_model.write_random_model(
          cls.models / name, cascade=[semantic, coarse]
      )
    plan_streams.PlanStreams.write(cls.models / 'plan')

  def generate(self, *flags, model='plan'):
    """Returns the timeline that is asked for, the status, and the error."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    argv = ('generate', 'calm', '--model', self.models / model, '--seconds=20')
    output = ('--output', folder / 'a.wav')
    loaded = mock.create_autospec(musiclm.MusicLM, instance=True)
    loaded.takes.return_value = [None]
    loaded.render.return_value = np.zeros(24000, np.float32)
    with (
        mock.patch.object(
            musiclm.MusicLM, 'from_pretrained', lambda *args: loaded
        ),
        mock.patch.object(provenance, 'write_take'),
    ):
      status, err = running_test.run(*map(str, (*argv, *output, *flags)))
    asked = loaded.takes.call_args
    return asked and asked.args[0], status, err

  def test_flags(self):
    piece, status, err = self.generate(
        '--bpm=96', '--metre=3/4', '--key=A minor', '--chords=Am F C G',
        '--arrange=0 piano; 8 +bass +drums', '--form=AABA', '--repeat=exact',
        '--prompt_only',
    )  # fmt: skip
    self.assertEqual(status, 0, err)
    expected = plan.Plan(
        96.0, '3/4', 'A minor', 'Am F C G', '0 piano; 8 +bass +drums', 'AABA',
        repeat='exact',
    )  # fmt: skip
    self.assertEqual(piece.plan, expected)
    self.assertTrue(piece.prompt_only)

  def test_a_file_and_flags_that_count_more(self):
    path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), 'p')
    sections = {'B': {'chords': 'F G', 'bars': 2}}
    value = {'bpm': 90, 'chords': 'Am', 'form': 'AB', 'sections': sections}
    path.write_text(json.dumps(value))
    piece, status, err = self.generate('--plan', path, '--bpm=100')
    self.assertEqual(status, 0, err)
    self.assertEqual(piece.plan.to_json(), {**value, 'bpm': 100.0})

  def test_none(self):
    piece, status, _ = self.generate(model='none')
    self.assertEqual(status, 0)
    self.assertIsNone(piece.plan)
    self.assertFalse(piece.prompt_only)

  @parameterized.named_parameters(
      ('bpm', ['--bpm=0'], 'bpm must be from 20'),
      ('chord', ['--bpm=90', '--chords=X'], "a chord must be like .* 'X'"),
      ('late', ['--arrange=0 piano; 30 +bass'], 'within the 20 s of the piece'),
      ('no_tempo', ['--chords=C'], 'Say bpm'),
      ('repeat', ['--repeat=exact'], 'no section returns'),
      ('take', ['--take=a.json', '--bpm=9'], "must be without .*'bpm'"),
      ('file', ['--plan=none.json'], "none.json"),
  )  # fmt: skip
  def test_rejects(self, flags, message):
    piece, status, err = self.generate(*flags)
    self.assertIsNone(piece)
    self.assertEqual(status, 2)
    self.assertRegex(err.strip().splitlines()[-1], message)

  def test_a_model_that_reads_no_plan(self):
    piece, status, err = self.generate('--key=C', model='none')
    self.assertIsNone(piece)
    self.assertEqual(status, 2)
    self.assertRegex(
        err.strip().splitlines()[-1],
        r"a plan of \['key'\] must be for a model .* read no such streams",
    )


if __name__ == '__main__':
  absltest.main()
