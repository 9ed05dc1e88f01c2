"""The stages of MusicLM, by name."""

from collections.abc import Mapping
import dataclasses
import importlib
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax import streams


def names() -> list[str]:
  """Returns the name of every stage: each module beside this one."""
  modules = pathlib.Path(__file__).parent.glob('[a-z]*.py')
  return sorted(m.stem for m in modules if m.stem != 'base')


def of_part(config: Mapping[str, Any]) -> streams.Stage:
  """Returns the stage that the config of a part describes.

  Args:
    config: Its 'stage', as `Stage.to_json` or, in parts of before, a name.

  Raises:
    UserError: If there is no stage of that name.
  """
  if isinstance(config['stage'], str):
    return get_stage(config['stage'], config['crop_seconds'])
  return streams.Stage.from_json(config['stage'])


def get_stage(name: str, crop_seconds: float | None = None) -> streams.Stage:
  """Returns the STAGE of `musiclm_jax.stages.<name>`.

  Args:
    name: Of the stage.
    crop_seconds: Overrides the paper's length of a training example.

  Raises:
    UserError: If there is no such stage.
  """
  if name not in names():
    raise errors.UserError(f"stage must be one of {names()}, but is '{name}'.")
  stage = importlib.import_module(f'musiclm_jax.stages.{name}').STAGE
  if crop_seconds is None:
    return stage
  return dataclasses.replace(stage, crop_seconds=crop_seconds)
