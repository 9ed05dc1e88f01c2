"""The command line of training, in the dialect of t5x.

--gin_file=FILE (more than once), --gin.NAME=VALUE, --gin_search_paths=DIR,….
A later binding wins: the run file, then the files as given, then --gin.NAME.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import copy
import dataclasses
import difflib
import functools
import inspect
import logging
import math
import os
import pathlib
import re
import tokenize
from typing import Any

import gin
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax.models import compiled
from musiclm_jax.training import gin_values
from musiclm_jax.training import run_files
from musiclm_jax.training import trainer

RUN_FILE = 'runs/train.gin'


@dataclasses.dataclass(frozen=True)
class Flags:
  """The gin flags of a command line.

  Attributes:
    files: Names of gin files, in order.
    bindings: (name, value) pairs, in order.
    search_paths: Folders that are searched before that of the package.
  """

  files: tuple[str, ...] = ()
  bindings: tuple[tuple[str, str], ...] = ()
  search_paths: tuple[str, ...] = ()


def gin_dir() -> pathlib.Path:
  """Returns the folder of the gin files, in a wheel or in a checkout."""
  package = pathlib.Path(__file__).resolve().parents[1]
  installed = package / 'gin'
  return installed if installed.is_dir() else package.parent / 'gin'


def parse_flags(argv: Sequence[str]) -> Flags:
  """Reads the gin flags.

  Args:
    argv: Arguments, without the name of the program.

  Raises:
    UserError: If there is any other argument.
  """
  files: list[str] = []
  bindings: list[tuple[str, str]] = []
  search_paths: list[str] = []
  for argument in argv:
    flag, equals, value = argument.partition('=')
    if flag == '--gin_file' and value:
      files.append(value)
    elif flag == '--gin_search_paths' and value:
      search_paths.extend(value.split(','))
    elif flag.startswith('--gin.') and equals:
      bindings.append((flag.removeprefix('--gin.'), value))
    else:
      raise errors.UserError(
          'every argument must be --gin_file=FILE, --gin.NAME=VALUE or'
          f' --gin_search_paths=DIR, but got {argument}.'
      )
  return Flags(tuple(files), tuple(bindings), tuple(search_paths))


def _find(name: str, folders: Sequence[pathlib.Path]) -> pathlib.Path:
  if paths.is_remote(name):
    return caching.local(name)
  for folder in folders:
    if (folder / name).is_file():
      return (folder / name).resolve()
  known = [
      path.relative_to(folder).as_posix()
      for folder in folders[1:]  # The working directory may be huge.
      for path in sorted(folder.rglob('*.gin'))
  ]
  raise errors.UserError(
      f"--gin_file must be a file, but '{name}' is in none of"
      f" {', '.join(map(str, folders))}. {_suggest(name, known)}"
  )


def _suggest(name: str, known: Sequence[str]) -> str:
  near = difflib.get_close_matches(name, known, cutoff=0.4)
  return f"Did you mean {' or '.join(near)}?" if near else 'Check its name.'


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps gin from logging every place where it does not find a file."""
  before = logging.root.manager.disable
  logging.disable(max(before, logging.ERROR))
  try:
    yield
  finally:
    logging.disable(before)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
  """Removes from errors gin's list of where each value was bound."""
  try:
    yield
  except TypeError as e:
    missing = re.search(r'missing .*required .*: (.*)', str(e))
    where = re.search(r"In call to configurable '(\w+)'", str(e))
    unknown = re.search(
        r"(\w+)\(\) got an unexpected keyword .*'(\w+)'", str(e)
    )
    if unknown is not None:
      raise errors.UserError(
          f"options must be arguments of {unknown[1]}, but '{unknown[2]}' is"
          ' none. Check the names in the gin files.'
      ) from e
    if missing is None or where is None:
      raise
    raise errors.UserError(
        f'{missing[1]} of {where[1]} must be bound by a gin file, but is not.'
        ' Add the file of a size, e.g. --gin_file=sizes/tiny.gin.'
    ) from e
  except errors.UserError as e:
    kinds = (
        errors.DivergenceError,
        errors.NotFoundError,
        errors.WriteError,
        errors.UserError,
    )
    kind = next(kind for kind in kinds if isinstance(e, kind))
    raise kind(str(e).partition('\n  In call to configurable')[0]) from e


@functools.cache  # gin never forgets a path.
def _include_from(folder: str) -> None:
  gin.add_config_file_search_path(folder)


def _parse_file(path: pathlib.Path) -> None:
  with errors.reading(path, 'a gin file', 'Mend it.'), _quiet():
    text = path.read_text()
    current = gin_values.rename(text, _groups())
    if current == text:
      gin.parse_config_file(str(path))
    else:
      gin.parse_config(current)


def _groups() -> dict[str, tuple[str, str]]:
  """Maps each former argument of `train` to its new argument and class."""
  groups = {
      'schedule': trainer.Schedule,
      'partitioning': trainer.Partitioning,
  }
  return {
      field.name: (argument, f'trainer.{group.__name__}')
      for argument, group in groups.items()
      for field in dataclasses.fields(group)
  }


