"""Tests for audio_files."""

import contextlib
import io
import itertools
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data import audio_files
from musiclm_jax.data import batches
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
import numpy as np

BLOCK = audio_files.BLOCK
LENGTHS = (3 * BLOCK, 8000, 5 * BLOCK + 1, 30000)


def make_clips(count):
  rng = np.random.default_rng(0)
  for i, length in zip(range(count), itertools.cycle(LENGTHS)):
    yield clips.Clip(
        audio=rng.uniform(-1, 1, length).astype(np.float32),
        captions=('a waltz',),
        id=f'{i}/0',
        work=f'{i}',
        title='',
        source='',
    )


def write(data_dir, count=7, **options):
  examples = [(clip.id, clip.to_example()) for clip in make_clips(count)]
  datasets.write_dataset(
      'music',
      data_dir,
      {'train': examples[1:], 'test': examples[:1]},
      corpora.features(),
      metadata={'sample_rate': 24000},
      **options,
  )


def open_audio(data_dir, split='train'):
  return datasets.open_dataset('music', data_dir, split, ['audio'])


def make_batches(data_dir):
  return batches.task_batches(
      'music_soundstream', {'audio': 6000}, 'train', 4, data_dir
  )


class AudioFilesTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.dir = cls.enterClassContext(tempfile.TemporaryDirectory())
    write(cls.dir, is_cropped=True)
    cls.older = cls.enterClassContext(tempfile.TemporaryDirectory())
    write(cls.older)

  def test_slices_are_those_of_the_records(self):
    records = datasets.open_dataset('music', self.dir, 'train')
    audio = open_audio(self.dir)
    self.assertLen(audio, 6)
    for record, example in zip(records, audio, strict=True):
      self.assertEqual(list(example), ['audio'])
      whole, read = record['audio'], example['audio']
      self.assertLen(read, len(whole))
      for start, stop in (
          (0, len(whole)),
          (0, 1),
          (100, 7000),
          (BLOCK - 1, BLOCK + 1),
          (len(whole) - 5, len(whole) + 100),
          (7, 7),
      ):
        np.testing.assert_array_equal(
            read[start:stop], whole[start:stop], strict=True
        )

  def test_refuses_sums_of_slices(self):
    for reads in (None, ['audio']):
      with self.assertRaisesRegex(errors.UserError, 'one slice.*is a sum'):
        split = 'train[:2]+train[3:4]'
        datasets.open_dataset('music', self.dir, split, reads)

  def test_index_out_of_range(self):
    audio = open_audio(self.dir)
    self.assertLen(audio[-1]['audio'], len(audio[5]['audio']))
    with self.assertRaises(IndexError):
      _ = audio[6]

  def test_parts_of_files(self):
    whole = open_audio(self.dir)
    path = next(pathlib.Path(self.dir).rglob('music-train.array_record-*'))
    parts = audio_files.AudioOnly(
        [(str(path), range(4, 6)), (str(path), range(1, 2))], []
    )
    self.assertLen(parts, 3)
    for part, index in zip(parts, (4, 5, 1), strict=True):
      np.testing.assert_array_equal(part['audio'][:], whole[index]['audio'][:])

  @parameterized.parameters((10, 20, 1), (BLOCK - 1, BLOCK + 1, 2))
  def test_a_crop_reads_only_its_blocks(self, start, stop, num_blocks):
    file = audio_files.AudioFile(
        str(next(pathlib.Path(self.dir).rglob('music-train.array_record-*')))
    )
    crc = mock.Mock(wraps=audio_files.google_crc32c)
    with mock.patch.object(audio_files, 'google_crc32c', crc):
      file.read(start, stop)
    read = [len(call.args[0]) for call in crc.value.call_args_list]
    self.assertEqual(read, [2 * BLOCK] * num_blocks)

  def test_batches_are_those_of_an_older_dataset(self):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      older = make_batches(self.older)
    self.assertIn('is of an older version: each crop', stderr.getvalue())
    newer = make_batches(self.dir)
    self.assertEqual(newer.identity, older.identity)
    for one, other in itertools.islice(zip(newer, older), 4):
      np.testing.assert_equal(one, other)
    newer.close()
    older.close()

  @parameterized.parameters('audio', 'audio_index')
  def test_damage_is_named(self, kind):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    write(folder, count=3, is_cropped=True)
    [path] = pathlib.Path(folder).rglob(f'music-train.{kind}-*')
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with self.assertRaisesRegex(
        errors.UserError, f'{path.name} must be .*chan'
    ):
      for example in open_audio(folder):
        _ = example['audio'][:]

  def test_goes_with_the_dataset(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    write(folder, is_cropped=True)
    write(folder, count=4, is_cropped=False, overwrite=True)
    self.assertEmpty([*pathlib.Path(folder).rglob('*.audio*')])


if __name__ == '__main__':
  absltest.main()
