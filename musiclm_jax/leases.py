"""Leases: what stands for a lock in a bucket, which has none.

A lease is an object that its holder writes anew every few seconds. Each write
says which generation it replaces, and is refused if another process has written
meanwhile; so there is at most one holder. Who died has left an object that does
not change any more, and which another process may take over.
"""

from collections.abc import Iterator, Mapping
import contextlib
import os
import pathlib
import threading
import time
from typing import Any
import uuid

from etils import epath
from musiclm_jax import errors
from musiclm_jax import progress

RENEWAL = 10.0  # Seconds between two writes of a holder.
PATIENCE = 30.0  # Seconds without one after which a lease is taken over.
_POLL = 1.0


def _this_machine() -> str:
  """Returns what tells apart the machines on which a process id means another.

  It is empty where the system does not tell.
  """
  try:
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return ''


def describe(holder: Mapping[str, Any]) -> str:
  """Describes a process by what it wrote about itself, for a message."""
  try:
    return (
        f"`{holder['what']}` (process {holder['pid']} on {holder['host']},"
        f" since {holder['since']})"
    )
  except KeyError:
    return 'another process'


class _Object:
  """The object of a lease, which is only written if it is as it was read."""

  def __init__(self, path: epath.Path):
    import google.cloud.storage as storage

    bucket, _, self._name = os.fspath(path).partition('://')[2].partition('/')
    self._bucket = storage.Client(project='none').bucket(bucket)

  def write(self, value: Mapping[str, str], generation: int) -> int | None:
    """Replaces a generation; 0 stands for none.

    Returns:
      The new generation; None if it is not the one to replace.
    """
    from google.api_core import exceptions

    blob = self._bucket.blob(self._name)
    blob.metadata = dict(value)  # Is read together with the generation.
    try:
      blob.upload_from_string('', if_generation_match=generation)
    except exceptions.PreconditionFailed:
      # The answer to an earlier attempt may have been lost on the way.
      there, now = self.read()
      return now if there == value else None
    return int(blob.generation)

  def read(self) -> tuple[dict[str, str], int]:
    """Returns what was written and its generation, 0 if there is none."""
    blob = self._bucket.get_blob(self._name)
    if blob is None:
      return {}, 0
    return dict(blob.metadata or {}), int(blob.generation)

  def delete(self, generation: int) -> None:
    """Deletes a generation; raises an error if it is another."""
    self._bucket.blob(self._name).delete(if_generation_match=generation)


def _is_dead(holder: Mapping[str, Any]) -> bool:
  """Returns whether the holder is known to have died on this machine."""
  if not _this_machine() or holder.get('machine') != _this_machine():
    return False
  try:
    os.kill(int(holder['pid']), 0)
  except ProcessLookupError:
    return True
  except (OSError, KeyError, TypeError, ValueError):
    pass
  return False


class HeldError(errors.UserError):
  """A lease that another process holds.

  Attributes:
    holder: What that process wrote about itself.
  """

  def __init__(self, holder: Mapping[str, Any]):
    super().__init__('the lease is held by another process')
    self.holder = holder


def _take(there: _Object, value: Mapping[str, Any]) -> int:
  """Writes a lease once nobody holds it; returns the generation.

  Raises:
    HeldError: If another process renews it meanwhile.
  """
  seen, since = 0, time.monotonic()
  while True:
    holder, generation = there.read()
    if seen and generation not in (0, seen):
      raise HeldError(holder)
    waited = time.monotonic() - since
    if not generation or _is_dead(holder) or waited > PATIENCE:
      taken = there.write(value, generation)
      if taken:
        return taken
      continue
    if not seen:
      progress.say(
          f'waiting for up to {PATIENCE:g} s, to see whether'
          f' {describe(holder)} is still at work'
      )
    seen = generation
    time.sleep(_POLL)


@contextlib.contextmanager
def holding(path: epath.Path, about: Mapping[str, Any]) -> Iterator[None]:
  """Holds a lease during the body.

  Should another process take it over, as this one could not renew it in time,
  this process ends at once: two must not write the same files.

  Args:
    path: Path of its object.
    about: What this process says about itself, see `describe`.

  Raises:
    HeldError: If another process holds it.
  """
  there = _Object(path)
  value = {name: str(said) for name, said in about.items()}
  value |= {'machine': _this_machine(), 'token': uuid.uuid4().hex}
  held = [_take(there, value)]
  ended = threading.Event()

  def renew() -> None:
    while not ended.wait(RENEWAL):
      with contextlib.suppress(Exception):  # Tried again in some seconds.
        renewed = there.write({**value, 'at': str(time.time())}, held[0])
        if renewed is None:
          progress.say(f'stopped at once: another process took over {path}')
          os._exit(1)
        held[0] = renewed

  thread = threading.Thread(target=renew, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    with contextlib.suppress(Exception):  # It will be taken over.
      there.delete(held[0])
