"""Mixes examples of several tasks at fixed rates, with random access."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

from musiclm_jax import errors
from musiclm_jax.data import batches
import numpy as np

_TOLERANCE = 1e-3  # Relative error of a rate.
_MAX_BLOCK = 10_000
_ENDLESS = 1 << 60


class Schedule:
  """The task of each example of a mixture.

  Examples come in blocks, the smallest in which every rate is right to a
  thousandth. Each block has the same number of examples of a task, in random
  order. So the first n examples, for any n, have the right mixture.

  Attributes:
    counts: [tasks] number of examples of each task in a block.
    block: Returns the [size] number of the task of each example of a block.
  """

  block: Callable[[int], np.ndarray]

  def __init__(self, rates: Sequence[int | float], seed: int = 0):
    """Finds the size of a block.

    Args:
      rates: Relative rate of each task, above 0.
      seed: Seed of the order within blocks.

    Raises:
      UserError: If a rate is too small beside the others.
    """
    shares = np.asarray(rates, np.float64) / np.sum(rates)
    exact = np.arange(1, _MAX_BLOCK + 1)[:, np.newaxis] * shares
    fits = np.abs(np.round(exact) / exact - 1) <= _TOLERANCE
    sizes = np.flatnonzero(fits.all(axis=1))
    if not len(sizes):
      raise errors.UserError(
          'the rates of a mixture must be at least about'
          f' 1/{_MAX_BLOCK} of their sum, but are {list(rates)}.'
      )
    self.counts = np.round(exact[sizes[0]]).astype(int)
    self._seed = seed
    self.block = functools.lru_cache(maxsize=64)(self._make_block)

  @property
  def size(self) -> int:
    """Examples in a block."""
    return int(self.counts.sum())

  def _make_block(self, number: int) -> np.ndarray:
    tasks = np.repeat(np.arange(len(self.counts)), self.counts)
    # The last number tells this seed from those of examples.
    rng = np.random.default_rng((self._seed, number, 0, 1))
    return rng.permutation(tasks)

  def locate(self, position: int) -> tuple[int, int]:
    """Returns the task of an example, and how many it had before."""
    number, offset = divmod(position, self.size)
    tasks = self.block(number)
    task = int(tasks[offset])
    before = int(np.count_nonzero(tasks[:offset] == task))
    return task, number * int(self.counts[task]) + before

  def length(self, num_examples: Sequence[int]) -> int:
    """Returns how many examples there are until a task has no more.

    Args:
      num_examples: Number of examples of each task.
    """
    left = np.asarray(num_examples)
    whole = int(np.min(left // self.counts))
    left = left - whole * self.counts
    counts = np.cumsum(np.eye(len(left), dtype=int)[self.block(whole)], axis=0)
    too_many = np.flatnonzero((counts > left).any(axis=1))
    return whole * self.size + int(too_many[0])


class _Mixed(Sequence[tuple[int, Any]]):
  """The examples of a mixture in order: the number of a task, and a record."""

  def __init__(
      self,
      sources: Sequence[Sequence[Any]],
      schedule: Schedule,
      seed: int,
      shuffle: bool,
  ):
    self._sources = sources
    self._schedule = schedule
    self._seed = seed
    self._shuffle = shuffle
    sizes = [len(source) for source in sources]
    self._length = _ENDLESS if shuffle else schedule.length(sizes)
    self._order = functools.lru_cache(maxsize=16)(self._make_order)

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, position):
    task, index = self._schedule.locate(position)
    source = self._sources[task]
    epoch, index = divmod(index, len(source))
    if self._shuffle:
      index = int(self._order(task, epoch)[index])
    return task, source[index]

  def _make_order(self, task: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng((self._seed, epoch, task))
    return rng.permutation(len(self._sources[task]))


class MixtureBatches(batches.Batches):
  """Batches of a mixture; see `Batches`.

  Without shuffling, an epoch ends when one of the tasks has no more examples.
  """

  def __init__(
      self,
      sources: Sequence[Sequence[Any]],
      make_examples: Sequence[
          Callable[[Any, np.random.Generator], Mapping[str, Any]]
      ],
      rates: Sequence[int | float],
      batch_size: int,
      seed: int = 0,
      shuffle: bool = True,
  ):
    """Initializes at position 0.

    Args:
      sources: The records of each task.
      make_examples: Makes an example of a record, for each task.
      rates: Relative rate of each task.
      batch_size: See `Batches`.
      seed: See `Batches`.
      shuffle: See `Batches`.

    Raises:
      UserError: If a source is empty, or a rate or the batch size does not fit.
    """
    self._parts = [
        batches.Batches(source, make_example, batch_size)
        for source, make_example in zip(sources, make_examples, strict=True)
    ]
    schedule = Schedule(rates, seed)
    super().__init__(
        _Mixed(sources, schedule, seed, shuffle),
        lambda record, rng: make_examples[record[0]](record[1], rng),
        batch_size,
        seed,
        shuffle=False,  # The source has an order of its own.
    )

  @functools.cached_property
  def identity(self) -> str:
    return '; '.join(part.identity for part in self._parts)
