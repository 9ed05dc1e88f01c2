"""Grain as the loader of the codec's crops, beside `data.batches`.

Run it by `input_speed.py --grain`. It prints figures, and whether Grain does
what the trainer relies on: batch i is a function of the seed and i, and a run
resumes exactly with another number of workers and hosts.
"""

from collections.abc import Callable
import functools
import itertools
import os
import time
from typing import Any

from absl import flags
from musiclm_jax.data import batches
from musiclm_jax.data import datasets
from musiclm_jax.data import examples
import numpy as np

BATCH_SIZE, LENGTHS = 8, {'audio': 24000}
make = examples.TASKS['music_soundstream']


def _example(record, rng, context):
  return make(record, LENGTHS, rng, **context)


def _cpu() -> float:
  """Returns the CPU seconds of this process and of those that ended."""
  return sum(os.times()[:4])


def _timed(title: str, use: Callable[[], Any]) -> Any:
  wall, cpu = time.perf_counter(), _cpu()
  result = use()
  wall, cpu = time.perf_counter() - wall, _cpu() - cpu
  print(f'{title:44} {wall:7.2f} s, {cpu:6.2f} CPU s', flush=True)
  return result


def _rate(title: str, take: Callable[[int], Any], count: int) -> None:
  wall, cpu = time.perf_counter(), _cpu()
  take(count)
  wall, cpu = time.perf_counter() - wall, _cpu() - cpu
  total = count * BATCH_SIZE
  print(f'{title:44} {total / cpu:7.0f} examples per CPU second', flush=True)


def _holds(title: str, holds: Callable[[], bool]) -> None:
  try:
    told = str(holds())
  except Exception as e:
    told = f'{type(e).__name__}: {e}'.replace('\n', ' ')[:120]
  print(f'{title:60} {told}', flush=True)


def _equal(one: Any, other: Any) -> bool:
  return all(np.array_equal(a['audio'], b['audio']) for a, b in zip(one, other))


def measure(data_dir: str) -> None:
  """Prints what Grain and our loader take, and what they hold to."""
  grain = _timed('import grain', functools.partial(__import__, 'grain'))
  flags.FLAGS.mark_as_parsed()  # Its processes read some.
  context = make.context(data_dir)
  source = datasets.open_dataset(make.dataset, data_dir, 'train', ['audio'])
  crop = functools.partial(_example, context=context)

  def theirs(rows=slice(None)):
    """Returns batches of the rows of a host."""
    dataset = grain.MapDataset.source(source).seed(0).shuffle().repeat()
    dataset = dataset.random_map(crop)
    if rows == slice(None):
      return dataset.batch(BATCH_SIZE)
    return dataset[rows].batch(BATCH_SIZE // rows.step)

  def workers(count, dataset):
    options = grain.MultiprocessingOptions(num_workers=count)
    return iter(dataset.to_iter_dataset().mp_prefetch(options))

  ours = batches.Batches(source, crop, BATCH_SIZE)
  dataset = theirs()
  many = 100
  _rate('ours, by index', lambda n: [ours.batch_at(i) for i in range(n)], many)
  _rate('Grain, by index', lambda n: [dataset[i] for i in range(n)], many)
  first = lambda made: [next(made) for _ in range(3)]
  _rate('ours, in threads', lambda n: [*itertools.islice(ours, n)], many)
  ours.close()
  threads = iter(dataset.to_iter_dataset())
  next(threads)
  _rate('Grain, in threads', lambda n: [*itertools.islice(threads, n)], many)
  ours.position = 0
  _timed('ours, to the first batch', lambda: next(ours))
  ours.close()
  _timed('Grain, to the first batch, threads', lambda: next(
      iter(theirs().to_iter_dataset())))  # fmt: skip
  two = _timed('Grain, to the first batches, 2 processes', lambda: (
      lambda made: (made, first(made)))(workers(2, dataset)))  # fmt: skip
  expected = [dataset[i] for i in range(6)]
  _holds('batch i is a function of seed and i', lambda: _equal(
      expected, [theirs()[i] for i in range(6)]))  # fmt: skip
  _holds('2 processes yield the same batches', lambda: _equal(
      two[1], expected))  # fmt: skip

  def resume(count):
    made = workers(count, dataset)
    made.set_state(two[0].get_state())
    return _equal(first(made), expected[3:])

  state = two[0].get_state()
  print('state of 2 processes:', str(state)[:200])
  _holds('its state resumes in 2 processes', lambda: resume(2))
  _holds('its state resumes in 1 process', lambda: resume(1))

  def skip():
    return _equal(first(workers(1, dataset[3:])), expected[3:])

  _holds('sliced from batch 3 on, 1 process goes on', skip)

  def hosts():
    parts = [theirs(slice(i, None, 2)) for i in range(2)]
    rows = [np.concatenate([p[k]['audio'] for p in parts]) for k in range(3)]
    key = lambda batch: sorted(row.tobytes() for row in batch)
    return all(key(a) == key(b['audio']) for a, b in zip(rows, expected))

  _holds('2 hosts read the rows of 1', hosts)
