"""A gate that any sound part passes: it learns one batch by heart."""

from collections.abc import Callable, Mapping
import os
import statistics
import time
from typing import Any

import jax
from musiclm_jax.training import findings
from musiclm_jax.training import gin_flags
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import programs
from musiclm_jax.training import sharding
from musiclm_jax.training import steps
import numpy as np

MAX_STEPS = 50
MAX_SECONDS = 120.0  # Without compilation.
MIN_STEPS = 20  # That a verdict takes.
WARMUP_STEPS = 10  # In place of a longer warm-up.
# Of the loss at the start. Parts of the size tiny lose 14% (w2v-BERT) to 99%.
MIN_FALL = 0.1


def train_on_one_batch(
    model: model_lib.TrainableModel,
    batch: Mapping[str, np.ndarray],
    progress: Callable[[int], Any] = lambda step: None,
) -> list[findings.Record]:
  """Trains on a batch alone, from the start.

  Args:
    model: With the optimizer to train with.
    batch: Of any task of the model.
    progress: Is told each step.

  Returns:
    A record of each step, as `reports.read_metrics` returns; fewer than
    MAX_STEPS if MAX_SECONDS are over.
  """
  program = programs.Program(model, sharding.make_mesh(1), batch, 1, 0)
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
    if time.monotonic() > end:
      break
  return records


def judge(records: list[findings.Record]) -> findings.Finding | None:
  """Returns what is wrong with a model, if its loss has hardly fallen.

  Args:
    records: Of `train_on_one_batch`.

  Raises:
    ValueError: If there are too few steps to judge.
  """
  run = findings.Run(records)
  values = run.series(run.goal)
  if len(records) < MIN_STEPS:
    raise ValueError(
        f'the one-batch gate takes {MIN_STEPS} steps, but {MAX_SECONDS:.0f} s'
        f' were over after {len(records)}. Examine the run on a faster machine.'
    )
  missing = len(records) - len(values)
  if not missing:
    end = statistics.fmean(values[-5:])
    if end < (1 - MIN_FALL) * values[0]:
      return None
    seen = f'{run.goal} goes from {values[0]:.4g} to {end:.4g}'
  else:
    seen = f'{missing} of {len(records)} steps are NaN or inf'
  return findings.Finding(
      'one batch is not learned',
      f'{seen} in {len(records)} steps on one batch',
      f'{MIN_FALL:.0%} lower' if not missing else 'none',
      'whatever the data, the model cannot learn as it is: the learning rate is'
      ' wrong, or the loss does not reach the parameters',
      'lower peak_learning_rate tenfold, then raise it tenfold',
  )


def one_batch_gate(
    model_dir: str | os.PathLike[str],
    replacements: Mapping[str, Any],
    progress: Callable[[int], Any] = lambda step: None,
) -> findings.Finding | None:
  """Makes the model of a run again, and trains it on its first batch alone.

  The optimizer is the run's own, but for a shorter warm-up.

  Args:
    model_dir: Of the run.
    replacements: See `gin_flags.parse_run`.
    progress: Is told each step.

  Returns:
    What is wrong, or None.

  Raises:
    FileNotFoundError: If the config or the data of the run are gone.
    ValueError: If its config is damaged, or too few steps could be taken.
  """
  gin_flags.parse_run(
      model_dir, {**replacements, '.warmup_steps': WARMUP_STEPS}
  )
  model = gin_flags.train_argument('model')
  batches = gin_flags.train_argument('train_batches')
  batches.position = 0
  batch = next(batches)
  batches.close()
  return judge(train_on_one_batch(model, batch, progress))
