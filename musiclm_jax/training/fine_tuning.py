"""Training that goes on from a part of a trained model, or a run of t5x."""

from collections.abc import Collection, Iterable, Mapping
import dataclasses
import os
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax.models import parts
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import steps
from musiclm_jax.training import t5x_checkpoints
import numpy as np

Path = tuple[str, ...]  # Names of a variable and of what holds it.


def begin(
    model: model_lib.TrainableModel,
    state: steps.TrainState,
    directory: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] = '',
) -> steps.TrainState:
  """Returns the state before the first step of fine-tuning.

  Args:
    model: The model that is trained.
    state: Its randomly initialized state.
    directory: Directory of the model with the part to start from, or of a run
      of t5x; None returns the state unchanged.
    data_dir: Folder of the datasets to train on.

  Returns:
    The state with the values of the part. Variables that the part lacks stay
    random, and their names are printed.

  Raises:
    NotFoundError: If the model has no such part.
    UserError: If the part is not a stage, or it has other sizes or was trained
      on other tokens. Of a run of t5x, it is not known on which.
  """
  if directory is None:
    return state
  if t5x_checkpoints.complete_steps(directory):
    adopted = _flatten(t5x_checkpoints.restore_variables(directory))
  else:
    part = parts.load(caching.local(directory), model.name)
    parts.check_lineage(part.name, part.lineage, model.lineage(data_dir))
    adopted = _flatten(jax.device_get(model.adopt(part)))
  variables = _flatten(state.variables)
  _check(model.name, adopted, variables)
  merged = {
      name: _fill(value, adopted[name]) if name in adopted else value
      for name, value in variables.items()
  }
  known = {x for x in adopted if x in variables and not _has_gaps(adopted[x])}
  names = ', '.join(_branches(variables.keys() - known, known)) or 'nothing'
  print(f'begins from {model.name} of {directory}; new: {names}')
  collections = traverse_util.unflatten_dict(merged)
  params = collections.pop('params')
  return dataclasses.replace(state, params=params, mutables=collections)


def keep(
    model: model_lib.TrainableModel,
    variables: model_lib.Variables,
    part: parts.Part,
) -> dict[str, Any]:
  """Returns variables with all that is not trained as in a part.

  A moving average rounds that, too.

  Args:
    model: The model that was trained, with `decoder_only`.
    variables: Of its run.
    part: The part that the run began from.

  Raises:
    UserError: If it began from another.
  """
  ours = _flatten(jax.device_get(variables))
  kept = {
      name: value
      for name, value in _flatten(jax.device_get(model.adopt(part))).items()
      if name[0] != 'params' or not model.is_trained(name[1:])
  }
  for name, value in kept.items():
    found = ours.get(name, np.array(np.nan))
    if found.shape != value.shape or not np.allclose(found, value, 1e-3, 1e-5):
      raise errors.UserError(
          f"a run of the decoder alone must begin from the '{part.name}' of"
          f' INITIAL_MODEL, but its {"/".join(name)} is another. Name the model'
          ' that it began from; under t5x, begin from a checkpoint of'
          ' `musiclm export --t5x`.'
      )
  return traverse_util.unflatten_dict({**ours, **kept})


def _flatten(variables: Mapping[str, Any]) -> dict[Path, Any]:
  return traverse_util.flatten_dict(variables)


def _has_gaps(value: np.ndarray) -> bool:
  return bool(np.isnan(value).any())


def _branches(new: Iterable[Path], known: Collection[Path]) -> list[str]:
  """Returns the names of variables, or of branches where all are new."""
  shared = {x[:i] for x in known for i in range(len(x))}
  first = lambda x: next(
      (i for i in range(1, len(x)) if x[:i] not in shared), len(x)
  )
  return sorted({'/'.join(x[: first(x)]) for x in new})


def _check(
    name: str, adopted: Mapping[Any, np.ndarray], variables: Mapping[Any, Any]
) -> None:
  for key, value in adopted.items():
    path = '/'.join(key)
    if key not in variables:
      raise errors.UserError(
          f"'{name}' must be of the same kind as what INITIAL_MODEL holds, but"
          f' has no {path}. Take the gin files that it was trained with.'
      )
    if value.shape != variables[key].shape:
      raise errors.UserError(
          f"'{name}' must be of the same sizes as what INITIAL_MODEL holds, but"
          f' {path} is {variables[key].shape}, not {value.shape}. Take the gin'
          ' files that it was trained with.'
      )


def _fill(random: jax.Array, known: np.ndarray) -> jax.Array:
  """Returns the known values, with random ones in place of NaN."""
  placed = jax.make_array_from_callback(
      random.shape, random.sharding, lambda index: known[index]
  )
  return jnp.where(jnp.isnan(placed), random, placed).astype(random.dtype)
