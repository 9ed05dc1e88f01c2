"""Checks the values that gin binds, before anything computes with them.

A parameter's annotation and name decide which values are valid.
"""

from collections import abc
from collections.abc import Callable, Iterator, Mapping
import importlib
import inspect
import itertools
import math
import os
import re
import sys
import types
import typing
from typing import Any

import gin
from musiclm_jax import errors

MOST = 2**31 - 1  # Steps and seeds are counted in 32 bits.
_POSITIVE = re.compile(
    r'(?!stft_channels).*(_dim|_size|_period|_rate|_seconds|channels|_layers|_hop)'
    r'|num_(layers|heads|mels|groups|quantizers|buckets|segments|distractors)'
    r'|num_(microbatches|model_partitions)|tower_microbatches|max_skipped_steps'
    r'|(train|eval)_steps|stft_window|width|stride|max_length|max_distance'
    r'|frames_per_patch|mask_span|margin|.*temperature|clip_norm'
)
_SHARE = re.compile(r'.*(dropout|probability).*|b1|b2|decay')
_NEGATIVE = re.compile(r'log_mel_mean')
_LITERALS = (int, float, str, bool, list, tuple, dict, type(None))


def bindings() -> dict[str, str]:
  """Returns the value of each macro and parameter as text."""
  return parse_bindings(gin.config_str())


def parse_bindings(config: str) -> dict[str, str]:
  """Returns the text of each value in a config that gin wrote."""
  config = re.sub(r'\\?\n[ \t]+', ' ', config)  # Joins values of many lines.
  return dict(re.findall(r'^(\S+) = *(.*)$', config, re.MULTILINE))


def rename(config: str, groups: Mapping[str, tuple[str, str]]) -> str:
  """Returns a config with former arguments of `train` moved to their groups.

  Args:
    config: Text of a gin file, or of a config as gin writes it.
    groups: The new argument, and its class, for each former argument.
  """
  names = '|'.join(groups)

  def flatten(block):
    return re.sub(r'(?m)^[ \t]+(\w+ *=)', r'trainer.train.\1', block[1])

  def move(found):
    argument, group = groups[found[1]]
    reference = f'trainer.train.{argument} = @{group}()'
    return f'{reference}\n{group}.{found[1]}{found[2]}'

  if re.search(rf'(?m)^[ \t]+({names}) *=', config):
    block = r'(?m)^trainer\.train:.*\n((?:[ \t]+.*(?:\n|\Z)|\n)+)'
    config = re.sub(block, flatten, config)
  return re.sub(rf'(?m)^trainer\.train\.({names})( *=)', move, config)


def used() -> set[str]:
  """Returns the configurables that a run calls, without scopes."""
  found = bindings()
  seen: set[str] = set()
  left = ['trainer.train']
  while left:
    name = left.pop()
    seen.add(name)
    for key, text in found.items():
      if key == name or key.rpartition('.')[0].rpartition('/')[2] == name:
        calls = re.findall(r'@(?:[\w/]*/)?([\w.]+)', text)
        macros = re.findall(r'%([\w.]+)', text)
        left += {*calls, *macros} - seen
  return seen


def _modules() -> dict[str, types.ModuleType]:
  """Returns the modules that gin files import, by the name they have there."""
  statement = r'^(?:from (\S+) )?import (\S+)(?: as (\S+))?$'
  found = {}
  for package, name, alias in re.findall(
      statement, gin.config_str(), re.MULTILINE
  ):
    if package != '__gin__':
      path = f'{package}.{name}' if package else name
      found[alias or name] = importlib.import_module(path)
  return found


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
  try:
    return typing.get_type_hints(
        function.__init__ if inspect.isclass(function) else function
    )
  except (NameError, TypeError):  # Third parties annotate as they like.
    return {}


def _macro(value: Any) -> str | None:
  """Returns the name of the macro that a value refers to, if any."""
  found = re.fullmatch(r'%([\w.]+)', repr(value))
  return found[1] if found else None


def _resolve(name: str, value: Any) -> tuple[str, Any]:
  """Follows macros; returns the last name on the way, and the value."""
  while (macro := _macro(value)) is not None:
    name, value = macro, gin.query_parameter(f'{macro}/gin.macro.value')
  return name, value


