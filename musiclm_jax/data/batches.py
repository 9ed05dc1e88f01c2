"""Batches of training examples, at any position, in any process.

Both classes have the same interface: an iterator of dicts of arrays, endless or
one epoch long, whose `position` can be read and set to resume exactly. Each
process makes the rows that its devices hold: all of them, until `place` says
otherwise.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import functools
import hashlib
import json
import re
from typing import Any

import jax
from musiclm_jax import errors
from musiclm_jax import machine
from musiclm_jax import muting
from musiclm_jax import progress
from musiclm_jax.data import datasets
from musiclm_jax.data import mixtures
import numpy as np

# Threads: reading and resampling release the interpreter's lock.
NUM_WORKERS = min(8, machine.num_cpus())
NUM_PREFETCHED = 4
NUM_HASHED = 8  # Number of records whose hash identifies a source.

Batch = dict[str, np.ndarray]


def _as_bytes(value: Any) -> bytes:
  """Returns bytes that identify a record."""
  if isinstance(value, Mapping):
    return b''.join(
        name.encode() + _as_bytes(x) for name, x in sorted(value.items())
    )
  if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
    return value.tobytes()
  # Of other values, only the type is the same in every process.
  return json.dumps(value, default=lambda x: type(x).__name__).encode()


class Batches(Iterator[Batch]):
  """Batches of a source with random access.

  Batch i is a function of (seed, i) alone. Threads make the next few batches
  while one is in use.

  Attributes:
    batch_size: Rows of a batch over all processes.
    position: Position of the next batch; may be set.
    identity: Hash of some records, which identifies them wherever they are.
  """

  def __init__(
      self,
      source: Sequence[Any],
      make_example: Callable[[Any, np.random.Generator], Mapping[str, Any]],
      batch_size: int,
      seed: int = 0,
      shuffle: bool = True,
  ):
    """Initializes at position 0.

    Args:
      source: The records.
      make_example: Makes arrays of fixed shapes from a record; draws random
        choices, e.g. of a crop, from the generator.
      batch_size: Rows of a batch over all processes.
      seed: Seed of the order and the crops.
      shuffle: Whether to continue forever, in another order every epoch, or to
        end after one epoch in the order of the source, with the last batch
        filled up from the start.

    Raises:
      UserError: If the source is empty or the batch size does not fit.
    """
    if not len(source):
      raise errors.UserError(
          'the source of batches must hold records, but is empty.'
      )
    if batch_size < 1:
      raise errors.UserError(
          f'batch_size must be at least 1, but is {batch_size}.'
      )
    self._source = source
    self._make_example = make_example
    self.batch_size = batch_size
    self._rows: Sequence[int] = range(batch_size)
    self._seed = seed
    self._shuffle = shuffle
    self._order: tuple[int, np.ndarray | range] = (-1, range(len(source)))
    self._position = 0
    self._pending: deque[futures.Future[Batch]] = deque()
    self._workers: futures.ThreadPoolExecutor | None = None

  @property
  def position(self) -> int:
    return self._position

  @position.setter
  def position(self, position: int) -> None:
    self._cancel()
    self._position = position

  def place(self, rows_of_processes: Sequence[Sequence[int]]) -> None:
    """Sets the rows of a batch that each process makes, in that order."""
    self._cancel()
    self._rows = rows_of_processes[jax.process_index()]

  @functools.cached_property
  def identity(self) -> str:
    # However they are read, they are the same.
    source = getattr(self._source, 'records', self._source)
    count = len(source)
    digest = hashlib.sha256()
    for index in np.unique(np.linspace(0, count - 1, NUM_HASHED, dtype=int)):
      digest.update(_as_bytes(source[int(index)]))
    return f'{count} records, sha256 {digest.hexdigest()[:12]}'

  def batch_at(self, position: int) -> Batch:
    """Returns this process's rows of the batch at `position`."""
    rows = [self._example_at(position, row) for row in self._rows]
    return {name: np.stack([r[name] for r in rows]) for name in rows[0]}

  def __next__(self) -> Batch:
    if self._is_over(self._position):
      raise StopIteration
    if self._workers is None:
      self._workers = futures.ThreadPoolExecutor(NUM_WORKERS)
    while len(self._pending) < NUM_PREFETCHED:
      following = self._position + len(self._pending)
      if self._is_over(following):
        break
      self._pending.append(self._workers.submit(self.batch_at, following))
    batch = self._pending.popleft().result()
    self._position += 1
    return batch

  def close(self) -> None:
    """Ends the threads; the next batch starts new ones."""
    self._cancel()
    if self._workers is not None:
      self._workers.shutdown()
      self._workers = None

  def _cancel(self) -> None:
    for future in self._pending:
      future.cancel()
    self._pending.clear()

  def _is_over(self, position: int) -> bool:
    return not self._shuffle and (
        position * self.batch_size >= len(self._source)
    )

  def _order_of(self, epoch: int) -> np.ndarray | range:
    if not self._shuffle:
      return self._order[1]
    known_epoch, order = self._order  # Read once, as threads replace it.
    if known_epoch != epoch:
      rng = np.random.default_rng((self._seed, epoch))
      order = rng.permutation(len(self._source))
      self._order = (epoch, order)
    return order

  def _example_at(self, position: int, row: int) -> Mapping[str, Any]:
    epoch, index = divmod(position * self.batch_size + row, len(self._source))
    record = self._source[int(self._order_of(epoch)[index])]
    rng = np.random.default_rng((self._seed, position, row))
    return self._make_example(record, rng)


