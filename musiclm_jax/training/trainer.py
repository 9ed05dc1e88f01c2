"""Trains a model: sharded steps, checkpoints, evaluation, reports."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import os
import signal
from typing import Any, Protocol, runtime_checkable

import jax
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.training import averaging
from musiclm_jax.training import fine_tuning
from musiclm_jax.training import jobs
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import profiling
from musiclm_jax.training import reports
from musiclm_jax.training import resuming
from musiclm_jax.training import run as run_lib
from musiclm_jax.training import run_files
from musiclm_jax.training import starting
from musiclm_jax.training import steps
from musiclm_jax.training import stopping
import numpy as np


def _check_positive(**counts: Any) -> None:
  for name, count in counts.items():
    if not isinstance(count, int) or count < 1:
      raise errors.UserError(
          f'{name} must be a whole number from 1 on, but is {count!r}.'
      )


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How long to train, and what is due at which step.

  After the last step, everything is due.

  Attributes:
    train_steps: Total number of steps.
    eval_period: Steps between evaluations.
    checkpoint_period: Steps between checkpoints.
    log_period: Steps between reports.
    eval_steps: Largest number of batches per evaluation.
    max_skipped_steps: Most consecutive steps that may be skipped for NaN or
      inf.
    patience: Evaluations without a lower held-out loss after which training
      ends early; the best checkpoint is then kept, too. None for no such end.
  """

  train_steps: int
  eval_period: int = 1000
  checkpoint_period: int = 1000
  log_period: int = 50
  eval_steps: int = 20
  max_skipped_steps: int = 10
  patience: int | None = None

  def __post_init__(self):
    given = dataclasses.asdict(self)
    if self.patience is None:
      del given['patience']
    _check_positive(**given)

  def logs(self, step: int) -> bool:
    return self._is_due(step, self.log_period)

  def evaluates(self, step: int) -> bool:
    return self._is_due(step, self.eval_period)

  def saves(self, step: int) -> bool:
    return self._is_due(step, self.checkpoint_period)

  def _is_due(self, step: int, period: int) -> bool:
    return step == self.train_steps or step % period == 0


@dataclasses.dataclass(frozen=True)
class Partitioning:
  """How a step is divided over devices and time.

  Attributes:
    num_model_partitions: Devices that share one copy of the parameters.
    fsdp: Whether all devices share one copy, too; see `sharding.rules`.
    num_microbatches: Parts of a batch whose gradients are taken in turn.
  """

  num_model_partitions: int = 1
  fsdp: bool = False
  num_microbatches: int = 1

  def __post_init__(self):
    _check_positive(num_microbatches=self.num_microbatches)


WHOLE = Partitioning()  # Every device processes all its rows at once.


@runtime_checkable
class Batches(Protocol):
  """Batches with a position, as `data.batches` makes them."""

  batch_size: int
  position: int

  def place(self, rows_of_processes: Sequence[Sequence[int]]) -> None:
    """Sets the rows of a batch that each process makes, in that order."""

  def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
    """Returns itself."""

  def __next__(self) -> dict[str, np.ndarray]:
    """Returns this process's rows of the next batch."""

  def close(self) -> None:
    """Ends work in the background."""


def _check_skipped(skipped: int, max_skipped_steps: int, step: int) -> None:
  """Raises FloatingPointError if too many steps in a row were skipped."""
  if skipped >= max_skipped_steps:
    raise errors.DivergenceError(
        f'loss and gradients must be finite, but were NaN or inf in {skipped}'
        f' steps in a row, up to step {step} at most. Those steps changed'
        ' nothing. Lower the learning rate, or look for bad examples.'
    )


def _next(run, train_batches, step) -> dict[str, np.ndarray]:
  """Returns the next batch; a signal or bad data ends the run."""
  try:
    with run.interrupts.raising(), run.reporter.waiting():
      return next(train_batches)
  except Exception:
    # In a job of several processes, a single one would wait for the others.
    if run.interrupts.has_unsaved and jax.process_count() == 1:
      run.save(step, train_batches.position)
    raise


