"""Reads and writes tfds datasets of array_records, without TensorFlow.

The one exception: tfds needs it to write a split of more than 1 GB.
"""

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import importlib
import itertools
import json
import os
from typing import Any, SupportsIndex

from etils import epath
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import muting
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.data import audio_files
from musiclm_jax.data import builder as builder_lib
from musiclm_jax.data import building
from musiclm_jax.data import checksums
from musiclm_jax.data import clips
from musiclm_jax.data import pipelines
from musiclm_jax.data import renditions
from musiclm_jax.data import tally
import numpy as np
import tensorflow_datasets as tfds

# Most bytes of arrays in a split; for a little more, tfds uses TensorFlow.
_IN_MEMORY = 900 << 20

Example = Mapping[str, Any]


class Dataset(Sequence[Any]):
  """A split of a dataset: random access to its examples."""

  def __init__(self, source: Sequence[Any], shards: Mapping[str, int]):
    """Initializes.

    Args:
      source: The examples.
      shards: Number of examples in each file, in order.
    """
    self._source = source
    self._paths = list(shards)
    self._ends = list(itertools.accumulate(shards.values()))

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(  # type: ignore[override]
      self, index: SupportsIndex
  ) -> dict[str, Any]:
    """Returns an example.

    Raises:
      UserError: If its file is damaged.
    """
    i = range(len(self))[index]  # IndexError at the end.
    path = self._paths[bisect.bisect_right(self._ends, i)]
    with checksums.reading(path):
      example = self._source[i]
      return {name: _decode(value) for name, value in example.items()}


def _decode(value: Any) -> Any:
  """Decodes texts, which are stored as bytes, to str."""
  if isinstance(value, bytes):
    return value.decode()
  is_array = isinstance(value, np.ndarray) and value.dtype.kind == 'O'
  if is_array or isinstance(value, list):
    return [_decode(item) for item in value]
  return value


def dataset_dir(name: str, data_dir: str | os.PathLike[str]) -> epath.Path:
  """Returns the folder of a dataset, which may not exist yet."""
  folder = epath.Path(paths.to_path(data_dir, 'the data directory'))
  return folder / name / builder_lib.VERSION


def dataset_exists(name: str, data_dir: str | os.PathLike[str]) -> bool:
  """Returns whether a complete dataset exists."""
  return (dataset_dir(name, data_dir) / building.INFO).exists()


def _check_whole(name: str, data_dir: str | os.PathLike[str]) -> None:
  if not dataset_exists(name, data_dir):
    raise errors.NotFoundError(
        f"data_dir '{data_dir}' must hold the dataset '{name}', but does not."
        ' Build it first: `musiclm data` makes music, and melody_pairs,'
        ' `musiclm tokenize` makes music_tokens.'
    )
  checksums.check(dataset_dir(name, data_dir))


def splits(name: str, data_dir: str | os.PathLike[str]) -> list[str]:
  """Returns the names of the splits of a dataset.

  Raises:
    NotFoundError: If the dataset has not been built.
    UserError: If a file of it is damaged.
  """
  _check_whole(name, data_dir)
  path = dataset_dir(name, data_dir)
  with checksums.reading(path / building.INFO):
    return sorted(tfds.builder_from_directory(path).info.splits)


