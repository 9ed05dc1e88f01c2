"""Tests for mixing."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import mixing
import numpy as np


def make_mixture(seed=0, shuffle=True, sizes=(7, 40), rates=(2, 1)):
  """Mixes records (task, index); examples have a random number, too."""

  def make_example(record, rng):
    return {'record': np.array(record), 'crop': rng.integers(1 << 30)}

  sources = [[(t, i) for i in range(size)] for t, size in enumerate(sizes)]
  return mixing.MixtureBatches(
      sources, [make_example] * len(sizes), rates, 4, seed, shuffle
  )


def take(iterator, count):
  rows = [b['record'] for b in itertools.islice(iterator, count)]
  return np.concatenate(rows)


class ScheduleTest(parameterized.TestCase):

  @parameterized.parameters(
      ((2, 1), [2, 1]),
      ((0.5, 0.25), [2, 1]),
      ((1.0,), [1]),
      ((0.7, 0.2, 0.1), [7, 2, 1]),
      ((1, 999), [1, 999]),
  )
  def test_blocks_are_the_smallest_that_fit(self, rates, expected):
    np.testing.assert_array_equal(mixing.Schedule(rates).counts, expected)

  @parameterized.parameters((np.pi, 1), (0.013, 3.7), (1e-3, 1))
  def test_rates_are_right_to_a_thousandth(self, *rates):
    counts = mixing.Schedule(rates).counts
    shares = np.array(rates) / sum(rates)
    np.testing.assert_allclose(counts / counts.sum(), shares, rtol=1e-3)

  def test_rejects_a_rate_that_is_too_small(self):
    with self.assertRaisesRegex(ValueError, 'at least about 1/10000.*1e-06'):
      mixing.Schedule((1, 1e-6))

  def test_every_example_of_a_task_comes_in_turn(self):
    schedule = mixing.Schedule((7, 2, 1), seed=3)
    found = [schedule.locate(i) for i in range(100)]
    for task, count in enumerate((70, 20, 10)):
      indices = [index for t, index in found if t == task]
      self.assertEqual(indices, list(range(count)))

  @parameterized.parameters(((7, 40),), ((40, 3),), ((1, 1),))
  def test_ends_when_a_task_has_no_more(self, sizes):
    schedule = mixing.Schedule((2, 1), seed=1)
    length = schedule.length(sizes)
    for i in range(length):
      task, index = schedule.locate(i)
      self.assertLess(index, sizes[task])
    task, index = schedule.locate(length)
    self.assertEqual(index, sizes[task])


class MixtureBatchesTest(parameterized.TestCase):

  def test_two_to_one_over_3000_examples(self):
    tasks = take(make_mixture(), 750)[:, 0]
    np.testing.assert_array_equal(np.bincount(tasks), [2000, 1000])

  def test_every_epoch_of_a_task_has_each_record_once_in_another_order(self):
    records = take(make_mixture(), 30)
    first, second = records[records[:, 0] == 0][:14, 1].reshape(2, 7)
    np.testing.assert_array_equal(np.sort(first), np.arange(7))
    np.testing.assert_array_equal(np.sort(second), np.arange(7))
    self.assertFalse(np.array_equal(first, second))

  @parameterized.parameters(1, 17)
  def test_goes_on_from_any_position(self, position):
    expected = list(itertools.islice(make_mixture(seed=3), 20))
    resumed = make_mixture(seed=3)
    resumed.position = position
    for batch in expected[position:]:
      np.testing.assert_equal(next(resumed), batch)

  def test_any_position_is_at_hand(self):
    iterator = make_mixture()
    iterator.position = 10**12
    self.assertLen(next(iterator)['record'], 4)

  def test_seed_changes_order_and_crops(self):
    one, other = (next(make_mixture(seed=seed)) for seed in (0, 1))
    self.assertFalse(np.array_equal(one['record'], other['record']))
    self.assertFalse(np.array_equal(one['crop'], other['crop']))

  def test_without_shuffling_records_come_in_order_once(self):
    rows = [b['record'] for b in make_mixture(shuffle=False)]
    length = mixing.Schedule((2, 1)).length((7, 40))
    self.assertLen(rows, -(-length // 4))
    records = np.concatenate(rows)[:length]
    for task in range(2):
      indices = records[records[:, 0] == task][:, 1]
      np.testing.assert_array_equal(indices, np.arange(len(indices)))

  def test_identity_is_that_of_all_records(self):
    self.assertEqual(make_mixture().identity, make_mixture(seed=1).identity)
    self.assertNotEqual(
        make_mixture().identity, make_mixture(sizes=(7, 41)).identity
    )

  def test_rejects_an_empty_source(self):
    with self.assertRaisesRegex(ValueError, 'must hold records'):
      make_mixture(sizes=(3, 0))


if __name__ == '__main__':
  absltest.main()
