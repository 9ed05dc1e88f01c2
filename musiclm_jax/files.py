"""Files that are written whole or not at all, by one process at a time.

In a bucket, where an object appears once it is whole, a file is written on this
machine first and then copied; and a lease stands for a lock.
"""

from collections.abc import Iterator, Mapping
import contextlib
import hashlib
import json
import os
import pathlib
import re
import socket
import stat
import tempfile
import time
from typing import Any

from etils import epath
import filelock
from musiclm_jax import errors
from musiclm_jax import leases
from musiclm_jax import paths

LOCK = '.musiclm.lock'
MAX_JSON = 1 << 26  # Bytes.
SEAL = 'json_sha256'  # The key of a JSON file's own hash.
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


def _refusal(path: paths.Path, error: Exception) -> errors.WriteError:
  reason = getattr(error, 'strerror', None) or errors.one_line(error)
  advice = 'Free space or get permission, or choose another place.'
  if paths.is_remote(path):
    advice = 'Check the name of the bucket, and whether you may write to it.'
  return errors.WriteError(
      f"'{path}' must be a file that can be written, but the system says:"
      f' {reason:.500}. {advice}'
  )


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Yields a path to write, which becomes the file when the body ends.

  Args:
    path: Path of the file; its folder is made if it is missing.

  Raises:
    WriteError: If the system refuses, or the disk is full. No half-written
      file is left, and one that was there stays as it was.
  """
  path = paths.to_path(path)
  if not isinstance(path, pathlib.Path):
    with _uploading(path) as unfinished:
      yield unfinished
    return
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


@contextlib.contextmanager
def _uploading(path: epath.Path) -> Iterator[pathlib.Path]:
  """Yields a path to write, which is copied to a bucket when the body ends."""
  with tempfile.TemporaryDirectory(prefix='musiclm-') as folder:
    unfinished = pathlib.Path(folder) / f'unfinished{path.suffix}'
    try:
      yield unfinished
    except OSError as e:
      raise _refusal(unfinished, e) from e
    with _in_bucket(path):
      paths.upload(unfinished, path)


@contextlib.contextmanager
def _in_bucket(path: epath.Path) -> Iterator[None]:
  """Turns the errors of clients of buckets into a WriteError."""
  try:
    yield
  except errors.UserError:
    raise
  except Exception as e:  # There is no class that all of them share.
    raise _refusal(path, e) from e


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file whole or not at all; see `replacing`."""
  with replacing(path) as unfinished:
    # Names of files may be of another encoding.
    unfinished.write_text(text, encoding='utf-8', errors='backslashreplace')


def check_writable(path: str | os.PathLike[str]) -> None:
  """Raises WriteError, before long work, if a file could not be written.

  Args:
    path: Path of the file; its folder must exist.
  """
  path = paths.to_path(path)
  if not isinstance(path, pathlib.Path):
    with _in_bucket(path):
      probe = path.with_name(f'{temporary(path.name).name}.probe')
      probe.write_bytes(b'')
      probe.unlink()
    return
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


def check_plain(path: str | os.PathLike[str], kind: str, most: int) -> None:
  """Raises UserError unless a plain file is there, of at most some bytes.

  Args:
    path: Path of the file. A pipe or a device, which may never end, is
      refused.
    kind: What it must be, e.g. 'a list of prompts'.
    most: Bytes that it may have.
  """
  path = paths.to_path(path)
  with errors.reading(path, kind):
    if isinstance(path, pathlib.Path):
      _check_mode(path, kind)
    size = paths.size(path)
  if size > most:
    raise errors.UserError(
        f"'{path}' must be {kind} of at most {most} bytes, but has {size}."
    )


def _check_mode(path: pathlib.Path, kind: str) -> None:
  mode = path.stat().st_mode
  if not stat.S_ISREG(mode):
    what = 'a folder' if stat.S_ISDIR(mode) else 'no plain file'
    raise errors.UserError(f"'{path}' must be {kind}, but is {what}.")


