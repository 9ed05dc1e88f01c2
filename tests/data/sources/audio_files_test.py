"""Tests for audio_files."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data.sources import audio_files


class AudioFilesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for name in ('B/2.wav', 'a.MP3', 'B/c.jpg', '.x/y.wav', 'd.wma'):
      path = self.dir / name
      path.parent.mkdir(exist_ok=True)
      path.write_text(name)

  def test_walk(self):
    (self.dir / 'B' / 'up').symlink_to(self.dir)
    (self.dir / 'A').symlink_to('B')
    (self.dir / 'hard.wav').hardlink_to(self.dir / 'a.MP3')
    paths, left_out = audio_files.walk(self.dir)
    self.assertEqual(list(paths), ['B/2.wav', 'a.MP3', 'd.wma'])
    self.assertEqual(paths['B/2.wav'], self.dir / 'B' / '2.wav')
    again = 'another name of a file or folder that is listed'
    self.assertEqual(
        left_out,
        [
            ('.x', 'hidden'),
            ('A', again),
            ('B/c.jpg', 'not audio'),
            ('B/up', again),
            ('hard.wav', again),
        ],
    )

  def test_walk_rejects_what_is_no_folder(self):
    with self.assertRaisesRegex(errors.NotFoundError, 'must be a folder'):
      audio_files.walk(self.dir / 'a.MP3')

  def test_find(self):
    (self.dir / 'A').symlink_to('B')
    paths, _ = audio_files.walk(self.dir)
    finder = audio_files.Finder(self.dir, paths)
    for written, name in {
        'b/2.WAV': 'B/2.wav',
        'B\\2.wav': 'B/2.wav',
        './B/../B/2.wav': 'B/2.wav',
        'A/2.wav': 'B/2.wav',
        str(self.dir / 'a.MP3'): 'a.MP3',
        'e.wav': None,
        '../e.wav': None,
        '/dev/null': None,
        '\0': None,
        '.x/y.wav': '.x/y.wav',
    }.items():
      self.assertEqual(finder.find(written), name, written)
    self.assertIn('.x/y.wav', paths)

  def test_near(self):
    paths, _ = audio_files.walk(self.dir)
    finder = audio_files.Finder(self.dir, paths)
    self.assertEqual(finder.near('a.wav'), 'a.MP3')
    self.assertIsNone(finder.near('something else.wav'))


if __name__ == '__main__':
  absltest.main()
