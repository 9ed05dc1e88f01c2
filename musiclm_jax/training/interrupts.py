"""Signals that end a run, once its state is saved."""

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

import jax
from musiclm_jax import errors
from musiclm_jax import progress

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds until a run that has nothing to save is ended from outside: Python
# hears of a signal only once compilation is over, which may take minutes.
PATIENCE = 1.0
# Some parents pass a signal on that the whole group gets anyway: one that comes
# as soon after the first is the same.
_ECHO = 0.2


def _name(signum: int) -> str:
  return signal.Signals(signum).name


class Interrupts:
  """Turns SIGINT and SIGTERM into an end at which nothing is lost.

  Between steps `raising` lets a signal end the run, which then saves. As long
  as there is nothing to save, a thread ends the process, whatever it does. A
  second signal ends it at once: the last whole checkpoint stays.

  Signals are left as they are in a thread that is not the main one, which
  Python does not tell of them, and in a job of several processes: one that
  stops alone would leave the others waiting for it for ever.

  Attributes:
    signum: Number of the first signal; None as long as there is none.
    has_unsaved: Whether there are steps to save.
  """

  def __init__(
      self, describe: Callable[[], str], is_saving: Callable[[], bool]
  ):
    """Does nothing yet.

    Args:
      describe: Returns which step is saved and how to go on, as a text.
      is_saving: Returns whether a checkpoint is being written.
    """
    self.signum: int | None = None
    self.has_unsaved = False
    self._describe = describe
    self._is_saving = is_saving
    self._may_raise = False

  @contextlib.contextmanager
  def listening(self) -> Iterator[None]:
    """Hears signals in the body."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or jax.process_count() > 1:
      yield
      return
    here, there = socket.socketpair()
    there.setblocking(False)
    watcher = threading.Thread(target=self._watch, args=(here,), daemon=True)
    watcher.start()
    wakeup_before = signal.set_wakeup_fd(
        there.fileno(), warn_on_full_buffer=False
    )
    before = {s: signal.signal(s, self._handle) for s in SIGNALS}
    try:
      yield
    finally:
      for signum, handler in before.items():
        signal.signal(signum, handler)
      signal.set_wakeup_fd(wakeup_before)
      there.close()
      watcher.join()
      here.close()

  @contextlib.contextmanager
  def raising(self) -> Iterator[None]:
    """Lets a signal, one that came before included, end the body.

    Raises:
      Interrupted: Without a message, as the last step is not saved yet.
    """
    self._may_raise = True
    try:
      if self.signum is not None:
        raise errors.Interrupted(self.signum)
      yield
    finally:
      self._may_raise = False

  def check(self) -> None:
    """Raises Interrupted, with a message, if a signal has come."""
    if self.signum is not None:
      raise errors.Interrupted(self.signum, self._describe())

  def _handle(self, signum: int, frame: FrameType | None) -> None:
    del frame
    self.signum = self.signum or signum
    if self._may_raise:
      self._may_raise = False
      raise errors.Interrupted(self.signum)

  def _watch(self, signals: socket.socket) -> None:
    """Hears signals as they come, whatever the main thread does."""
    first = None
    while True:
      with contextlib.suppress(TimeoutError):
        received = signals.recv(1)
        if not received:
          return
        if received[0] not in SIGNALS:
          continue
        if first is None:
          first = time.monotonic()
          self.signum = received[0]
          signals.settimeout(_ECHO)
          self._announce()
        elif time.monotonic() - first > _ECHO:
          self._end('stopped at once')
      if first is not None and self._is_stuck(first):
        self._end('stopped')

  def _announce(self) -> None:
    if self.has_unsaved or self._is_saving():
      name = _name(self.signum or 0)
      progress.say(f'{name}: saves and stops; once more to stop at once')

  def _is_stuck(self, since: float) -> bool:
    if self.has_unsaved or self._is_saving() or _is_interactive():
      return False
    return time.monotonic() - since > PATIENCE

  def _end(self, how: str) -> NoReturn:
    progress.say(f'{how}: {self._describe()}')
    sys.stdout.flush()
    os._exit(128 + (self.signum or 0))


def _is_interactive() -> bool:
  """Returns whether more than this run would end with the process."""
  return hasattr(sys, 'ps1')
