"""Tests for batches."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import batches
import numpy as np


def make_example(record, rng):
  return {'index': np.int32(record), 'crop': rng.integers(1 << 30)}


def make_batches(count=10, batch_size=4, **kwargs):
  return batches.Batches(range(count), make_example, batch_size, **kwargs)


def take(iterator, count):
  return list(itertools.islice(iterator, count))


class BatchesTest(parameterized.TestCase):

  def test_every_epoch_has_each_record_once_in_another_order(self):
    rows = np.concatenate([b['index'] for b in take(make_batches(), 5)])
    first, second = rows[:10], rows[10:]
    np.testing.assert_array_equal(np.sort(first), np.arange(10))
    np.testing.assert_array_equal(np.sort(second), np.arange(10))
    self.assertFalse(np.array_equal(first, second))

  @parameterized.parameters(0, 1, 7)
  def test_goes_on_from_any_position(self, position):
    expected = take(make_batches(seed=3), 10)
    resumed = make_batches(seed=3)
    resumed.position = position
    for batch in expected[position:]:
      np.testing.assert_equal(next(resumed), batch)
    self.assertEqual(resumed.position, 10)

  def test_position_can_go_back_while_batches_are_prefetched(self):
    iterator = make_batches()
    first = take(iterator, 3)
    iterator.position = 0
    np.testing.assert_equal(take(iterator, 3), first)

  def test_seed_changes_order_and_crops(self):
    one, other = (next(make_batches(seed=seed)) for seed in (0, 1))
    self.assertFalse(np.array_equal(one['index'], other['index']))
    self.assertFalse(np.array_equal(one['crop'], other['crop']))

  def test_a_record_is_cropped_anew_every_epoch(self):
    crops = [b['crop'][0] for b in take(make_batches(1, 1), 8)]
    self.assertLen(set(crops), 8)

  def test_without_shuffling_ends_after_one_full_epoch(self):
    iterator = make_batches(shuffle=False)
    rows = [b['index'].tolist() for b in iterator]
    self.assertEqual(rows, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]])
    iterator.position = 0
    self.assertLen(list(iterator), 3)

  def test_an_error_in_an_example_is_raised(self):
    def fail(record, rng):
      raise ValueError(f'record {record} is bad')

    iterator = batches.Batches([7], fail, 1)
    with self.assertRaisesRegex(ValueError, 'record 7 is bad'):
      next(iterator)

  def test_goes_on_after_close(self):
    iterator = make_batches()
    expected = take(make_batches(), 2)
    np.testing.assert_equal(next(iterator), expected[0])
    iterator.close()
    np.testing.assert_equal(next(iterator), expected[1])

  def test_rejects_an_empty_source(self):
    with self.assertRaisesRegex(ValueError, 'must hold records'):
      make_batches(count=0)

  def test_rejects_an_unknown_task(self):
    with self.assertRaisesRegex(ValueError, 'music_semantic.*music_semantik'):
      batches.task_batches('music_semantik', {}, 'train', 1, '/nowhere')

  def test_each_process_makes_the_rows_it_holds(self):
    whole = next(make_batches())
    rows_of_processes = [(0, 3), (1, 2), (0, 3)]
    for index, rows in enumerate(rows_of_processes):
      part = make_batches()
      next(part)
      with absltest.mock.patch.object(
          batches.jax, 'process_index', lambda i=index: i
      ):
        part.place(rows_of_processes)
      part.position = 0
      for name, values in next(part).items():
        np.testing.assert_array_equal(values, whole[name][list(rows)])

  def test_rejects_a_batch_without_rows(self):
    with self.assertRaisesRegex(ValueError, 'at least 1, but is 0'):
      make_batches(batch_size=0)


class SeqioBatchesTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    import seqio
    import tensorflow as tf

    def read(split, shuffle_files, seed=None):
      del split, shuffle_files, seed
      return tf.data.Dataset.range(10).map(lambda i: {'index': i[None]})

    cls.task = 'batches_test'
    seqio.TaskRegistry.add(
        cls.task,
        source=seqio.FunctionDataSource(read, splits=['train']),
        preprocessors=[],
        output_features={
            'index': seqio.Feature(
                seqio.PassThroughVocabulary(10),
                add_eos=False,
                rank=1,
                dtype=tf.int64,
            )
        },
    )
    cls.addClassCleanup(seqio.TaskRegistry.remove, cls.task)

  def make_batches(self, **kwargs):
    return batches.SeqioBatches(
        self.task, {'index': 1}, 'train', 4, module='seqio', **kwargs
    )

  @parameterized.parameters(1, 6)
  def test_goes_on_from_any_position(self, position):
    expected = take(self.make_batches(), 8)
    resumed = self.make_batches()
    resumed.position = position
    for batch in expected[position:]:
      np.testing.assert_equal(next(resumed), batch)
    self.assertEqual(resumed.position, 8)

  def test_processes_that_share_rows_read_the_same_shard(self):
    def read(index, rows_of_processes):
      part = self.make_batches()
      with absltest.mock.patch.object(
          batches.jax, 'process_index', lambda: index
      ):
        part.place(rows_of_processes)
      return [b['index'][:, 0].tolist() for b in take(part, 2)]

    rows_of_processes = [(0, 1), (0, 1), (2, 3)]
    one, same, other = (read(i, rows_of_processes) for i in range(3))
    self.assertEqual(one, same)
    self.assertEmpty({*sum(one, [])} & {*sum(other, [])})
    with self.assertRaisesRegex(ValueError, 'share a part'):
      read(0, [(0, 1, 2), (2, 3, 0)])

  def test_processes_have_as_many_batches_of_an_epoch(self):
    def read(index):
      part = self.make_batches(shuffle=False)
      with absltest.mock.patch.object(
          batches.jax, 'process_index', lambda: index
      ):
        part.place([(0, 1), (2, 3)])
      return [batch['index'][:, 0].tolist() for batch in part]

    self.assertEqual(read(0), [[0, 1], [4, 5], [8, 9]])
    self.assertEqual(read(1), [[2, 3], [6, 7], [8, 9]])

  def test_without_shuffling_ends_after_one_full_epoch(self):
    rows = [b['index'][:, 0].tolist() for b in self.make_batches(shuffle=False)]
    self.assertEqual(rows, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 8, 9]])


if __name__ == '__main__':
  absltest.main()
