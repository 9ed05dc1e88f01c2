"""Paths that users name: on this machine, or in a bucket (gs://bucket/run).

A bucket holds whole objects under long names. It has no folders, no locks, and
nothing can be appended to or renamed; see `files` for what is made of that.
"""

from collections.abc import Iterator
import importlib.util
import os
import pathlib
import re
import shutil
from typing import Any, TypeAlias

from etils import epath
from musiclm_jax import errors

Path: TypeAlias = pathlib.Path | epath.Path

_BUCKET = 'gs://'
# Two letters at least: drives of Windows have one.
_SCHEME = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+:/')


def _has_client() -> bool:
  return importlib.util.find_spec('gcsfs') is not None


if _has_client():
  # Without this, epath would read buckets by TensorFlow, which is slow to
  # import, and gcsfs would ask Google about the kind of each bucket.
  os.environ.setdefault('EPATH_USE_TF', 'false')
  os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Returns whether a path is in a bucket."""
  return os.fspath(path).startswith(_BUCKET)


def check(path: str | os.PathLike[str], name: str = 'a path') -> None:
  """Raises UserError unless a path is of a kind that can be read and written.

  Args:
    path: Path of a file or folder.
    name: Name of the setting, for the message.
  """
  if is_remote(path):
    if not _has_client():
      raise errors.UserError(
          f"{name} can be in a bucket once the extra 'gcs' is installed, but"
          f" is '{path}'. Run: pip install 'musiclm_jax[gcs]'."
      )
    if not os.fspath(path).removeprefix(_BUCKET).strip('/'):
      raise errors.UserError(
          f"{name} must name a bucket, as gs://bucket/folder, but is '{path}'."
      )
  elif _SCHEME.match(os.fspath(path)):
    raise errors.UserError(
        f'{name} must be on this machine, or in a bucket as'
        f" gs://bucket/folder, but is '{path}'. Mount other storage, and give"
        ' the folder where it is.'
    )


def check_local(path: str | os.PathLike[str], name: str) -> None:
  """Raises UserError if a path is in a bucket, or on other storage.

  Args:
    path: Path of a file or folder.
    name: Name of the setting, for the message.
  """
  check(path, name)
  if is_remote(path):
    raise errors.UserError(
        f"{name} must be on this machine, but is '{path}'. Copy what"
        ' is made to the bucket when it is complete.'
    )


def to_path(path: str | os.PathLike[str], name: str = 'a path') -> Path:
  """Returns a path to read and write, wherever it is.

  Args:
    path: Path of a file or folder.
    name: Name of the setting, for the message.

  Raises:
    UserError: If it is on storage that can't be read and written from here.
  """
  check(path, name)
  if not is_remote(path):
    return pathlib.Path(path)
  storage()  # Sets it up for epath, too.
  return epath.Path(path)


def absolute(path: str | os.PathLike[str]) -> Path:
  """Returns a path that does not depend on the working directory."""
  path = to_path(path)
  return path.resolve() if isinstance(path, pathlib.Path) else path


def storage() -> Any:
  """Returns the client of buckets, an `fsspec.AbstractFileSystem`."""
  import fsspec

  # Other processes write, too: what was listed before may be gone.
  fsspec.config.conf.setdefault('gcs', {})['use_listings_cache'] = False
  return fsspec.filesystem('gcs')


def is_there(path: Path) -> bool:
  """Returns whether there is anything, even a link that leads nowhere."""
  if isinstance(path, pathlib.Path):
    return os.path.lexists(path)
  return path.exists()


def size(path: Path) -> int:
  """Returns the size of a file, in bytes."""
  if isinstance(path, pathlib.Path):
    return path.stat().st_size
  return storage().info(os.fspath(path))['size']


def sizes(folder: Path) -> dict[str, int]:
  """Returns the size of each file in a folder, in bytes, by its name."""
  if isinstance(folder, pathlib.Path):
    return {x.name: os.path.getsize(x) for x in folder.iterdir() if x.is_file()}
  # One request for all.
  found = storage().find(os.fspath(folder), maxdepth=1, detail=True)
  return {name.rpartition('/')[2]: x['size'] for name, x in found.items()}


def files_in(folder: Path) -> Iterator[Path]:
  """Yields the files in a folder and in its subfolders, in order."""
  if isinstance(folder, pathlib.Path):
    yield from (p for p in sorted(folder.rglob('*')) if not p.is_dir())
    return
  for name in sorted(storage().find(os.fspath(folder))):
    if not name.endswith('/'):  # What some tools write in place of a folder.
      yield epath.Path(f'{_BUCKET}{name}')


def remove_tree(folder: Path) -> None:
  """Removes a folder with all that is in it."""
  if isinstance(folder, pathlib.Path):
    shutil.rmtree(folder)
  else:
    folder.rmtree()


def upload(file: pathlib.Path, path: Path) -> None:
  """Copies a file into a bucket, where it appears whole or not at all."""
  storage().put_file(os.fspath(file), os.fspath(path))


def upload_tree(folder: pathlib.Path, path: Path) -> None:
  """Copies all files in a folder, in their order, into one in a bucket."""
  for file in files_in(folder):
    upload(pathlib.Path(file), path / file.relative_to(folder).as_posix())
