"""Drills of making corpora from the files of users."""

import contextlib
import functools
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import cli
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.data import builder
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.data import records
import numpy as np
import pytest
import soundfile
from tests.data import records_test

ROOT = pathlib.Path(__file__).parents[2]


def run(*argv):
  """Returns the status of a command, and the lines that it says."""
  stderr = io.StringIO()
  with contextlib.redirect_stderr(stderr):
    try:
      status = cli.main([str(arg) for arg in argv])
    except SystemExit as e:  # How argparse leaves.
      status = e.code
  lines = re.split(r'[\r\n]+', stderr.getvalue())
  said = [line for line in lines if 'musiclm' in line]
  return status, [line[line.index('musiclm') :] for line in said]


def write_music(path, count=8):
  """Writes a folder of short pieces."""
  path.mkdir()
  time = np.arange(36000) / 24000
  for i in range(count):
    tone = 0.3 * np.sin(2 * np.pi * (220 + 20 * i) * time)
    soundfile.write(path / f'{i}.wav', tone, 24000)


def read(work, bad=(), silent=()):
  """Yields two clips, or what is wrong with them."""
  if work in bad:
    raise errors.UserError(f'{work}.wav must be a wav file, but is none.')
  for i in range(2):
    if work in silent:
      yield clips.LeftOut(f'{work}.wav at {i} s', 'silent')
    else:
      audio = np.random.default_rng(i).uniform(-0.3, 0.3, clips.SAMPLE_RATE)
      audio = audio.astype(np.float32)
      yield clips.Clip(audio, ('a tone',), f'{work}/{i}', work, work, 'test')


def name(work):
  return work


