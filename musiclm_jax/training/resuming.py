"""Decides which settings may change when a run is resumed."""

from collections.abc import Mapping
import os
from typing import Any

from musiclm_jax import errors
from musiclm_jax.training import gin_values

_MOST_TOLD = 8


def origin(batches: Any, batch_size: int, random_seed: int) -> dict[str, Any]:
  """Returns the settings that a position in the data depends on, as JSON.

  Args:
    batches: Batches, which may have an `identity`, that of their records.
    batch_size: Examples of a batch, over all processes.
    random_seed: Seed of the run.
  """
  return {
      'batch_size': batch_size,
      'random_seed': random_seed,
      'source': getattr(batches, 'identity', None),
  }


def position(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    model_dir: str | os.PathLike[str],
) -> int:
  """Returns the batch at which a run resumes.

  Args:
    saved: 'position', and the `origin` it was saved with; older checkpoints
      have only the position.
    now: The `origin` of this process.
    model_dir: Folder of the run, for the message.

  Raises:
    UserError: If it could not resume exactly.
  """
  before = {name: saved.get(name) for name in now}
  for name, what in (
      ('random_seed', 'RANDOM_SEED must stay as it was, {}, as'),
      ('source', 'the data must be those the run began with ({}), since'),
  ):
    if None not in (before[name], now[name]) and before[name] != now[name]:
      raise errors.UserError(
          f'{what.format(before[name])} the order of the examples depends on'
          f' it, but is now {now[name]}. Give what the run began with, or'
          f' another MODEL_DIR than {model_dir}.'
      )
  size = before['batch_size'] or now['batch_size']
  seen = saved['position'] * size
  if seen % now['batch_size']:
    raise errors.UserError(
        f'BATCH_SIZE must divide the {seen} examples that the run has seen, in'
        f' batches of {size}, but is {now["batch_size"]}: none would begin at'
        f' the next example. Set it to {size}, or choose another MODEL_DIR than'
        f' {model_dir}.'
    )
  return seen // now['batch_size']


def changes(before: str, after: str) -> str:
  """Describes the differences of two configs in a line; '' if there are none.

  Args:
    before: A config as gin writes it.
    after: Another config. Names in only one of them are ignored: gin leaves out
      those that were not used.
  """
  old, new = _bindings(before), _bindings(after)
  told = [
      f'{name} {old[name]} -> {new[name]}'
      for name in new
      if name in old and old[name] != new[name]
  ]
  if len(told) > _MOST_TOLD:
    told[_MOST_TOLD:] = [f'and {len(told) - _MOST_TOLD} more']
  return ', '.join(told)


def _bindings(config: str) -> dict[str, str]:
  """Returns the text of each value, with macros resolved."""
  found = gin_values.parse_bindings(config)

  def resolve(value, depth=0):
    macro = value.removeprefix('%')
    if value != macro and macro in found and depth < len(found):
      return resolve(found[macro], depth + 1)
    return value

  return {
      name: value if '.' in name else resolve(value)
      for name, value in found.items()
  }