def task_batches(
    task: str,
    feature_lengths: Mapping[str, int],
    split: str,
    batch_size: int,
    data_dir: str,
    seed: int = 0,
    shuffle: bool = True,
    options: Mapping[str, Any] | None = None,
    module: str | None = None,
) -> Batches:
  """Returns the batches of a task or mixture, read without TensorFlow.

  Args:
    task: Name in `mixtures`.
    feature_lengths: Length of each feature of an example.
    split: Split of the task's dataset, e.g. 'train'.
    batch_size: Rows of a batch over all processes.
    data_dir: Folder of the datasets, except those of further corpora.
    seed: Seed of the order and the crops.
    shuffle: See `Batches`.
    options: Options of the task; see the `context` of each of `examples.TASKS`.
    module: Module that adds corpora and mixtures.

  Raises:
    UserError: If there is no such task or split, or if the tokens of corpora
      are of different tokenizers.
    NotFoundError: If there is no such dataset.
  """
  # It is made of batches itself.
  from musiclm_jax.data import mixing  # pylint: disable=g-import-not-at-top

  mixtures.import_module(module)
  rates = mixtures.get_rates(task)
  mixtures.check_lineage(task, data_dir)
  opened = {
      name: _open(name, feature_lengths, split, data_dir, options or {})
      for name in sorted(rates)  # As seqio does.
  }
  if len(opened) == 1:
    return Batches(*opened.popitem()[1], batch_size, seed, shuffle)
  sources, make_examples = zip(*opened.values())
  shares = [rates[name] for name in opened]
  return mixing.MixtureBatches(
      sources, make_examples, shares, batch_size, seed, shuffle
  )


def _open(
    name: str,
    feature_lengths: Mapping[str, int],
    split: str,
    data_dir: str,
    options: Mapping[str, Any],
) -> tuple[Sequence[Any], Callable[[Any, np.random.Generator], Any]]:
  """Returns the records of a task, and what makes an example of one."""
  task = mixtures.get_task(name)
  make, folder = task.make, task.data_dir or data_dir
  context = make.context(folder, **options)
  return (
      datasets.open_dataset(make.dataset, folder, split, make.reads(**context)),
      lambda record, rng: make(record, feature_lengths, rng, **context),
  )


