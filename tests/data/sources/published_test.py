"""Tests for corpora of tracks that others have published.

Their folders are made up, in exactly the formats of the real ones.
"""

import csv
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import progress
from musiclm_jax.cli import running
from musiclm_jax.data import datasets
from musiclm_jax.data.sources import fma
from musiclm_jax.data.sources import jamendo
from musiclm_jax.data.sources import song_describer
import numpy as np
import soundfile
import tensorflow_datasets as tfds

RATE = 16000
HEADER = 'TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS'
# Track, artist, tags.
JAMENDO = (
    (214, 14, 'genre---punkrock'),
    (
        1100,
        20,
        'genre---jazz\tgenre---soul\tinstrument---piano\tinstrument---bass\t'
        'mood/theme---sad',
    ),
    (215, 14, 'mood/theme---happy'),
    (9901, 33, 'instrument---organ'),
    (500, 40, 'genre---ambient'),
)
LICENSE = 'Creative Commons Attribution license: http://creativecommons.org/by'


def path_of(number):
  return f'{number % 100:02d}/{number}.mp3'


class PublishedTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.audio = self.root / 'audio'
    self.data = self.root / 'data'
    self.options = {'num_workers': 1, 'sample_rate': RATE}

  def write(self, name, text):
    path = self.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path

  def write_audio(self, name, seconds=1.5, pitch=220):
    path = self.audio / name
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    audio = 0.5 * np.sin(2 * np.pi * pitch * time)
    soundfile.write(path, audio, RATE, format='MP3')

  def write_licenses(self, numbers, separator=''):
    """Writes a block of three lines for each track, as both corpora do."""
    blocks = [
        f'{path_of(n)}\n"Song {n}" by Band from Jamendo:'
        f' http://www.jamendo.com/track/{n}\nAvailable under a {LICENSE}\n'
        for n in numbers
    ]
    self.write('audio_licenses.txt', f'{separator}\n'.join(blocks))

  def read(self, splits=('train', 'validation', 'test')):
    """Returns the examples and their splits, by title."""
    return {
        example['title']: (split, example)
        for split in splits
        for example in datasets.open_dataset('music', self.data, split)
    }