def read_bytes(
    path: str | os.PathLike[str], kind: str, most: int = MAX_JSON
) -> bytes:
  """Returns the content of a plain file; see `check_plain`.

  Raises:
    UserError: If it is not such a file, too large, or can't be read.
  """
  check_plain(path, kind, most)
  with errors.reading(path, kind):
    return paths.to_path(path).read_bytes()


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns an object of JSON; ValueError if it has a key twice."""
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError('an object has a key twice')
  return found


def _finite(name: str) -> Any:
  raise ValueError(f'{name} is no number of JSON')


def read_json(
    path: str | os.PathLike[str],
    kind: str,
    most: int = MAX_JSON,
    needs_seal: bool = True,
) -> dict[str, Any]:
  """Returns the JSON object that a file holds, without its seal.

  Args:
    path: Path of the file.
    kind: What it must be, e.g. 'a take'.
    most: Bytes that it may have.
    needs_seal: Whether it must have one; older versions wrote none.

  Raises:
    UserError: If it is no such file, or not what `sealed` was given.
  """
  with errors.reading(path, kind, 'Copy or make it again.'):
    text = read_bytes(path, kind, most).decode('utf-8')
    value = json.loads(text, object_pairs_hook=once, parse_constant=_finite)
    if not isinstance(value, dict):
      raise TypeError(f'it must hold an object, but holds {value!r:.40}')
    seal = value.pop(SEAL, None)
    if seal is None and not needs_seal:
      return value
    if seal != json_sha256(value):
      raise ValueError(
          f'it is damaged or was edited: its {SEAL} is not that of its content'
      )
    return value


def json_sha256(value: Mapping[str, Any]) -> str:
  """Returns the hash of JSON values, however they are written."""
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
  """Returns JSON values with a hash of them, which `read_json` checks."""
  # As they will be read: a tuple, for one, becomes a list.
  value = json.loads(json.dumps(value))
  return {**value, SEAL: json_sha256(value)}


@contextlib.contextmanager
def lock(
    folder: str | os.PathLike[str], what: str, name: str = ''
) -> Iterator[None]:
  """Keeps others from working on a folder at the same time.

  Args:
    folder: Folder to lock; made if it is missing.
    what: The work, for the message, e.g. 'musiclm train'.
    name: Name of a part of the work, if processes that work on different parts
      may share the folder.

  Raises:
    UserError: If another process holds the lock; names it.
  """
  folder = paths.to_path(folder)
  path = folder / (f'.musiclm-{name}.lock' if name else LOCK)
  if not isinstance(path, pathlib.Path):
    with _leasing(path, what):
      yield
    return
  holder = path.with_suffix('.holder')
  try:
    folder.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(path, timeout=0).acquire()
  except filelock.Timeout as e:
    raise _taken(folder, _describe_holder(holder)) from e
  except NotImplementedError:  # A file system without locks.
    yield
    return
  except OSError as e:
    raise _refusal(path, e) from e
  with held:
    with contextlib.suppress(OSError):  # It only makes a message better.
      holder.write_text(json.dumps(_about(what)))
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        holder.unlink(missing_ok=True)
        path.unlink(missing_ok=True)  # Who waits for it, makes another.


@contextlib.contextmanager
def _leasing(path: epath.Path, what: str) -> Iterator[None]:
  """Holds the lease of a folder in a bucket."""
  with contextlib.ExitStack() as stack:
    try:
      with _in_bucket(path):
        stack.enter_context(leases.holding(path, _about(what)))
    except leases.HeldError as e:
      raise _taken(path.parent, leases.describe(e.holder)) from e
    yield


def _about(what: str) -> dict[str, Any]:
  """Returns what this process says about itself to others."""
  return {
      'what': what,
      'pid': os.getpid(),
      'host': socket.gethostname(),
      'since': time.strftime('%Y-%m-%d %H:%M:%S'),
  }


def _taken(folder: paths.Path, holder: str) -> errors.UserError:
  return errors.UserError(
      f"'{folder}' must be worked on by one process at a time, but {holder} is"
      ' at work in it. Wait until it ends, or choose another folder.'
  )


def _describe_holder(path: pathlib.Path) -> str:
  try:
    return leases.describe(json.loads(path.read_text()))
  except (OSError, ValueError, TypeError):
    return leases.describe({})
