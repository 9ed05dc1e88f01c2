"""A recipe that is cut off, shared, damaged, or given the wrong things."""

import contextlib
import io
import json
import multiprocessing
import os
import pathlib
import signal
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
from musiclm_jax import cli
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import recipe
from musiclm_jax.data import datasets
from musiclm_jax.data.scores import synthesis
import numpy as np

from tests import bucket

STEPS = ('_make_vocab', '_train', '_tokenize', '_sample')
ROWS = [{'part': 'fine', 'metric': 'nats', 'value': 6.0, 'chance': 6.9}]


def hold(folder, locked, done):
  with files.lock(folder, 'musiclm recipe'):
    locked.set()
    done.wait()


class RecipeDrill(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.data, self.output = self.root / 'my_music', self.root / 'my_model'
    self.data.mkdir()
    for i in range(4):
      (self.data / f'{i}.wav').write_bytes(bytes(100))
    self.addCleanup(gin.clear_config)
    # Each step but the first would take minutes.
    self.made = mock.Mock(return_value=None)
    for step in STEPS:
      self.patch(step, lambda *args: self.made(*args[1:]))
    self.patch('_make_corpus', lambda recipe: self.make_corpus(recipe))
    self.patch('_evaluate', lambda recipe: {'rows': ROWS})

  def patch(self, name, make):
    self.enterContext(mock.patch.object(recipe.Recipe, name, make))

  def make_corpus(self, recipe):
    self.made('corpus')
    return {'source': recipe.source.sha256}

  def run_recipe(self, *flags, output=None, data=None):
    """Returns the status, stdout and stderr of the command."""
    out, err = io.StringIO(), io.StringIO()
    argv = [
        'recipe', '--gin_file=sizes/tiny.gin', f'--data={data or self.data}',
        f'--output={output or self.output}', *flags,
    ]  # fmt: skip
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      status = cli.main(argv)
    return status, out.getvalue(), err.getvalue()

  def assert_refused(self, message, *flags, **places):
    before = sorted(self.root.rglob('*'))
    status, _, err = self.run_recipe(*flags, **places)
    self.assertEqual(status, 2)
    self.assertRegex(err.splitlines()[-1], f'^musiclm: .*{message}')
    self.assertEqual(sorted(self.root.rglob('*')), before)

  def record(self, name):
    return self.output / f'steps/{name}.json'


class WhatItIsGiven(RecipeDrill):
  """A folder is what most of it is, and what makes no sense is refused first.

  Siblings: a stray score, a mixture, a zip, a file, nothing; flags that go
  with another kind; an output that is a file, or in the data.
  """

  def test_a_stray_score_makes_no_scores(self):
    (self.data / 'a.xml').write_text('<score-partwise>')
    (self.data / 'library.xml').write_text('<plist>')
    status, out, _ = self.run_recipe()
    self.assertEqual(status, 0)
    self.assertIn('4 recordings; left out: 1 scores, e.g. a.xml', out)

  def test_refusals(self):
    empty = self.root / 'empty'
    empty.mkdir()
    self.assert_refused('holds nothing', data=empty)
    self.assert_refused('0.wav. is a file', data=self.data / '0.wav')
    self.assert_refused('folder that exists', data=self.root / 'nowhere')
    self.assert_refused('--melody must go with scores', '--melody')
    self.assert_refused('--soundfont must go with scores', '--soundfont=a.sf2')
    self.assert_refused('is a file', output=self.data / '0.wav')
    self.assert_refused('outside of --data', output=self.data)
    self.assert_refused('outside of --data', output=self.data / 'my_model')
    (self.root / 'file').touch()
    self.assert_refused('Not a directory', output=self.root / 'file/model')
    self.assert_refused('name too long', output=self.root / ('x' * 300))
    for i in range(3):
      (self.data / f'{i}.mid').touch()
    self.assert_refused('4 recordings .* and 3 scores')

  def test_bad_files_are_left_out_by_request(self):
    seen = []

    def make_corpus(recipe):
      seen.append(recipe.skip_bad)
      return {'source': ''}

    self.patch('_make_corpus', make_corpus)
    self.run_recipe('--skip_bad')
    self.assertEqual(seen, [True])

  def test_too_little_music_is_told_before_training(self):
    clips = [{'audio': np.zeros(24000 * 10)}] * 4
    with mock.patch.multiple(
        datasets,
        open_dataset=lambda *args: clips,
        sample_rate=lambda *args: 24000,
    ):
      made = recipe.Recipe(
          self.data, self.output, ['--gin_file=sizes/tiny.gin']
      )
      with self.assertRaisesRegex(errors.UserError, 'at least 41 s.* 40 s'):
        made._check_length()
      clips.append(clips[0])
      made._check_length()


class GoingOn(RecipeDrill):
  """A recipe goes on where it was cut off, with what it was begun with.

  Siblings: Ctrl-C and SIGTERM; another SoundFont, other data, other flags;
  before anything was made, and after; a link that leads nowhere.
  """

  @parameterized.parameters(
      (signal.SIGINT, 130, 'train'),
      (signal.SIGTERM, 143, 'train'),
      (signal.SIGTERM, 143, 'corpus'),
  )
  def test_interrupts(self, signum, expected, step):
    def interrupt(*args):
      if step == 'corpus' or 'w2v_bert' in args:
        os.kill(os.getpid(), signum)

    self.made.side_effect = interrupt
    status, _, err = self.run_recipe()
    step = {'train': 'w2v_bert'}.get(step, step)
    self.assertEqual(status, expected)
    self.assertRegex(err, f"step '{step}': interrupted; run the same command")
    self.assertLen(err.splitlines(), 1)
    self.assertFalse(self.record(step).exists())
    self.made.side_effect = None
    self.made.reset_mock()
    status, out, _ = self.run_recipe()
    self.assertEqual(status, 0)
    if step == 'w2v_bert':
      self.assertRegex(out, 'soundstream: done before, in 0 s')
      self.assertNotIn(mock.call('corpus'), self.made.mock_calls)

  def test_each_step_says_what_it_does_and_how_long_it_took(self):
    _, out, err = self.run_recipe()
    self.assertEqual(err, '')
    lines = out.splitlines()
    for name in ('corpus', 'mulan', 'tokens', 'fine', 'evaluation'):
      start = next(i for i, s in enumerate(lines) if s.startswith(f'{name}: '))
      self.assertRegex(lines[start], rf'{name}: [a-z]+s .* …')
      self.assertRegex(lines[start + 1], f'{name}: done in 0 s')
      self.assertIn('seconds', json.loads(self.record(name).read_text()))

  def test_other_settings_are_refused_once_something_is_made(self):
    self.run_recipe()
    other = self.root / 'other'
    self.data.rename(other)
    self.assert_refused('which differs in data', data=other)
    other.rename(self.data)
    self.assert_refused('differs in gin_flags', '--gin.BATCH_SIZE=3')
    self.assertEqual(self.run_recipe('--skip_bad')[0], 0)

  def test_what_failed_at_once_may_be_set_right(self):
    self.made.side_effect = errors.UserError('a.wav must be audio')
    self.assertEqual(self.run_recipe('--gin.BATCH_SIZE=3')[0], 2)
    self.made.side_effect = None
    self.assertEqual(self.run_recipe()[0], 0)

  def test_another_soundfont_is_told(self):
    for path in self.data.iterdir():
      path.rename(path.with_suffix('.mid'))
    font = self.root / 'font.sf2'
    with mock.patch.object(synthesis, 'check_renderer'):
      font.write_bytes(b'a')
      self.assertEqual(self.run_recipe(f'--soundfont={font}')[0], 0)
      font.write_bytes(b'b')
      self.assert_refused('differs in soundfont', f'--soundfont={font}')
      moved = self.root / 'moved.sf2'
      moved.write_bytes(b'a')
      self.assertEqual(self.run_recipe(f'--soundfont={moved}')[0], 0)

  def test_other_data_are_told(self):
    self.run_recipe()
    self.assertEqual(self.run_recipe()[2], '')
    (self.data / 'new.wav').write_bytes(bytes(9))
    status, _, err = self.run_recipe()
    self.assertEqual(status, 0)
    self.assertRegex(err, 'my_music has changed since the corpus was made')

  def test_in_a_bucket(self):
    output = bucket.start(self) + '/my_model'
    _, out, _ = self.run_recipe(output=output)
    self.assertIn('corpus: done in', out)
    calls = self.made.call_count
    _, out, _ = self.run_recipe(output=output)
    self.assertIn('corpus: done before', out)
    self.assertEqual(self.made.call_count, calls)
    status, _, err = self.run_recipe('--listen', output=output)
    self.assertEqual(status, 2)
    self.assertIn('which differs in listen', err)

  def test_a_corpus_is_copied_to_a_bucket(self):
    (self.data / 'music' / '1.0.0').mkdir(parents=True)
    (self.data / 'music' / '1.0.0' / 'a').write_text('b')
    made = recipe.Recipe(self.data, bucket.start(self) + '/my_model', [])
    made._link_corpus()
    self.assertEqual((made.data_dir / 'music/1.0.0/a').read_text(), 'b')

  def test_a_link_that_leads_nowhere(self):
    self.run_recipe()
    (self.output / 'data').mkdir()
    (self.output / 'data/music').symlink_to(self.root / 'gone')
    self.assert_refused("data/music' must lead to a dataset, but .*gone")

  def test_a_prompt_that_is_refused_costs_no_evaluation(self):
    self.patch('_sample', mock.Mock(side_effect=errors.UserError('no words')))
    status, out, err = self.run_recipe()
    self.assertEqual(status, 0)
    self.assertIn('no sample: no words', err)
    self.assertRegex(out, r'fine +nats +6.000')
    self.assertFalse(self.record('sample').exists())

  def test_metrics_that_are_no_numbers(self):
    rows = [{**ROWS[0], 'value': float('nan')}]
    self.patch('_evaluate', lambda recipe: {'rows': rows})
    self.assertEqual([self.run_recipe()[0] for _ in range(2)], [0, 0])


class Records(RecipeDrill):
  """Every record of a step is checked when it is read, and named.

  Siblings: each bit flipped, cut at each byte, another JSON, a folder.
  """

  def damage(self, data):
    """Returns the status and the last line after a record was damaged."""
    self.record('mulan').write_bytes(data)
    status, _, err = self.run_recipe()
    return status, err.strip().splitlines()[-1:] or ['']

  def test_flips_and_cuts(self):
    self.run_recipe()
    whole = self.record('mulan').read_bytes()
    damaged = [whole[:i] for i in range(0, len(whole), 9)]
    for i in range(0, 8 * len(whole), 11):
      data = bytearray(whole)
      data[i // 8] ^= 1 << i % 8
      damaged.append(bytes(data))
    for data in damaged:
      status, (line,) = self.damage(data)
      if status:
        self.assertEqual(status, 2)
        self.assertIn('mulan.json must be the record of a step', line)
      else:  # Of the hash's own name, or of white space.
        found = json.loads(data)
        self.assertEqual(found['seconds'], json.loads(whole)['seconds'])

  @parameterized.parameters(b'[]', b'3', b'\xff\xfe', b'{"seconds": NaN}')
  def test_other_json(self, data):
    self.run_recipe()
    status, (line,) = self.damage(data)
    self.assertEqual(status, 2)
    self.assertIn('mulan.json must be the record of a step', line)


class TwoAtOnce(RecipeDrill):
  """The second recipe in a folder ends in one line that names the first."""

  def test_the_second_is_told(self):
    spawn = multiprocessing.get_context('fork')
    locked, done = spawn.Event(), spawn.Event()
    first = spawn.Process(target=hold, args=(self.output, locked, done))
    first.start()
    try:
      self.assertTrue(locked.wait(60))
      self.assert_refused(
          f'one process at a time, but `musiclm recipe` .process {first.pid} on'
      )
    finally:
      done.set()
      first.join()
    self.assertEqual(self.run_recipe()[0], 0)


if __name__ == '__main__':
  absltest.main()