class SeqioBatches(Iterator[Batch]):
  """Batches of a seqio task or mixture; needs TensorFlow.

  Attributes:
    batch_size: Rows of a batch over all processes.
    position: Position of the next batch; setting it reads all before.
  """

  def __init__(
      self,
      mixture_or_task_name: str,
      feature_lengths: Mapping[str, int],
      split: str,
      batch_size: int,
      seed: int = 0,
      shuffle: bool = True,
      use_cached: bool = False,
      module: str | None = None,
  ):
    """Initializes at position 0.

    Args:
      mixture_or_task_name: Registered name of a mixture or task.
      feature_lengths: Length of each feature of an example.
      split: Split of the task.
      batch_size: Rows of a batch over all processes.
      seed: Seed of the order and the crops.
      shuffle: Whether to continue forever, shuffled, or to end after one epoch.
      use_cached: Whether to read the cache of `seqio.cache_tasks_main`.
      module: Module that registers the task, unless it is in
        `musiclm_jax.tasks.music`.
    """
    with progress.telling('importing TensorFlow and seqio'):
      with muting.importing_tensorflow():
        import seqio  # pylint: disable=g-import-not-at-top

        for name in ('musiclm_jax.tasks.music', module):
          mixtures.import_module(name)
    self.batch_size = batch_size
    self._make_dataset = functools.partial(
        seqio.get_mixture_or_task(mixture_or_task_name).get_dataset,
        feature_lengths,
        split=split,
        shuffle=shuffle,
        seed=seed,
        use_cached=use_cached,
        num_epochs=None if shuffle else 1,
    )
    self._is_endless = shuffle
    self._shard_info = seqio.ShardInfo
    self._position = 0
    self.place([range(batch_size)] * jax.process_count())

  def place(self, rows_of_processes: Sequence[Sequence[int]]) -> None:
    """Sets the rows of a batch that each process makes.

    Processes with the same rows read the same shard of the data.

    Args:
      rows_of_processes: Indices of the rows of each process.

    Raises:
      UserError: If two processes share some of their rows, but not all.
    """
    shards = sorted(set(map(tuple, rows_of_processes)))
    sizes = {len(rows) for rows in shards}
    if len(sizes) > 1 or sum(map(len, shards)) != self.batch_size:
      raise errors.UserError(
          'a seqio task must be read by processes that hold the same rows of a'
          ' batch, or none in common, but on this mesh some share a part. Set'
          ' num_model_partitions to a divisor of the devices of a process, or'
          ' a multiple.'
      )
    mine = tuple(rows_of_processes[jax.process_index()])
    if self._is_endless:
      self._shard = self._shard_info(shards.index(mine), len(shards))
      self._size, self._rows = len(mine), np.arange(len(mine))
    else:
      # Shards may have different numbers of batches, and a process that is done
      # would leave the others waiting: each reads all, and takes its rows.
      self._shard = None
      self._size, self._rows = self.batch_size, np.array(mine)
    self.position = self._position

  @property
  def position(self) -> int:
    return self._position

  @position.setter
  def position(self, position: int) -> None:
    self._position = position
    # A second pass over the same dataset would be in another order.
    self._iterator: Iterator[Batch] | None = None

  def _open(self) -> Iterator[Batch]:
    dataset = self._make_dataset(shard_info=self._shard)
    dataset = dataset.batch(self._size).skip(self._position)
    return dataset.as_numpy_iterator()

  def __next__(self) -> Batch:
    batch = self._read()
    self._position += 1
    # The last batch of an epoch is filled up with its own rows.
    rows = self._rows % len(next(iter(batch.values())))
    return {name: x[rows] for name, x in batch.items()}

  def _read(self) -> Batch:
    if self._iterator is None:
      self._iterator = self._open()
    try:
      return next(self._iterator)
    except StopIteration:
      raise
    except Exception as e:
      # TensorFlow wraps our errors in its own.
      told = re.search(r'UserError: (.*)', str(e))
      if isinstance(e, errors.UserError) or told is None:
        raise
      raise errors.UserError(told[1]) from e

  def close(self) -> None:
    """Does nothing: TensorFlow ends its own threads."""