def _check_macros() -> None:
  """Raises UserError for a macro without a value."""
  found = bindings()
  for name, text in found.items():
    seen = [name]
    while (macro := re.fullmatch(r'%([\w.]+)', text)) is not None:
      if macro[1] in seen:
        raise errors.UserError(
            f'{name} must be bound to a value, but is bound to itself:'
            f" {' = '.join([*seen, macro[1]])}."
        )
      if macro[1] == 'gin.REQUIRED':
        break
      if macro[1] not in found:
        raise errors.UserError(
            f'{seen[-1]} must be bound to a value, but is bound to'
            f' %{macro[1]}, which has none.'
        )
      seen.append(macro[1])
      text = found[macro[1]]


def _parameters() -> Iterator[tuple[str, Any, Any]]:
  """Yields the name, annotation and value of each parameter that is bound."""
  modules, called = _modules(), used()
  for name in bindings():
    if '.' not in name and _SHARE.fullmatch(name.lower()):
      # It may be used where there is no annotation.
      yield name, float, gin.query_parameter(f'{name}/gin.macro.value')
    path, _, parameter = name.rpartition('.')
    configurable = path.rpartition('/')[2]
    module, _, attribute = configurable.partition('.')
    if configurable not in called or module not in modules:
      continue
    function: Any = modules[module]
    for part in attribute.split('.'):
      function = getattr(function, part, None)
    hint = _hints(function).get(parameter) if callable(function) else None
    if hint is not None:
      yield name, hint, gin.query_parameter(name)


def check() -> None:
  """Raises UserError for a value that is invalid for its parameter."""
  _check_macros()
  for name, hint, value in _parameters():
    parameter = name.rpartition('.')[2]
    shown, value = _resolve(name, value)
    wanted = _mismatch(parameter.lower(), hint, value)
    if wanted is not None:
      raise errors.UserError(f'{shown} must be {wanted}, but is {value!r}.')


def _mismatch(name: str, hint: Any, value: Any) -> str | None:
  """Returns what a value should be; None if it is valid."""
  _, value = _resolve(name, value)
  if hint is Any or not isinstance(value, _LITERALS):
    return None  # What a configurable returns is known once it is called.
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    found = [_mismatch(name, arg, value) for arg in args]
    return (
        None if None in found else ' or '.join(dict.fromkeys(map(str, found)))
    )
  if hint in (int, float):
    return _number_mismatch(name, hint, value)
  if origin in _COLLECTIONS:
    return _COLLECTIONS[origin](name, args, value)
  hint = origin or hint
  if hint is type(None):
    return None if value is None else 'None'
  if not inspect.isclass(hint) or isinstance(value, hint):
    return None
  names = {bool: 'True or False', str: 'text in quotes', os.PathLike: 'a path'}
  return names.get(hint, f'@ and what makes a {hint.__name__}')


def _number_mismatch(name: str, hint: type, value: Any) -> str | None:
  kind = 'a whole number' if hint is int else 'a number'
  least, most, wanted = 0.0, math.inf, f'{kind} from 0 on'
  if hint is int:
    most, wanted = MOST, f'{kind} from 0 to {MOST}'
  if _SHARE.fullmatch(name):
    most, wanted = 1, f'{kind} from 0 to 1'
  elif _POSITIVE.fullmatch(name):
    least, wanted = sys.float_info.min, f'{kind} greater than 0'
  elif _NEGATIVE.fullmatch(name):
    least, wanted = -math.inf, kind
  is_number = isinstance(value, int if hint is int else (int, float))
  if is_number and not isinstance(value, bool) and least <= value <= most:
    return None
  return wanted


def _tuple_mismatch(name: str, args: Any, value: Any) -> str | None:
  if not isinstance(value, (tuple, list)):
    return 'a tuple'
  hints = itertools.repeat(args[0])
  if args[1:] and args[1] is not ...:
    hints = args
    if len(value) != len(args):
      return f'a tuple of {len(args)}'
  found = (_mismatch(name, hint, x) for hint, x in zip(hints, value))
  wanted = next((x for x in found if x is not None), None)
  return wanted and f'a tuple, each of them {wanted}'


def _mapping_mismatch(name: str, args: Any, value: Any) -> str | None:
  if not isinstance(value, dict):
    return 'a dictionary'
  # Numbers in a mapping are lengths.
  found = (_mismatch(f'{name}_size', args[1], x) for x in value.values())
  wanted = next((x for x in found if x is not None), None)
  return wanted and f'a dictionary, each value {wanted}'


_COLLECTIONS = {tuple: _tuple_mismatch, abc.Mapping: _mapping_mismatch}
