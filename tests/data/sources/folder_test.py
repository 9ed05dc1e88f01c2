"""Tests for folder."""

import contextlib
import csv
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import listening
from musiclm_jax.data.sources import caption_files
from musiclm_jax.data.sources import folder
import numpy as np
import soundfile


def write_tone(path, seconds=1.0, sample_rate=8000, **tags):
  path.parent.mkdir(parents=True, exist_ok=True)
  time = np.arange(round(seconds * sample_rate)) / sample_rate
  with soundfile.SoundFile(path, 'w', sample_rate, channels=1) as file:
    for tag, value in tags.items():
      setattr(file, tag, value)
    file.write(0.5 * np.sin(2 * np.pi * 440 * time))


class FolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.audio = root / 'album'
    self.audio.mkdir()
    self.data = root / 'data'
    self.captions = root / 'captions.csv'

  def write_csv(self, rows):
    with self.captions.open('w', newline='') as file:
      writer = csv.DictWriter(file, list(rows[0]))
      writer.writeheader()
      writer.writerows(rows)

  def build(self, **options):
    return folder.build_folder(self.audio, self.data, num_workers=1, **options)

  def read(self):
    """Returns the examples of all splits by id."""
    return {
        example['id']: example
        for split in ('train', 'validation', 'test')
        for example in datasets.open_dataset('music', self.data, split)
    }


