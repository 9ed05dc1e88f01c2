"""Writes datasets completely or not at all.

Only files that this program wrote are ever removed; others in the folder stay.
"""

from collections.abc import Iterator, Sequence
import contextlib
import os
import pathlib
import re
import tempfile

from etils import epath
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax.data import checksums

INFO = 'dataset_info.json'  # A dataset exists if this file does.
# Folder that tfds, if it is killed, leaves beside that of a version.
_TFDS_LEFTOVER = r'incomplete\.[A-Z0-9]{6}_'


class TooLittleError(errors.UserError):
  """Raised if a corpus has too little for each split."""


def check_folders(path: epath.Path) -> None:
  """Raises WriteError if a file is in the way of a folder."""
  if paths.is_remote(path):
    return
  there = next(p for p in (path, *path.parents) if p.exists())
  if not there.is_dir():
    raise errors.WriteError(
        f"'{there}' must be a folder, or not there yet, but is a file. Choose"
        ' another place, or move it away.'
    )


def _is_of_tensorflow(error: BaseException) -> bool:
  return type(error).__module__.startswith('tensorflow')


def _refusal(
    path: str | os.PathLike[str], error: BaseException
) -> errors.WriteError:
  reason = getattr(error, 'strerror', None)
  if not reason:  # Other parts of the line name unfinished files.
    parts = errors.one_line(error).split(';')
    reason = parts[-1 if _is_of_tensorflow(error) else 0].strip()
  return errors.WriteError(
      f"'{path}' must be a folder that can be written, but the system says:"
      f' {reason}. Free space or get permission, or choose another place.'
  )


@contextlib.contextmanager
def locked(data_dir: str | os.PathLike[str], verb: str) -> Iterator[None]:
  """Keeps other processes from writing to a data directory.

  Args:
    data_dir: Folder of the datasets.
    verb: Verb of the command, to tell other processes.

  Raises:
    UserError: If another process, which it names, is writing to it.
    WriteError: If it can't be written.
  """
  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(files.lock(data_dir, f'musiclm {verb}'))
    except errors.WriteError as e:
      raise _refusal(data_dir, e.__cause__ or e) from e
    yield


def unfinished_path(path: epath.Path) -> epath.Path:
  """Returns the folder in which a dataset is written until it is complete."""
  return path.with_name(files.temporary(path.name).name)


@contextlib.contextmanager
def workplace(path: epath.Path) -> Iterator[epath.Path]:
  """Makes the folder in which a dataset is written until it is complete.

  Args:
    path: Folder of the dataset.

  Yields:
    A folder beside that of the dataset; on this machine, if it is in a bucket,
    as records can only be written there.
  """
  if paths.is_remote(path):
    with tempfile.TemporaryDirectory(prefix='musiclm-') as folder:
      yield epath.Path(folder)
    return
  remove_leftovers(path)
  unfinished = unfinished_path(path)
  try:
    yield unfinished
  finally:
    remove(unfinished)


def remove_leftovers(path: epath.Path) -> None:
  """Removes the leftovers of killed builds; needs the lock.

  Args:
    path: Folder of the dataset; its leftovers are beside it.
  """
  tfds_leftover = re.compile(_TFDS_LEFTOVER + re.escape(path.name))
  for found in path.parent.iterdir() if path.parent.exists() else ():
    ours = files.is_leftover(found, path) or tfds_leftover.fullmatch(found.name)
    if ours and found.is_dir() and not os.path.islink(found):
      remove(found)


def remove(unfinished: epath.Path) -> None:
  """Removes an unfinished dataset, and its folder if nothing else is in it."""
  with contextlib.suppress(OSError):
    if unfinished.exists():
      unfinished.rmtree()
    if not any(unfinished.parent.iterdir()):
      unfinished.parent.rmdir()


@contextlib.contextmanager
def writing(path: epath.Path) -> Iterator[list[Exception]]:
  """Turns the errors of libraries that cannot write into a `WriteError`.

  Args:
    path: Folder of the dataset.

  Yields:
    A list for errors of the examples themselves, which are raised unchanged.
  """
  failures: list[Exception] = []
  try:
    yield failures
  except errors.UserError:
    raise
  except Exception as e:
    # array_record raises RuntimeErrors; TensorFlow, errors of its own.
    of_system = isinstance(e, (OSError, RuntimeError))
    if failures or not (of_system or _is_of_tensorflow(e)):
      raise
    raise _refusal(path, e) from e


def publish(built: epath.Path, path: epath.Path, splits: Sequence[str]) -> None:
  """Moves a complete dataset to its place, where it replaces an older one.

  Args:
    built: Folder in which it was written.
    path: Folder of the dataset, '<name>/<version>'.
    splits: Names of its splits.
  """
  checksums.write(built)
  written = sorted(built.iterdir(), key=lambda file: file.name == INFO)
  if not paths.is_remote(path):
    for file in written:
      with open(file, 'rb+') as opened:
        os.fsync(opened.fileno())  # Some disks report errors only now.
    if not path.exists():
      built.rename(path)
      return
  # There is no dataset from here on, until INFO, its last file, is moved.
  (path / INFO).unlink(missing_ok=True)
  old = re.compile(
      f'{path.parent.name}-({"|".join(map(re.escape, splits))})'
      r'\.(array_record|audio|audio_index)-\d{5}-of-\d{5}'
  )
  for file in path.iterdir() if path.exists() else ():
    if old.fullmatch(file.name):
      file.unlink()
  for file in written:
    if paths.is_remote(path):
      paths.upload(pathlib.Path(file), path / file.name)
    else:
      file.replace(path / file.name)