class Case(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.audio, self.data = self.dir / 'audio', self.dir / 'data'

  def build(self, count=8, **options):
    """Builds a corpus of works '0' to `count`; returns what is said."""
    stderr = io.StringIO()
    works = [str(i) for i in range(count)]
    options = {'num_workers': 1, 'read': read} | options
    with contextlib.redirect_stderr(stderr):
      corpora.build_corpus(works, work_name=name, data_dir=self.data, **options)
    return stderr.getvalue()

  def tokenize(self, **options):
    with mock.patch.object(records, 'load_tokenizers') as load:
      load.return_value = records_test.make_tokenizers()
      return records.tokenize_corpus(self.data, 'model', **options)

  def left(self):
    """Returns all that is there of datasets."""
    return sorted(
        p.relative_to(self.data).as_posix()
        for p in self.data.rglob('*')
        if p.is_file()
    )


class LeftOutTest(Case):
  """Nothing is left out without saying so.

  Siblings: files that the source left out, works that are skipped, clips of a
  work, works without any clip; a corpus that is too small for it.
  """

  def test_every_corpus_ends_with_an_account(self):
    write_music(self.audio)
    (self.audio / 'broken.wav').write_bytes(b'no audio')
    status, said = run(
        'data', 'folder', self.audio, '--output', self.data, '--skip_bad',
        '--num_workers', 1,
    )  # fmt: skip
    self.assertEqual(status, 0)
    account = said.index('musiclm: read 8, left out 1:')
    self.assertRegex('\n'.join(said[:account]), 'left out: .*broken.wav must')
    self.assertRegex(said[account + 1], 'musiclm:   1 .*: broken.wav')

  def test_one_line_for_each_kind(self):
    notes = [(f'{i}.pdf', 'no audio') for i in range(15)]
    said = self.build(
        left_out=[*notes, ('b.mid', 'a score')],
        read=functools.partial(read, silent=('3',), bad=('5',)),
        skip_bad=True,
    )
    self.assertRegex(said, 'left out: 5.wav must be a wav file')
    self.assertEndsWith(
        said,
        'musiclm: read 6, left out 19:\n'
        'musiclm:   15 no audio: 0.pdf, 1.pdf, 2.pdf … and 12 more\n'
        'musiclm:   1 a score: b.mid\n'
        'musiclm:   1 not readable, as said above: 5\n'
        'musiclm:   2 silent: 3.wav at 0 s, 3.wav at 1 s\n',
    )

  def test_too_few_are_told_with_what_is_missing(self):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      with self.assertRaisesRegex(ValueError, 'at least 3 works.* but has 2'):
        corpora.build_corpus(
            ['a', 'b'], read, name, self.data, left_out=[('c.xyz', 'no audio')]
        )
    self.assertIn('1 no audio: c.xyz', stderr.getvalue())

  @parameterized.parameters('validation', 'test')
  def test_a_whole_split_of_bad_works_is_drawn_anew(self, split):
    works = [str(i) for i in range(8)]
    splits = corpora.split_works(works, name, corpora.HELD_OUT)
    bad = tuple(splits[split])
    said = self.build(read=functools.partial(read, bad=bad), skip_bad=True)
    self.assertIn('read 7, left out 1:', said)
    found = [
        example['work']
        for split in splits
        for example in datasets.open_dataset('music', self.data, split)
    ]
    self.assertCountEqual(found, 2 * sorted({*works} - {*bad}))

  def test_clips_of_the_same_name_are_refused(self):
    def read_twice(work):
      for clip in read(work):
        yield clips.Clip(**{**vars(clip), 'id': f'{work}/0'})

    with self.assertRaisesRegex(errors.UserError, 'two are .[0-7]/0'):
      self.build(read=read_twice)


class UserFilesTest(Case):
  """What a user has is never deleted.

  Siblings: folders, files and links that look like leftovers, files among those
  of a dataset; when it is built, built anew, fails or was killed.
  """

  def put(self):
    """Puts a user's own things where datasets are; returns their contents."""
    music = self.data / 'music'
    for path in (
        'incomplete_notes/lyrics.txt', 'my incomplete songs.txt',
        'incomplete.ABCDEF_mine/a.txt', '.musiclm-notes/a.txt', '1.0.0/a.txt',
        '1.0.0/music-train.array_record.bak',
        '1.0.0/notes/b.txt',
    ):  # fmt: skip
      (music / path).parent.mkdir(parents=True, exist_ok=True)
      (music / path).write_text(path)
    elsewhere = self.dir / 'elsewhere'
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / 'song.txt').write_text('song')
    link = music / f'incomplete.ABCDEF_{builder.VERSION}'
    link.symlink_to(elsewhere)
    return self.contents()

  def contents(self):
    return {
        str(p): p.read_text()
        for p in self.dir.rglob('*')
        if p.suffix in ('.txt', '.bak')
    }

  def test_a_build_deletes_nothing_of_a_user(self):
    before = self.put()
    self.build()
    self.assertEqual(self.contents(), before)
    self.build(count=5, overwrite=True)
    self.assertEqual(self.contents(), before)
    self.assertLen(datasets.open_dataset('music', self.data, 'train'), 6)

  def test_neither_does_one_that_fails(self):
    before = self.put()
    with self.assertRaises(errors.UserError):
      self.build(read=functools.partial(read, bad=('3',)))
    self.assertEqual(self.contents(), before)
    self.assertFalse(datasets.dataset_exists('music', self.data))

  def test_a_failed_overwrite_leaves_what_was_there(self):
    self.build()
    with self.assertRaises(errors.UserError):
      self.build(read=functools.partial(read, bad=('3',)), overwrite=True)
    self.assertLen(datasets.open_dataset('music', self.data, 'train'), 12)

  def test_a_damaged_dataset_is_made_anew(self):
    self.build()
    for path in (self.data / 'music/1.0.0').iterdir():
      path.write_bytes(b'?')
    self.build(overwrite=True)
    self.assertLen(datasets.open_dataset('music', self.data, 'train'), 12)


