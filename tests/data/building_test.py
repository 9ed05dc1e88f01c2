"""Tests for building."""

import os
import tempfile

from absl.testing import absltest
from etils import epath
from musiclm_jax import errors
from musiclm_jax.data import building

SPLITS = ('train', 'test')


class BuildingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = epath.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.path = self.dir / 'music' / '1.0.0'

  def build(self, **contents):
    self.path.parent.mkdir(exist_ok=True)
    built = self.dir / 'built'
    built.mkdir()
    (built / building.INFO).write_text('{}')
    for name, content in contents.items():
      (built / name).write_text(content)
    building.publish(built, self.path, SPLITS)

  def names(self):
    return sorted(path.name for path in self.path.iterdir())

  def test_publishes_into_an_empty_place(self):
    self.build(a='1')
    self.assertEqual(self.names(), ['a', 'checksums.json', building.INFO])

  def test_replaces_its_own_files_only(self):
    old = [f'music-train.array_record-0000{i}-of-00002' for i in range(2)]
    self.build(**dict.fromkeys(old, 'old'))
    mine = 'music-mine.array_record-00000-of-00001'
    (self.path / mine).write_text('mine')
    self.build(a='1')
    self.assertEqual(self.names(), ['a', 'checksums.json', building.INFO, mine])

  def test_leftovers_of_others_stay(self):
    ours = building.unfinished_path(self.path)
    names = [
        ours.name, 'incomplete.A1B2C3_1.0.0', 'incomplete_notes',
        'incomplete.A1B2C3_2.0.0', '.musiclm-notes', 'my incomplete songs',
    ]  # fmt: skip
    for name in names:
      self.path.with_name(name).mkdir(parents=True)
    building.remove_leftovers(self.path)
    left = sorted(path.name for path in self.path.parent.iterdir())
    self.assertEqual(left, sorted(names[2:]))

  def test_lock_names_the_first(self):
    with building.locked(self.dir, 'data'):
      with self.assertRaisesRegex(
          errors.UserError, f'`musiclm data`.*{os.getpid()}'
      ):
        with building.locked(self.dir, 'tokenize'):
          self.fail('the lock is held')
    with building.locked(self.dir, 'tokenize'):
      pass

  def test_a_file_in_the_way(self):
    (self.dir / 'music').write_text('mine')
    with self.assertRaisesRegex(errors.WriteError, "music' must be a folder"):
      building.check_folders(self.path)
    with self.assertRaisesRegex(errors.WriteError, 'must be a folder that'):
      with building.locked(self.dir / 'music', 'data'):
        self.fail('there is no such folder')

  def test_words_of_the_system(self):
    with self.assertRaisesRegex(errors.WriteError, 'says: No space left. Free'):
      with building.writing(self.path):
        raise RuntimeError('No space left; writing /tmp/unfinished; at byte 7')

  def test_bugs_stay_what_they_are(self):
    with self.assertRaisesRegex(RuntimeError, '^bug$'):
      with building.writing(self.path) as failures:
        failures.append(RuntimeError('bug'))
        raise failures[0]
    with self.assertRaisesRegex(TypeError, '^bug$'):
      with building.writing(self.path):
        raise TypeError('bug')


if __name__ == '__main__':
  absltest.main()
