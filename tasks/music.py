"""Registers every task of `data.examples` in seqio, for t5x and for caching.

  seqio.get_mixture_or_task('music_semantic').get_dataset(…)

Where the data is comes from gin (`music.settings.data_dir`), or else from the
flag --tfds_data_dir of t5x and of seqio_cache_tasks.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

import gin
from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import examples
from musiclm_jax.data import token_dataset
from musiclm_jax.data import stage_examples
from musiclm_jax.data import example_base
import numpy as np
import seqio
import tensorflow as tf

_MAX_IDS = 1 << 20  # How many there are, stages say when they are made.


# Tasks are made when this is imported: gin cannot hand them arguments.
@gin.configurable
def settings(
    data_dir: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, Any]]:
  """Returns the settings of all tasks.

  Args:
    data_dir: Folder of the datasets; DATA_DIR in gin files.
    options: Options of the task, see `context` in `data`; TASK_OPTIONS in gin
      files.

  Returns:
    Both, as they are set.

  Raises:
    UserError: If there is no data directory.
  """
  # The loader of tfds datasets knows --tfds_data_dir.
  data_dir = data_dir or seqio.LazyTfdsLoader('music:1.0.0').data_dir
  if not data_dir:
    raise errors.UserError(
        'the data directory must be set, but is not. Bind'
        ' music.settings.data_dir = %DATA_DIR in gin, or give --tfds_data_dir.'
    )
  return data_dir, dict(options or {})


def _read(
    make: example_base.Examples,
    split: str,
    shuffle_files: bool,
    seed: int | None,
) -> tf.data.Dataset:
  """Returns the features that a task reads of each record of a split."""
  data_dir, options = settings()
  dataset = datasets.open_dataset(make.dataset, data_dir, split)
  names = make.reads(**make.context(data_dir, **options))

  def arrays(index):
    record = dataset[int(index)]
    if 'caption_weights' in names:
      record['caption_weights'] = clips.caption_weights(record)
    return [_to_array(record[name]) for name in names]

  specs = [(tf.as_dtype(a.dtype), a.shape) for a in arrays(0)]

  def read(index):
    tensors = tf.numpy_function(arrays, [index], [dtype for dtype, _ in specs])
    for tensor, (_, shape) in zip(tensors, specs, strict=True):
      tensor.set_shape([None, *shape[1:]])
    return dict(zip(names, tensors, strict=True))

  indices = tf.data.Dataset.range(len(dataset))
  if shuffle_files:
    indices = indices.shuffle(len(dataset), seed)
  return indices.map(read, num_parallel_calls=tf.data.AUTOTUNE)


def _to_array(value: Any) -> np.ndarray:
  """Returns a value that TensorFlow, and a cache, can hold."""
  if isinstance(value, list):
    return np.array([text.encode() for text in value], object)
  return value.astype(np.int32) if value.dtype == np.int16 else value


def _to_record(names: Sequence[str], arrays: Any) -> dict[str, Any]:
  """Undoes `_to_array`."""
  record = dict(zip(names, arrays, strict=True))
  if 'audio' in record:
    record['audio'] = record['audio'].astype(np.int16)
  if 'captions' in record:
    record['captions'] = [text.decode() for text in record['captions']]
  return record


def _make_examples(
    dataset: tf.data.Dataset,
    make: example_base.Examples,
    sequence_length: Mapping[str, int],
) -> tf.data.Dataset:
  """Crops and lays out each record, as the numpy path does."""
  data_dir, options = settings()
  context = make.context(data_dir, **options)
  read = make.reads(**context)
  # Not in a function that TensorFlow traces, which would hide the error.
  missing = [name for name in read if name not in dataset.element_spec]
  if missing:
    raise errors.UserError(
        f'the cache of a task must hold {list(read)}, but lacks'
        f' {missing}. Remove the cache of the task and write it again.'
    )
  names = list(make.output_features)

  def example(seed, *arrays):
    record = _to_record(read, arrays)
    rng = np.random.default_rng(seed.view(np.uint32))
    features = make(record, sequence_length, rng, **context)
    return [features[name] for name in names]

  def to_example(record, seed):
    dtypes = [dtype for _, dtype in make.output_features.values()]
    arrays = [record[name] for name in read]
    features = tf.numpy_function(example, [seed, *arrays], dtypes)
    for name, feature in zip(names, features, strict=True):
      feature.set_shape([sequence_length[name]])
    return dict(zip(names, features, strict=True))

  return seqio.map_over_dataset(to_example, num_seeds=1)(dataset)


def _output_features(make: example_base.Examples) -> dict[str, seqio.Feature]:
  def feature(rank, dtype):
    if isinstance(make, stage_examples.StageExamples):
      vocabulary = seqio.PassThroughVocabulary(make.vocab_size or _MAX_IDS)
      return seqio.Feature(vocabulary, add_eos=False, rank=rank, dtype=dtype)
    return seqio.ContinuousFeature(rank=rank, dtype=dtype)

  return {
      name: feature(rank, tf.as_dtype(dtype))
      for name, (rank, dtype) in make.output_features.items()
  }


def _register(name: str, make: example_base.Examples) -> None:
  def read(split, shuffle_files, seed=None):
    return _read(make, split, shuffle_files, seed)

  seqio.TaskRegistry.add(
      name,
      source=seqio.FunctionDataSource(read, splits=token_dataset.SPLITS),
      preprocessors=[
          # Crops are random, and so must not be cached.
          seqio.CacheDatasetPlaceholder(),
          functools.partial(_make_examples, make=make),
      ],
      output_features=_output_features(make),
  )


for _name, _make in examples.TASKS.items():
  _register(_name, _make)