class WordsTest(Case):
  """Never silent for long, nothing that is not ours, and flags by name."""

  def test_data_prints_nothing_else(self):
    write_music(self.audio, 4)
    (self.audio / '0.wav').write_bytes(b'no audio')
    output = subprocess.run(
        [
            sys.executable, '-m', 'musiclm_jax.cli', 'data', 'folder',
            str(self.audio), '--output', str(self.data), '--skip_bad',
            '--num_workers', '2',
        ],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    self.assertEqual(output.returncode, 0)
    self.assertEmpty(output.stdout)
    lines = re.split(r'[\r\n]+', output.stderr)
    bar = r'(train|validation|test): .*work.*\]'
    for line in lines:
      self.assertRegex(line, rf'^({bar})?\s*(musiclm: .*)?$')

  @pytest.mark.slow  # Imports TensorFlow.
  def test_neither_does_a_split_that_is_too_large_for_memory(self):
    program = f"""
import sys
from musiclm_jax import cli
from musiclm_jax.data import datasets
from tensorflow_datasets.core import shuffle
datasets._IN_MEMORY = shuffle.MAX_MEM_BUFFER_SIZE = 100000
argv = 'data', 'folder', {str(self.audio)!r}, '--output', {str(self.data)!r}
sys.exit(cli.main([*argv, '--num_workers', '1']))
"""
    write_music(self.audio)
    output = subprocess.run(
        [sys.executable, '-c', program],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    self.assertEqual(output.returncode, 0, output.stderr)
    self.assertNotRegex(output.stderr, 'absl|CUDA|cuda|oneDNN')
    self.assertIn('musiclm: read 8, left out 0', output.stderr)
    self.assertLen(datasets.open_dataset('music', self.data, 'train'), 6)

  def test_it_says_what_it_does(self):
    told = []

    def telling(what, patience=0.0):
      del patience
      told.append(what)
      return contextlib.nullcontext()

    with mock.patch.object(progress, 'telling', telling):
      self.build()
      self.tokenize()
    for what in ('writing .*train.* of .music', 'tokenizing the first clips'):
      self.assertRegex('\n'.join(told), what)

  def test_what_exists_is_made_anew_by_a_flag(self):
    write_music(self.audio)
    argv = 'data', 'folder', self.audio, '--output', self.data
    argv += '--num_workers', 1
    run(*argv)
    shutil.rmtree(self.audio)
    write_music(self.audio, 4)
    status, said = run(*argv)
    self.assertEqual(status, 0)
    self.assertRegex(said[-1], 'nothing to do without --overwrite')
    status, said = run(*argv, '--overwrite')
    self.assertRegex(said[-1], 'read 4, left out 0')

  def test_tokens_are_made_anew_by_a_flag(self):
    self.build()
    self.assertTrue(self.tokenize())
    self.assertFalse(self.tokenize())
    self.assertTrue(self.tokenize(overwrite=True))

  def test_tokens_must_have_all_that_a_model_writes(self):
    self.build()
    self.tokenize()
    path = self.data / 'music_tokens/1.0.0/metadata.json'
    metadata = json.loads(path.read_text())
    for sha256 in (None, 'e' * 64):
      metadata['lineage']['melody'] = sha256
      if sha256 is None:
        del metadata['lineage']['melody'], metadata['lineage']['mulan']
      path.write_text(json.dumps(metadata))
      (path.parent / 'checksums.json').unlink(missing_ok=True)
      with self.assertRaisesRegex(errors.UserError, '--overwrite'):
        self.tokenize()
      metadata['lineage']['mulan'] = 'c' * 64

  @parameterized.parameters(
      ('--num_workers=0', '--num_workers: must be a whole .* 1, but is 0'),
      ('--num_workers=-1', '--num_workers: must be a whole .* 1, but is -1'),
      ('--num_workers=many', '--num_workers: must be a whole .* is many'),
      ('--clip_seconds=long', '--clip_seconds: must be .* but is long'),
      ('--clip_seconds=0.5', 'clip_seconds must be from 1 to 30'),
      ('--colour=blue', 'one that --help lists, but got --colour=blue'),
      ('--runner=Foo', "--runner must be one of Beam, but is 'Foo'"),
  )
  def test_flags(self, flag, message):
    write_music(self.audio)
    status, said = run(
        'data', 'folder', self.audio, '--output', self.data, flag
    )
    self.assertEqual(status, 2)
    self.assertRegex(said[-1], message)
    self.assertFalse(self.data.exists())


if __name__ == '__main__':
  absltest.main()
