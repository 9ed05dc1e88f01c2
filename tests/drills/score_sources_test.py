"""Drills of sources of scores and their indices, well-formed or not."""

import json
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data.sources import score_files
from musiclm_jax.data.sources import rendered_scores
from tests.drills import scores_test


class Sources(scores_test.ScoresDrill):
  """A source is listed whole: what is left out is told, and why.

  Siblings: links to folders, hidden files, the forks of macOS, .xml of other
  programs, a piece in two formats, zips that are damaged, names that lead out.
  """

  def setUp(self):
    super().setUp()
    (self.folder / 'a.mid').write_bytes(
        scores_test.smf_file(scores_test.NOTE + scores_test.END)
    )

  def test_links_are_followed_and_hidden_files_are_not_there(self):
    (self.root / 'album').mkdir()
    (self.root / 'album/b.mid').write_bytes(
        scores_test.smf_file(scores_test.NOTE + scores_test.END)
    )
    (self.folder / 'linked').symlink_to(self.root / 'album')
    (self.folder / 'loop').symlink_to(self.folder)
    (self.folder / '.trash').mkdir()
    (self.folder / '.trash/c.mid').touch()
    (self.folder / '._a.mid').touch()
    files, left_out = score_files.find_scores(self.folder)
    self.assertEqual([f.name for f in files], ['a.mid', 'linked/b.mid'])
    self.assertEqual(left_out, [])

  def test_what_is_left_out_has_a_reason(self):
    (self.folder / 'a.musicxml').write_bytes(scores_test.music_xml())
    (self.folder / 'library.xml').write_text('<plist></plist>')
    (self.folder / 'b.xml').write_bytes(scores_test.music_xml())
    (self.folder / 'a.wav').touch()
    files, left_out = score_files.find_scores(self.folder)
    self.assertEqual([f.name for f in files], ['a.mid', 'b.xml'])
    self.assertEqual(
        left_out,
        [
            ('a.musicxml', 'named like another score'),
            ('a.wav', 'no score'),
            ('library.xml', 'no score'),
        ],
    )

  def test_a_link_to_nothing_is_named(self):
    (self.folder / 'gone.mid').symlink_to(self.root / 'nowhere.mid')
    files, _ = score_files.find_scores(self.folder)
    with self.assertRaisesRegex(errors.UserError, 'gone.mid .*is not there'):
      rendered_scores.load_score(files[1])

  def test_zip_of_anything(self):
    path = self.root / 'songs.zip'
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr(
          'good.mid', scores_test.smf_file(scores_test.NOTE + scores_test.END)
      )
      archive.writestr(
          '../../out.mid',
          scores_test.smf_file(scores_test.NOTE + scores_test.END),
      )
      archive.writestr('/root.xml', scores_test.music_xml())
      archive.writestr('__MACOSX/._good.mid', b'fork')
      archive.writestr('bomb.mid', bytes(2**26), zipfile.ZIP_DEFLATED)
    files, left_out = score_files.find_scores(path)
    self.assertLen(files, 4)
    self.assertEqual(left_out, [])
    before = sorted(self.root.rglob('*'))
    for file in files:
      if file.name == 'bomb.mid':
        with self.assertRaisesRegex(errors.UserError, 'bomb.mid .*bytes'):
          rendered_scores.load_score(file)
      else:
        self.assertLen(rendered_scores.load_score(file).start, 1)
    self.assertEqual(sorted(self.root.rglob('*')), before)

  @parameterized.named_parameters(
      (
          'crc',
          lambda data: data.replace(scores_test.NOTE, scores_test.NOTE[::-1]),
          'CRC',
      ),
      ('encrypted', scores_test.encrypted, 'encrypted'),
  )
  def test_damaged_members_are_named(self, damage, reason):
    path = self.root / 'songs.zip'
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr(
          'a.mid', scores_test.smf_file(scores_test.NOTE + scores_test.END)
      )
    path.write_bytes(damage(path.read_bytes()))
    (file,), _ = score_files.find_scores(path)
    with self.assertRaisesRegex(errors.UserError, f'a.mid .*{reason}'):
      rendered_scores.load_score(file)

  @parameterized.parameters(b'', b'no zip', b'PK\5\6' + bytes(17))
  def test_damaged_zips_are_named(self, data):
    path = self.root / 'songs.zip'
    path.write_bytes(data)
    with self.assertRaisesRegex(errors.UserError, 'songs.zip must be a zip'):
      score_files.find_scores(path)

  def test_sources_of_one_name(self):
    (self.root / 'b/songs').mkdir(parents=True)
    (self.root / 'b/songs/a.mid').write_bytes(
        scores_test.smf_file(scores_test.NOTE + scores_test.END)
    )
    with self.assertRaisesRegex(errors.UserError, 'differ in their names'):
      score_files.gather_scores([self.folder, self.root / 'b/songs'])


