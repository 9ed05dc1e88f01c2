"""A sanity check that any sound part passes: it overfits a single batch."""

from collections.abc import Callable, Mapping, Sequence
import os
import statistics
import time
from typing import Any

import jax
from musiclm_jax import errors
from musiclm_jax.training import findings
from musiclm_jax.training import gin_flags
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import programs
from musiclm_jax.training import sharding
from musiclm_jax.training import steps
from musiclm_jax.training import trainer
import numpy as np

MAX_STEPS = 50
MIN_STEPS = 20  # Fewest steps to judge by.
MAX_BAD_STEPS = 10  # Steps with NaN or inf.
MAX_SECONDS = 180.0  # Without compilation.
WARMUP_STEPS = 10  # Replaces a longer warm-up.
# Share of the first loss; models of size tiny lose 14% (w2v-BERT) to 99%.
MIN_FALL = 0.1


def train_on_one_batch(
    model: model_lib.TrainableModel,
    batch: Mapping[str, np.ndarray],
    progress: Callable[[int], Any] = lambda step: None,
    partitioning: trainer.Partitioning = trainer.WHOLE,
) -> list[findings.Record]:
  """Trains on a single batch, from scratch.

  Args:
    model: The model, with its optimizer.
    batch: Any batch of its training data.
    progress: Called with each step.
    partitioning: See `trainer.train`.

  Returns:
    A record of each step, as from `reports.read_metrics`. Training stops after
    MAX_STEPS or MAX_SECONDS, or once it is clear whether the model learns.
  """
  mesh = sharding.make_mesh(partitioning.num_model_partitions)
  program = programs.Program(
      model, mesh, batch, partitioning.num_microbatches, 0
  )
  state = program.initial_state()
  records: list[findings.Record] = []
  end = float('inf')
  for step in range(1, MAX_STEPS + 1):
    state, metrics, skipped = program.train_step(state, batch)
    values = {} if int(skipped) else steps.merge([jax.device_get(metrics)])
    records.append({'step': step, 'split': 'train', **values})
    progress(step)
    if step == 1:
      end = time.monotonic() + MAX_SECONDS
    if time.monotonic() > end or _is_clear(records):
      break
  return records


def _losses(records: Sequence[findings.Record]) -> list[float]:
  """Returns the loss of each step that was finite."""
  run = findings.Run(records)
  return run.series(run.goal)


def _is_learned(records: Sequence[findings.Record]) -> bool:
  losses = _losses(records)
  if len(losses) < max(MIN_STEPS, len(records)):
    return False
  return statistics.fmean(losses[-5:]) < (1 - MIN_FALL) * losses[0]


def _is_clear(records: Sequence[findings.Record]) -> bool:
  """Returns whether more steps would not change the verdict."""
  bad = len(records) - len(_losses(records))
  return bad >= MAX_BAD_STEPS or _is_learned(records)


def judge(
    records: Sequence[findings.Record],
) -> findings.Finding | None:
  """Returns a finding if the loss of a model has hardly fallen.

  Args:
    records: Result of `train_on_one_batch`.

  Raises:
    UserError: If there are too few steps to judge.
  """
  losses, goal = _losses(records), findings.Run(records).goal
  bad = len(records) - len(losses)
  if _is_learned(records):
    return None
  if bad:
    seen, expected = f'{bad} of {len(records)} steps are NaN or inf', 'none'
  elif len(records) < MIN_STEPS:
    raise errors.UserError(
        f'the one-batch gate takes {MIN_STEPS} steps, but {MAX_SECONDS:.0f} s'
        f' were over after {len(records)}. Examine the run on a faster machine.'
    )
  else:
    end = statistics.fmean(losses[-5:])
    seen = f'{goal} goes from {losses[0]:.4g} to {end:.4g}'
    seen += f' in {len(records)} steps'
    expected = f'{MIN_FALL:.0%} lower at least'
  return findings.Finding(
      'one batch is not learned',
      seen,
      expected,
      'it cannot learn, whatever the data: the learning rate is wrong, or the'
      ' loss does not reach the parameters',
      'try a tenth and ten times peak_learning_rate',
  )


def one_batch_gate(
    model_dir: str | os.PathLike[str],
    replacements: Mapping[str, Any],
    progress: Callable[[int], Any] = lambda step: None,
) -> findings.Finding | None:
  """Rebuilds the model of a run, and trains it on its first batch alone.

  The optimizer is the run's own, but for a shorter warm-up.

  Args:
    model_dir: Folder of the run.
    replacements: See `gin_flags.parse_run`.
    progress: Called with each step.

  Returns:
    The finding, or None.

  Raises:
    NotFoundError: If the config or the data of the run is gone.
    UserError: If its config is damaged, or too few steps could be taken.
  """
  gin_flags.parse_run(
      model_dir, {**replacements, '.warmup_steps': WARMUP_STEPS}
  )
  batches = gin_flags.train_argument('train_batches')
  batches.position = 0
  batch = next(batches)
  batches.close()
  model, partitioning = map(gin_flags.train_argument, ('model', 'partitioning'))
  return judge(train_on_one_batch(model, batch, progress, partitioning))
