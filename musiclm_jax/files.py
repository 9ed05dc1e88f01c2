"""Files that are written whole or not at all, by one process at a time."""

from collections.abc import Iterator
import contextlib
import hashlib
import json
import os
import pathlib
import re
import socket
import time

import filelock
from musiclm_jax import errors

LOCK = '.musiclm.lock'
_LEFTOVER = re.compile(r'\.musiclm-([0-9a-f]{12})-\d+\..*', re.DOTALL)


def _digest(name: str) -> str:
  return hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:12]


def temporary(path: str | os.PathLike[str]) -> pathlib.Path:
  """Returns where a file is written before it takes its place.

  Its name is short, however long that of the file is, and ends as it does, so
  that libraries find its format.
  """
  path = pathlib.Path(path)
  stem = f'.musiclm-{_digest(path.name)}-{os.getpid()}'
  return path.with_name(f'{stem}.tmp{path.suffix}')


def is_leftover(
    path: str | os.PathLike[str], of: str | os.PathLike[str]
) -> bool:
  """Returns whether a killed process left `path` of writing the file `of`."""
  found = _LEFTOVER.fullmatch(pathlib.Path(path).name)
  return found is not None and found[1] == _digest(pathlib.Path(of).name)


def _refusal(path: pathlib.Path, error: Exception) -> errors.WriteError:
  reason = getattr(error, 'strerror', None) or errors.one_line(error)
  return errors.WriteError(
      f"'{path}' must be a file that can be written, but the system says:"
      f' {reason}. Free space or get permission, or choose another place.'
  )


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Yields a path to write, which becomes the file when the body ends.

  Args:
    path: Of the file; its folder is made if it is missing.

  Raises:
    WriteError: If the system refuses, or the disk is full. No half-written
      file is left, and one that was there stays as it was.
  """
  path = pathlib.Path(path)
  unfinished = temporary(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield unfinished
    # Windows syncs only what is open for writing.
    with open(unfinished, 'rb+') as file:
      os.fsync(file.fileno())
    unfinished.replace(path)
  except errors.UserError:
    raise
  except OSError as e:
    raise _refusal(path, e) from e
  finally:
    with contextlib.suppress(OSError):
      unfinished.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file whole or not at all; see `replacing`."""
  with replacing(path) as unfinished:
    unfinished.write_text(text, encoding='utf-8')


def check_writable(path: str | os.PathLike[str]) -> None:
  """Raises WriteError, before long work, if a file could not be written.

  Args:
    path: Of the file; its folder must exist.
  """
  path = pathlib.Path(path)
  folder = path.absolute().parent
  if not os.path.isdir(folder):
    raise errors.WriteError(
        f"'{path}' must be in a folder that exists. Make '{folder}' first."
    )
  if os.path.isdir(path):
    raise errors.WriteError(
        f"'{path}' must be a file, but is a folder. Add the name of a file."
    )
  unfinished = temporary(path)
  try:
    unfinished.touch()
    unfinished.unlink()
    with contextlib.suppress(FileNotFoundError):
      path.lstat()  # Refuses a name that is too long for the system.
  except (OSError, ValueError) as e:
    raise _refusal(path, e) from e


@contextlib.contextmanager
def lock(folder: str | os.PathLike[str], what: str) -> Iterator[None]:
  """Keeps others from working on a folder at the same time.

  Args:
    folder: Made if it is missing.
    what: The work, for the message, e.g. 'musiclm train'.

  Raises:
    UserError: If another process holds the lock; names it.
  """
  folder = pathlib.Path(folder)
  path = folder / LOCK
  holder = path.with_suffix('.holder')
  try:
    folder.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(path, timeout=0).acquire()
  except filelock.Timeout as e:
    raise errors.UserError(
        f"'{folder}' must be worked on by one process at a time, but"
        f' {_describe_holder(holder)} is at work in it. Wait until it ends, or'
        ' choose another folder.'
    ) from e
  except NotImplementedError:  # A file system without locks.
    yield
    return
  except OSError as e:
    raise _refusal(path, e) from e
  with held:
    value = {
        'what': what,
        'pid': os.getpid(),
        'host': socket.gethostname(),
        'since': time.strftime('%Y-%m-%d %H:%M:%S'),
    }
    with contextlib.suppress(OSError):  # It only makes a message better.
      holder.write_text(json.dumps(value))
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        holder.unlink(missing_ok=True)


def _describe_holder(path: pathlib.Path) -> str:
  try:
    holder = json.loads(path.read_text())
    return (
        f"`{holder['what']}` (process {holder['pid']} on {holder['host']},"
        f" since {holder['since']})"
    )
  except (OSError, ValueError, KeyError, TypeError):
    return 'another process'
