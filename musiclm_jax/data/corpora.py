"""Clips of works become the dataset `music`, split by work."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
import contextlib
import functools
import hashlib
import multiprocessing
import os
from typing import Any, TypeVar

from absl import logging
from musiclm_jax import errors
from musiclm_jax import machine
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
import numpy as np
import tensorflow_datasets as tfds
import tqdm

NAME = 'music'
HELD_OUT = {'validation': 0.1, 'test': 0.05}  # Shares of the works.

T = TypeVar('T')
Examples = list[tuple[str, dict[str, Any]]]


def features() -> dict[str, Any]:
  """Returns the tfds features of the dataset; see `clips.Clip`."""

  def array(dtype):
    # As bytes: the int64 varints of a plain feature take ten times the time.
    return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding='bytes')

  return {
      'audio': array(np.int16),
      'captions': tfds.features.Sequence(tfds.features.Text()),
      'id': tfds.features.Text(),
      'work': tfds.features.Text(),
      'title': tfds.features.Text(),
      'source': tfds.features.Text(),
      'license': tfds.features.Text(),
      'start': tfds.features.Scalar(np.float32),
      'melody': array(np.int8),
      'chords': array(np.int8),
      'facts': tfds.features.Text(),
      'caption_weights': array(np.float32),
  }


def split_works(
    works: Sequence[T],
    work_name: Callable[[T], str],
    held_out: Mapping[str, float],
) -> dict[str, list[T]]:
  """Splits works by the rank of the hash of their names.

  Args:
    works: What clips are read from; those of one name stay together.
    work_name: Name of a work.
    held_out: Share of each split other than 'train'; at least one name.

  Returns:
    The works of each split, in their order.

  Raises:
    ValueError: If there are fewer names than splits.
  """
  names = sorted(
      {work_name(work) for work in works},
      key=lambda name: hashlib.sha256(name.encode()).digest(),
  )
  if len(names) <= len(held_out):
    raise errors.UserError(
        f'a corpus must have at least {len(held_out) + 1} works, a different'
        f' one for each of {["train", *held_out]}, but has {len(names)}. Add'
        ' works.'
    )
  split_of = dict.fromkeys(names, 'train')
  start = 0
  for split, share in held_out.items():
    stop = start + max(1, round(len(names) * share))
    split_of.update(dict.fromkeys(names[start:stop], split))
    start = stop
  return {
      split: [work for work in works if split_of[work_name(work)] == split]
      for split in ('train', *held_out)
  }


def _read_clips(
    work: T, read: Callable[[T], Iterable[clips.Clip]]
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields the (key, example)s of the clips of a work."""
  for clip in read(work):
    clips.check_clip(clip)
    yield clip.id, clip.to_example()


def _read_examples(
    work: T,
    read: Callable[[T], Iterable[tuple[str, dict[str, Any]]]],
    skip_bad: bool,
) -> tuple[Examples, str]:
  """Returns the (key, example)s of a work, and why it was skipped."""
  try:
    return list(read(work)), ''
  except errors.UserError as e:
    if not skip_bad:
      raise
    return [], str(e)


def _log_skipped(result: tuple[Examples, str]) -> Examples:
  examples, error = result
  if error:
    logging.warning('skipped: %s', error)
  return examples


def _ordered_map(
    pool: futures.Executor,
    max_pending: int,
    function: Callable[[T], Any],
    items: Sequence[T],
) -> Iterator[Any]:
  """Like `pool.map`, but never far ahead: results hold audio."""
  pending: collections.deque[futures.Future] = collections.deque()
  for item in items:
    pending.append(pool.submit(function, item))
    if len(pending) > max_pending:
      yield pending.popleft().result()
  while pending:
    yield pending.popleft().result()


