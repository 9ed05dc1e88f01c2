"""Means with the error of having measured only so many clips."""

import dataclasses
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A value with its error.

  Attributes:
    value: The value.
    standard_error: Standard deviation it would have over sets of other clips.
    count: Clips it was measured on.
  """

  value: float
  standard_error: float
  count: int

  def to_json(self) -> dict[str, Any]:
    """Returns the columns of a row."""
    return dataclasses.asdict(self)


def mean(values: Float[np.ndarray, ' clips']) -> Estimate:
  """Returns the mean of a value per clip; of one clip, the error is NaN.

  Raises:
    UserError: If there is no clip, or a value is not finite.
  """
  if not len(values) or not np.isfinite(values).all():
    raise errors.UserError(
        'a mean must be of finite values of one clip at least, but is of'
        f' {len(values)}, {np.sum(~np.isfinite(values))} of them not finite.'
    )
  error = (
      np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
  )
  return Estimate(float(np.mean(values)), float(error), len(values))
