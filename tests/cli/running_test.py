"""Tests of the `musiclm` command: what it says of input that is wrong."""

import contextlib
import io
import pathlib
import signal
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import cli
from musiclm_jax import errors
import numpy as np
import soundfile
from tests import random_model


def run(*argv):
  """Returns the exit status and what was written to stderr."""
  stderr = io.StringIO()
  with contextlib.redirect_stderr(stderr):
    try:
      status = cli.main(argv)
    except SystemExit as e:  # How argparse leaves.
      status = e.code
  return status, stderr.getvalue()


class CliTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def assert_fails(self, message, *argv):
    """Checks for a one-line message, and that nothing was written."""
    before = sorted(self.folder.rglob('*'))
    status, stderr = run(*map(str, argv))
    self.assertEqual(status, 2)
    self.assertRegex(stderr.strip().splitlines()[-1], message)
    self.assertEqual(sorted(self.folder.rglob('*')), before)

  @parameterized.parameters('-1', '0', 'inf', 'nan')
  def test_seconds_must_be_positive(self, seconds):
    self.assert_fails(
        f'--seconds.*greater than 0, but is {seconds}',
        'generate', 'a prompt', f'--seconds={seconds}',
    )  # fmt: skip

  @parameterized.parameters(
      ('music.txt', r'--output must end in one of .*wav.*music\.txt'),
      ('none/music.wav', r'--output must be in a folder that exists'),
  )
  def test_output_is_checked_first(self, output, message):
    self.assert_fails(
        message, 'generate', 'a prompt', '--output', self.folder / output
    )

  def test_model_must_exist(self):
    self.assert_fails(
        'model must be a directory or the id .*nowhere',
        'generate', 'a prompt', '--model', self.folder / 'nowhere',
        '--output', self.folder / 'music.wav',
    )  # fmt: skip

  def test_unknown_argument(self):
    self.assert_fails('--colour', 'generate', 'a prompt', '--colour=blue')

  def test_empty_folder(self):
    (self.folder / 'in').mkdir()
    self.assert_fails(
        'must hold .wav.*holds none',
        'data', 'folder', self.folder / 'in', '--output', self.folder / 'out',
    )  # fmt: skip

  def test_captions_of_missing_files(self):
    soundfile.write(self.folder / 'a.wav', np.zeros(48000), 24000)
    (self.folder / 'captions.csv').write_text('path,caption\nb.wav,a tune\n')
    self.assert_fails(
        r'b\.wav',
        'data', 'folder', self.folder, '--output', self.folder / 'out',
    )  # fmt: skip

  def test_corrupt_audio(self):
    for name in 'abcd':
      (self.folder / f'{name}.wav').write_bytes(b'no audio')
    status, stderr = run(
        'data', 'folder', str(self.folder), '--output', str(self.folder / 'out')
    )
    self.assertEqual(status, 2)
    self.assertRegex(stderr, r'[abcd]\.wav must be a wav, flac, ogg or mp3')
    self.assertFalse((self.folder / 'out/music/1.0.0').exists())

  @parameterized.parameters(
      ('--gin_file=stages/semantik.gin', 'Did you mean .*stages/semantic.gin'),
      ('--gin.TRAIN_STEP=3', 'Did you mean TRAIN_STEPS'),
  )
  def test_unknown_gin_names(self, argument, message):
    self.assert_fails(message, 'train', argument)

  @parameterized.parameters(
      ('--gin_file=sizes/tiny.gin', '--data must be a folder that exists'),
      ('--gin_file=sizes/tinny.gin', 'Did you mean .*sizes/tiny.gin'),
      ('--gin.TRAIN_STEP=3', 'Did you mean TRAIN_STEPS'),
  )
  def test_recipe_is_checked_before_it_writes(self, flag, message):
    self.assert_fails(
        message, 'recipe', flag, '--data', self.folder / 'none',
        '--output', self.folder / 'out',
    )  # fmt: skip

  def test_recipe_of_scores_needs_a_soundfont(self):
    (self.folder / 'scores').mkdir()
    (self.folder / 'scores/a.mid').touch()
    self.assert_fails(
        '--soundfont must name a .sf2 or .sf3 file',
        'recipe', '--gin_file=sizes/tiny.gin',
        '--data', self.folder / 'scores', '--output', self.folder / 'out',
    )  # fmt: skip

  def test_recipe_with_melody_needs_scores(self):
    (self.folder / 'audio').mkdir()
    (self.folder / 'audio/a.wav').touch()
    self.assert_fails(
        '--melody must go with scores, .* holds none. Leave it out',
        'recipe', '--gin_file=sizes/tiny.gin', '--melody',
        '--data', self.folder / 'audio', '--output', self.folder / 'out',
    )  # fmt: skip

  def test_recipe_listens_to_recordings(self):
    (self.folder / 'scores').mkdir()
    (self.folder / 'scores/a.mid').touch()
    self.assert_fails(
        '--listen must go with recordings, .* holds 1 scores. Leave it out',
        'recipe', '--gin_file=sizes/tiny.gin', '--listen',
        '--soundfont', self.folder / 'scores/a.mid',
        '--data', self.folder / 'scores', '--output', self.folder / 'out',
    )  # fmt: skip

  def test_melody_needs_a_model_that_follows_one(self):
    time = np.arange(96000) / 24000
    hum = self.folder / 'hum.wav'
    soundfile.write(hum, 0.5 * np.sin(2 * np.pi * 220 * time), 24000)
    random_model.write_random_model(self.folder / 'model')
    self.assert_fails(
        "melody must be for a model with a part 'melody'",
        'generate', 'piano', '--melody', hum, '--model', self.folder / 'model',
        '--output', self.folder / 'out.wav',
    )  # fmt: skip

  def test_melody_pairs_need_a_soundfont(self):
    (self.folder / 'scores').mkdir()
    (self.folder / 'scores/a.mid').touch()
    self.assert_fails(
        'SoundFont .*none.sf2 must be|fluidsynth. must be on PATH',
        'data', 'melody', self.folder / 'scores',
        '--soundfont', self.folder / 'none.sf2',
        '--output', self.folder / 'out',
    )  # fmt: skip

  def test_distributed_needs_a_job(self):
    error = ValueError('coordinator_address should be defined.')
    with mock.patch('jax.distributed.initialize', side_effect=error):
      self.assert_fails(
          '--distributed must be given in a job .*defined. Leave it out',
          'train', '--distributed', '--gin_file=sizes/tiny.gin',
      )  # fmt: skip

  def test_a_preempted_job_is_to_be_started_again(self):
    end = errors.Preempted(signal.SIGTERM, 'saved step 3')
    with mock.patch('jax.distributed.initialize', side_effect=end):
      status, stderr = run('train', '--distributed')
    self.assertEqual((status, stderr), (0, 'musiclm: saved step 3\n'))

  def test_vocab_needs_a_corpus(self):
    self.assert_fails(
        "must hold the dataset 'music'",
        'vocab', '--data', self.folder, '--output', self.folder / 'vocab.txt',
    )  # fmt: skip


if __name__ == '__main__':
  absltest.main()
