"""Trains a model: sharded steps, checkpoints, evaluation, reports."""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import os
import pathlib
from typing import Protocol, runtime_checkable

import jax
from musiclm_jax import errors
from musiclm_jax.training import checkpoints
from musiclm_jax.training import costs
from musiclm_jax.training import fine_tuning
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import programs
from musiclm_jax.training import reports
from musiclm_jax.training import sharding
from musiclm_jax.training import steps
import numpy as np

# Steps that wait on the device, so that it never waits for the host.
NUM_IN_FLIGHT = 2


@runtime_checkable
class Batches(Protocol):
  """Batches with a position, as `data.batches` makes them."""

  position: int

  def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
    """Returns itself."""

  def __next__(self) -> dict[str, np.ndarray]:
    """Returns this process's rows of the next batch."""

  def close(self) -> None:
    """Ends what runs in the background."""


class _Window:
  """The metrics of the steps since the last report, still on the device."""

  def __init__(self):
    self._outputs: list[tuple[model_lib.Metrics, jax.Array]] = []

  def add(self, metrics: model_lib.Metrics, skipped_in_a_row: jax.Array):
    self._outputs.append((metrics, skipped_in_a_row))
    if len(self._outputs) >= NUM_IN_FLIGHT:
      jax.block_until_ready(self._outputs[-NUM_IN_FLIGHT])

  def flush(self) -> tuple[dict[str, float], int]:
    """Returns the metrics, and the most steps in a row that were skipped.

    The metrics are those of steps that were not.
    """
    outputs, self._outputs = jax.device_get(self._outputs), []
    metrics = steps.merge([m for m, in_a_row in outputs if not in_a_row])
    metrics['skipped_steps'] = float(sum(int(n) > 0 for _, n in outputs))
    return metrics, max(int(in_a_row) for _, in_a_row in outputs)


def _check_skipped(skipped: int, max_skipped_steps: int, step: int) -> None:
  """Raises FloatingPointError if too many steps in a row were skipped."""
  if skipped >= max_skipped_steps:
    raise errors.DivergenceError(
        f'loss and gradients must be finite, but were NaN or inf in {skipped}'
        f' steps in a row, up to step {step} at most. Those steps changed'
        ' nothing. Lower the learning rate, or look for bad examples.'
    )


def _check(
    model: model_lib.TrainableModel,
    num_microbatches: int,
    train_steps: int,
    last_step: int,
) -> None:
  splits = getattr(model, 'supports_microbatches', True)
  if num_microbatches > 1 and not splits:
    raise errors.UserError(
        f"num_microbatches must be 1 for '{model.name}', whose loss compares"
        f' the rows of a batch with each other, but is {num_microbatches}.'
    )
  if last_step > train_steps:
    raise errors.UserError(
        f'TRAIN_STEPS must be at least {last_step}, the step of the last'
        f' checkpoint, but is {train_steps}. To start again, set another'
        ' MODEL_DIR.'
    )


def _save(saved, step, state, position, config):
  counts = (state.step, state.num_skipped, state.num_skipped_in_a_row)
  saved.save(
      step,
      state.variables,
      {'state': state.opt_state, 'counts': counts},
      {'position': position, 'config': config},
  )


def _restore(saved, step, abstract_state):
  counts = (
      abstract_state.step,
      abstract_state.num_skipped,
      abstract_state.num_skipped_in_a_row,
  )
  variables, optimizer, data = saved.restore(
      step,
      abstract_state.variables,
      {'state': abstract_state.opt_state, 'counts': counts},
  )
  params = variables.pop('params')
  state = steps.TrainState(
      optimizer['counts'][0],
      params,
      variables,
      optimizer['state'],
      *optimizer['counts'][1:],
  )
  return state, data['position']


def _evaluate(model, program, state, batches, eval_steps, step, reporter):
  batches.position = 0
  metrics = []
  for batch in itertools.islice(batches, eval_steps):
    if not metrics and reporter.shows_audio:
      reporter.audio(step, model.summaries(state.variables, batch))
    metrics.append(jax.device_get(program.eval_step(state, batch)))
  reporter.evaluation(step, steps.merge(metrics))