def _take_steps(
    run, first_step, schedule, train_batches, eval_batches, profiler
) -> int:
  """Trains to the end, or until a signal comes; returns the last step."""
  step = first_step
  evaluates = lambda: eval_batches is not None and schedule.evaluates(step)
  evaluate = lambda: run.evaluate(step, eval_batches, schedule.eval_steps)
  try:
    # The run was killed between its checkpoint and the evaluation.
    if step and evaluates() and not starting.is_evaluated(run.model_dir, step):
      evaluate()
    while step < schedule.train_steps and not run.patience.is_over:
      if jobs.is_preempted(step):
        raise errors.Preempted(signal.SIGTERM)
      batch = _next(run, train_batches, step)
      step += 1
      with profiler.step(step):
        run.step(step, batch)
      # What comes after a checkpoint can fail, and loses nothing then.
      saves = schedule.saves(step) or evaluates()
      # The first step shows where training starts.
      if step == 1 or schedule.logs(step) or saves:
        _check_skipped(run.report(step), schedule.max_skipped_steps, step)
        if saves:
          run.save(step, train_batches.position)
        if evaluates():
          evaluate()
        run.reporter.restart_clock(step)
    if run.patience.is_over:
      run.reporter.say(f'stops at step {step}: {run.patience}')
    with run.interrupts.raising():
      return step
  except errors.Interrupted as e:
    run.stop(step, train_batches.position)
    raise type(e)(e.signum, jobs.decided(run.describe)) from e


def train(
    model: model_lib.TrainableModel,
    model_dir: str | os.PathLike[str],
    train_batches: Batches,
    eval_batches: Batches | None,
    schedule: Schedule,
    partitioning: Partitioning = WHOLE,
    random_seed: int = 0,
    tensorboard: bool = True,
    describe_config: Callable[[], str] | None = None,
    begin: Callable[
        [model_lib.TrainableModel, steps.TrainState], steps.TrainState
    ] = fine_tuning.begin,
    profile: tuple[int, int] | None = None,
    average_decay: float | None = None,
) -> dict[str, float]:
  """Trains to the last step, from the last checkpoint if there is one.

  However often it is killed and restarted, it ends with the same parameters and
  the same metrics.

  Args:
    model: See `TrainableModel`.
    model_dir: Folder for checkpoints and reports.
    train_batches: Endless batches.
    eval_batches: Batches of one epoch; None for no evaluation.
    schedule: What is due at each step.
    partitioning: How a step is divided.
    random_seed: Seed of initialization and dropout.
    tensorboard: Whether to write TensorBoard files; needs TensorFlow.
    describe_config: Returns the config as text, to keep with checkpoints.
    begin: Returns the state that training begins from, given the model and its
      random state; see `fine_tuning.begin`.
    profile: First step to trace, and the one after the last; see `profiling`.
    average_decay: Decay per step of a moving average of the parameters, which
      is evaluated and exported in their place; None or 0 for none.

  Returns:
    The last metrics, e.g. {'train/loss': 3.2, 'eval/loss': 3.4}.

  Raises:
    UserError: If arguments do not fit each other, the devices or the
      checkpoint, or if the checkpoint is damaged.
    DivergenceError: If too many consecutive steps were not finite.
  """
  run_files.check_place('MODEL_DIR', model_dir)
  last_step = schedule.train_steps
  run = run_lib.Run(model_dir)
  with contextlib.ExitStack() as stack:
    closing = lambda x: stack.enter_context(contextlib.closing(x))
    first_step = starting.first_step(model_dir, schedule, stack)
    starting.check(model, partitioning.num_microbatches, last_step, first_step)
    stopping.check(schedule.patience, eval_batches)
    run.patience = stopping.Patience(schedule.patience, model_dir, first_step)
    if run.patience.is_over or (
        first_step == last_step
        and (
            eval_batches is None or starting.is_evaluated(model_dir, last_step)
        )
    ):
      return starting.finished(model_dir, first_step, describe_config)
    stack.enter_context(run.interrupts.listening())
    closing(train_batches)
    program = starting.make_program(
        model,
        train_batches,
        eval_batches,
        partitioning,
        random_seed,
        average_decay,
    )
    config = describe_config() if describe_config else ''
    origin = resuming.origin(
        train_batches, train_batches.batch_size, random_seed
    )
    jobs.check_same(
        origin,
        'all hosts must train on the same data with the same RANDOM_SEED, but'
        ' those of processes {} differ from those of the first.',
    )
    run.open(model, program, config, origin)
    closing(run.saved)
    train_batches.position = run.restore(first_step) if first_step else 0
    if not first_step:
      with progress.telling('making the first parameters'):
        run.state = averaging.restart(begin(model, program.initial_state()))
    run.reporter = closing(
        reports.Reporter(
            model_dir,
            model,
            first_step,
            last_step,
            tensorboard,
            config,
            starting.rates(model, program),
        )
    )
    profiler = closing(
        profiling.Profiler(model_dir, profile, run.wait, run.reporter.say)
    )
    step = _take_steps(
        run, first_step, schedule, train_batches, eval_batches, profiler
    )
  return starting.done(model_dir, step)
