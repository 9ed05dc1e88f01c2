"""Tests for evaluation, on plucked chords and noise."""

import dataclasses
import json
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.metrics.music import ears
from musiclm_jax.metrics.music import evaluation
from musiclm_jax.metrics.music import measures
from musiclm_jax.metrics.music import page
from musiclm_jax.metrics.music import prompts as prompts_lib
from musiclm_jax.metrics.music import reports
from musiclm_jax.metrics.music import rows
from musiclm_jax.metrics.music import sounds
import numpy as np
from tests.metrics.music import bands
from tests import needs

RATE = bands.RATE
SECONDS = 2.0
PITCHES = {'low': 40, 'middle': 55, 'high': 70}


def pluck(pitch, seed=0):
  """Returns plucked tones of a pitch, twice a second."""
  time = np.arange(round(SECONDS * RATE)) / RATE
  hz = 440 * 2 ** ((pitch - 69) / 12)
  audio = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 6))
  audio *= np.exp(-4 * (time % 0.5))
  audio += 0.01 * np.random.default_rng(seed).normal(size=len(time))
  return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


def noise(seed):
  audio = np.random.default_rng(seed).uniform(-0.5, 0.5, round(SECONDS * RATE))
  return audio.astype(np.float32)


@needs.basic_pitch
class EvaluationTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.dir = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    lines = [
        {
            'id': name,
            'prompt': f'a {name} note',
            'seconds': SECONDS,
            'plan': {'bpm': 120, 'key': 'C major'},
        }
        for name in PITCHES
    ]
    path = cls.dir / 'list.jsonl'
    path.write_text('\n'.join(map(json.dumps, lines)))
    cls.prompts = prompts_lib.of_file(path)
    makers = {
        'plucked': lambda i, pitch: pluck(pitch, i),
        'noise': lambda i, pitch: noise(i),
        'true': lambda i, pitch: pluck(pitch, i + 10),
    }
    for system, make in makers.items():
      for i, (name, pitch) in enumerate(PITCHES.items()):
        audio = make(i, pitch)
        io.write_audio(cls.dir / system / f'{name}.wav', audio, RATE)
    cls.systems = [
        cls.system('plucked', takes={'low': ('low', 'high')}),
        cls.system('noise', without='middle'),
    ]
    true = cls.files('true')
    cls.reference = prompts_lib.Reference('true', [*true.values()], true)
    cls.report = evaluation.evaluate(
        cls.prompts,
        cls.systems,
        cls.reference,
        [bands.Bands()],
        [bands.BandTagger()],
    )
    cls.rows = {(r.measure, r.system): r for r in cls.report.values}

  @classmethod
  def files(cls, system):
    return sounds.match(cls.dir / system, list(PITCHES))

  @classmethod
  def system(cls, name, takes=None, without=''):
    clips = cls.files(name)
    several = {
        id_: tuple(clips[other] for other in others)
        for id_, others in (takes or {}).items()
    }
    clips.pop(without, None)
    return reports.System(name, name, clips, several)

  def value(self, measure, system):
    return self.rows[measure, system].value

  def test_all_are_measured_on_the_same_prompts(self):
    about = self.report.about['prompts']
    self.assertEqual((about['measured'], about['wanted']), (2, 3))
    counts = {r.count for r in self.report.values if r.group == 'musicality'}
    self.assertEqual(counts, {2})

  def test_music_is_told_from_noise(self):
    for better, measure in (
        (1, 'cosine to the prompt (bands)'),
        (-1, 'kernel distance (bands)'),
        (-1, 'KLD (bands)'),
        (1, 'pulse clarity'),
        (-1, 'spectral flatness'),
    ):
      made, random = (self.value(measure, s) for s in ('plucked', 'noise'))
      self.assertGreater(better * made, better * random, measure)

  def test_true_audio_is_the_ceiling(self):
    for measure in ('cosine to the prompt (bands)', 'tempo within 8%'):
      self.assertIn((measure, rows.REFERENCE), self.rows)
    chance = self.rows['cosine to the prompt (bands)', 'plucked'].chance
    self.assertLess(chance, 0.3)

  def test_takes_that_differ_are_diverse(self):
    self.assertGreater(self.value('timbre between takes', 'plucked'), 1)
    self.assertNotIn(('timbre between takes', 'noise'), self.rows)

  def test_refusals_give_their_reason(self):
    refused = {x.measure: x.reason for x in self.report.refusals}
    self.assertIn(
        'Make more', refused['Fréchet distance of infinitely many (bands)']
    )

  def test_examples(self):
    examples = self.report.examples['plucked']
    self.assertEqual(list(examples), ['best', 'median', 'worst'])
    self.assertGreaterEqual(
        examples['best']['cosine'], examples['worst']['cosine']
    )

  def test_the_page_says_it_all(self):
    folder = self.dir / 'page'
    page.write(folder, self.report, self.prompts, self.systems, self.reference)
    text = (folder / page.PAGE).read_text()
    for part in ('## Obedience', '| pulse clarity |', 'Not measured', '2 of 3'):
      self.assertIn(part, text)
    for picture in (
        *('obedience.png', 'clips-0.png', 'clips-1.png'),
        'side-by-side.png',
    ):
      self.assertIn(picture, text)
      self.assertGreater((folder / picture).stat().st_size, 1000)
    found = json.loads((folder / page.DATA).read_text())
    self.assertEqual(found['about'], self.report.about)
    self.assertLen(found['rows'], len(self.report.values))
    self.assertIn('pulse clarity', page.render(self.report))

  def test_clips_that_cannot_be_heard_are_left_out(self):
    folder = self.dir / 'broken'
    io.write_audio(folder / 'low.wav', pluck(40), RATE)
    io.write_audio(folder / 'high.wav', np.zeros(2 * RATE, np.float32), RATE)
    found = evaluation.evaluate(self.prompts, [self.system('broken')], None, [])
    self.assertEqual(found.about['prompts']['measured'], 1)
    [left_out] = found.left_out
    self.assertEqual((left_out['system'], left_out['id']), ('broken', 'high'))
    self.assertIn('silent', left_out['reason'])
    self.assertIn('1 clips left out', page.render(found))
    [share] = [x for x in found.values if x.measure == measures.AUDIBLE]
    self.assertEqual((share.value, share.count), (1 / 3, 3))

  def test_says_what_needs_true_audio(self):
    with mock.patch.object(ears, 'measure_all', lambda *tasks: ({}, {})):
      found = evaluation.evaluate(
          self.prompts, [self.system('true')], None, [bands.Bands()]
      )
    refused = {(x.group, x.measure) for x in found.refusals}
    self.assertEqual(refused, {('obedience', 'reference'), ('distance', 'all')})

  def test_melodies_are_followed_or_not(self):
    lines = [
        {
            'id': name,
            'prompt': 'a',
            'seconds': SECONDS,
            'melody': str(self.dir / 'true' / f'{name}.wav'),
        }
        for name in PITCHES
    ]
    path = self.dir / 'melodies.jsonl'
    path.write_text('\n'.join(map(json.dumps, lines)))
    found = evaluation.evaluate(
        prompts_lib.of_file(path),
        [self.system('plucked'), self.system('noise')],
        None,
        [],
    )
    share = {
        x.system: x.value
        for x in found.values
        if x.measure == 'melody (pitch classes)'
    }
    self.assertGreater(share['plucked'], 0.9)
    self.assertLess(share['noise'], 0.5)

  def test_true_audio_is_not_compared_with_itself(self):
    heard = mock.patch.object(ears, 'measure_all', lambda *tasks: ({}, {}))
    with heard:
      found = evaluation.evaluate(
          self.prompts, [self.system('true')], self.reference, [bands.Bands()]
      )
    [refusal] = found.refusals
    self.assertIn('themselves in the true audio', refusal.reason)
    measured = {row.group for row in found.values}
    self.assertNotIn('distance', measured)
    self.assertIn('text', measured)

  def test_nor_with_a_copy_of_itself(self):
    copies = self.dir / 'copies'
    shutil.copytree(self.dir / 'true', copies)
    copied = reports.System('copied', 'x', sounds.match(copies, list(PITCHES)))
    with mock.patch.object(ears, 'measure_all', lambda *tasks: ({}, {})):
      found = evaluation.evaluate(
          self.prompts, [copied], self.reference, [bands.Bands()]
      )
    [refusal] = found.refusals
    self.assertIn('themselves in the true audio', refusal.reason)

  def test_embeddings_that_were_kept_are_true_audio_enough(self):
    folder = self.dir / 'kept'
    folder.mkdir()
    judge = lambda reference, keep=None: evaluation.evaluate(
        self.prompts, [self.system('plucked')], reference, [bands.Bands()],
        keep=keep,
    )  # fmt: skip
    with mock.patch.object(ears, 'measure_all', lambda *tasks: ({}, {})):
      expected = judge(self.reference, folder)
      kept = prompts_lib.read_reference(folder, list(PITCHES), 'test', None)
      found = judge(kept)
    self.assertEqual(found.about['reference']['clips'], 3)
    for a, b in zip(expected.values, found.values):
      if a.group == 'distance':
        self.assertEqual(a, b)
    self.assertIn('distance', {row.group for row in found.values})
    other = dataclasses.replace(bands.IDENTITY, sha256='1' * 64)
    with mock.patch.object(bands.Bands, 'identity', other):
      with self.assertRaisesRegex(errors.NotFoundError, 'set of embedded'):
        judge(kept)

  def test_needs_a_prompt_that_all_have(self):
    clips = self.files('true')
    systems = [
        reports.System(name, name, {name: clips[name]})
        for name in ('low', 'high')
    ]
    with self.assertRaisesRegex(errors.UserError, 'every system has a clip'):
      evaluation.evaluate(self.prompts, systems, None, [])


if __name__ == '__main__':
  absltest.main()
