"""Tests for score_files."""

import json
import pathlib
import tempfile
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data.sources import score_files
from musiclm_jax.data.sources import rendered_scores
import numpy as np

from tests.data.sources import rendered_scores_test


class ScoreFilesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'songs'
    )
    self.folder.mkdir()

  @parameterized.parameters('index.csv', 'index.jsonl')
  def test_index(self, name):
    for song in 'abc':
      rendered_scores_test.write_song(self.folder / f'{song}.mid')
    row = {'file': 'b.mid', 'work': 'Opus 1', 'tempo': '90', 'key': 'E minor'}
    row |= {'title': 'Waltz', 'license': 'MIT', 'source': 'here'}
    text = json.dumps(row)
    if name == 'index.csv':
      text = f'{",".join(row)}\n{",".join(row.values())}\n'
    (self.folder / name).write_text(text)
    (file,), _ = score_files.find_scores(self.folder)
    self.assertEqual(file.work, 'songs/Opus 1')
    self.assertEqual((file.license, file.source), ('MIT', 'here'))
    self.assertEqual(file.metadata.tempo, 90.0)
    self.assertEqual(file.metadata.title, 'Waltz')

  def test_zip(self):
    rendered_scores_test.write_song(self.folder / 'a.mid')
    archive = self.folder / 'songs.zip'
    with zipfile.ZipFile(archive, 'w') as file:
      file.write(self.folder / 'a.mid', 'deep/a.mid')
    (file,), _ = score_files.find_scores(archive)
    self.assertEqual((file.work, file.license), ('songs/deep/a', ''))
    self.assertLen(rendered_scores.load_score(file).start, 96)

  def test_musicxml(self):
    (self.folder / 'a.musicxml').write_text(rendered_scores_test.XML)
    (file,), _ = score_files.find_scores(self.folder)
    np.testing.assert_array_equal(rendered_scores.load_score(file).pitch, [69])

  def test_music21_corpus(self):
    (file,), _ = score_files.find_scores('music21:bach/bwv66.6.mxl')
    self.assertEqual(file.work, 'music21/bach/bwv66.6')
    self.assertLen(rendered_scores.load_score(file).parts, 4)

  def test_rejects_missing_and_empty_sources(self):
    with self.assertRaisesRegex(ValueError, 'must hold MIDI or MusicXML'):
      score_files.find_scores(self.folder)
    with self.assertRaisesRegex(FileNotFoundError, 'a folder or a .zip'):
      score_files.find_scores(self.folder / 'nowhere')

  def test_rejects_an_index_of_other_files(self):
    rendered_scores_test.write_song(self.folder / 'a.mid')
    (self.folder / 'index.csv').write_text('file\nz.mid\n')
    with self.assertRaisesRegex(ValueError, '1 are not there, e.g. z.mid'):
      score_files.find_scores(self.folder)

  @parameterized.parameters(
      ('tempo', 'Allegro', "bad row for a.mid: .*'Allegro'"),
      ('key', 'H', "bad row for a.mid: a key must be like .* is 'H'"),
  )
  def test_rejects_bad_metadata(self, column, value, message):
    rendered_scores_test.write_song(self.folder / 'a.mid')
    (self.folder / 'index.csv').write_text(f'file,{column}\na.mid,{value}\n')
    with self.assertRaisesRegex(ValueError, message):
      score_files.find_scores(self.folder)

  def test_several_sources(self):
    rendered_scores_test.write_song(self.folder / 'a.mid')
    other = self.folder.with_name('hymns')
    other.mkdir()
    rendered_scores_test.write_song(other / 'a.mid')
    (other / 'a.txt').touch()
    files, left_out = score_files.gather_scores([self.folder, other])
    self.assertEqual([f.work for f in files], ['songs/a', 'hymns/a'])
    self.assertEqual(left_out, [('a.txt', 'no score')])

  def test_errors_name_the_file_once(self):
    file = score_files.ScoreFile('a.mid', 'a.mid', 'songs/a')
    for told, message in (('bad', 'a.mid: bad'), ('a.mid: bad',) * 2):
      with self.assertRaises(errors.UserError) as caught:
        with score_files.naming(file):
          raise errors.UserError(told)
      self.assertEqual(str(caught.exception), message)


if __name__ == '__main__':
  absltest.main()
