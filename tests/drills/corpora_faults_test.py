"""Drills of writing corpora: two at once, signals, flipped bits, full disks."""

import contextlib
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.data import building
from musiclm_jax.data import datasets
from musiclm_jax.data.sources import folder
from musiclm_jax.data import token_dataset
from tests.drills import corpora_test
from tests.drills import slow_corpus


class TwoAtOnceTest(corpora_test.Case):
  """The second ends in one line that names the first.

  Siblings: data and tokenize; a lock that a killed process left.
  """

  def test_data(self):
    corpora_test.write_music(self.audio)
    with building.locked(self.data, 'tokenize'):
      status, said = corpora_test.run(
          'data', 'folder', self.audio, '--output', self.data
      )
    self.assertEqual(status, 2)
    self.assertLen(said, 1)
    self.assertRegex(
        said[0], f'one process at a time.*musiclm tokenize.*{os.getpid()}'
    )
    self.assertEmpty(self.left())

  def test_tokenize(self):
    self.build()
    with building.locked(self.data, 'data'):
      with self.assertRaisesRegex(errors.UserError, '`musiclm data` .process'):
        self.tokenize()
      datasets.open_dataset('music', self.data, 'train')  # Who reads, may.
    self.assertFalse((self.data / 'music_tokens').exists())

  def test_a_lock_that_was_left_does_not_matter(self):
    self.data.mkdir()
    (self.data / files.LOCK).touch()
    (self.data / files.LOCK).with_suffix('.holder').write_text('{"pid": 1}')
    self.build()
    self.assertTrue(datasets.dataset_exists('music', self.data))


def is_running(pid):
  try:
    status = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return False
  return status.rpartition(')')[2].split()[0] != 'Z'


def wait_until(condition, seconds=60):
  end = time.monotonic() + seconds
  while not condition():
    if time.monotonic() > end:
      raise TimeoutError
    time.sleep(0.05)


