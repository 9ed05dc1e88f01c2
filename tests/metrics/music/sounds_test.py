"""Tests for sounds."""

import pathlib
import tempfile

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.metrics.music import sounds
import numpy as np

RATE = 8000


class SoundsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, *names):
    for name in names:
      time = np.arange(2 * RATE) / RATE
      audio = np.sin(2 * np.pi * 200 * time).astype(np.float32) / 2
      io.write_audio(self.dir / name, audio, RATE)

  def test_files_are_matched_by_name(self):
    self.write('b.wav', 'a.flac', 'x.wav', 'y.wav')
    found = sounds.match(self.dir, ['a', 'b', 'c'])
    self.assertEqual(list(found), ['a', 'b'])
    self.assertTrue(found['a'].path.endswith('a.flac'))

  def test_other_names_are_matched_in_order(self):
    self.write('out_2.wav', 'out_1.wav')
    found = sounds.match(self.dir, ['waltz', 'march'])
    self.assertEqual(
        [pathlib.Path(file.path).name for file in found.values()],
        ['out_1.wav', 'out_2.wav'],
    )
    self.assertEqual(list(found), ['waltz', 'march'])

  def test_numbers_are_in_their_order(self):
    self.write(*(f'{i}.wav' for i in range(12)))
    ids = [f'{i:06d}' for i in range(1, 13)]
    found = sounds.match(self.dir, ids)
    names = [pathlib.Path(file.path).stem for file in found.values()]
    self.assertEqual(names, [str(i) for i in range(12)])

  def test_refuses_names_that_are_one_off(self):
    self.write(*(f'{i:06d}.wav' for i in range(3)))
    ids = [f'{i:06d}' for i in range(1, 4)]
    with self.assertRaisesRegex(errors.UserError, "none of them, but '000000'"):
      sounds.match(self.dir, ids)

  def test_refuses_two_files_of_one_name(self):
    self.write('a.wav', 'a.flac')
    with self.assertRaisesRegex(errors.UserError, "two are named 'a'"):
      sounds.match(self.dir, ['a'])

  def test_says_what_does_not_match(self):
    self.write('out_1.wav')
    message = "as in 'waltz', 'march'.*named 'out_1', and are 1 for 2 prompts"
    with self.assertRaisesRegex(errors.UserError, message):
      sounds.match(self.dir, ['waltz', 'march'])
    with self.assertRaisesRegex(errors.NotFoundError, 'must be a folder'):
      sounds.match(self.dir / 'nowhere', ['waltz'])
    (self.dir / 'out_1.wav').unlink()
    with self.assertRaisesRegex(errors.UserError, 'must hold audio'):
      sounds.match(self.dir, ['waltz'])

  def test_reads_the_first_seconds(self):
    self.write('a.wav')
    audio = sounds.read_first(
        sounds.File(str(self.dir / 'a.wav')), 0.5, 2 * RATE
    )
    self.assertLen(audio, RATE)

  def test_common_to_all(self):
    clip = sounds.File('x.wav')
    systems = {
        'x': dict.fromkeys('cab', clip),
        'y': dict.fromkeys('abd', clip),
    }
    self.assertEqual(sounds.common(systems), ['a', 'b'])


if __name__ == '__main__':
  absltest.main()
