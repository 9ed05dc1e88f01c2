"""A run in progress: its state, and how that is saved and reported."""

from collections.abc import Callable, Mapping
import contextlib
import itertools
import os
from typing import Any

import jax
from musiclm_jax import progress
from musiclm_jax.training import averaging
from musiclm_jax.training import checkpoints
from musiclm_jax.training import devices
from musiclm_jax.training import interrupts as interrupts_lib
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import programs
from musiclm_jax.training import reports
from musiclm_jax.training import resuming
from musiclm_jax.training import running_metrics
from musiclm_jax.training import steps
from musiclm_jax.training import stopping
import numpy as np


class Run:
  """Takes steps, saves and evaluates.

  Attributes:
    model_dir: Folder of the run.
    interrupts: Signals that ask it to end.
    saved: Its checkpoints; None before `open`.
    reporter: Reports its metrics; None before the first step.
    state: Training state; None before `restore`, or until it is set.
    patience: Counts evaluations without improvement.
  """

  def __init__(self, model_dir: str | os.PathLike[str]):
    self.model_dir = model_dir
    self.interrupts = interrupts_lib.Interrupts(self.describe, self._is_saving)
    self.saved: Any = None
    self.reporter: Any = None
    self.state: Any = None
    self.patience = stopping.Patience()
    self._metrics = running_metrics.RunningMetrics()
    self._steps_taken = 0

  def open(
      self,
      model: model_lib.TrainableModel,
      program: programs.Program,
      config: str,
      origin: Mapping[str, Any],
  ) -> None:
    """Opens the checkpoints.

    Args:
      model: The model that is trained.
      program: Its steps.
      config: The config as text, to keep with checkpoints.
      origin: Result of `resuming.origin`.
    """
    self._model, self._program = model, program
    self._config, self._origin = config, origin
    self.saved = checkpoints.Checkpoints(self.model_dir)
    self.saved.best = self.patience.best

  def describe(self) -> str:
    """Describes which step is saved, and how to continue."""
    last = max(checkpoints.complete_steps(self.model_dir), default=0)
    if not last:
      return 'nothing was learned yet; run the same command to begin again'
    return (
        f'saved step {last} in {self.model_dir}; run the same command to go on'
    )

  def _is_saving(self) -> bool:
    return self.saved is not None and self.saved.is_saving

  def restore(self, step: int) -> int:
    """Reads a checkpoint; returns the position in the data."""
    abstract = self._program.abstract_state
    with progress.telling(f'reading the checkpoint of step {step}'):
      variables, optimizer, data = self.saved.restore(
          step,
          abstract.kept,
          {'state': abstract.opt_state, 'counts': _counts(abstract)},
      )
    position = resuming.position(data, self._origin, self.model_dir)
    changed = resuming.changes(data.get('config', ''), self._config)
    if changed and jax.process_index() == 0:
      progress.say(f'config changed on resume: {changed}')
    average = variables.pop(averaging.COLLECTION, None)
    params = variables.pop('params')
    if average is None and abstract.average is not None:
      progress.say(f'the average of the parameters begins at step {step}')
      average = averaging.start(params)
    step_count, skipped, in_a_row = optimizer['counts']
    self.state = steps.TrainState(
        step_count,
        params,
        variables,
        optimizer['state'],
        skipped,
        in_a_row,
        average,
    )
    self._metrics = running_metrics.RunningMetrics(data.get('window'))
    return position

  def step(self, step: int, batch: Mapping[str, np.ndarray]) -> None:
    """Takes a step; returns before it ends, except for the first."""
    is_first = not self._steps_taken
    with _telling_if(is_first, 'compiling the training step'):
      self.state, metrics, skipped = self._program.train_step(self.state, batch)
      if is_first:
        jax.block_until_ready(metrics)
    self._steps_taken += 1
    self.interrupts.has_unsaved = True
    self._metrics.add(metrics, skipped)
    if is_first:  # Compilation does not count as speed.
      self._say_memory()
      self.reporter.restart_clock(step)
    self.reporter.advance(step)
    self.saved.raise_failure()

  def wait(self) -> None:
    """Waits for the end of the steps that were taken."""
    jax.block_until_ready(self.state)

  def _say_memory(self) -> None:
    memory = devices.memory()
    if memory:
      self.reporter.say(f'memory of a device after the first step: {memory}')

  def report(self, step: int) -> int:
    """Reports the metrics of the steps since the last report.

    Returns:
      The largest number of consecutive steps that were skipped.
    """
    metrics, most_skipped = self._metrics.flush()
    self.reporter.train(step, metrics)
    return most_skipped

  def save(self, step: int, position: int) -> None:
    """Starts saving, including metrics that are yet to be reported.

    Args:
      step: The last step that was taken.
      position: Position of the next batch.
    """
    with progress.telling(f'saving the checkpoint of step {step}'):
      self.saved.save(
          step,
          self.state.kept,
          {'state': self.state.opt_state, 'counts': _counts(self.state)},
          {
              'position': position,
              'config': self._config,
              'window': self._metrics.keep(),
              **self._origin,
          },
      )
    self.interrupts.has_unsaved = False

  def stop(self, step: int, position: int) -> None:
    """Saves if there are unsaved steps, and waits until it is written."""
    if self.interrupts.has_unsaved:
      self.save(step, position)
    with progress.telling('writing the checkpoint'):
      self.saved.wait()

  def evaluate(self, step: int, batches: Any, most_batches: int) -> None:
    """Reports metrics of held-out batches; a failure does not end the run.

    In a job of several processes it does, as the others would wait forever.

    Args:
      step: The last step that was taken.
      batches: Batches of one epoch.
      most_batches: Largest number of batches to evaluate.
    """
    guard: Callable[..., Any] = reports.diagnosing
    if jax.process_count() > 1:
      guard = contextlib.nullcontext
    with guard('evaluation'), progress.telling('evaluating'):
      metrics: list[model_lib.Metrics] = []
      batches.position = 0
      for batch in itertools.islice(batches, most_batches):
        self.interrupts.check()
        if not metrics and self.reporter.shows_audio:
          self._write_audio(step, batch)
        outputs = self._program.eval_step(self.state, batch)
        metrics.append(jax.device_get(outputs))
      merged = steps.merge(metrics)
      self.reporter.evaluation(step, merged)
      self.patience.add(step, merged)
      self.saved.best = self.patience.best

  def _write_audio(self, step: int, batch: Mapping[str, np.ndarray]) -> None:
    variables = averaging.averaged(self.state.kept)
    variables = self._program.gather(variables)
    if jax.process_index() == 0:
      with reports.diagnosing('writing audio'):
        self.reporter.audio(step, self._model.summaries(variables, batch))


def _counts(state: steps.TrainState) -> tuple[Any, Any, Any]:
  return state.step, state.num_skipped, state.num_skipped_in_a_row


def _telling_if(condition: bool, doing: str) -> Any:
  return progress.telling(doing) if condition else contextlib.nullcontext()
