"""Registers every task and mixture of `data.mixtures` in seqio.

  seqio.get_mixture_or_task('music_semantic').get_dataset(…)

Where the data is comes from gin (`music.settings.data_dir`), or else from the
flag --tfds_data_dir of t5x and of seqio_cache_tasks. Tasks of further corpora
know it themselves:

  music.add_corpus('jamendo', 'gs://bucket/jamendo')
  seqio.MixtureRegistry.add(
      'both', [('music_stage', 2), ('jamendo_stage', 1)],
      sample_fn=music.sample,
  )

`music.add_mixture` does the latter, so that `musiclm train` knows the mixture
without TensorFlow, too.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

import gin
from musiclm_jax import errors
from musiclm_jax.data import datasets
from musiclm_jax.data import example_base
from musiclm_jax.data import mixing
from musiclm_jax.data import mixtures
from musiclm_jax.data import stage_examples
from musiclm_jax.tasks import scores
from musiclm_jax.tasks import source
import numpy as np
import seqio
import tensorflow as tf

add_corpus = mixtures.add_corpus
add_mixture = mixtures.add_mixture

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


@gin.configurable
def cache(directory: str | None = None) -> str | None:
  """Returns the --output_cache_dir of seqio_cache_tasks; CACHE_DIR in gin."""
  return directory


class Task(seqio.Task):
  """A task whose records stay on disk, and whose cache gin can name."""

  @property
  def cache_dir(self) -> str | None:
    directory = cache()
    if directory is not None:
      seqio.add_global_cache_dirs([directory])
    return super().cache_dir

  def get_dataset(self, *args, **kwargs) -> tf.data.Dataset:
    """See the base class, which would hold up to 10,000 records in memory."""
    return super().get_dataset(*args, **{**kwargs, 'try_in_mem_cache': False})


def sample(
    sources: Sequence[tf.data.Dataset], rates: Sequence[float], seed: int | None
) -> tf.data.Dataset:
  """Mixes datasets as `mixing.MixtureBatches` does.

  Args:
    sources: The datasets.
    rates: Relative rate of each.
    seed: Seed of the order; None for a new one.
  """
  if seed is None:
    seed = int(np.random.default_rng().integers(1 << 31))
  schedule = mixing.Schedule(rates, seed)

  def block(number):
    tasks = tf.numpy_function(
        lambda i: schedule.block(int(i)), [number], tf.int64
    )
    tasks.set_shape([schedule.size])
    return tasks

  choices = tf.data.Dataset.counter().map(block).unbatch()
  return tf.data.Dataset.choose_from_datasets(
      sources, choices, stop_on_empty_dataset=True
  )


def _settings_of(task: mixtures.Task) -> tuple[str, dict[str, Any]]:
  """Returns the data directory of a task, and its options."""
  return settings(data_dir=task.data_dir) if task.data_dir else settings()


def _context(task: mixtures.Task) -> dict[str, Any]:
  data_dir, options = _settings_of(task)
  return task.make.context(data_dir, **options)


def _open(
    name: str, task: mixtures.Task, split: str
) -> Sequence[Mapping[str, Any]]:
  data_dir, options = _settings_of(task)
  if task.data_dir and 'stage' in options:  # Made of the streams of DATA_DIR.
    mixtures.check_lineage(name, settings()[0])
  return datasets.open_dataset(task.make.dataset, data_dir, split)


def _names_of(task: mixtures.Task, record: Mapping[str, Any]) -> Sequence[str]:
  """Returns the features of a record that a task reads."""
  is_any = isinstance(task.make, stage_examples.StageExamples) and (
      task.make.vocab_size is None and 'stage' not in _settings_of(task)[1]
  )
  if is_any:  # As in seqio_cache_tasks: one cache serves every stage.
    return [
        name for name, value in record.items() if not isinstance(value, str)
    ]
  return task.make.reads(**_context(task))


def _make_examples(
    dataset: tf.data.Dataset,
    task: mixtures.Task,
    sequence_length: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
  """Crops and lays out each record, as the numpy path does.

  Args:
    dataset: Records.
    task: The task.
    sequence_length: Length of each feature; None for whole records.
  """
  make, context = task.make, _context(task)
  read = make.reads(**context)
  # Not in a function that TensorFlow traces, which would hide the error.
  missing = [name for name in read if name not in dataset.element_spec]
  if missing:
    raise errors.UserError(
        f'the cache of a task must hold {list(read)}, but lacks'
        f' {missing}. Remove the cache of the task and write it again.'
    )
  names = list(make.output_features)
  lengths = sequence_length or dict.fromkeys(names)

  def example(seed, *arrays):
    record = source.to_record(read, arrays)
    rng = np.random.default_rng(seed.view(np.uint32))
    wanted = sequence_length or make.whole(record, **context)
    features = make(record, wanted, rng, **context)
    return [features[name] for name in names]

  def to_example(record, seed):
    dtypes = [dtype for _, dtype in make.output_features.values()]
    arrays = [record[name] for name in read]
    features = tf.numpy_function(example, [seed, *arrays], dtypes)
    for name, feature in zip(names, features, strict=True):
      feature.set_shape([lengths[name]])
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


def _register(name: str, task: mixtures.Task) -> None:
  records = source.RecordSource(
      functools.partial(_open, name, task), functools.partial(_names_of, task)
  )
  is_scored = isinstance(task.make, stage_examples.StageExamples) or (
      name.endswith(('_codec', '_soundstream'))
  )
  seqio.TaskRegistry.add(
      name,
      source=records,
      preprocessors=[
          # Crops are random, and so must not be cached.
          seqio.CacheDatasetPlaceholder(),
          functools.partial(_make_examples, task=task),
      ],
      output_features=_output_features(task.make),
      metric_objs=[scores.MeanScores()] if is_scored else [],
      task_cls=Task,
  )


def _register_mixture(name: str, rates: mixtures.Rates) -> None:
  seqio.MixtureRegistry.add(name, list(rates.items()), sample_fn=sample)


mixtures.listen(_register, _register_mixture)
