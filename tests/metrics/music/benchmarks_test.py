"""Tests for benchmarks."""

import csv
import hashlib
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.metrics.music import benchmarks
import numpy as np

ROWS = [('a', True, True), ('b', False, True), ('c', True, False)]


def write_table(path, rows):
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


class BenchmarksTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write_audio(self, name, seconds=2):
    audio = np.linspace(-0.5, 0.5, seconds * 8000, dtype=np.float32)
    io.write_audio(self.dir / 'audio' / name, audio, 8000)

  def write_musiccaps(self):
    path = self.dir / 'musiccaps-public.csv'
    rows = [
        {
            'ytid': ytid,
            'start_s': 30,
            'end_s': 40,
            'is_audioset_eval': is_eval,
            'is_balanced_subset': is_balanced,
            'aspect_list': '[]',
            'caption': f'song {ytid}',
        }
        for ytid, is_eval, is_balanced in ROWS
    ]
    write_table(path, rows)
    return hashlib.sha256(path.read_bytes()).hexdigest()

  @parameterized.parameters(
      ('musiccaps', 'abc', 5521),
      ('musiccaps-eval', 'ac', 2858),
      ('musiccaps-balanced', 'ab', 1000),
  )
  def test_musiccaps(self, name, ids, count):
    sha256 = self.write_musiccaps()
    self.write_audio('a.wav', 10)
    with self.assertRaisesRegex(errors.UserError, f'but has {sha256}'):
      benchmarks.read(name, self.dir)
    with mock.patch.object(benchmarks, '_MUSICCAPS_SHA256', sha256):
      found = benchmarks.read(name, self.dir)
    self.assertEqual([p.id for p in found.prompts], [*ids])
    self.assertEqual(found.prompts[0].text, 'song a')
    self.assertEqual(found.wanted, count)
    self.assertEqual(
        found.missing,
        [
            f'it has {len(ids)} of {count} prompts',
            f'true audio of {len(ids) - 1} prompts',
        ],
    )
    self.assertEqual(list(found.reference.paired), ['a'])
    self.assertLen(found.reference.paired['a'].read(8000), 80000)

  def test_captions_share_the_audio_of_their_track(self):
    rows = [
        {
            'track_id': track,
            'caption': text,
            'is_valid_subset': True,
            'artist_id': 'x',
        }
        for track, text in ((7, 'calm'), (7, 'a piano'), (9, 'loud'))
    ]
    write_table(self.dir / 'song_describer.csv', rows)
    self.write_audio('07/7.2min.wav')
    found = benchmarks.read('songdescriber', self.dir)
    self.assertEqual([p.id for p in found.prompts], ['7-0', '7-1', '9-0'])
    self.assertEqual(list(found.reference.paired), ['7-0', '7-1'])
    self.assertLen(found.reference.clips, 1)
    self.assertIn('it has 3 of 1106 prompts', found.missing)

  def test_attm(self):
    with self.assertRaisesRegex(errors.NotFoundError, 'prompts.jsonl'):
      benchmarks.read('attm', self.dir)
    (self.dir / 'prompts.txt').write_text('calm piano\nloud drums\n')
    found = benchmarks.read('attm', self.dir)
    self.assertEqual(
        [p.text for p in found.prompts], ['calm piano', 'loud drums']
    )
    self.assertIsNone(found.reference)
    self.assertIn('true audio of 2 prompts', found.missing)
    # Audio that is of no prompt is still true audio.
    self.write_audio('x.wav')
    reference = benchmarks.read('attm', self.dir).reference
    self.assertLen(reference.clips, 1)
    self.assertEmpty(reference.paired)

  def test_obedience_needs_nothing(self):
    found = benchmarks.read('obedience', None)
    self.assertLen(found.prompts, 200)
    self.assertEmpty(found.missing)
    self.assertIsNotNone(found.prompts[0].target.bpm)

  def test_says_what_is_needed(self):
    with self.assertRaisesRegex(errors.UserError, 'musiccaps-public.csv'):
      benchmarks.read('musiccaps', None)
    with self.assertRaisesRegex(errors.NotFoundError, 'must be a folder'):
      benchmarks.read('musiccaps', self.dir / 'nowhere')
    with self.assertRaisesRegex(errors.NotFoundError, "one of \\['musiccaps'"):
      benchmarks.read('other', self.dir)


if __name__ == '__main__':
  absltest.main()