class Index(scores_test.ScoresDrill):
  """An index is read as it was meant, or refused by its name.

  Siblings: encodings, separators, quotes that are not closed, columns that are
  missing or too many, JSON that is no object, values of other types, rows that
  repeat, an index of nothing, and two.
  """

  def setUp(self):
    super().setUp()
    for name in 'abc':
      (self.folder / f'{name}.mid').write_bytes(
          scores_test.smf_file(scores_test.NOTE + scores_test.END)
      )

  @parameterized.named_parameters(
      ('utf_16', 'index.csv', 'file\na.mid\n'.encode('utf-16'), 'UTF-8'),
      ('latin', 'index.csv', 'file,title\na.mid,é'.encode('latin-1'), 'UTF-8'),
      ('semicolons', 'index.csv', b'file;title\na.mid;x\n', 'by commas'),
      ('column', 'index.csv', b'name,title\na.mid,x\n', "'file' in each row"),
      ('too_many', 'index.csv', b'file,title\na.mid,Waltz, in A\n', 'row 1'),
      ('too_few', 'index.csv', b'file,title,key\na.mid,x\n', 'row 1'),
      ('quote', 'index.csv', b'file,title\na.mid,"x\nb.mid,y\n', 'index.csv'),
      ('swallowed', 'index.csv', b'file,title\na.mid,"x\nb.mid,y"\n', 'row 1'),
      ('nul', 'index.csv', b'file,title\na.mid,x\0\n', 'index.csv|a.mid'),
      ('empty', 'index.csv', b'', 'has none'),
      ('header', 'index.csv', b'file,title\n', 'has none'),
      ('twice', 'index.csv', b'file\na.mid\na.mid\n', 'a.mid again in row 2'),
      ('fast', 'index.csv', b'file,tempo\na.mid,fast\n', "a.mid: 'tempo'"),
      ('nan', 'index.csv', b'file,tempo\na.mid,nan\n', "a.mid: 'tempo'"),
      ('backwards', 'index.csv', b'file,tempo\na.mid,-9\n', "a.mid: 'tempo'"),
      ('list', 'index.jsonl', b'["a.mid"]\n', 'line 1 must be a JSON object'),
      ('json', 'index.jsonl', b'{"file": "a.mid"\n', 'line 1 must be JSON'),
      ('number', 'index.jsonl', b'{"file": 3}\n', "'file' in each row"),
      (
          'tempos',
          'index.jsonl',
          b'{"file": "a.mid", "tempo": [90]}',
          "a.mid: 'tempo'",
      ),
      (
          'titles',
          'index.jsonl',
          b'{"file": "a.mid", "title": ["x"]}',
          "a.mid: 'title' must be a text",
      ),
      ('gone', 'index.csv', b'file\nz.mid\n', 'e.g. z.mid'),
  )
  def test_is_refused(self, name, data, message):
    (self.folder / name).write_bytes(data)
    with self.assertRaisesRegex(errors.UserError, message):
      score_files.find_scores(self.folder)

  def test_two_are_refused(self):
    for name in score_files.INDEX_NAMES:
      (self.folder / name).write_text('file\na.mid\n')
    with self.assertRaisesRegex(errors.UserError, 'holds both'):
      score_files.find_scores(self.folder)

  def test_is_read_as_it_was_meant(self):
    (self.folder / 'index.csv').write_bytes(
        '\ufefffile,title,tempo\r\n./a.mid,"Waltz, in A",90\r\n'.encode()
    )
    files, left_out = score_files.find_scores(self.folder)
    self.assertEqual(files[0].metadata.title, 'Waltz, in A')
    self.assertEqual(files[0].metadata.tempo, 90.0)
    self.assertEqual(
        left_out,
        [('b.mid', 'not in the index'), ('c.mid', 'not in the index')],
    )

  def test_numbers_may_be_texts(self):
    row = {'file': 'a.mid', 'title': 1812, 'work': 9, 'tempo': '90'}
    (self.folder / 'index.jsonl').write_text(json.dumps(row))
    (file,), _ = score_files.find_scores(self.folder)
    self.assertEqual((file.metadata.title, file.work), ('1812', 'songs/9'))


if __name__ == '__main__':
  absltest.main()