def train(
    model: model_lib.TrainableModel,
    model_dir: str | os.PathLike[str],
    train_batches: Batches,
    eval_batches: Batches | None,
    train_steps: int,
    eval_period: int = 1000,
    checkpoint_period: int = 1000,
    log_period: int = 50,
    eval_steps: int = 20,
    random_seed: int = 0,
    num_model_partitions: int = 1,
    fsdp: bool = False,
    num_microbatches: int = 1,
    max_skipped_steps: int = 10,
    tensorboard: bool = True,
    describe_config: Callable[[], str] | None = None,
    begin: Callable[
        [model_lib.TrainableModel, steps.TrainState], steps.TrainState
    ] = fine_tuning.begin,
) -> dict[str, float]:
  """Trains until `train_steps`, from the last checkpoint if there is one.

  However often it is killed and run again, it ends with the same parameters
  and the same metrics.

  Args:
    model: See `TrainableModel`.
    model_dir: Where checkpoints and reports go.
    train_batches: Endless.
    eval_batches: Of one epoch; None for no evaluation.
    train_steps: Steps in all.
    eval_period: Steps between evaluations.
    checkpoint_period: Steps between checkpoints.
    log_period: Steps between reports.
    eval_steps: Most batches to evaluate.
    random_seed: Of initialization and dropout.
    num_model_partitions: Devices that share one copy of the parameters.
    fsdp: Whether all devices do, see `sharding.rules`.
    num_microbatches: Parts of a batch whose gradients are taken in turn.
    max_skipped_steps: Steps in a row that may be skipped for NaN or inf.
    tensorboard: Whether to write TensorBoard files; needs TensorFlow.
    describe_config: Returns the config as a text, to keep with checkpoints.
    begin: Returns what training begins from, given the model and its random
      state; see `fine_tuning.begin`.

  Returns:
    The last metrics, e.g. {'train/loss': 3.2, 'eval/loss': 3.4}.

  Raises:
    ValueError: If arguments do not fit each other, the devices or the
      checkpoint, or if the checkpoint is damaged.
    FloatingPointError: If too many steps in a row were not finite.
  """
  first_step = max(checkpoints.complete_steps(model_dir), default=0)
  _check(model, num_microbatches, train_steps, first_step)
  if first_step == train_steps:
    print(f'{model_dir}: done at step {train_steps}')
    return reports.final_metrics(model_dir)
  pathlib.Path(model_dir).mkdir(parents=True, exist_ok=True)
  mesh = sharding.make_mesh(num_model_partitions)
  train_batches.position = 0
  program = programs.Program(
      model,
      mesh,
      next(train_batches),
      num_microbatches,
      random_seed,
      sharding.rules(fsdp),
  )
  config = describe_config() if describe_config else ''
  with contextlib.ExitStack() as stack:
    closing = lambda x: stack.enter_context(contextlib.closing(x))
    closing(train_batches)
    saved = closing(checkpoints.Checkpoints(model_dir))
    if first_step:
      state, train_batches.position = _restore(
          saved, first_step, program.abstract_state
      )
    else:
      state = begin(model, program.initial_state())
      train_batches.position = 0
    reporter = closing(
        reports.Reporter(
            model_dir,
            model.name,
            first_step,
            train_steps,
            tensorboard,
            config,
            costs.rates(model, program.specs),
        )
    )
    window = _Window()
    for step in range(first_step + 1, train_steps + 1):
      state, metrics, skipped = program.train_step(state, next(train_batches))
      window.add(metrics, skipped)
      reporter.advance()
      if step == first_step + 1:  # Compilation does not count as speed.
        jax.block_until_ready(metrics)
        reporter.restart_clock(step)
      is_last = step == train_steps
      logs, evaluates, saves = (
          is_last or step % period == 0
          for period in (log_period, eval_period, checkpoint_period)
      )
      # The first step shows what training starts from.
      if step == 1 or logs or evaluates or saves:
        merged, most_skipped = window.flush()
        reporter.train(step, merged)
        _check_skipped(most_skipped, max_skipped_steps, step)
        if evaluates and eval_batches is not None:
          _evaluate(
              model, program, state, eval_batches, eval_steps, step, reporter
          )
        if saves:
          _save(saved, step, state, train_batches.position, config)
        reporter.restart_clock(step)
  return reports.final_metrics(model_dir)