def _in_process(
    splits: Mapping[str, Sequence[T]],
    read_examples: Callable[[T], tuple[Examples, str]],
    num_workers: int,
    stack: contextlib.ExitStack,
) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
  """Returns generators of the examples of each split."""
  map_works: Callable[..., Iterator[Any]] = map
  if num_workers > 1:
    pool = stack.enter_context(
        futures.ProcessPoolExecutor(
            num_workers,
            # A fork of a process with JAX's threads may hang.
            mp_context=multiprocessing.get_context('spawn'),
        )
    )
    # What was not started when one fails must not run to the end.
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)
    map_works = functools.partial(_ordered_map, pool, 2 * num_workers)

  def generate(split, works):
    results = map_works(read_examples, works)
    for result in tqdm.tqdm(results, split, len(works), unit='work'):
      yield from _log_skipped(result)

  return {split: generate(split, works) for split, works in splits.items()}


def _in_beam(
    splits: Mapping[str, Sequence[T]],
    read_examples: Callable[[T], tuple[Examples, str]],
) -> dict[str, Any]:
  """Returns a PTransform that makes the examples of each split."""
  # Only this path needs Beam, which is slow to import.
  import apache_beam as beam  # pylint: disable=g-import-not-at-top

  return {
      split: beam.Create(list(works))
      | beam.Reshuffle()
      | beam.Map(read_examples)
      | beam.FlatMap(_log_skipped)
      for split, works in splits.items()
  }


def write_corpus(
    splits: Mapping[str, Sequence[T]],
    read: Callable[[T], Iterable[clips.Clip]],
    data_dir: str | os.PathLike[str],
    **options: Any,
) -> bool:
  """Writes the dataset `music` from works that are split already.

  Args:
    splits: The works of each split.
    read: Makes the clips of a work. Runs in worker processes, so that it must
      be a function of a module, or a `functools.partial` of one.
    data_dir: Folder of the datasets.
    **options: Of `write_works`.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    ValueError: If a work cannot be read, or all of a split were skipped.
  """
  read_examples = functools.partial(_read_clips, read=read)
  return write_works(
      NAME, features(), splits, read_examples, data_dir, **options
  )


def write_works(
    name: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[T]],
    read: Callable[[T], Iterable[tuple[str, dict[str, Any]]]],
    data_dir: str | os.PathLike[str],
    runner: str | None = None,
    pipeline_options: Sequence[str] = (),
    num_workers: int | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
) -> bool:
  """Writes a dataset from works that are split already.

  Args:
    name: Of the dataset.
    features: The tfds feature of each name.
    splits: The works of each split.
    read: Makes the (key, example)s of a work; see `write_corpus`.
    data_dir: Folder of the datasets.
    runner: Beam runner, e.g. 'FnApiRunner' or 'DataflowRunner'; processes of
      this machine by default.
    pipeline_options: Flags of the Beam pipeline.
    num_workers: Processes without Beam; one per core by default.
    skip_bad: Whether a work whose `read` raises a ValueError is skipped with a
      warning, rather than the end of the build.
    overwrite: Whether to build a dataset that exists again.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    ValueError: If a work cannot be read, or all of a split were skipped.
  """
  read_examples = functools.partial(
      _read_examples, read=read, skip_bad=skip_bad
  )
  num_workers = num_workers or machine.num_cpus()
  with contextlib.ExitStack() as stack:
    if runner is None:
      examples = _in_process(splits, read_examples, num_workers, stack)
    else:
      examples = _in_beam(splits, read_examples)
    return datasets.write_dataset(
        name,
        data_dir,
        examples,
        features,
        runner=runner,
        pipeline_options=pipeline_options,
        overwrite=overwrite,
    )


def build_corpus(
    works: Sequence[T],
    read: Callable[[T], Iterable[clips.Clip]],
    work_name: Callable[[T], str],
    data_dir: str | os.PathLike[str],
    **options: Any,
) -> bool:
  """Writes the dataset `music`, split by work: 10% validation, 5% test.

  Args:
    works: What clips are read from.
    read: Makes the clips of a work; see `write_corpus`.
    work_name: Name of a work; works of one name share a split.
    data_dir: Folder of the datasets.
    **options: Of `write_works`.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    ValueError: If there are fewer than three works, or one cannot be read.
  """
  splits = split_works(works, work_name, HELD_OUT)
  return write_corpus(splits, read, data_dir, **options)
