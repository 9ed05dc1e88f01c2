"""Drills of folders of audio and of their captions."""

import os
import unicodedata

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data.sources import caption_files
from musiclm_jax.data.sources import folder
from musiclm_jax.data.sources import musiccaps
import numpy as np
import soundfile
from tests.drills import reading_test


class FolderTest(reading_test.Drill):
  """A folder is read with all that is in it, and says what it left out.

  Siblings: formats, links to folders and files, loops, hidden things, what is
  not audio, names in other spellings, quiet parts of works.
  """

  def setUp(self):
    super().setUp()
    self.album = self.dir / 'album'
    self.album.mkdir()

  def add(self, *names):
    for name in names:
      path = self.album / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(reading_test.encode('wav', reading_test.tone()))

  def names(self, **options):
    files, left_out = folder.survey(self.album, **options)
    return [file.name for file in files], left_out

  def test_formats(self):
    names = [
        f'a.{suffix}'
        for suffix in (
            'm4a',
            'MP4',
            'aac',
            'opus',
            'aiff',
            'aif',
            'aifc',
            'wma',
            'webm',
            'mka',
            'caf',
            'w64',
            'au',
            'oga',
            'wv',
        )
    ]
    self.add(*names)
    self.assertEqual(self.names(), (sorted(names), []))

  def test_links_are_followed_once(self):
    self.add('b/1.wav', '../other/2.wav')
    (self.album / 'a').symlink_to('b')
    (self.album / 'other').symlink_to(self.dir / 'other')
    (self.album / 'b' / 'loop').symlink_to(self.album)
    (self.album / 'self').symlink_to('self')
    (self.album / 'nowhere.wav').symlink_to('none')
    names, left_out = self.names()
    self.assertEqual(names, ['b/1.wav', 'other/2.wav'])
    kinds = dict(left_out)
    self.assertCountEqual(kinds, ['a', 'b/loop', 'self', 'nowhere.wav'])
    self.assertIn('another name', kinds['a'])

  def test_what_is_left_out_is_told(self):
    self.add('a.wav', '.b.wav', '.cache/c.wav')
    for name in ('cover.jpg', 'a.cue', 'a.log', 'list.m3u', 'x.nfo', 'a.lrc'):
      (self.album / name).write_bytes(b'text')
    (self.album / 'a.txt').write_text('a waltz')
    (self.album / 'b.txt').write_text('notes')
    (self.album / 'c.mid').write_bytes(b'MThd')
    (self.album / 'song').write_bytes(
        reading_test.encode('flac', reading_test.tone())
    )
    os.mkfifo(self.album / 'd.wav')
    names, left_out = self.names()
    self.assertEqual(names, ['a.wav'])
    kinds = {}
    for name, kind in left_out:
      kinds.setdefault(kind, []).append(name)
    self.assertLen(kinds.pop('not audio'), 7)
    self.assertEqual(kinds.pop('hidden'), ['.b.wav', '.cache'])
    self.assertCountEqual(sum(kinds.values(), []), ['c.mid', 'song', 'd.wav'])

  @parameterized.parameters(
      ('song.m4a', 'song.m4a'),
      ('Song.WAV', 'song.wav'),
      (
          unicodedata.normalize('NFC', 'é.wav'),
          unicodedata.normalize('NFD', 'é.wav'),
      ),
      (
          unicodedata.normalize('NFD', 'é.wav'),
          unicodedata.normalize('NFC', 'é.wav'),
      ),
      ('sub\\song.wav', 'sub/song.wav'),
      ('./song.wav', 'song.wav'),
      ('.song.wav', '.song.wav'),
      ('song.sound', 'song.sound'),
  )
  def test_names_in_captions(self, written, name):
    self.add('other.wav', name)
    (self.album / 'captions.csv').write_text(f'path,caption\n{written},jig\n')
    files, _ = folder.survey(self.album)
    captions = {file.name: file.captions for file in files}
    self.assertEqual(captions, {'other.wav': (), name: ('jig',)})

  def test_a_name_that_is_nearly_there(self):
    self.add('blue moon.wav')
    (self.album / 'captions.csv').write_text('path,caption\nblue-moon.mp3,jig')
    with self.assertRaisesRegex(
        errors.UserError, r"not there.*\(line 2\) 'blue moon.wav'\?"
    ):
      folder.survey(self.album)

  def test_musiccaps_takes_all_formats_and_tells(self):
    self.add('x.m4a', 'sub/[y]-[30-40].opus', 'z.jpg', 'sub2/x.wav')
    paths, left_out = musiccaps.survey(self.album)
    self.assertCountEqual(paths, ['x', 'y'])
    self.assertCountEqual(dict(left_out), ['z.jpg', 'x.m4a'])

  def test_silent_parts_are_left_out_and_counted(self):
    for name in ('a', 'b', 'c'):
      parts = [
          reading_test.tone(2),
          np.zeros(2 * reading_test.RATE),
          reading_test.tone(2.5),
      ]
      soundfile.write(
          self.album / f'{name}.wav', np.concatenate(parts), reading_test.RATE
      )
    folder.build_folder(
        self.album, self.dir / 'data', clip_seconds=2.0, num_workers=1
    )
    ids = [
        example['id']
        for split in ('train', 'validation', 'test')
        for example in datasets.open_dataset('music', self.dir / 'data', split)
    ]
    self.assertCountEqual(
        ids, [f'{name}.wav/{i}' for name in 'abc' for i in (0, 2)]
    )
    self.assertRegex(
        self.said.getvalue(), '3 silent: a.wav at 2 s|a.wav at 2 s'
    )
    self.assertIn(f'3 {clips.SHORT}', self.said.getvalue())


