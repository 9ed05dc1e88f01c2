"""Averages of parameters over steps, to evaluate and export in their place.

An exponential moving average follows the parameters (Polyak and Juditsky, 1992)
and is less noisy than any of them. It is part of the training state, and is
kept with it in checkpoints.
"""

from collections.abc import Container
import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
from musiclm_jax import errors
import optax

COLLECTION = 'averaged_params'  # Its name among the variables of checkpoints.


def is_on(decay: float | None) -> bool:
  """Returns whether a decay asks for an average: None and 0 do not.

  Raises:
    UserError: If it is not below 1.
  """
  if decay is not None and not 0 <= decay < 1:
    raise errors.UserError(
        'AVERAGE_DECAY must be at least 0 and below 1, or None for no average,'
        f' but is {decay}.'
    )
  return bool(decay)


def update(average: Any, params: Any, step: Any, decay: float) -> Any:
  """Returns the average after a step; None if there is none.

  Args:
    average: The average before it.
    params: The parameters after it.
    step: Number of steps before it. The first ones are forgotten faster, so
      that random parameters soon count for nothing.
    decay: Share of the average that a later step keeps.
  """
  if average is None:
    return None
  kept = jnp.minimum(decay, (1 + step) / (10 + step))
  return optax.incremental_update(params, average, 1 - kept)


def start(params: Any) -> Any:
  """Returns an average that begins as the parameters, in its own arrays."""
  return jax.tree.map(jnp.copy, params)


def restart(state: Any) -> Any:
  """Returns a training state whose average, if any, begins anew."""
  if state.average is None:
    return state
  return dataclasses.replace(state, average=start(state.params))


def with_average(variables: dict[str, Any], average: Any) -> dict[str, Any]:
  """Returns the variables that a checkpoint holds.

  Args:
    variables: Collections of the model.
    average: The average of its parameters; None if there is none.
  """
  return variables if average is None else {**variables, COLLECTION: average}


def averaged(variables: dict[str, Any]) -> dict[str, Any]:
  """Returns the variables of a checkpoint, averaged if it holds an average."""
  found = dict(variables)
  average = found.pop(COLLECTION, None)
  return found if average is None else {**found, 'params': average}


def held(
    variables: dict[str, Any],
    saved: Container[str],
    path: str | os.PathLike[str],
) -> dict[str, Any]:
  """Returns which variables to read from a checkpoint.

  An average that it does not hold is left out.

  Args:
    variables: The wanted variables.
    saved: Collections in the checkpoint.
    path: Its folder, for the message.

  Raises:
    UserError: If it holds an average that is not wanted.
  """
  if COLLECTION in saved and COLLECTION not in variables:
    raise errors.UserError(
        f'{path} holds an average of the parameters, so AVERAGE_DECAY must be'
        ' set as it was, but is None or 0. Set it, or choose another MODEL_DIR.'
    )
  return {k: v for k, v in variables.items() if k != COLLECTION or k in saved}
