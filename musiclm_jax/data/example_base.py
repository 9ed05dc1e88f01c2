"""The interface of tasks, and random draws from a record."""

import abc
from collections.abc import Mapping
import os
from typing import Any

from musiclm_jax.data import clips
from musiclm_jax.data import datasets
import numpy as np

Record = Mapping[str, Any]
Example = dict[str, np.ndarray]


class Examples(abc.ABC):
  """Makes a training example from a record.

  Attributes:
    dataset: Name of the dataset that holds the records.
    output_features: The rank and dtype of each feature of an example.
  """

  dataset: str
  output_features: Mapping[str, tuple[int, type]]

  @abc.abstractmethod
  def reads(self, **context: Any) -> tuple[str, ...]:
    """Returns the features that it reads from a record.

    Args:
      **context: Result of `context`.
    """

  def context(self, data_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns keyword arguments for each call.

    Args:
      data_dir: Folder of the datasets. Subclasses have further arguments, the
        TASK_OPTIONS of gin files.
    """
    return {'source_rate': datasets.sample_rate(data_dir, self.dataset)}

  @abc.abstractmethod
  def whole(self, record: Record, **context: Any) -> dict[str, int]:
    """Returns the feature lengths of an example that holds all of a record.

    Args:
      record: An example of `dataset`.
      **context: Result of `context`.
    """

  @abc.abstractmethod
  def __call__(
      self,
      record: Record,
      feature_lengths: Mapping[str, int],
      rng: np.random.Generator,
      **context: Any,
  ) -> Example:
    """Makes an example, a pure function of its arguments.

    Args:
      record: An example of `dataset`.
      feature_lengths: The length of each feature.
      rng: Decides the crop and everything else that is random.
      **context: Result of `context`.

    Returns:
      Arrays of the given lengths, zero-padded where the record is shorter.
    """


def draw_caption(record: Record, rng: np.random.Generator) -> int:
  """Draws a caption by the weights of all; returns its index."""
  weights = clips.caption_weights(record).astype(np.float64)
  return int(rng.choice(len(weights), p=weights / weights.sum()))
