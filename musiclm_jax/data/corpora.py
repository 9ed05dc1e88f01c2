"""Writes clips of works as the dataset `music`, split by work."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import hashlib
import os
from typing import Any, TypeVar

from musiclm_jax import errors
from musiclm_jax import machine
from musiclm_jax import progress
from musiclm_jax.data import builder
from musiclm_jax.data import building
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import left_out as accounts
from musiclm_jax.data import workers
from musiclm_jax.tokenizers import terms
import numpy as np
import tensorflow_datasets as tfds
import tqdm

NAME = 'music'
HELD_OUT = {'validation': 0.1, 'test': 0.05}  # Shares of the works.

T = TypeVar('T')
Examples = list[tuple[str, dict[str, Any]]]
# (key, example) pairs of a work, and the parts of it that are left out.
Read = Iterable[tuple[str, dict[str, Any]] | clips.LeftOut]


@dataclasses.dataclass(frozen=True)
class _Result:
  """The examples of a work.

  Attributes:
    examples: Pairs of a key and an example.
    left_out: The work, or parts of it, that are left out.
    skipped: Reason for skipping the whole work; empty if it is not skipped.
  """

  examples: Examples
  left_out: list[clips.LeftOut]
  skipped: str = ''


def features() -> dict[str, Any]:
  """Returns the tfds features of the dataset; see `clips.Clip`."""

  def array(dtype, *width):
    # As bytes: the int64 varints of a plain feature are ten times slower.
    return tfds.features.Tensor(
        shape=(None, *width), dtype=dtype, encoding='bytes'
    )

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
      'beats': array(np.float32, 3),
      'key': tfds.features.Text(),
      'families': array(np.int8, len(terms.FAMILIES)),
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
    works: Works to split; those with the same name stay together.
    work_name: Returns the name of a work.
    held_out: Share of names in each split besides 'train'; at least one name.

  Returns:
    The works of each split, in their order.

  Raises:
    UserError: If there are fewer names than splits.
  """
  names = sorted(
      {work_name(work) for work in works},
      key=lambda name: hashlib.sha256(name.encode()).digest(),
  )
  if len(names) <= len(held_out):
    raise building.TooLittleError(
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
    work: T,
    read: Callable[[T], Iterable[clips.Clip | clips.LeftOut]],
    sample_rate: int,
) -> Iterator[tuple[str, dict[str, Any]] | clips.LeftOut]:
  """Yields a (key, example) pair for each clip of a work."""
  for clip in read(work):
    if isinstance(clip, clips.LeftOut):
      yield clip
    else:
      clips.check_clip(clip, sample_rate)
      yield clip.id, clip.to_example()


def _read_work(work: T, read: Callable[[T], Read], skip_bad: bool) -> _Result:
  """Reads a work; skips a bad one if `skip_bad`."""
  try:
    found = list(read(work))
  except errors.UserError as e:
    if not skip_bad:
      raise type(e)(f'{e} (--skip_bad leaves out what is bad.)') from e
    name = clips.LeftOut(accounts.work_name(work), accounts.SKIPPED)
    return _Result([], [name], errors.one_line(e))
  examples = [item for item in found if not isinstance(item, clips.LeftOut)]
  left_out = [item for item in found if isinstance(item, clips.LeftOut)]
  return _Result(examples, left_out)


def _in_process(
    splits: Mapping[str, Sequence[T]],
    read_work: Callable[[T], _Result],
    num_workers: int,
    account: accounts.Account,
    stack: contextlib.ExitStack,
) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
  """Returns generators of the examples of each split."""
  map_works: Callable[..., Iterator[Any]] = map
  if num_workers > 1:
    pool = stack.enter_context(workers.pool(num_workers))
    map_works = functools.partial(
        workers.ordered_map, pool, num_workers, accounts.work_name
    )

  def generate(split, works):
    results = map_works(read_work, works)
    bar = stack.enter_context(
        tqdm.tqdm(results, split, len(works), unit='work')
    )
    for work, result in zip(works, bar, strict=True):
      if result.skipped:
        progress.say(f'left out: {result.skipped}')
      account.add(work, len(result.examples), result.left_out)
      yield from result.examples

  return {split: generate(split, works) for split, works in splits.items()}


def _say_and_drop(result: _Result) -> Examples:
  """Returns the examples of a work, and reports at once what is left out."""
  if result.skipped:
    progress.say(f'left out: {result.skipped}')
  else:
    for name, kind in result.left_out:
      progress.say(f'left out: {name}: {kind}')
  return result.examples


def _in_beam(
    splits: Mapping[str, Sequence[T]], read_work: Callable[[T], _Result]
) -> dict[str, Any]:
  """Returns a PTransform that makes the examples of each split."""
  # Only this path needs Beam, which is slow to import.
  import apache_beam as beam  # pylint: disable=g-import-not-at-top

  return {
      split: beam.Create(list(works))
      | beam.Reshuffle()
      | beam.Map(read_work)
      | beam.FlatMap(_say_and_drop)
      for split, works in splits.items()
  }


