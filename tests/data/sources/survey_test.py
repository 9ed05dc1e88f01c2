"""Tests for sources."""

import pathlib
import tempfile
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data.sources import survey

XML = '<score-partwise version="3.1"></score-partwise>'


class SurveyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.folder = self.root / 'music'
    self.folder.mkdir()

  def write(self, num_audio=0, num_scores=0, **texts):
    for i in range(num_audio):
      (self.folder / f'{i}.wav').write_bytes(bytes(100))
    for i in range(num_scores):
      (self.folder / f'{i}.mid').write_bytes(b'MThd')
    for name, text in texts.items():
      (self.folder / name.replace('_', '.')).write_text(text)

  @parameterized.parameters(
      (10, 0, survey.Kind.AUDIO),
      (10, 1, survey.Kind.AUDIO),
      (3, 1, survey.Kind.AUDIO),
      (0, 4, survey.Kind.SCORES),
      (1, 10, survey.Kind.SCORES),
  )
  def test_a_folder_is_what_most_of_it_is(self, num_audio, num_scores, kind):
    self.write(num_audio, num_scores)
    source = survey.survey(self.folder)
    self.assertEqual(source.kind, kind)
    self.assertLen(source.names, max(num_audio, num_scores))
    self.assertLen(source.strays, min(num_audio, num_scores))

  @parameterized.parameters((4, 4), (6, 4), (4, 6), (2, 1), (1, 1))
  def test_a_mixture_is_refused(self, num_audio, num_scores):
    self.write(num_audio, num_scores)
    with self.assertRaisesRegex(
        errors.UserError,
        rf'{num_audio} recordings \(e.g. 0.wav\) and {num_scores} scores',
    ):
      survey.survey(self.folder)

  def test_says_what_is_left_out(self):
    self.write(10, 1)
    self.assertEqual(
        str(survey.survey(self.folder)),
        '10 recordings; left out: 1 scores, e.g. 0.mid',
    )

  def test_xml_of_other_programs_is_no_score(self):
    self.write(0, 3, library_xml='<plist></plist>', song_xml=XML)
    self.assertLen(survey.survey(self.folder).names, 4)

  def test_hidden_files_do_not_count(self):
    self.write(3)
    for i in range(9):
      (self.folder / f'._{i}.mid').touch()
    (self.folder / '.trash').mkdir()
    (self.folder / '.trash/a.mid').touch()
    self.assertEmpty(survey.survey(self.folder).strays)

  def test_links_are_followed(self):
    self.write(0, 3)
    (self.root / 'linked').symlink_to(self.folder)
    (self.root / 'all').mkdir()
    (self.root / 'all/album').symlink_to(self.folder)
    for path in (self.root / 'linked', self.root / 'all'):
      self.assertEqual(survey.survey(path).kind, survey.Kind.SCORES)

  def test_a_zip_holds_scores(self):
    with zipfile.ZipFile(self.root / 'songs.zip', 'w') as archive:
      archive.writestr('a.mid', b'MThd')
      archive.writestr('__MACOSX/._a.mid', b'fork')
    source = survey.survey(self.root / 'songs.zip')
    self.assertEqual(source.names, ['a.mid'])
    with zipfile.ZipFile(self.root / 'audio.zip', 'w') as archive:
      archive.writestr('a.wav', b'RIFF')
    with self.assertRaisesRegex(errors.UserError, 'audio.zip.*none.*Unpack'):
      survey.survey(self.root / 'audio.zip')

  def test_a_data_directory(self):
    (self.root / 'music/1.0.0').mkdir()
    (self.root / 'music/1.0.0/dataset_info.json').write_text('{}')
    self.assertEqual(survey.survey(self.root).kind, survey.Kind.DATASET)

  def test_refuses_what_is_no_source(self):
    with self.assertRaisesRegex(errors.UserError, 'must hold audio.*nothing'):
      survey.survey(self.folder)
    self.write(readme_txt='text')
    with self.assertRaisesRegex(errors.UserError, 'holds 1 files, none of'):
      survey.survey(self.folder)
    with self.assertRaisesRegex(errors.UserError, 'readme.txt. is a file'):
      survey.survey(self.folder / 'readme.txt')
    with self.assertRaisesRegex(errors.NotFoundError, 'folder that exists'):
      survey.survey(self.folder / 'nowhere')

  def test_the_hash_tells_other_files(self):
    self.write(3)
    first, again = (survey.survey(self.folder).sha256 for _ in range(2))
    self.assertEqual(first, again)
    (self.folder / '0.wav').write_bytes(bytes(101))
    self.assertNotEqual(survey.survey(self.folder).sha256, first)


if __name__ == '__main__':
  absltest.main()
