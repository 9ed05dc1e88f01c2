"""Signals that end a run after saving its state."""

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
# Seconds until a run that has nothing to save is ended from another thread:
# Python handles signals only after compilation, which may take minutes.
PATIENCE = 1.0
# Some parents forward a signal that the whole group receives anyway: one that
# comes this soon after the first is the same.
_ECHO = 0.2


def _name(signum: int) -> str:
  return signal.Signals(signum).name


class Interrupts:
  """Lets SIGINT and SIGTERM end a run without losing anything.

  Between steps, `raising` lets a signal end the run, which then saves. While
  there is nothing to save, a thread ends the process, whatever it is doing. A
  second signal ends it at once; the last complete checkpoint stays.

  Signals are left alone in threads other than the main one, which Python does
  not inform of them. In a job of several processes, of which one that stops
  alone would leave the others waiting, JAX listens to SIGTERM, and makes all
  processes stop after the same step, see `jobs.is_preempted`; a first SIGINT
  does the same.

  Attributes:
    signum: Number of the first signal; None if there was none.
    has_unsaved: Whether there are steps to save.
  """

  def __init__(
      self, describe: Callable[[], str], is_saving: Callable[[], bool]
  ):
    """Initializes; signals are handled from `listening` on.

    Args:
      describe: Returns a text: which step is saved, and how to continue.
      is_saving: Returns whether a checkpoint is being written.
    """
    self.signum: int | None = None
    self.has_unsaved = False
    self._describe = describe
    self._is_saving = is_saving
    self._may_raise = False

  @contextlib.contextmanager
  def listening(self) -> Iterator[None]:
    """Handles signals during the body."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return
    if jax.process_count() > 1:
      before_job = signal.signal(signal.SIGINT, _terminate)
      try:
        yield
      finally:
        signal.signal(signal.SIGINT, before_job)
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
    """Lets a signal end the body, even one that came before it.

    Raises:
      Interrupted: Without a message, as the last step is yet to be saved.
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
    """Handles signals as they come, whatever the main thread is doing."""
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


def _terminate(signum: int, frame: FrameType | None) -> None:
  """Turns the first SIGINT into SIGTERM; the second interrupts as ever."""
  del frame
  signal.signal(signum, signal.default_int_handler)
  signal.raise_signal(signal.SIGTERM)


def _is_interactive() -> bool:
  """Returns whether the process is interactive, and should outlive the run."""
  return hasattr(sys, 'ps1')