def write_corpus(
    splits: Mapping[str, Sequence[T]],
    read: Callable[[T], Iterable[clips.Clip | clips.LeftOut]],
    data_dir: str | os.PathLike[str],
    sample_rate: int = clips.SAMPLE_RATE,
    **options: Any,
) -> bool:
  """Writes the dataset `music` from works that are split already.

  Args:
    splits: The works of each split.
    read: Yields the clips of a work, and a `clips.LeftOut` for each part that
      is left out. It runs in worker processes and must be a function of a
      module, or a `functools.partial` of one.
    data_dir: Folder of the datasets.
    sample_rate: Sample rate of the clips, which the metadata of the dataset
      records.
    **options: Options of `write_works`, except metadata and is_cropped.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    UserError: If a work cannot be read, or all of a split were skipped.
  """
  clips.check_sample_rate(sample_rate)
  return write_works(
      NAME,
      features(),
      splits,
      functools.partial(_read_clips, read=read, sample_rate=sample_rate),
      data_dir,
      metadata={'sample_rate': sample_rate},
      is_cropped=True,
      **options,
  )


def write_works(
    name: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[T]],
    read: Callable[[T], Read],
    data_dir: str | os.PathLike[str],
    left_out: Sequence[tuple[str, str]] = (),
    **options: Any,
) -> bool:
  """Writes a dataset from works that are split already.

  Args:
    name: Name of the dataset.
    features: The tfds feature of each name.
    splits: The works of each split.
    read: Yields the (key, example)s of a work; see `write_corpus`.
    data_dir: Folder of the datasets.
    left_out: Names of files that are not among the works, and the reasons; see
      `clips.LeftOut`.
    **options: Any of metadata (JSON values for `datasets.read_metadata`),
      runner (of Beam, e.g. 'FnApiRunner' or 'DataflowRunner'; by default
      processes of this machine), pipeline_options (flags of the Beam pipeline),
      num_workers (processes without Beam; by default one per CPU), skip_bad
      (whether a work that raises a UserError is left out and reported, rather
      than ends the build), overwrite (whether to replace a dataset that
      exists), card (a `builder.Card`), and is_cropped (see
      `datasets.write_dataset`).

  Returns:
    Whether it was written: False if it exists.

  Raises:
    UserError: If a work cannot be read, or all of a split were skipped.
  """
  account = accounts.Account(left_out)
  with _reporting(account):
    return _write(name, features, splits, read, data_dir, account, **options)


@contextlib.contextmanager
def _reporting(account: accounts.Account) -> Iterator[None]:
  """Reports what was left out if a split has too little."""
  try:
    yield
  except building.TooLittleError:
    if account.left_out:
      account.say(with_read=account.num_read > 0)
    raise


def _write(
    name: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[T]],
    read: Callable[[T], Read],
    data_dir: str | os.PathLike[str],
    account: accounts.Account,
    runner: str | None = None,
    pipeline_options: Sequence[str] = (),
    num_workers: int | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    metadata: Mapping[str, Any] | None = None,
    card: builder.Card = builder.UNTITLED,
    is_cropped: bool = False,
) -> bool:
  """Writes a dataset as `write_works`, and keeps the account."""
  if num_workers is not None and num_workers < 1:
    raise errors.UserError(
        f'num_workers must be at least 1, but is {num_workers}.'
    )
  read_work = functools.partial(_read_work, read=read, skip_bad=skip_bad)
  num_workers = min(
      num_workers or machine.num_cpus(), max(map(len, splits.values()))
  )
  with contextlib.ExitStack() as stack:
    if runner is None:
      examples = _in_process(splits, read_work, num_workers, account, stack)
    else:
      examples = _in_beam(splits, read_work)
    written = datasets.write_dataset(
        name,
        data_dir,
        examples,
        features,
        metadata=metadata,
        runner=runner,
        pipeline_options=pipeline_options,
        overwrite=overwrite,
        card=card,
        is_cropped=is_cropped,
    )
  if written:
    account.say(with_read=runner is None)
  return written


def build_corpus(
    works: Sequence[T],
    read: Callable[[T], Iterable[clips.Clip | clips.LeftOut]],
    work_name: Callable[[T], str],
    data_dir: str | os.PathLike[str],
    left_out: Sequence[tuple[str, str]] = (),
    sample_rate: int = clips.SAMPLE_RATE,
    **options: Any,
) -> bool:
  """Writes the dataset `music`, split by work: 10% validation, 5% test.

  If no work of a split turns out to be usable, the usable works are split
  again.

  Args:
    works: The works.
    read: Yields the clips of a work; see `write_corpus`.
    work_name: Returns the name of a work; works of one name share a split.
    data_dir: Folder of the datasets.
    left_out: See `write_works`.
    sample_rate: See `write_corpus`.
    **options: Options of `write_works`, except metadata and is_cropped.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    UserError: If there are fewer than three works, or one cannot be read.
  """
  clips.check_sample_rate(sample_rate)
  account = accounts.Account(left_out)
  read_examples = functools.partial(
      _read_clips, read=read, sample_rate=sample_rate
  )
  with _reporting(account):
    while True:
      num_useless = len(account.useless)
      useful = [work for work in works if work not in account.useless]
      splits = split_works(useful, work_name, HELD_OUT)
      try:
        return _write(
            NAME,
            features(),
            splits,
            read_examples,
            data_dir,
            account,
            metadata={'sample_rate': sample_rate},
            is_cropped=True,
            **options,
        )
      except building.TooLittleError as e:
        if len(account.useless) == num_useless:
          raise
        progress.say(f'{e} Splitting the others anew …')
        account.forget_what_was_read()
