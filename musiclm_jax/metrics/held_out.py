"""Examples to measure on: a few of a split, evenly spread over it."""

from collections.abc import Iterator
import os
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
import numpy as np
import tqdm

MAX_CLIPS = 64


def spread(length: int, count: int) -> np.ndarray:
  """Returns `count` indices, evenly spread over `length`, or all of them.

  Raises:
    UserError: If `count` is not positive.
  """
  if count < 1:
    raise errors.UserError(f'max_clips must be at least 1, but is {count}.')
  return np.linspace(0, length - 1, min(count, length)).astype(int)


def read(
    data_dir: str | os.PathLike[str],
    split: str,
    count: int,
    doing: str = '',
    name: str = 'music',
) -> Iterator[dict[str, Any]]:
  """Yields examples that are evenly spread over a split.

  Args:
    data_dir: Folder of the dataset.
    split: Split of the dataset.
    count: Most examples to read.
    doing: Label of a progress bar; '' for none.
    name: Name of the dataset.

  Raises:
    NotFoundError: If the dataset is missing.
    UserError: If `count` is not positive.
  """
  dataset = datasets.open_dataset(name, data_dir, split)
  indices = spread(len(dataset), count)
  for index in tqdm.tqdm(indices, doing, unit='clip', disable=not doing):
    yield dataset[int(index)]


def read_audio(
    data_dir: str | os.PathLike[str],
    split: str,
    count: int,
    sample_rate: int,
    doing: str,
) -> Iterator[tuple[dict[str, Any], Float[np.ndarray, ' samples']]]:
  """Yields clips that are evenly spread over a split of the dataset `music`.

  Args:
    data_dir: Folder of the dataset.
    split: Split of the dataset.
    count: Most clips to read.
    sample_rate: Rate of the audio to yield, in Hz.
    doing: Label of a progress bar.

  Yields:
    The record of a clip without its audio; and the audio, [samples] float32.
  """
  rate = datasets.sample_rate(data_dir)
  for record in read(data_dir, split, count, doing):
    audio = clips.to_float(record.pop('audio'))
    yield record, io.resample(audio, rate, sample_rate)