class CaptionsTest(reading_test.Drill):
  """Texts that carry nothing, or not what was meant, are no captions.

  Siblings: commas without quotes, quotes that do not close, other separators,
  other encodings, nothing in other words, blank and repeated rows and columns,
  no header, JSON of other types, texts beside the audio.
  """

  def captions(self, data, name='c.csv', encoding='utf-8'):
    path = self.dir / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode(encoding))
    rows = caption_files.read_caption_file(path)
    return [(row['file'], *row['captions']) for row in rows]

  @parameterized.parameters(
      'path,caption\na.wav,"calm piano, slow, sad"\n',
      'path,caption\na.wav,calm piano, slow, sad\n',
      'path;caption\na.wav;calm piano, slow, sad\n',
      'path\tcaption\na.wav\tcalm piano, slow, sad\n',
      'sep=;\npath;caption\na.wav;calm piano, slow, sad\n',
      ' Path , "Caption" \r\n\r\na.wav, "calm piano, slow, sad"\r\n,\r\n',
      'path,caption\n' + 2 * 'a.wav,"calm piano, slow, sad"\n',
      'path,caption,caption\na.wav,"calm piano, slow, sad",\n',
  )
  def test_tables(self, text):
    for encoding in ('utf-8', 'utf-8-sig', 'utf-16'):
      self.assertEqual(
          self.captions(text, encoding=encoding),
          [('a.wav', 'calm piano, slow, sad')],
      )

  def test_both_of_two_caption_columns(self):
    text = 'path,caption,caption\na.wav,jig,reel\n'
    self.assertEqual(self.captions(text), [('a.wav', 'jig', 'reel')])

  @parameterized.parameters(
      ('path,caption,work\na.wav,jig, slow,W\n', 'line 2 must have 3 columns'),
      ('path,caption\na.wav,jig\nb.wav,"jig\n', 'line 3 must be a row'),
      ('path,caption\na.wav,"jig\nb.wav,reel"\n', 'line 2 .*Close them'),
      ('path,caption\na.wav,"jig\nb.wav,"reel"\n', 'line 2 must be a row'),
      ('a.wav,jig\nb.wav,reel\n', 'line 1 must be a header'),
      ('path,path,caption\na.wav,b.wav,jig\n', "'path' 2 times"),
      ('path,caption\na.wav,jig\nb.wav,...\n', r"line 3 must have .* '\.\.\.'"),
      ('path,caption\na.wav,NaN\n', "line 2 must .* 'NaN'"),
      ('path,caption\na.wav,null\n', "line 2 must .* 'null'"),
      ('path,caption\na.wav,none\n', "line 2 must .* 'none'"),
      ('path,caption\na.wav,\n', "line 2 must have 'file' and 'caption'"),
      ('path,caption\na.wav,j\0ig\n', 'line 2 must be text, but has a zero'),
      ('', 'must hold captions, but is empty'),
      (b'path,caption\na.wav,caf\xe9\n', 'line 2 .*0xE9. Save it as UTF-8'),
      ('path,caption\n'.encode('utf-16-le'), 'line 1 .*zero byte. Save it'),
  )
  def test_refused_tables(self, data, reason):
    with self.assertRaisesRegex(errors.UserError, f'c.csv .*{reason}'):
      self.captions(data)

  @parameterized.parameters(
      '{"path": "a.wav", "caption": null}',
      '{"path": "a.wav", "caption": 5}',
      '{"path": "a.wav", "caption": ["jig", null]}',
      '{"path": "a.wav", "caption": [["jig"]]}',
      '{"path": "a.wav", "caption": NaN}',
      '{"path": "a.wav", "caption": "-"}',
      '{"path": ["a.wav"], "caption": "jig"}',
      '{"path": "a.wav", "caption": "jig", "caption": "reel"}',
      '{"path": "a.wav", "caption": "jig", "work": {}}',
      '{"path": "a.wav", "caption": "jig", "weight": true}',
      '["a.wav", "jig"]',
      '[' * 100_000,
  )
  def test_refused_lines_of_json(self, line):
    text = f'{{"path": "b.wav", "caption": "jig"}}\n\n{line}\n'
    with self.assertRaisesRegex(errors.UserError, 'c.jsonl line 3 must'):
      self.captions(text, 'c.jsonl')

  def beside(self, data):
    soundfile.write(self.dir / 'a.wav', reading_test.tone(), reading_test.RATE)
    (self.dir / 'a.txt').write_bytes(data)
    return folder.survey(self.dir)[0][0].captions

  def test_texts_beside_the_audio(self):
    self.assertEqual(
        self.beside('jig\n\nsad\n'.encode('utf-16')), ('jig', 'sad')
    )
    for data in (b'', b' \n', b'jig\n...\n', b'caf\xe9', b'j\0ig'):
      with self.assertRaisesRegex(errors.UserError, 'a.txt .*must'):
        self.beside(data)

  def test_names_and_tags_that_say_nothing(self):
    soundfile.write(
        self.dir / '---.wav', reading_test.tone(), reading_test.RATE
    )
    (file,) = folder.survey(self.dir)[0]
    with self.assertRaisesRegex(
        errors.UserError, '---.wav must have a caption'
    ):
      list(folder.read_clips(file, 30.0, reading_test.RATE))

  def test_rows_of_a_file_that_disagree(self):
    soundfile.write(self.dir / 'a.wav', reading_test.tone(), reading_test.RATE)
    (self.dir / 'captions.csv').write_text(
        'path,caption,work\na.wav,jig,A\na.wav,reel,B\n'
    )
    with self.assertRaisesRegex(errors.UserError, r'one work.*lines \[2, 3\]'):
      folder.survey(self.dir)[0]


if __name__ == '__main__':
  absltest.main()
