"""Making many pieces: lists, folders that are shared, and what ends a batch."""

import contextlib
import os
import pathlib
import signal
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.sampling import batch
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import prompt_list
from tests.drills import sampling_test
from tests.sampling import batch_test


class BatchDrill(batch_test.BatchTestCase):

  def run_batch(self, *rows, generate=None):
    """Returns the exit status, and what was written to stdout and stderr."""
    prompts = self.dir / 'prompts.jsonl'
    prompts.write_bytes(b'\n'.join(rows))
    if generate is not None:
      self.model.generate = generate
    with mock.patch.object(
        musiclm.MusicLM, 'from_pretrained', return_value=self.model
    ):
      return sampling_test.run(
          'batch', prompts, '--output_dir', self.dir / 'out', '--seconds=0.1'
      )


class ListsTest(BatchDrill):
  """A list's bad line fails alone, and nothing else is blamed on a prompt.

  Siblings: ids that are no names, or another's; numbers and text that are
  none; full disks and memory, before the work and in it.
  """

  @parameterized.named_parameters(
      ('bad_id', b'{"prompt": "a", "id": "a/b"}', 'safe file name'),
      ('long_id', b'{"prompt": "a", "id": "%s"}' % (b'a' * 300), 'safe file'),
      ('taken_id', b'{"prompt": "a", "id": "000001"}', 'ids must differ'),
      ('huge_id', b'{"prompt": "a", "id": 1%s}' % (b'0' * 999), 'safe file'),
      ('no_utf8', b'{"prompt": "\xff"}', 'UTF-8'),
      ('infinite', b'{"prompt": "a", "seconds": Infinity}', 'seconds must be'),
      ('huge', b'{"prompt": "a", "seed": 1%s}' % (b'0' * 999), 'seed must be'),
      ('huger', b'{"prompt": "a", "seed": 1%s}' % (b'0' * 9999), 'JSON'),
      ('deep', b'{"prompt": %s' % (b'[' * 100_000), 'must be JSON'),
      ('endless', b'{"prompt": "%s"}' % (b'a' * 2**20), '10000 characters'),
      ('half', b'{"prompt": "a\\ud800"}', 'must be Unicode'),
      ('takes', b'{"prompt": "a", "best_of": 1000000000}', 'best_of must be'),
      ('control', b'{"prompt": "a\x01"}', 'must be JSON'),
  )
  def test_a_bad_line(self, line, message):
    status, out, _ = self.run_batch(
        b'{"prompt": "a waltz"}', line, b'{"prompt": "a march"}'
    )
    self.assertEqual(status, 1)
    self.assertStartsWith(out, '2 made, 0 skipped, 1 failed')
    [failure] = self.failures('out')
    self.assertEqual(failure['line'], 2)
    self.assertRegex(failure['error'], message)

  def test_a_full_disk_is_no_fault_of_prompts(self):
    write = pathlib.Path.write_bytes

    def full(path, data):
      if any(path.parent.glob('*.wav')):
        raise sampling_test.FULL
      return write(path, data)

    lines = [b'{"prompt": "%d"}' % i for i in range(5)]
    with mock.patch.object(pathlib.Path, 'write_bytes', full):
      status, out, err = self.run_batch(*lines)
    self.assertEqual((status, out), (2, ''))
    self.assertRegex(err, 'No space left on device.* What was made is kept')
    self.assertLen(err.strip().split('musiclm: ')[1:], 1)
    self.assertEqual(
        [path.name for path in (self.dir / 'out').iterdir()], ['000001.wav']
    )
    status, out, _ = self.run_batch(*lines)
    self.assertEqual(status, 0)
    self.assertStartsWith(out, '4 made, 1 skipped, 0 failed')

  def test_a_place_that_cannot_be_written_is_refused_first(self):
    (self.dir / 'out').touch()
    generate = mock.Mock()
    status, _, err = self.run_batch(b'{"prompt": "a"}', generate=generate)
    self.assertEqual(status, 2)
    self.assertRegex(err, 'out.* must be .*but the system says')
    generate.assert_not_called()

  def test_damaged_files_are_reported(self):
    for damage in (lambda data: data[:-50], lambda data: data[:-1] + b'!'):
      self.run_batch(b'{"prompt": "a"}')
      path = self.dir / 'out' / '000001.wav'
      path.write_bytes(damage(path.read_bytes()))
      status, _, err = self.run_batch(b'{"prompt": "a"}')
      self.assertEqual(status, 2)
      self.assertRegex(err, r'000001\.wav is damaged.* Remove')
      path.unlink()