def _parse_binding(name: str, value: str) -> None:
  parent, _, argument = name.rpartition('.')
  if parent == 'trainer.train' and argument in _groups():
    name = f'{_groups()[argument][1]}.{argument}'
  known = list(gin_values.bindings())
  if '.' not in name and name not in known:
    raise errors.UserError(
        '--gin.NAME must be a name that the gin files bind, but is'
        f" '{name}'. {_suggest(name, known)}"
    )
  try:
    gin.parse_config(f'{name} = {value}')
  except (SyntaxError, tokenize.TokenError) as e:
    raise errors.UserError(
        f'--gin.{name} must be a gin value, but is {value}. Quote text twice:'
        f""" --gin.{name}='"{value}"'."""
    ) from e
  except ValueError as e:
    reason = str(e).partition('\n')[0]
    raise errors.UserError(
        f'--gin.{name} must be a parameter that gin knows: {reason}'
        f' {_suggest(name, known)}'
    ) from e
  number = _query(name)
  if isinstance(number, float) and not math.isfinite(number):
    raise errors.UserError(f'--gin.{name} must be finite, but is {value}.')


def _query(name: str) -> Any:
  """Returns the value of a macro or parameter."""
  is_macro = '.' not in name
  return gin.query_parameter(f'{name}/gin.macro.value' if is_macro else name)


def _check_required() -> None:
  missing = [
      name
      for name, value in gin_values.bindings().items()
      if value == '%gin.REQUIRED'
  ]
  if 'MODEL' in missing:
    raise errors.UserError(
        'a part must be named, but is not. Add its file, e.g.'
        ' --gin_file=models/soundstream.gin or --gin_file=stages/semantic.gin,'
        ' and then that of a size, e.g. --gin_file=sizes/tiny.gin.'
    )
  if missing:
    name = missing[0]
    raise errors.UserError(
        f"{', '.join(missing)} must be set, but came with no value. Add"
        f""" --gin.{name}=VALUE; quote text twice: --gin.{name}='"text"'."""
    )


def parse(argv: Sequence[str], run_file: str = RUN_FILE) -> None:
  """Configures gin from scratch, from a command line.

  Args:
    argv: Arguments, without the name of the program.
    run_file: Gin file that is read before those of the command line.

  Raises:
    UserError: If a file, a name or a value is invalid or missing.
  """
  flags = parse_flags(argv)
  folders = [
      pathlib.Path.cwd(),
      *(pathlib.Path(path).resolve() for path in flags.search_paths),
      gin_dir(),
  ]
  gin.clear_config()
  for folder in folders:
    _include_from(str(folder))
  files = [_find(name, folders) for name in (run_file, *flags.files)]
  for path in dict.fromkeys(files):  # The run file may be named again.
    _parse_file(path)
  for name, value in flags.bindings:
    _parse_binding(name, value)
  _check_required()
  gin_values.check()
  run_files.check_place('MODEL_DIR', value_of('MODEL_DIR'))
  if 'batches.task_batches' in gin_values.used():  # Others may read buckets.
    run_files.check_place('DATA_DIR', value_of('DATA_DIR'))


def parse_run(
    model_dir: str | os.PathLike[str], replacements: Mapping[str, Any]
) -> None:
  """Configures gin from scratch, as it was for a run.

  Args:
    model_dir: Folder of the run, with the config.gin that it wrote.
    replacements: New values by the bound name, e.g. 'DATA_DIR', or by the end
      of names, e.g. '.warmup_steps'; names that the run does not bind are
      ignored.

  Raises:
    NotFoundError: If the run has no config.gin.
    UserError: If it needs a module that is missing.
  """
  run_files.check_place('the folder of a run', model_dir)
  run_files.check_config(model_dir)
  path = caching.local(paths.absolute(model_dir) / run_files.CONFIG)
  parse([], run_file=str(path))
  for name in gin_values.bindings():
    for end, value in replacements.items():
      if name == end or (end.startswith('.') and name.endswith(end)):
        _parse_binding(name, repr(value))


def train_argument(name: str) -> Any:
  """Returns a new value of an argument of `trainer.train`."""
  if f'trainer.train.{name}' not in gin_values.bindings():
    return inspect.signature(trainer.train).parameters[name].default
  with _one_line():
    return copy.deepcopy(gin.query_parameter(f'trainer.train.{name}'))


def value_of(macro: str) -> Any:
  """Returns a new value of a macro, e.g. value_of('MODEL')."""
  with _one_line():
    return copy.deepcopy(_query(macro))


def train_main(
    argv: Sequence[str], profile: tuple[int, int] | None = None
) -> dict[str, float]:
  """Trains as a command line asks.

  Args:
    argv: Arguments, without the name of the program.
    profile: See `trainer.train`.

  Returns:
    The last metrics, see `trainer.train`.

  Raises:
    UserError: If the command line is invalid; see also `trainer.train`.
  """
  parse(argv)
  compiled.keep()
  train = gin.get_configurable(trainer.train)
  with _one_line():
    return train(describe_config=gin.operative_config_str, profile=profile)
