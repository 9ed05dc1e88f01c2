"""The interface of tasks, and draws from a record."""

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
  """Makes an example of a record.

  Attributes:
    dataset: Name of the dataset that holds the records.
    output_features: The rank and dtype of each feature of an example.
  """

  dataset: str
  output_features: Mapping[str, tuple[int, type]]

  @abc.abstractmethod
  def reads(self, **context: Any) -> tuple[str, ...]:
    """Returns the features it reads of a record.

    Args:
      **context: What `context` returned.
    """

  def context(self, data_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the keyword arguments of each call.

    Args:
      data_dir: Folder of the datasets. Further arguments are TASK_OPTIONS of
        gin files.
    """
    return {'source_rate': datasets.sample_rate(data_dir, self.dataset)}

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
      rng: Chooses the crop and everything else that is random.
      **context: What `context` returned.

    Returns:
      Arrays of the given lengths, zero-padded where the record is shorter.
    """


def draw_caption(record: Record, rng: np.random.Generator) -> int:
  """Returns the index of a caption, drawn by the weights of all."""
  weights = clips.caption_weights(record).astype(np.float64)
  return int(rng.choice(len(weights), p=weights / weights.sum()))
