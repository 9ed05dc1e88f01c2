"""The records of a split as a seqio source that reads only its own shard."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import token_dataset
import numpy as np
import seqio
import tensorflow as tf

# Records that a worker caches at a time.
_RECORDS_PER_SHARD = 256


class _Splits(tuple[str, ...]):
  """Names of splits; slices such as 'train[:10]' are among them, too."""

  def __contains__(self, split: object) -> bool:
    return super().__contains__(datasets.split_of(str(split)))


class RecordSource(seqio.DataSource):
  """Reads records by index: any shard of any slice, in any order."""

  def __init__(
      self,
      open_split: Callable[[str], Sequence[Mapping[str, Any]]],
      names_of: Callable[[Mapping[str, Any]], Sequence[str]],
  ):
    """Opens nothing yet.

    Args:
      open_split: Opens a split or a slice of one.
      names_of: Returns the names of the features to read, given a record.
    """
    super().__init__(splits=token_dataset.SPLITS)
    self._open_split = open_split
    self._names_of = names_of

  @property
  def splits(self) -> Sequence[str]:
    return _Splits(super().splits)

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def num_input_examples(self, split: str) -> int:
    return len(self._open_split(split))

  def list_shards(self, split: str) -> Sequence[str]:
    count = -(-self.num_input_examples(split) // _RECORDS_PER_SHARD)
    return [f'{split}-{i:05}-of-{count:05}' for i in range(count)]

  def get_dataset(
      self,
      split: str = 'train',
      shuffle: bool = True,
      seed: int | None = None,
      shard_info: seqio.ShardInfo | None = None,
      **unused: Any,
  ) -> tf.data.Dataset:
    """Returns the records of a shard.

    Args:
      split: A split, or a slice of one.
      shuffle: Whether to shuffle all records of the shard, anew every epoch.
      seed: Seed of their order, which is the same after a restart.
      shard_info: The shard: every `num_shards`-th record.
      **unused: What seqio says of the task.
    """
    records = self._open_split(split)
    shard = shard_info or seqio.ShardInfo(index=0, num_shards=1)
    own = range(shard.index, len(records), shard.num_shards)
    names = self._names_of(records[0])

    def arrays(index):
      record = dict(records[int(index)])
      if 'caption_weights' in names:  # Older datasets lack them.
        record['caption_weights'] = clips.caption_weights(record)
      return [to_array(record[name]) for name in names]

    specs = [(tf.as_dtype(a.dtype), a.shape) for a in arrays(0)]

    def read(index):
      tensors = tf.numpy_function(
          arrays, [index], [dtype for dtype, _ in specs]
      )
      for tensor, (_, shape) in zip(tensors, specs, strict=True):
        tensor.set_shape([None, *shape[1:]])
      return dict(zip(names, tensors, strict=True))

    indices = tf.data.Dataset.range(own.start, own.stop, own.step)
    if shuffle:
      indices = indices.shuffle(max(1, len(own)), seed)
    return indices.map(read, num_parallel_calls=tf.data.AUTOTUNE)


def to_array(value: Any) -> np.ndarray:
  """Returns a value of a record that TensorFlow, and a cache, can hold."""
  if isinstance(value, list):
    return np.array([text.encode() for text in value], object)
  return value.astype(np.int32) if value.dtype == np.int16 else value


def to_record(names: Sequence[str], arrays: Any) -> dict[str, Any]:
  """Undoes `to_array`."""
  record = dict(zip(names, arrays, strict=True))
  if 'audio' in record:
    record['audio'] = record['audio'].astype(np.int16)
  if 'captions' in record:
    record['captions'] = [text.decode() for text in record['captions']]
  return record