class CaptionsTest(FolderTest):

  def test_csv(self):
    for name in ('a.wav', 'sub/b.flac', 'c.ogg'):
      write_tone(self.audio / name)
    self.write_csv(
        [
            {'file': 'a.wav', 'caption': 'slow waltz', 'work': 'Waltz'},
            {'file': 'sub/b.flac', 'caption': 'march', 'work': ''},
            {'file': 'a.wav', 'caption': 'a piano', 'work': 'Waltz'},
            {'file': 'c.ogg', 'caption': ' jig ', 'work': ''},
        ]
    )
    a, c, b = folder.survey(self.audio, self.captions)[0]
    self.assertEqual((a.name, a.work), ('a.wav', 'Waltz'))
    self.assertEqual(a.captions, ('slow waltz', 'a piano'))
    self.assertEqual((b.name, b.work), ('sub/b.flac', 'sub/b'))
    self.assertEqual((c.captions, c.source), (('jig',), 'album'))

  def test_jsonl(self):
    write_tone(self.audio / 'a.wav')
    path = self.captions.with_suffix('.jsonl')
    row = {
        'path': 'a.wav',
        'captions': ['slow waltz', 'a piano'],
        'title': 'Walzer',
        'license': 'CC0',
        'source': 'home',
    }
    path.write_text(json.dumps(row) + '\n')
    (file,) = folder.survey(self.audio, path)[0]
    self.assertEqual(file.captions, ('slow waltz', 'a piano'))
    self.assertEqual(
        (file.title, file.license, file.source), ('Walzer', 'CC0', 'home')
    )

  def test_weights(self):
    for name in ('a.wav', 'b.wav'):
      write_tone(self.audio / name)
    self.write_csv(
        [
            {'file': 'a.wav', 'caption': 'slow waltz', 'weight': '2.5'},
            {'file': 'a.wav', 'caption': 'op. 3', 'weight': ''},
            {'file': 'b.wav', 'caption': 'jig', 'weight': '0.5'},
        ]
    )
    a, b = folder.survey(self.audio, self.captions)[0]
    self.assertEqual((a.weights, b.weights), ((2.5, 1.0), (0.5,)))
    (clip,) = folder.read_clips(a, 30.0, clips.SAMPLE_RATE)
    self.assertEqual(clip.captions, ('slow waltz', 'op. 3'))
    self.assertEqual(clip.caption_weights, (2.5, 1.0))

  def test_what_is_heard(self):
    write_tone(self.audio / 'a.wav')
    (file,) = folder.survey(self.audio)[0]
    beats = np.array([[0.5, -1, -1], [1.0, -1, -1]], np.float32)
    heard = listening.Heard(beats, np.zeros(50, np.int8), 'C major')
    with mock.patch.object(listening, 'listen', return_value=heard) as listen:
      (clip,) = folder.read_clips(file, 30.0, clips.SAMPLE_RATE, listen=True)
    np.testing.assert_array_equal(clip.beats, beats)
    np.testing.assert_array_equal(clip.chords, heard.chords)
    self.assertEqual((clip.key, len(clip.families)), ('C major', 0))
    [audio] = listen.call_args.args
    seconds = len(clip.audio) / clips.SAMPLE_RATE
    self.assertAlmostEqual(len(audio) / 22050, seconds, places=3)
    (clip,) = folder.read_clips(file, 30.0, clips.SAMPLE_RATE)
    self.assertEqual((clip.key, len(clip.beats)), ('', 0))

  def test_the_weight_of_a_row_is_that_of_each_of_its_captions(self):
    write_tone(self.audio / 'a.wav')
    path = self.captions.with_suffix('.jsonl')
    rows = [
        {'file': 'a.wav', 'captions': ['waltz', 'piano'], 'weight': 2},
        {'file': 'a.wav', 'caption': 'op. 3', 'weight': 0},
    ]
    path.write_text('\n'.join(map(json.dumps, rows)))
    (file,) = folder.survey(self.audio, path)[0]
    self.assertEqual(file.weights, (2, 2, 0))

  @parameterized.parameters(*folder.CAPTION_FILES)
  def test_finds_the_caption_file_of_the_folder(self, name):
    write_tone(self.audio / 'a.wav')
    self.captions = self.audio / name
    row = {'path': 'a.wav', 'caption': 'waltz'}
    if name.endswith('.csv'):
      self.write_csv([row])
    else:
      self.captions.write_text(json.dumps(row))
    (file,) = folder.survey(self.audio)[0]
    self.assertEqual(file.captions, ('waltz',))

  def test_rejects_two_caption_files(self):
    write_tone(self.audio / 'a.wav')
    for name in folder.CAPTION_FILES:
      (self.audio / name).write_text('')
    with self.assertRaisesRegex(ValueError, 'at most one of .* holds both'):
      folder.survey(self.audio)[0]

  def test_text_beside_the_audio(self):
    write_tone(self.audio / 'a.wav')
    (self.audio / 'a.txt').write_text('slow waltz\n\n a piano \n')
    (file,) = folder.survey(self.audio)[0]
    self.assertEqual(file.captions, ('slow waltz', 'a piano'))

  def test_warns_of_files_without_captions(self):
    write_tone(self.audio / 'a.wav')
    write_tone(self.audio / 'b.wav')
    self.write_csv([{'file': 'a.wav', 'caption': 'waltz'}])
    with contextlib.redirect_stderr(io.StringIO()) as said:
      folder.survey(self.audio, self.captions)[0]
    self.assertRegex(said.getvalue(), '1 of 2 files are not in .*captions.csv')

  @parameterized.parameters(
      # name, title of the caption file, tags, title, caption
      ('03_blue-moon.wav', '', {}, 'blue moon', 'blue moon'),
      ('jazz/1999.wav', '', {}, '1999', '1999, from jazz'),
      (
          'jazz/03 moon.wav',
          '',
          {'title': 'Blue Moon', 'artist': 'Ella', 'genre': 'swing'},
          'Blue Moon',
          'Blue Moon by Ella, swing, from jazz',
      ),
      (
          'a.wav',
          'Luna',
          {'title': 'Blue Moon', 'album': 'Moons'},
          'Luna',
          'Luna, from Moons',
      ),
  )
  def test_describes_from_tags_and_names(
      self, name, given, tags, title, caption
  ):
    file = folder.AudioFile(path=name, name=name, work=name, title=given)
    self.assertEqual(folder.describe(file, tags), (title, caption))

  @parameterized.parameters(
      (
          'a.csv',
          'file,text\na.wav,waltz\n',
          "a.csv line 1 must be a header, of 'file'",
      ),
      ('a.csv', 'file,caption\na.wav,\n', r"line 2 .* has {'file': 'a.wav'}"),
      (
          'a.csv',
          'file,caption,weight\na.wav,waltz,-1\n',
          "line 2 must have a weight of at least 0, but has '-1'. Leave",
      ),
      (
          'a.jsonl',
          '{"file": "a.wav", "caption": "waltz", "weight": [1]}\n',
          r'line 1 must have a weight .* has \[1\]',
      ),
      ('a.jsonl', '{"path": 1\n', 'a.jsonl line 1 must be JSON: Expecting'),
      ('a.jsonl', '[1]\n', r"line 1 must be a JSON object: '\[1\]"),
      ('a.txt', 'a.wav waltz', 'a.txt must end in .csv or .jsonl'),
  )
  def test_rejects_bad_caption_files(self, name, text, message):
    path = self.captions.with_name(name)
    path.write_text(text)
    with self.assertRaisesRegex(ValueError, message):
      caption_files.read_caption_file(path)

  def test_rejects_a_missing_caption_file(self):
    with self.assertRaisesRegex(FileNotFoundError, 'captions.csv must be'):
      caption_files.read_caption_file(self.captions)

  def test_rejects_captions_of_missing_files(self):
    write_tone(self.audio / 'a.wav')
    rows = [{'file': f'{i}.wav', 'caption': 'waltz'} for i in 'abcdef']
    self.write_csv(rows)
    with self.assertRaisesRegex(
        ValueError,
        r"5 of 6 are not there, e.g. \['b.wav', 'c.wav', 'd.wav'\]. Add them",
    ):
      folder.survey(self.audio, self.captions)[0]