class JamendoTest(PublishedTest):

  def setUp(self):
    super().setUp()
    self.write_licenses([number for number, *_ in JAMENDO])
    self.table = self.write_table('data/raw_30s.tsv', JAMENDO)
    for number, *_ in JAMENDO[:4]:
      self.write_audio(path_of(number).replace('.mp3', '.low.mp3'))

  def write_table(self, name, rows):
    lines = [
        f'track_{number:07d}\tartist_{artist:06d}\talbum_000031\t'
        f'{path_of(number)}\t124.6\t{tags}'
        for number, artist, tags in rows
    ]
    return self.write(name, '\n'.join([HEADER, *lines]) + '\n')

  def build(self, *tables, **options):
    return jamendo.build_jamendo(
        tables or [self.table], self.audio, self.data, **self.options, **options
    )

  def test_tags_and_attributions_are_kept_of_each_clip(self):
    self.build()
    found = self.read()
    self.assertLen(found, 4)
    _, example = found['"Song 1100" by Band']
    self.assertEqual(example['captions'], ['sad jazz, soul with piano, bass'])
    self.assertEqual(example['license'], LICENSE)
    self.assertEqual(example['source'], 'http://www.jamendo.com/track/1100')
    self.assertEqual(example['work'], '00/1100.low')
    # An artist is in one split.
    self.assertEqual(
        found['"Song 214" by Band'][0], found['"Song 215" by Band'][0]
    )
    self.assertEqual(
        (self.data / 'missing.csv').read_text().splitlines(),
        ['track,title', '500,"""Song 500"" by Band"'],
    )

  def test_others_load_it_with_its_card(self):
    self.build()
    sources = tfds.data_source('music', data_dir=self.data)
    self.assertEqual(sum(map(len, sources.values())), 4)
    info = tfds.builder('music', data_dir=self.data).info
    self.assertIn('MTG-Jamendo Dataset', info.citation)
    self.assertIn('Creative Commons', info.redistribution_info.license)
    folder = datasets.dataset_dir('music', self.data)
    self.assertTrue((folder / 'checksums.json').exists())

  def test_splits_of_the_corpus(self):
    tables = [
        self.write_table(f'data/splits/split-0/autotagging-{name}.tsv', rows)
        for name, rows in (
            ('train', JAMENDO[:1]),
            ('validation', JAMENDO[1:2]),
            ('test', JAMENDO[2:4]),
        )
    ]
    self.build(*tables)
    self.assertEqual(
        {title: split for title, (split, _) in self.read().items()},
        {
            '"Song 214" by Band': 'train',
            '"Song 1100" by Band': 'validation',
            '"Song 215" by Band': 'test',
            '"Song 9901" by Band': 'test',
        },
    )

  def test_captions_and_audio_of_the_challenge(self):
    numbers = (214, 1100, 9901, 500)
    for number in numbers:
      name = f'{number % 100:02d}/{number}_instrumental.mp3'
      self.write_audio(name, pitch=440)
    captions = [
        {'path': path_of(n), 'caption': f'Track {n} has no voice.'}
        for n in numbers[:3]
    ]
    path = self.write('jamendo_qwen.json', json.dumps(captions))
    self.build(captions=path, instrumental=True)
    found = self.read()
    self.assertLen(found, 3)
    _, example = found['"Song 9901" by Band']
    self.assertEqual(example['captions'], ['Track 9901 has no voice.'])
    self.assertEqual(example['work'], '01/9901_instrumental')

  def test_tracks_without_a_license_are_left_out_and_said(self):
    self.write_licenses([214, 1100, 9901])
    said = []
    with mock.patch.object(progress, 'say', said.append):
      self.build()
    self.assertIn('left out 2 of 5 tracks, whose licenses', said[0])
    self.assertNotIn('"Song 215" by Band', self.read())

  def test_rejects_licenses_of_other_tracks(self):
    self.write_licenses([7])
    with self.assertRaisesRegex(ValueError, 'says none of them'):
      self.build()

  def test_rejects_a_track_that_is_named_twice(self):
    with self.assertRaisesRegex(ValueError, 'names 214 again'):
      self.build(self.write_table('data/raw.tsv', JAMENDO + JAMENDO[:1]))

  def test_rejects_a_mixture_of_splits_and_whole_tables(self):
    train = self.write_table('data/a-train.tsv', [(7, 1, 'genre---pop')])
    self.write_licenses([7, *(number for number, *_ in JAMENDO)])
    with self.assertRaisesRegex(ValueError, 'all be of one split'):
      self.build(self.table, train)

  def test_rejects_a_table_without_licenses(self):
    (self.root / 'audio_licenses.txt').unlink()
    with self.assertRaisesRegex(FileNotFoundError, 'audio_licenses.txt beside'):
      self.build()


