"""Tests for mutopia."""

import csv
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import notation
from musiclm_jax.data.sources import mutopia
import numpy as np

SOURCE = r"""\version "2.10.0"
\header {
  title = "A Minuet"
  mutopiacomposer = "%(composer)s"
  style = "Baroque"
  license = "%(license)s"
  maintainer = "Ann"
}
%%{ title = "not this" %%}
\score {
  \relative c' { \key a \minor \time 3/4 \tempo 4 = 120 a4 b c | d2. }
  \layout { }
  \midi { }
}
"""


def write_piece(folder, path, license='Public Domain', composer='BachJS'):
  path = folder / 'ftp' / path
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(SOURCE % {'license': license, 'composer': composer})


class MutopiaTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.output = self.folder / 'output'

  def prepare(self, **options):
    """Runs with a stand-in for LilyPond that writes a note."""

    def run(command, folder):
      if command[0] == 'lilypond':
        score = notation.Score(
            parts=(notation.Part('', 0),),
            start=np.zeros(1),
            end=np.ones(1),
            pitch=np.array([60]),
            velocity=np.array([80]),
            volume=np.ones(1),
            part=np.array([0]),
        )
        self.compiled.append(pathlib.Path(command[-1]).name)
        if 'broken' not in command[-1]:
          notation.write_midi(score, folder / 'score-0.midi')

    self.compiled = []
    with mock.patch.object(shutil, 'which', return_value='lilypond'):
      with mock.patch.object(mutopia, '_run', run):
        index = mutopia.prepare_mutopia(self.folder, self.output, **options)
    with open(index, newline='', encoding='utf-8') as file:
      return list(csv.DictReader(file))

  def test_licenses(self):
    licenses = {
        'a': 'Public Domain',
        'b': 'Creative Commons Attribution 4.0',
        'c': 'Creative Commons Attribution-ShareAlike 4.0',
        'd': '',
    }
    for name, license in licenses.items():
      write_piece(self.folder, f'BachJS/BWV{name}/{name}.ly', license)
    rows = self.prepare()
    self.assertEqual([r['work'] for r in rows], ['BachJS/BWVa', 'BachJS/BWVb'])
    self.assertEqual(rows[1]['license'], licenses['b'])
    (self.output / 'index.csv').unlink()
    share_alike = ('Creative Commons Attribution-ShareAlike',)
    with mock.patch.object(mutopia, 'PUBLIC_LICENSES', share_alike):
      rows = self.prepare()
    self.assertEqual([r['work'] for r in rows], ['BachJS/BWVc'])
    with mock.patch.object(mutopia, 'PUBLIC_LICENSES', ('MIT',)):
      with self.assertRaisesRegex(ValueError, 'holds none'):
        self.prepare()

  def test_takes_composers_in_turn_and_goes_on(self):
    for path in ('A/1/a.ly', 'A/2/b.ly', 'B/1/c.ly', 'B/2/broken.ly'):
      write_piece(self.folder, path)
    self.assertLen(self.prepare(limit=2), 2)
    self.assertCountEqual(self.compiled, ['a.ly', 'c.ly'])
    self.assertLen(self.prepare(), 3)
    self.assertCountEqual(self.compiled, ['b.ly', 'broken.ly'])
    self.assertEqual(
        (self.output / 'failed.txt').read_text(), 'B/2/broken.ly\n'
    )
    self.prepare()
    self.assertEmpty(self.compiled)

  @parameterized.parameters(
      ('BachJS', 'Bach'),
      ('Mendelssohn-BartholdyF', 'Mendelssohn-Bartholdy'),
      ('BeethovenLv', 'Beethoven'),
      ('Traditional', ''),
      ('', ''),
  )
  def test_composers(self, composer, expected):
    write_piece(self.folder, 'X/1/a.ly', composer=composer)
    (row,) = self.prepare()
    self.assertEqual(row['composer'], expected)
    self.assertEqual(row['title'], 'A Minuet')
    self.assertEqual(row['genre'], 'baroque')
    self.assertEqual(row['source'], 'Mutopia, typeset by Ann')

  def test_names_the_missing_program(self):
    with mock.patch.object(shutil, 'which', return_value=None):
      with self.assertRaisesRegex(FileNotFoundError, 'apt install lilypond'):
        mutopia.prepare_mutopia(self.folder, self.output)

  @absltest.skipIf(
      shutil.which('lilypond') is None, 'the program lilypond is missing'
  )
  def test_compiles(self):
    write_piece(self.folder, 'BachJS/BWV1/minuet/minuet.ly')
    index = mutopia.prepare_mutopia(self.folder, self.output)
    with open(index, newline='', encoding='utf-8') as file:
      (row,) = csv.DictReader(file)
    self.assertEqual(row['key'], 'A minor')
    score = notation.read_midi(self.output / row['file'])
    np.testing.assert_array_equal(score.pitch, [57, 59, 60, 62])
    np.testing.assert_allclose(score.start, [0, 0.5, 1.0, 1.5])
    self.assertEqual(score.metres[0], (0.0, '3/4'))


if __name__ == '__main__':
  absltest.main()