def open_dataset(
    name: str,
    data_dir: str | os.PathLike[str],
    split: str,
    reads: Sequence[str] | None = None,
) -> Sequence[Any]:
  """Opens a split of a dataset.

  Args:
    name: Name of the dataset, e.g. 'music' or 'music_tokens'.
    data_dir: Folder of the datasets.
    split: 'train', 'validation' or 'test', or a slice, e.g. 'train[:10]'.
    reads: Features that will be read; all by default. Audio alone is an
      `audio_files.Audio`, if the dataset keeps it beside its records.

  Returns:
    Its examples: arrays, str, and list[str].

  Raises:
    NotFoundError: If the dataset has not been built.
    UserError: If it has no such split, or a file of it is damaged.
  """
  if paths.is_remote(data_dir) and dataset_exists(name, data_dir):
    # Random access to records in a bucket would take a request for each.
    data_dir = caching.local(dataset_dir(name, data_dir).parent).parent
  _check_whole(name, data_dir)
  path = dataset_dir(name, data_dir)
  with checksums.reading(path / building.INFO):
    builder = tfds.builder_from_directory(path)
    splits = builder.info.splits
  if split_of(split) not in splits:
    raise errors.UserError(
        f"split of the dataset '{name}' must be one of {sorted(splits)}, but is"
        f" '{split}'."
    )
  _check_slice(splits, split)
  with checksums.reading(path / building.INFO):
    instructions = splits[split].file_instructions
    shards = {i.filename: i.take for i in instructions}
    whole = Dataset(builder.as_data_source(split), shards)
  if reads is None or tuple(reads) != (audio_files.FEATURE,):
    return whole
  if not all(map(audio_files.exists, shards)):
    progress.say(
        f'{path} is of an older version: each crop of audio reads a whole clip.'
        ' Make it anew with --overwrite to read faster.'
    )
    return whole
  rows = [range(i.skip, i.skip + i.take) for i in instructions]
  return audio_files.AudioOnly([*zip(shards, rows, strict=True)], whole)


def _write_audio(path: epath.Path) -> None:
  """Writes the audio of a dataset beside its records."""
  builder = tfds.builder_from_directory(path)
  for split, info in builder.info.splits.items():
    source, start = builder.as_data_source(split), 0
    for instruction in info.file_instructions:
      rows = range(start, start + instruction.take)
      audio_files.write(instruction.filename, map(source.__getitem__, rows))
      start = rows.stop


def split_of(split: str) -> str:
  """Returns the whole split of a slice, e.g. 'train' of 'train[:10]'."""
  return split.partition('[')[0]


def _check_slice(splits: Mapping[str, Any], split: str) -> None:
  """Raises UserError unless a split, or a slice of one, holds examples."""
  if '+' in split:
    raise errors.UserError(
        f"split must be one slice, but is a sum, '{split}'. Make corpora of its"
        ' parts, and mix them.'
    )
  try:
    count = splits[split].num_examples
  except (ValueError, AssertionError) as e:
    raise errors.UserError(
        "a slice of a split must be as 'train[:10]' or 'train[10%:]', but is"
        f" '{split}': {errors.one_line(e):.200}"
    ) from e
  if not count:
    raise errors.UserError(
        f"a slice of a split must hold examples, but '{split}' has none of the"
        f' {splits[split_of(split)].num_examples} there are.'
    )


def read_metadata(
    name: str, data_dir: str | os.PathLike[str]
) -> dict[str, Any]:
  """Returns the `metadata` that a dataset was written with."""
  _check_whole(name, data_dir)
  path = dataset_dir(name, data_dir) / 'metadata.json'
  with checksums.reading(path):
    return json.loads(path.read_text())


def sample_rate(data_dir: str | os.PathLike[str], name: str = 'music') -> int:
  """Returns the sample rate of the audio of a dataset, in Hz.

  Older datasets of clips do not record it, and have the default.
  """
  return rate_of(name, read_metadata(name, data_dir))


def rate_of(name: str, metadata: Mapping[str, Any]) -> int:
  """Returns the sample rate of a dataset with some metadata, in Hz."""
  default = clips.SAMPLE_RATE
  if name == renditions.NAME:
    default = renditions.SAMPLE_RATE
  return metadata.get('sample_rate', default)


def read_array(
    name: str, data_dir: str | os.PathLike[str], array: str
) -> np.ndarray:
  """Returns one of the `arrays` that a dataset was written with."""
  _check_whole(name, data_dir)
  path = dataset_dir(name, data_dir) / f'{array}.npy'
  with checksums.reading(path), path.open('rb') as file:
    return np.load(file)