class TwoTest(BatchDrill):
  """Two that make the same shard: the second names the first.

  Siblings: another number of shards of the same list; locks that a killed
  process left.
  """

  def test_the_second_ends(self):
    lines = self.many()
    refusals = []

    class Model(batch_test.FakeModel):

      def generate(model, *args, **kwargs):
        for shard, num_shards in ((0, 1), (1, 3)):
          with self.assertRaises(errors.UserError) as caught:
            batch.Shard(
                lines, self.dir / 'out', {'model': 'm'}, 4,
                shard=shard, num_shards=num_shards,
            ).run(batch_test.FakeModel, progress=False)  # fmt: skip
          refusals.append(str(caught.exception))
        return super().generate(*args, **kwargs)

    self.run_shards('out', lines, model=Model())
    for refusal in refusals:
      self.assertRegex(refusal, rf'`musiclm batch` \(process {os.getpid()} on')
    self.assertLen(batch_test.contents(self.dir / 'out'), 20)

  def test_shards_run_together(self):
    lines = self.many()

    class Model(batch_test.FakeModel):

      def generate(model, *args, **kwargs):
        if not (self.dir / 'out/failed-00001-of-00002.jsonl').exists():
          other = batch.Shard(
              lines, self.dir / 'out', {'model': 'm'}, 4, shard=1, num_shards=2
          )
          with contextlib.suppress(errors.UserError):
            other.run(batch_test.FakeModel, progress=False)
        return super().generate(*args, **kwargs)

    batch.Shard(
        lines, self.dir / 'out', {'model': 'm'}, 4, num_shards=2
    ).run(Model, progress=False)  # fmt: skip
    self.assertLen(batch_test.contents(self.dir / 'out'), 20)

  def test_stale_locks_block_nobody(self):
    lines = self.many()
    (self.dir / 'out').mkdir()
    for name in ('00000-of-00001', '00001-of-00007'):
      (self.dir / 'out' / f'.musiclm-batch-{name}.lock').touch()
    self.run_shards('out', lines)
    self.assertLen(batch_test.contents(self.dir / 'out'), 20)


class SignalsTest(BatchDrill):
  """Ctrl-C and SIGTERM end generate and batch at once, in one line.

  Siblings: while a network is compiled, which lets no Python run; lists with
  lines that failed.
  """

  @parameterized.parameters((signal.SIGINT, 130), (signal.SIGTERM, 143))
  def test_batch(self, signum, expected):
    start = time.monotonic()
    status, out, err = self.run_batch(
        b'{"prompt": ""}',
        b'{"prompt": "b"}',
        generate=sampling_test.interrupted(signum),
    )
    self.assertLess(time.monotonic() - start, 4)
    self.assertEqual((status, out), (expected, ''))
    told = err.split('musiclm: ')[-1]
    self.assertRegex(told, r'^interrupted; what was made is kept in .* go on')
    self.assertEqual([x['line'] for x in self.failures('out')], [1])
    self.assertLen(list((self.dir / 'out').iterdir()), 1)


class BoundsTest(BatchDrill):
  """What is asked for is bounded before memory is.

  Siblings: batches, shards, lists, and lists that are no files.
  """

  @parameterized.parameters(
      ({'batch_size': 10**9}, 'batch_size must be at most'),
      ({'num_shards': 10**9}, 'num_shards must be at most'),
  )
  def test_batches(self, options, message):
    with self.assertRaisesRegex(errors.UserError, message):
      batch.Shard([], self.dir, {}, **options)

  @parameterized.parameters('fifo.txt', 'folder.txt', 'loop.txt', 'null.txt')
  def test_lists_that_are_no_files(self, name):
    path = self.dir / name
    match name.split('.')[0]:
      case 'fifo':
        os.mkfifo(path)
      case 'folder':
        path.mkdir()
      case 'loop':
        path.symlink_to(path)
      case 'null':
        path.symlink_to('/dev/zero')
    with self.assertRaisesRegex(errors.UserError, f'{name}.* must be a list'):
      prompt_list.read(path, {})

  def test_lists_that_are_endless(self):
    path = self.dir / 'prompts.txt'
    path.write_bytes(b'\n' * 1_000_001)
    with self.assertRaisesRegex(errors.UserError, 'at most 1000000 lines'):
      prompt_list.read(path, {})
    os.truncate(path, 1 << 40)
    with self.assertRaisesRegex(errors.UserError, 'of at most .* bytes'):
      prompt_list.read(path, {})


if __name__ == '__main__':
  absltest.main()
