"""Tests for files."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import files

LONG = 'n' * 246 + '.wav'

HOLD = """
import sys, time
from musiclm_jax import files
with files.lock(sys.argv[1], 'musiclm train'):
  print('held', flush=True)
  time.sleep(60)
"""


class FilesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  @parameterized.parameters('a.txt', 'new/folder/a.txt', LONG)
  def test_replacing_writes_whole(self, name):
    files.write_text(self.folder / name, 'first')
    files.write_text(self.folder / name, 'second')
    self.assertEqual((self.folder / name).read_text(), 'second')
    self.assertLen(list((self.folder / name).parent.iterdir()), 1)

  def test_what_was_there_survives_an_error(self):
    path = self.folder / 'a.txt'
    path.write_text('old')
    with self.assertRaises(KeyError):
      with files.replacing(path) as unfinished:
        unfinished.write_text('half')
        raise KeyError
    self.assertEqual(path.read_text(), 'old')
    self.assertEqual(os.listdir(self.folder), ['a.txt'])

  def test_a_full_disk_is_told_in_the_words_of_the_system(self):
    with self.assertRaisesRegex(
        errors.WriteError, r"a\.txt' must be .*: No space left on device\."
    ):
      with files.replacing(self.folder / 'a.txt') as unfinished:
        unfinished.touch()
        raise OSError(28, 'No space left on device')
    self.assertEmpty(os.listdir(self.folder))

  def test_leftovers_are_known_by_their_file(self):
    left = files.temporary(self.folder / 'a.wav')
    self.assertEqual(left.suffix, '.wav')
    self.assertTrue(files.is_leftover(left, 'a.wav'))
    self.assertFalse(files.is_leftover(left, 'b.wav'))
    self.assertFalse(files.is_leftover('.backup.wav', 'a.wav'))

  @parameterized.parameters(
      ('none/a.wav', 'in a folder that exists. Make .*none'),
      ('n' * 300, 'File name too long'),
      ('', 'is a folder. Add the name of a file'),
      ('file/a.wav', 'in a folder that exists'),
      ('a\0b', 'null'),
  )
  def test_what_cannot_be_written_is_refused_first(self, name, message):
    (self.folder / 'file').touch()
    with self.assertRaisesRegex(errors.WriteError, message):
      files.check_writable(self.folder / name)

  @parameterized.parameters('a.wav', LONG)
  def test_checking_leaves_nothing(self, name):
    files.check_writable(self.folder / name)
    self.assertEmpty(os.listdir(self.folder))

  def test_the_second_to_come_names_the_first(self):
    with files.lock(self.folder, 'musiclm train'):
      with self.assertRaisesRegex(
          errors.UserError,
          rf'one process at a time, but `musiclm train` \(process {os.getpid()}'
          r' on .*, since .*\) is at work in it. Wait',
      ):
        with files.lock(self.folder, 'musiclm train'):
          self.fail('locked twice')
    with files.lock(self.folder, 'musiclm train'):
      pass

  def test_a_killed_process_leaves_no_lock(self):
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, self.folder],
        stdout=subprocess.PIPE,
        env={'PYTHONPATH': str(pathlib.Path(files.__file__).parents[1])},
    )
    self.assertEqual(holder.stdout.readline(), b'held\n')
    with self.assertRaisesRegex(errors.UserError, f'process {holder.pid}'):
      with files.lock(self.folder, 'musiclm train'):
        self.fail('locked twice')
    holder.kill()
    holder.communicate()
    with files.lock(self.folder, 'musiclm train'):
      pass

  def test_parts_of_the_work_have_locks_of_their_own(self):
    with files.lock(self.folder, 'musiclm batch', 'batch-0'):
      with files.lock(self.folder, 'musiclm batch', 'batch-1'):
        pass
      with self.assertRaisesRegex(errors.UserError, 'one process at a time'):
        with files.lock(self.folder, 'musiclm batch', 'batch-0'):
          self.fail('locked twice')
    self.assertEmpty(os.listdir(self.folder))

  def test_json_is_sealed(self):
    path = self.folder / 'a.json'
    value = {'x': [1, 2.5, None], 'y': {'z': 'é'}}
    sealed = files.sealed({**value, 'x': (1, 2.5, None)})
    path.write_text(json.dumps(sealed, indent=2))
    self.assertEqual(files.read_json(path, 'a record'), value)
    path.write_text(json.dumps(sealed | {'x': [1, 2.5, 3]}))
    with self.assertRaisesRegex(
        errors.UserError, r'a\.json must be a record.*' 'damaged or was edited'
    ):
      files.read_json(path, 'a record', needs_seal=False)
    path.write_text(json.dumps(value))
    self.assertEqual(files.read_json(path, 'it', needs_seal=False), value)
    with self.assertRaisesRegex(errors.UserError, 'damaged or was edited'):
      files.read_json(path, 'a record')

  @parameterized.parameters('[]', '{"a": NaN}', '{"a": 1, "a": 2}', '\xff', '{')
  def test_json_that_is_none(self, text):
    path = self.folder / 'a.json'
    path.write_bytes(text.encode('latin-1'))
    with self.assertRaisesRegex(errors.UserError, r'a\.json must be a record'):
      files.read_json(path, 'a record', needs_seal=False)


if __name__ == '__main__':
  absltest.main()
