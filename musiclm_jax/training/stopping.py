"""Ends a run that no longer gets better on held-out data."""

from collections.abc import Mapping
import math
import os
from typing import Any

import jax
from jax.experimental import multihost_utils
from musiclm_jax import errors
from musiclm_jax.training import findings
from musiclm_jax.training import run_files
from musiclm_jax.training import step_folders
import numpy as np


def check(patience: int | None, eval_batches: Any) -> None:
  """Raises UserError if a run is to end by evaluations it does not have."""
  if patience is not None and eval_batches is None:
    raise errors.UserError(
        f'PATIENCE must be None where nothing is evaluated, but is {patience}.'
        ' Give the run a validation split.'
    )


class Patience:
  """Counts the evaluations since the best one.

  Attributes:
    most: Evaluations without improvement that end a run; None for no end.
    count: Evaluations without improvement so far.
    loss: The lowest loss so far.
  """

  def __init__(
      self,
      most: int | None = None,
      model_dir: str | os.PathLike[str] = '',
      first_step: int = 0,
  ):
    """Recalls the evaluations of a run, the same in every process of a job.

    Args:
      most: See the class.
      model_dir: Folder of the run.
      first_step: Step from which it goes on; later ones will be run again.
    """
    self.most, self.count = most, 0
    self.loss, self._step = math.inf, 0
    if most is None or not first_step:
      return
    for record in run_files.read_metrics(model_dir):
      if record['split'] == 'eval' and record['step'] <= first_step:
        self.add(record['step'], record)
    if jax.process_count() > 1:  # Others may see older files.
      mine = np.array([self.count, self._step, self.loss])
      count, step, self.loss = multihost_utils.broadcast_one_to_all(mine)
      self.count, self._step = int(count), int(step)

  @property
  def best(self) -> int | None:
    """The step of the best evaluation; None without one, or without an end."""
    return None if self.most is None else self._step or None

  @property
  def is_over(self) -> bool:
    """Whether it is time to end."""
    return self.most is not None and self.count >= self.most

  def add(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Counts an evaluation; NaN is no improvement."""
    loss = metrics.get(findings.goal([metrics]), math.nan)
    if loss < self.loss:
      self.loss, self._step, self.count = loss, step, 0
    else:
      self.count += 1

  def __str__(self) -> str:
    return (
        f'{self.count} evaluations were no better than that of step'
        f' {self._step}, {self.loss:.4g}'
    )


def best_step(model_dir: str | os.PathLike[str]) -> tuple[int, float]:
  """Returns the step and held-out loss of the best checkpoint of a run.

  Raises:
    NotFoundError: If no checkpoint was evaluated.
  """
  kept = step_folders.complete_steps(model_dir)
  patience = Patience(most=0)
  for record in run_files.read_metrics(model_dir):
    if record['split'] == 'eval' and record['step'] in kept:
      patience.add(record['step'], record)
  if patience.best is None:
    raise errors.NotFoundError(
        f'{step_folders.directory(model_dir)} must hold a checkpoint that was'
        f' evaluated, to choose the best, but holds steps {kept} and'
        f' {run_files.METRICS} has no evaluation of them. Set PATIENCE = None'
        ' to take the last.'
    )
  return patience.best, patience.loss