def _checked(
    name: str,
    split: str,
    examples: Iterable[tuple[str, Example]],
    doing: contextlib.ExitStack,
    failures: list[Exception],
) -> Iterator[tuple[str, Example]]:
  """Yields the examples of a split.

  Args:
    name: Name of the dataset.
    split: Name of the split.
    examples: Pairs of a key and an example.
    doing: Holds the progress message that is shown between two splits.
    failures: Receives the errors that `examples` raises.

  Raises:
    UserError: If there are no examples, or two have the same key.
  """
  doing.close()
  keys: set[str] = set()
  num_bytes = 0
  try:
    for key, example in examples:
      before = num_bytes
      num_bytes += sum(getattr(x, 'nbytes', 0) for x in example.values())
      if before < _IN_MEMORY <= num_bytes:
        _import_tensorflow()
      if key in keys:
        raise errors.UserError(
            f"the ids of the clips of '{name}' must differ, but two are"
            f" '{key}'. Rename one of the files."
        )
      keys.add(key)
      yield key, example
    if not keys:
      raise building.TooLittleError(
          f"split '{split}' of the dataset '{name}' must hold examples, but is"
          ' empty. Add works, or mend those that were skipped.'
      )
  except Exception as e:
    failures.append(e)
    raise
  doing.enter_context(progress.telling(f"writing '{split}' of '{name}'"))


def _import_tensorflow() -> None:
  """Imports TensorFlow without its messages, before tfds does."""
  with progress.telling('importing TensorFlow, to write a large split'):
    with muting.importing_tensorflow():
      importlib.import_module('tensorflow')


def write_dataset(
    name: str,
    data_dir: str | os.PathLike[str],
    splits: Mapping[str, Any],
    features: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    runner: str | None = None,
    pipeline_options: Sequence[str] = (),
    overwrite: bool = False,
    verb: str = 'data',
    card: builder_lib.Card = builder_lib.UNTITLED,
    is_cropped: bool = False,
) -> bool:
  """Writes a dataset completely or not at all.

  Other files in the folder of the dataset are left alone.

  Args:
    name: Name of the dataset.
    data_dir: Folder of the datasets.
    splits: (key, example) pairs of each split: an iterable, or a Beam
      PTransform if there is a runner. Keys are unique, and determine the order.
    features: The tfds feature of each name.
    metadata: JSON values for `read_metadata`.
    arrays: Small arrays for `read_array`.
    runner: Beam runner, e.g. 'FnApiRunner' or 'DataflowRunner'; in this
      process by default.
    pipeline_options: Flags of the Beam pipeline, e.g. '--project=…'.
    overwrite: Whether to replace a dataset that exists.
    verb: Verb of the command, to name in messages about the lock.
    card: Description of the dataset.
    is_cropped: Whether short crops of 'audio' are read in training; it is then
      also kept beside the records, see `audio_files`.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    UserError: If a split has no examples, or another process is at work in
      `data_dir`.
    WriteError: If the folder cannot be written.
  """
  path = dataset_dir(name, data_dir)
  if _is_done(path, overwrite):
    return False
  pipelines.check_runner(runner, data_dir)
  building.check_folders(path)
  options = pipelines.options(runner, pipeline_options)
  with building.locked(data_dir, verb):
    if _is_done(path, overwrite):  # Another process had the lock, and did it.
      return False
    with building.workplace(path) as unfinished:
      with building.writing(path) as failures, contextlib.ExitStack() as doing:
        counts = tally.Tally(rate_of(name, metadata or {}))
        if runner is None:
          splits = {
              split: _checked(
                  name, split, counts.counted(split, examples), doing, failures
              )
              for split, examples in splits.items()
          }
        else:
          doing.enter_context(progress.telling(f'running Beam on {runner}'))
        builder = builder_lib.Builder(
            name,
            unfinished,
            splits,
            features,
            metadata or {},
            arrays or {},
            card,
        )
        pipelines.prepare(builder, unfinished / 'downloads', runner, options)
        built = unfinished / name / builder_lib.VERSION
        counts.keep(built)
        if is_cropped:
          with progress.telling(f"writing the audio of '{name}' for crops"):
            _write_audio(built)
        building.publish(built, path, list(splits))
  return True


def _is_done(path: epath.Path, overwrite: bool) -> bool:
  if overwrite or not (path / building.INFO).exists():
    return False
  progress.say(
      f'{path} exists: nothing to do without --overwrite, which makes it anew.'
  )
  return True