class BuildFolderTest(FolderTest):

  def test_builds_clips(self):
    write_tone(self.audio / 'long.flac', 4.5, title='Long', license='CC0')
    write_tone(self.audio / 'b.flac', 1.5)
    write_tone(self.audio / 'c.mp3', 1.5)
    (self.audio / 'b.txt').write_text('a waltz')
    (self.audio / 'notes.pdf').write_text('no audio')
    self.assertTrue(self.build(clip_seconds=2.0))
    examples = self.read()
    self.assertCountEqual(
        examples, ['long.flac/0', 'long.flac/1', 'b.flac/0', 'c.mp3/0']
    )
    second = examples['long.flac/1']
    self.assertEqual(second['work'], 'long')
    self.assertEqual(second['title'], 'Long')
    self.assertEqual(second['captions'], ['Long'])
    self.assertEqual(second['license'], 'CC0')
    self.assertEqual(second['source'], 'album')
    self.assertEqual(second['start'], 2)
    self.assertLen(second['audio'], 2 * clips.SAMPLE_RATE)
    time = 2 + np.arange(1000, 2 * clips.SAMPLE_RATE) / clips.SAMPLE_RATE
    np.testing.assert_allclose(
        clips.to_float(second['audio'])[1000:],
        0.5 * np.sin(2 * np.pi * 440 * time),
        atol=2e-3,
    )
    self.assertEqual(examples['b.flac/0']['captions'], ['a waltz'])
    self.assertEqual(datasets.sample_rate(self.data), clips.SAMPLE_RATE)

  def test_another_sample_rate(self):
    for name in 'abc':
      write_tone(self.audio / f'{name}.wav', seconds=4.5)
    self.assertTrue(self.build(clip_seconds=2.0, sample_rate=32000))
    self.assertEqual(datasets.sample_rate(self.data), 32000)
    second = self.read()['b.wav/1']
    self.assertEqual(second['start'], 2)
    self.assertLen(second['audio'], 2 * 32000)
    cycles = np.diff(np.sign(clips.to_float(second['audio']) + 1e-4)) > 0
    self.assertAlmostEqual(np.sum(cycles), 2 * 440, delta=1)

  @parameterized.parameters(100, 200000)
  def test_rejects_a_sample_rate_of_no_music(self, rate):
    write_tone(self.audio / 'a.wav')
    with self.assertRaisesRegex(errors.UserError, f'8000 to 192000.*is {rate}'):
      self.build(sample_rate=rate)

  def test_rejects_an_empty_folder(self):
    (self.audio / '.hidden.wav').write_text('')
    with self.assertRaisesRegex(ValueError, 'album must hold .wav.*holds none'):
      self.build()

  def test_rejects_a_missing_folder(self):
    with self.assertRaisesRegex(FileNotFoundError, 'none must be a folder'):
      folder.build_folder(self.audio / 'none', self.data)

  @parameterized.parameters(0.5, 31.0)
  def test_rejects_clip_seconds(self, clip_seconds):
    with self.assertRaisesRegex(
        ValueError, f'1 to 30, but is {clip_seconds:g}'
    ):
      self.build(clip_seconds=clip_seconds)

  def write_bad(self, content):
    for name in 'abcdef':
      write_tone(self.audio / f'{name}.wav')
    path = self.audio / 'z.wav'
    if content is None:
      write_tone(path, seconds=0.4)
    else:
      path.write_bytes(content)

  @parameterized.parameters(
      (b'RIFF....', 'z.wav must be a wav, flac, ogg or mp3 file'),
      (None, 'z.wav must last at least 1 s, but lasts 0.40 s'),
  )
  def test_rejects_a_bad_file(self, content, message):
    self.write_bad(content)
    with self.assertRaisesRegex(ValueError, message):
      self.build()
    self.assertFalse(datasets.dataset_exists('music', self.data))

  @parameterized.parameters(
      (b'RIFF....', 'left out: .*z.wav must be a wav'),
      (None, 'left out: .*z.wav must last at least 1 s'),
  )
  def test_skip_bad_lists_it(self, content, message):
    self.write_bad(content)
    with contextlib.redirect_stderr(io.StringIO()) as said:
      self.build(skip_bad=True)
    self.assertRegex(said.getvalue(), message)
    self.assertCountEqual(self.read(), [f'{name}.wav/0' for name in 'abcdef'])


if __name__ == '__main__':
  absltest.main()
