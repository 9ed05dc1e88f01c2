"""Copies on this machine of what is in a bucket.

Audio files, records and weights are read at random places, and more than once,
by libraries that know no buckets. A copy is made once for each state of what is
in the bucket, and kept beside other caches of this user.
"""

import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import filelock
from musiclm_jax import errors
from musiclm_jax import machine
from musiclm_jax import paths
from musiclm_jax import progress

_UNFINISHED = '.unfinished'


def local(path: str | os.PathLike[str]) -> pathlib.Path:
  """Returns a file or folder on this machine.

  Args:
    path: Path of a file or folder. One on this machine is returned as it is.

  Returns:
    Its path, or that of its copy. The last name is the same.

  Raises:
    NotFoundError: If there is nothing of that name in the bucket.
    UserError: If it cannot be copied.
  """
  there = paths.to_path(path)
  if isinstance(there, pathlib.Path):
    return there
  kind = 'a file or folder in a bucket that can be copied to this machine'
  with errors.reading(path, kind, 'Check its name and your rights to it.'):
    objects = _objects(os.fspath(there))
    if not objects:
      raise FileNotFoundError(os.fspath(there))
    state = {name: _state(about) for name, about in objects.items()}
    text = json.dumps([os.fspath(there), state], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:20]
    copy = _folder() / name / there.name
    copy.parent.parent.mkdir(parents=True, exist_ok=True)
    # Several processes of a machine may want the same.
    with filelock.FileLock(copy.parent.with_suffix('.lock')):
      if not copy.parent.exists():
        for unfinished in copy.parent.parent.glob(f'{name}.*{_UNFINISHED}'):
          shutil.rmtree(unfinished)  # Of a process that was killed.
        _copy(os.fspath(there), objects, copy)
    return copy


def _folder() -> pathlib.Path:
  cache = machine.cache_dir() or pathlib.Path(tempfile.gettempdir())
  return cache / 'musiclm_jax' / 'buckets'


def _objects(path: str) -> dict[str, dict[str, Any]]:
  """Returns the objects of a file or folder, by their names."""
  found = paths.storage().find(path, detail=True)
  return {name: x for name, x in found.items() if not name.endswith('/')}


def _state(about: dict[str, Any]) -> list[Any]:
  return [about['size'], about['generation']]


def _copy(
    path: str, objects: dict[str, dict[str, Any]], copy: pathlib.Path
) -> None:
  """Copies objects into a folder, which appears when all are there."""
  size = sum(about['size'] for about in objects.values())
  told = f'{len(objects)} files, {size / 1e6:.0f} MB'
  unfinished = copy.parent.with_name(
      f'{copy.parent.name}.{os.getpid()}{_UNFINISHED}'
  )
  free = shutil.disk_usage(copy.parent.parent).free
  if free < size:
    raise errors.UserError(
        f'there must be {size / 1e6:.0f} MB free in {copy.parent.parent} for a'
        f' copy of {path}, but {free / 1e6:.0f} MB are. Remove what is old, or'
        ' set XDG_CACHE_HOME to a larger disk.'
    )
  names = sorted(objects)
  root = path.removeprefix('gs://').rstrip('/')
  targets = [
      f'{unfinished / copy.name}{name.removeprefix(root)}' for name in names
  ]
  with progress.telling(f'copying {path} ({told}) to {copy}'):
    for target in targets:
      pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
    paths.storage().get(names, targets)
    for name, target in zip(names, targets, strict=True):
      if os.path.getsize(target) != objects[name]['size']:
        raise OSError(f'{name} was cut off on the way')
    unfinished.rename(copy.parent)
