"""Reads and writes tfds datasets of array_records, without TensorFlow.

The one exception: tfds needs it to write a split of more than 1 GB.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import io
import json
import os
import tempfile
from typing import Any, SupportsIndex

from absl import logging
from etils import epath
from musiclm_jax import errors
import numpy as np
import tensorflow_datasets as tfds

VERSION = '1.0.0'

Example = Mapping[str, Any]


class _Builder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """Builds a dataset of whatever it is given."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, name, data_dir, splits, features, metadata, arrays):
    self.name = name
    self._splits = splits
    self._feature_spec = features
    self._metadata = metadata
    self._arrays = arrays
    super().__init__(data_dir=data_dir, file_format='array_record')

  def _info(self):
    return tfds.core.DatasetInfo(
        builder=self,
        description='Music with captions.',
        features=tfds.features.FeaturesDict(self._feature_spec),
        metadata=tfds.core.MetadataDict(self._metadata),
    )

  def _split_generators(self, dl_manager):
    for name, array in self._arrays.items():
      with (self.data_path / f'{name}.npy').open('wb') as file:
        np.save(file, array)
    return self._splits

  def _generate_examples(self):
    raise NotImplementedError  # `_split_generators` gives the examples.


class Dataset(Sequence[dict[str, Any]]):
  """A split of a dataset: random access to its examples."""

  def __init__(self, source: Sequence[Example]):
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(  # type: ignore[override]
      self, index: SupportsIndex
  ) -> dict[str, Any]:
    example = self._source[range(len(self))[index]]  # IndexError at the end.
    return {name: _decode(value) for name, value in example.items()}


def _decode(value: Any) -> Any:
  """Makes str of the bytes that texts are stored as."""
  if isinstance(value, bytes):
    return value.decode()
  is_array = isinstance(value, np.ndarray) and value.dtype.kind == 'O'
  if is_array or isinstance(value, list):
    return [_decode(item) for item in value]
  return value


def dataset_dir(name: str, data_dir: str | os.PathLike[str]) -> epath.Path:
  """Returns where a dataset is, or will be."""
  return epath.Path(data_dir) / name / VERSION


def dataset_exists(name: str, data_dir: str | os.PathLike[str]) -> bool:
  """Returns whether a dataset is there, whole."""
  return (dataset_dir(name, data_dir) / 'dataset_info.json').exists()


def _check_exists(name: str, data_dir: str | os.PathLike[str]) -> None:
  if not dataset_exists(name, data_dir):
    raise errors.NotFoundError(
        f"data_dir '{data_dir}' must hold the dataset '{name}', but does not."
        ' Build it first: `musiclm data` makes music, and melody_pairs,'
        ' `musiclm tokenize` makes music_tokens.'
    )


def open_dataset(
    name: str, data_dir: str | os.PathLike[str], split: str
) -> Dataset:
  """Opens a split of a dataset.

  Args:
    name: Of the dataset, e.g. 'music' or 'music_tokens'.
    data_dir: Folder of the datasets.
    split: 'train', 'validation' or 'test'.

  Returns:
    Its examples: arrays, str, and list[str].

  Raises:
    FileNotFoundError: If the dataset has not been built.
    ValueError: If it has no such split.
  """
  _check_exists(name, data_dir)
  builder = tfds.builder_from_directory(dataset_dir(name, data_dir))
  if split not in builder.info.splits:
    raise errors.UserError(
        f"split of the dataset '{name}' must be one of"
        f" {sorted(builder.info.splits)}, but is '{split}'."
    )
  return Dataset(builder.as_data_source(split))


def read_metadata(
    name: str, data_dir: str | os.PathLike[str]
) -> dict[str, Any]:
  """Returns what was given as `metadata` when the dataset was written."""
  _check_exists(name, data_dir)
  path = dataset_dir(name, data_dir) / 'metadata.json'
  return json.loads(path.read_text())


def read_array(
    name: str, data_dir: str | os.PathLike[str], array: str
) -> np.ndarray:
  """Returns one of the `arrays` that the dataset was written with."""
  _check_exists(name, data_dir)
  with (dataset_dir(name, data_dir) / f'{array}.npy').open('rb') as file:
    return np.load(file)


def _check_not_empty(
    name: str, split: str, examples: Iterable[tuple[str, Example]]
) -> Iterator[tuple[str, Example]]:
  empty = True
  for example in examples:
    empty = False
    yield example
  if empty:
    raise errors.UserError(
        f"split '{split}' of the dataset '{name}' must hold examples, but is"
        ' empty. Add works, or mend those that were skipped.'
    )


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
) -> bool:
  """Writes a dataset whole or not at all.

  Args:
    name: Of the dataset.
    data_dir: Folder of the datasets.
    splits: (key, example) pairs of each split: an iterable, or a Beam
      PTransform if there is a runner. Keys are unique, and decide the order.
    features: The tfds feature of each name.
    metadata: JSON values for `read_metadata`.
    arrays: Small arrays for `read_array`.
    runner: Beam runner, e.g. 'FnApiRunner' or 'DataflowRunner'; in this
      process by default.
    pipeline_options: Flags of the Beam pipeline, e.g. '--project=…'.
    overwrite: Whether to build a dataset that exists again.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    ValueError: If a split has no examples.
  """
  path = dataset_dir(name, data_dir)
  if dataset_exists(name, data_dir) and not overwrite:
    logging.warning('%s exists: nothing to do without overwrite.', path)
    return False
  if path.parent.exists():  # What a killed build left behind.
    for incomplete in path.parent.glob('*incomplete*'):
      incomplete.rmtree()
  if runner is None:
    splits = {
        split: _check_not_empty(name, split, examples)
        for split, examples in splits.items()
    }
  builder = _Builder(
      name, data_dir, splits, features, metadata or {}, arrays or {}
  )
  config = tfds.download.DownloadConfig(
      download_mode=tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS,
      try_download_gcs=False,
      beam_runner=runner,
      beam_options=_pipeline_options(runner, pipeline_options),
  )
  tfds.disable_progress_bar()
  # tfds makes a folder for downloads and says so, but there are none.
  with (
      tempfile.TemporaryDirectory() as downloads,
      contextlib.redirect_stdout(io.StringIO()),
  ):
    builder.download_and_prepare(download_dir=downloads, download_config=config)
  return True


def _pipeline_options(runner: str | None, flags: Sequence[str]) -> Any:
  if runner is None:
    return None
  # Only this path needs Beam, which is slow to import.
  from apache_beam.options import pipeline_options  # pylint: disable=g-import-not-at-top

  return pipeline_options.PipelineOptions(flags=list(flags))
