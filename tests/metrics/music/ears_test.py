"""Tests for ears."""

import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import machine
from musiclm_jax.audio import io
from musiclm_jax.metrics import structure
from musiclm_jax.metrics.music import ears
from musiclm_jax.metrics.music import sounds
import numpy as np
import pytest
from tests import needs

RATE = 8000


def tone(hz, seconds=1.5):
  time = np.arange(round(seconds * RATE)) / RATE
  return (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


class EarsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def task(self, name, audio, **fields):
    path = self.dir / f'{name}.wav'
    io.write_audio(path, audio, RATE)
    takes = (sounds.File(str(path)),)
    return ears.Task(**{'name': name, 'takes': takes, 'seconds': 9.0, **fields})

  def test_only_what_lasts_long_enough_drifts(self):
    drifts = {'tempo': None, 'level (LU)': -1.5, 'timbre': 0.5}
    with mock.patch.object(structure, 'drift', return_value=drifts):
      short, long = (
          ears.structure_of(np.zeros(round(s * ears.SAMPLE_RATE)), '')
          for s in (2.9, 3.0)
      )
    self.assertEmpty(short)
    self.assertEqual(long, {'drift of level (LU)': 1.5, 'drift of timbre': 0.5})

  @parameterized.parameters(
      ('ABA', {'contrast of form': 0.25}),
      ('ABAB', {'contrast of form': 0.25}),
      ('ABABA', {}),  # Sections are too short.
      ('AB', {}),
      ('AA', {}),
  )
  def test_forms_with_a_letter_that_returns(self, form, expected):
    likeness = {'contrast': 0.25}
    with mock.patch.object(structure, 'form_likeness', return_value=likeness):
      found = ears.structure_of(np.zeros(2 * ears.SAMPLE_RATE), form)
    self.assertEqual(found, expected)

  def test_says_why_a_clip_cannot_be_heard(self):
    self.assertRegex(ears.measure(self.task('x', tone(440, 0.5))), 'at least 1')
    silence = np.zeros(2 * RATE, np.float32)
    task = self.task('silent', silence)
    self.assertRegex(ears.measure(task), 'must be heard')
    self.assertRegex(ears.diversity(task), 'must be heard')

  @pytest.mark.slow
  @needs.basic_pitch
  def test_processes_find_the_same(self):
    tasks = {
        ('x', str(hz)): self.task(str(hz), tone(hz)) for hz in (220, 330, 440)
    }
    alone, _ = ears.measure_all(tasks, {})
    with (
        mock.patch.object(ears, '_POOLED', 1),
        mock.patch.object(machine, 'num_cpus', return_value=2),
    ):
      shared, _ = ears.measure_all(tasks, {})
    for key, found in alone.items():
      self.assertEqual(shared[key].musicality, found.musicality)
      self.assertEqual(shared[key].heard.key, found.heard.key)


if __name__ == '__main__':
  absltest.main()