@absltest.skipUnless(os.path.isdir('/proc/self'), 'looks for processes there')
class SignalsTest(corpora_test.Case):
  """A command that is ended says one line, and leaves nothing.

  Siblings: Ctrl-C, which all processes of a terminal get; SIGTERM to one or to
  all; a kill, after which processes end and the next run tidies up; a process
  that the system kills, as memory runs out.
  """

  def start(self):
    """Starts a command, and waits until its processes read."""
    self.audio.mkdir()
    command = subprocess.Popen(
        [
            sys.executable, '-m', 'tests.drills.slow_corpus', 'data', 'folder',
            str(self.audio), '--output', str(self.data),
        ],
        cwd=corpora_test.ROOT, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    self.addCleanup(command.stderr.close)
    self.addCleanup(command.kill)

    def pids():
      return [int(p.read_text() or 0) for p in self.audio.glob('*.pid')]

    wait_until(lambda: len(pids()) == slow_corpus.NUM_WORKERS and all(pids()))
    return command, pids()

  def end(self, command, pids):
    """Returns its status and the last of what it said, once it has ended."""
    stderr = command.stderr.read()
    command.wait()
    wait_until(lambda: not any(map(is_running, pids)), 10)
    bar = re.compile(r'(train: .*work.*\])?\s*')
    lines = re.split(r'[\r\n]+', stderr)
    return command.returncode, [s for s in lines if not bar.fullmatch(s)]

  @parameterized.parameters(
      (signal.SIGINT, os.killpg),
      (signal.SIGTERM, os.kill),
      (signal.SIGTERM, os.killpg),
  )
  def test_one_line(self, signum, kill):
    command, pids = self.start()
    kill(command.pid, signum)
    status, lines = self.end(command, pids)
    self.assertEqual(status, 128 + signum)
    self.assertEqual(lines, ['musiclm: interrupted; run it again to go on.'])
    self.assertEmpty(self.left())
    self.assertFalse((self.data / 'music').exists())

  def test_killed(self):
    command, pids = self.start()
    os.kill(command.pid, signal.SIGKILL)
    self.end(command, pids)
    leftovers = list((self.data / 'music').iterdir())
    self.assertLen(leftovers, 1)
    self.build()
    self.assertFalse(leftovers[0].exists())
    self.assertEqual(os.listdir(self.data / 'music'), ['1.0.0'])

  def test_a_process_that_the_system_kills(self):
    command, pids = self.start()
    os.kill(pids[0], signal.SIGKILL)
    status, lines = self.end(command, pids)
    self.assertEqual(status, 2)
    self.assertLen(lines, 1)
    self.assertRegex(
        lines[0], r'killed at .*\.pid or .*\.pid.* memory.*--num_workers'
    )


class BitsTest(corpora_test.Case):
  """Every file is checked when it is read, and named.

  Siblings: every file of both datasets; a bit, a cut, bytes too many, a file
  that is not there; datasets that were written before there were checksums.
  """

  def setUp(self):
    super().setUp()
    self.build(count=3)
    self.tokenize()
    self.expected = self.read()

  def read(self):
    found = []
    for dataset in ('music', 'music_tokens'):
      found.append(datasets.read_metadata(dataset, self.data))
      for split in token_dataset.SPLITS:
        source = datasets.open_dataset(dataset, self.data, split)
        found += [sorted(example.items()) for example in source]
    array = datasets.read_array('music_tokens', self.data, 'mulan_codebooks')
    for split in ('train', 'validation', 'test'):
      crops = datasets.open_dataset('music', self.data, split, ['audio'])
      found += [example['audio'][:].tobytes() for example in crops]
    return repr(found), array.tobytes()

  def damages(self, content, rng):
    for _ in range(4):
      position = rng.randrange(len(content))
      flipped = bytearray(content)
      flipped[position] ^= 1 << rng.randrange(8)
      yield bytes(flipped)
      yield content[:position]
    yield b''
    yield content[:-1]
    yield content + b'\0'

  def test_damage_is_refused_or_harmless(self):
    rng = random.Random(0)
    paths = [p for p in self.data.rglob('*') if p.is_file()]
    self.assertLen(paths, 21)
    num_refused = 0
    for path in paths:
      content = path.read_bytes()
      for damaged in self.damages(content, rng):
        path.write_bytes(damaged)
        try:
          self.assertEqual(self.read(), self.expected)
        except errors.UserError as e:
          self.assertIn(path.name, str(e))
          num_refused += 1
      path.unlink()
      if path.name not in (building.INFO, 'checksums.json'):
        with self.assertRaisesRegex(errors.UserError, path.name):
          self.read()
      path.write_bytes(content)
    self.assertGreater(num_refused, 100)

  def test_datasets_without_checksums_are_read(self):
    for path in self.data.rglob('checksums.json'):
      path.unlink()
    self.assertEqual(self.read(), self.expected)
    path = self.data / 'music/1.0.0/music-test.array_record-00000-of-00001'
    path.write_bytes(path.read_bytes()[:-70000])
    with self.assertRaisesRegex(errors.UserError, path.name):
      self.read()


class DiskTest(corpora_test.Case):
  """A disk that is full, or no place to write to: one line, nothing left.

  Siblings: data and tokenize; a few bytes and most of what is needed; the same
  beside a dataset that is made anew.
  """

  @contextlib.contextmanager
  def space(self, num_bytes):
    """Lets no file grow beyond `num_bytes`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)

  @parameterized.parameters(100, 3000, 100000)
  def test_data(self, num_bytes):
    corpora_test.write_music(self.audio)
    argv = 'data', 'folder', self.audio, '--output', self.data
    with self.space(num_bytes):
      status, said = corpora_test.run(*argv, '--num_workers', 1)
    self.assertEqual(status, 2)
    self.assertLen(said, 1)
    self.assertRegex(said[0], 'music/1.0.0.*the system says: .*File too large')
    self.assertEmpty(self.left())

  @parameterized.parameters(100, 3000, 100000)
  def test_tokenize(self, num_bytes):
    self.build()
    before = self.left()
    with self.space(num_bytes):
      with self.assertRaisesRegex(errors.WriteError, 'File too large'):
        self.tokenize()
    self.assertEqual(self.left(), before)

  def test_overwrite(self):
    self.build()
    before = self.left()
    with self.space(3000), self.assertRaises(errors.WriteError):
      self.build(count=5, overwrite=True)
    self.assertEqual(self.left(), before)
    self.assertLen(datasets.open_dataset('music', self.data, 'train'), 12)

  @parameterized.parameters('', 'below', 'music', 'music/1.0.0')
  def test_a_file_where_a_folder_must_be(self, place):
    corpora_test.write_music(self.audio)
    output = self.dir / 'file' / place if place == 'below' else self.data
    file = self.dir / 'file' if place == 'below' else self.data / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('mine')
    with mock.patch.object(folder, 'read_clips') as reading:
      status, said = corpora_test.run(
          'data', 'folder', self.audio, '--output', output
      )
    self.assertEqual(status, 2)
    self.assertRegex(said[-1], f"'{file}' must be a folder.* is a file")
    reading.assert_not_called()
    self.assertEqual(file.read_text(), 'mine')


if __name__ == '__main__':
  absltest.main()