class FmaTest(PublishedTest):
  COLUMNS = (
      ('album', 'title'),
      ('artist', 'bio'),
      ('artist', 'id'),
      ('artist', 'name'),
      ('set', 'split'),
      ('set', 'subset'),
      ('track', 'genres'),
      ('track', 'license'),
      ('track', 'tags'),
      ('track', 'title'),
  )

  def setUp(self):
    super().setUp()
    self.genres = self.write(
        'genres.csv',
        'genre_id,#tracks,parent,title,top_level\n'
        '21,12201,0,Hip-Hop,21\n181,100,15,Techno,15\n',
    )

  def build(self, rows, **options):
    table = self.root / 'tracks.csv'
    with table.open('w', newline='') as file:
      writer = csv.writer(file)
      for level in range(2):
        writer.writerow(['', *(names[level] for names in self.COLUMNS)])
      writer.writerow(['track_id'] + [''] * len(self.COLUMNS))
      for number, split, subset, genres, tags in rows:
        writer.writerow([
            number, 'AWOL - A Way Of Life', 'born,\n"in" 1', 1, 'AWOL', split,
            subset, genres, 'Attribution 3.0', tags, f'Food {number}',
        ])  # fmt: skip
    return fma.build_fma(
        table, self.genres, self.audio, self.data, **self.options, **options
    )

  def test_genres_tags_and_splits(self):
    rows = (
        (2, 'training', 'small', '[21, 181]', "['night']"),
        (3, 'validation', 'small', '[181]', '[]'),
        (1005, 'test', 'medium', '[]', '[]'),
        (6, 'training', 'large', '[21]', '[]'),
    )
    for number, *_ in rows:
      self.write_audio(f'{number // 1000:03d}/{number:06d}.mp3')
    self.build(rows, subset='medium')
    found = self.read()
    self.assertEqual(
        {title: split for title, (split, _) in found.items()},
        {
            'Food 2 by AWOL': 'train',
            'Food 3 by AWOL': 'validation',
            'Food 1005 by AWOL': 'test',
        },
    )
    _, example = found['Food 2 by AWOL']
    self.assertEqual(example['captions'], ['Hip-Hop, Techno, night'])
    self.assertEqual(example['license'], 'Attribution 3.0')
    self.assertEqual(
        example['source'], 'Free Music Archive, AWOL - A Way Of Life'
    )
    # Without a genre or tag, the title says what there is to say.
    self.assertStartsWith(
        found['Food 1005 by AWOL'][1]['captions'][0], 'Food 1005'
    )

  @parameterized.named_parameters(
      (
          'genre',
          [(2, 'training', 'small', '[5]', '[]')],
          r'line 4 .*genres \[5',
      ),
      ('list', [(2, 'training', 'small', 'x', '[]')], 'row of tracks.csv'),
      (
          'split',
          [(2, 'train', 'small', '[]', '[]')],
          "line 4 .*training, validation, test, not 'train'",
      ),
  )
  def test_rejects(self, rows, message):
    with self.assertRaisesRegex(ValueError, message):
      self.build(rows)

  def test_rejects_an_unknown_subset(self):
    with self.assertRaisesRegex(ValueError, "must be one of .*'tiny'"):
      self.build([], subset='tiny')


class SongDescriberTest(PublishedTest):

  def setUp(self):
    super().setUp()
    self.table = self.write(
        'song_describer.csv',
        'caption_id,track_id,caption,is_valid_subset,familiarity,artist_id,'
        'album_id,path,duration\n'
        '2,100,"A calm piano, alone",True,3,7,8,00/100.mp3,120.0\n'
        '1,100,Nothing,False,2,7,8,00/100.mp3,120.0\n'
        '3,200,Drums,,1,9,10,00/200.mp3,60.0\n',
    )
    self.write_licenses((100, 200), separator='--')
    self.write_audio('00/100.2min.mp3')
    self.write_audio('00/200.2min.mp3')

  def test_all_is_for_evaluation(self):
    song_describer.build_song_describer(
        self.table, self.audio, self.data, **self.options
    )
    self.assertEqual(datasets.splits('music', self.data), ['test'])
    found = self.read(['test'])
    self.assertLen(found, 2)
    _, example = found['"Song 100" by Band']
    self.assertEqual(example['captions'], ['A calm piano, alone', 'Nothing'])
    self.assertEqual(example['license'], LICENSE)

  def test_command_takes_the_valid_subset(self):
    status = running.main([
        'data', 'songdescriber', str(self.table), str(self.audio),
        '--output', str(self.data), '--valid_only', '--num_workers', '1',
    ])  # fmt: skip
    self.assertEqual(status, 0)
    ((_, example),) = self.read(['test']).values()
    self.assertEqual(example['captions'], ['A calm piano, alone'])

  def test_rejects_a_folder_without_audio(self):
    for path in self.audio.rglob('*.mp3'):
      path.unlink()
    with self.assertRaisesRegex(ValueError, 'audio of the 2 tracks.*none'):
      song_describer.build_song_describer(self.table, self.audio, self.data)


if __name__ == '__main__':
  absltest.main()
