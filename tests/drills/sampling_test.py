"""Making music: what is asked for, where it goes, and what ends it."""

import contextlib
import io
import os
import pathlib
import signal
import tempfile
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import cli
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.audio import io as audio_io
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import timeline
from musiclm_jax.tokenizers import mulan
import numpy as np
import soundfile
from tests import random_model
from tests.sampling import take_test

FULL = OSError(28, 'No space left on device')


def run(*argv):
  """Returns the exit status, and what was written to stdout and stderr."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      status = cli.main([str(x) for x in argv])
    except SystemExit as e:  # How argparse leaves.
      status = e.code
  return status, out.getvalue(), err.getvalue()


def interrupted(signum):
  """Returns work that a signal comes in the middle of."""

  def work(*args, **kwargs):
    del args, kwargs
    os.kill(os.getpid(), signum)
    time.sleep(5)  # As long as it compiles.

  return work


class Drill(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model_dir = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(cls.model_dir)

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def generate(self, *more, prompt='slow piano', output='music.wav'):
    return run(
        'generate', *([prompt] if prompt else []), '--model', self.model_dir,
        '--seconds=0.3', '--output', self.dir / output, *more,
    )  # fmt: skip

  def assert_refused(self, message, *more, **kwargs):
    """Checks for a refusal in one line, before the model is loaded."""
    with mock.patch.object(musiclm.MusicLM, 'from_pretrained') as load:
      status, _, err = self.generate(*more, **kwargs)
    load.assert_not_called()
    self.assertEqual(status, 2)
    self.assertRegex(err, message)
    self.assertLen(err.strip().splitlines(), 1)


class PromptsTest(Drill):
  """Text that carries nothing is no prompt.

  Siblings: negative prompts, prompts of later sections, lines of a list, other
  scripts, emoji, punctuation, control codes, bytes that are no text, words
  that are too long for word pieces, and silence in place of a prompt.
  """

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = musiclm.MusicLM.from_pretrained(cls.model_dir)

  @parameterized.parameters(
      '钢琴曲', 'Спокойное пианино', '🎹🎸', '!!!', '...', '\x00\x01', 'ピアノ',
      'x' * 150, '“—”',
  )  # fmt: skip
  def test_nothing_known(self, prompt):
    for piece, fields in (
        (prompt, {}),
        ('piano', {'negative_prompt': prompt}),
        ([(0, 'piano'), (0.1, prompt)], {}),
    ):
      asked = timeline.Timeline(piece, seconds=0.3, **fields)
      with self.assertRaisesRegex(errors.UserError, 'must hold words that'):
        self.model.blank(asked)

  def test_half_known(self):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
      for _ in range(2):
        self.model.blank('slow 钢琴 piano, “waltz”!', seconds=0.3)
    self.assertRegex(err.getvalue(), "should hold words .* none of '钢', '琴'")
    self.assertLen(err.getvalue().splitlines(), 1)

  def test_what_is_known_is_no_news(self):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
      self.model.blank('Slow café-piano (120 bpm)…', seconds=0.3)
    self.assertEqual(err.getvalue(), '')

  @parameterized.parameters('a\ud800', 'piano ' * 5000)
  def test_no_text(self, prompt):
    with self.assertRaisesRegex(errors.UserError, 'a prompt must'):
      timeline.Timeline(prompt)

  def test_silence(self):
    with self.assertRaisesRegex(errors.UserError, 'must be heard, .* silent'):
      self.model.blank(np.zeros(24000, np.float32), seconds=0.3)

  def test_prompts_of_tokenizers(self):
    with self.assertRaisesRegex(errors.UserError, 'must hold words that'):
      mulan.MuLan.from_dir(self.model_dir).tokenize_text(['钢琴曲'])

  def test_a_line_of_a_list_fails_alone(self):
    prompts = self.dir / 'prompts.txt'
    prompts.write_text('slow piano\n钢琴曲\n')
    with mock.patch.object(
        musiclm.MusicLM, 'from_pretrained', return_value=self.model
    ):
      status, out, _ = run(
          'batch', prompts, '--output_dir', self.dir / 'out',
          '--model', self.model_dir, '--seconds=0.3', '--batch_size=2',
      )  # fmt: skip
    self.assertEqual(status, 1)
    self.assertStartsWith(out, '1 made, 0 skipped, 1 failed')


class OutputsTest(Drill):
  """Where the result goes is checked before the work, and the result is kept.

  Siblings: the take, names that are too long or hold a zero, folders that are
  not there or are no folders, a folder in place of the file, an input in place
  of the output, a disk that is full or a folder that is gone after the work.
  """

  @parameterized.parameters(
      ('n' * 300 + '.wav', 'File name too long'),
      ('none/music.wav', 'in a folder that exists'),
      ('file/music.wav', 'in a folder that exists'),
      ('folder.wav', 'must be a file, but is a folder'),
      ('music.m4a', "--output must end in one of .* but is '.*m4a'"),
  )
  def test_checked_first(self, name, message):
    (self.dir / 'file').touch()
    (self.dir / 'folder.wav').mkdir()
    self.assert_refused(message, output=name)
    if 'm4a' not in name:
      self.assert_refused(message, '--save_take', self.dir / name)

  def test_a_folder_that_cannot_be_written(self):
    denied = PermissionError(13, 'Permission denied')
    with mock.patch.object(pathlib.Path, 'touch', side_effect=denied):
      self.assert_refused('Permission denied')

  def test_names_of_246_characters_are_fine(self):
    files.check_writable(self.dir / ('n' * 242 + '.wav'))

  def test_inputs_stay(self):
    path = self.dir / 'music.wav'
    soundfile.write(path, 0.1 * np.ones(24000), 24000)
    self.assert_refused('another file than --audio', '--audio', path)
    self.assert_refused('another file than', '--save_take', path)

  def test_what_was_made_is_kept_elsewhere(self):
    write = audio_io.write_audio

    def full(path, *args):
      if pathlib.Path(path) == self.dir / 'music.wav':
        raise files._refusal(pathlib.Path(path), FULL)
      write(path, *args)

    with mock.patch.object(audio_io, 'write_audio', full):
      status, _, err = self.generate('--save_take', self.dir / 'take.json')
    self.assertEqual(status, 2)
    self.assertRegex(err, r"No space left .* What was made is in '(\S*\.wav)'")
    kept = err.strip().split("'")[-2]
    self.assertEqual(soundfile.info(kept).frames, 7200)
    self.assertTrue((self.dir / 'take.json').exists())
    pathlib.Path(kept).unlink()

  def test_nowhere_to_keep_it(self):
    refusal = files._refusal(self.dir / 'music.wav', FULL)
    with mock.patch.object(audio_io, 'write_audio', side_effect=refusal):
      status, _, err = self.generate()
    self.assertEqual(status, 2)
    self.assertRegex(err, 'No space left .* no other place .* it is lost')


class BoundsTest(Drill):
  """What is asked for is bounded before memory is.

  Siblings: seconds, takes, sections, blends, contexts, choices, and numbers
  that are none.
  """

  @parameterized.parameters(
      (('--seconds=1e9',), 'seconds must be at most 21600'),
      (('--best_of=1000000000',), 'best_of must be less'),
      (('--best_of=0',), 'best_of must be at least 1'),
      (('--top_k', '1' + '0' * 400), 'top_k must be at most'),
      (('--temperature=1e38',), 'temperature must be at most 1000'),
      (('--guidance_scale=1e38',), 'guidance_scale must be at most 1000'),
      (('--blend=1e9',), 'blend_seconds must be at least 0 and at most'),
      (('--context=1e9',), 'context_seconds must be at least 0 and at most'),
      (('--seed=-1',), r'seed must be in \[0, 2\*\*32\)'),
      (('--at', '1e400', 'drums'), 'prompts of a piece must start at'),
      (('--at', 'soon', 'drums'), "has 'soon' as the second"),
  )
  def test_options(self, options, message):
    self.assert_refused(message, *options)

  def test_sections(self):
    sections = [(i / 1000, 'piano') for i in range(1001)]
    with self.assertRaisesRegex(errors.UserError, 'at most 1000 prompts'):
      timeline.Timeline(sections)

  @parameterized.parameters('nan', 'inf', '-1', '1e9')
  def test_seconds_of_takes(self, second):
    with self.assertRaisesRegex(errors.UserError, 'within the piece'):
      take_test.make_take().erase(1, from_second=float(second))


class InputsTest(Drill):
  """Files of options are read before the model, and named with their option.

  Siblings: --melody, --audio, --like and --take, of all kinds of wrong.
  """

  @parameterized.parameters('--melody', '--audio', '--like')
  def test_read_first(self, option):
    prompt = None if option == '--like' else 'piano'
    path = self.dir / 'in.wav'
    self.assert_refused(f'{option}: .*in.wav', option, path, prompt=prompt)
    path.write_bytes(b'no audio at all')
    self.assert_refused(f'{option}: .*in.wav', option, path, prompt=prompt)

  def test_contradictions_come_first(self):
    path = self.dir / 'in.wav'
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 24000)
    soundfile.write(path, noise, 24000)
    self.assert_refused(
        'change must be a part of', '--audio', path, '--change', '3', '4'
    )
    self.assert_refused('more than the 1.00 of audio', '--audio', path)

  def test_takes(self):
    path = self.dir / 'take.json'
    path.write_text('[' * 100_000)
    status, _, err = run('generate', '--take', path, '--model', self.model_dir)
    self.assertEqual(status, 2)
    self.assertRegex(err, 'take.json must be a file that --save_take wrote')


class SignalsTest(Drill):
  """Ctrl-C and SIGTERM end the making of a piece at once, in one line.

  Siblings: while a network is compiled, which lets no Python run.
  """

  @parameterized.parameters((signal.SIGINT, 130), (signal.SIGTERM, 143))
  def test_generate(self, signum, expected):
    model = mock.Mock(takes=interrupted(signum))
    with mock.patch.object(
        musiclm.MusicLM, 'from_pretrained', return_value=model
    ):
      status, out, err = run(
          'generate', 'piano', '--model', self.model_dir,
          '--output', self.dir / 'music.wav',
      )  # fmt: skip
    self.assertEqual((status, out), (expected, ''))
    self.assertEqual(err, 'musiclm: interrupted; nothing was written.\n')
    self.assertFalse((self.dir / 'music.wav').exists())


class TellingTest(Drill):
  """Nobody waits for more than 3 s without a word.

  Siblings: loading, downloads, compiling, listening to takes, rendering.
  """

  def test_generate_says_what_it_does(self):
    told = []

    @contextlib.contextmanager
    def telling(what, patience=3.0):
      told.append(what)
      yield

    with mock.patch('musiclm_jax.progress.telling', telling):
      status, _, err = self.generate('--best_of=2')
    self.assertEqual((status, err), (0, ''))
    self.assertEqual(
        told,
        ['starting', 'loading the model', 'compiling what reads prompts',
         'compiling the stages', 'listening for the best take',
         'turning tokens into sound'],
    )  # fmt: skip

  def test_downloads_are_told(self):
    import huggingface_hub

    err = io.StringIO()
    with (
        mock.patch.object(
            huggingface_hub, 'snapshot_download', return_value=self.model_dir
        ),
        contextlib.redirect_stderr(err),
    ):
      from musiclm_jax.sampling import pretrained

      pretrained.find('someone/some_model')
    self.assertRegex(err.getvalue(), "looking for 'someone/some_model' on the")
    self.assertTrue(huggingface_hub.utils.are_progress_bars_disabled())

  def test_lines_stand_above_bars(self):
    from musiclm_jax import progress
    import tqdm

    err = io.StringIO()
    with contextlib.redirect_stderr(err):
      with tqdm.tqdm(total=2, desc='bar', file=err):
        progress.say('compiling')
    self.assertRegex(err.getvalue(), r'\rmusiclm: compiling\n')
    self.assertEmpty(
        [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    )


if __name__ == '__main__':
  absltest.main()
