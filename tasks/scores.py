"""Metrics of what a model scores, for t5x/eval.py."""

from typing import Any

import flax
import numpy as np
import seqio

COUNT = 'count'


@flax.struct.dataclass
class MeanScores(seqio.metrics.Metric):
  """Means of the sums that `score_batch_with_aux` returns for each example.

  Attributes:
    means: The mean of each score, and of each of its columns, by name.
  """

  model_output_type: seqio.metrics.ModelOutputType = (
      seqio.metrics.ModelOutputType.SCORE
  )
  means: Any = None

  @classmethod
  def from_model_output(
      cls,
      inputs,
      model_output,
      features,
      target_field_name='targets',
      mask=None,
      indices_2d=None,
  ) -> 'MeanScores':
    """Averages over all examples.

    Args:
      inputs: Not used, nor are the arguments that are not listed.
      model_output: The score of each example; [examples] or [examples, columns]
        sums by name; and, as 'count', over how much each is summed.
      features: Not used.
      target_field_name: Not used.
      mask: [examples] whether an example counts; by default all do.
      indices_2d: Not used.
    """
    del inputs, features, target_field_name, indices_2d
    sums = {name: np.asarray(x) for name, x in model_output[1].items()}
    if mask is not None:
      sums = {name: x[np.asarray(mask, bool)] for name, x in sums.items()}
    count = sums.pop(COUNT)
    means = {}
    for name, values in sums.items():
      means[name] = float(values.sum() / count.sum())
      if values.ndim > 1 and values.shape[1] > 1:
        columns = values.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
        means |= {f'{name}_q{q + 1}': float(x) for q, x in enumerate(columns)}
    return cls(means=means)

  def compute(self) -> dict[str, float]:
    return self.means
