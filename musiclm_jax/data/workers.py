"""A pool of processes that end with their parent."""

import collections
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import process
import contextlib
import logging
import multiprocessing
from multiprocessing import connection
import os
import signal
import threading
from typing import Any, TypeVar
import warnings

from musiclm_jax import errors
from musiclm_jax import progress

MAX_WORKERS = 61  # Windows cannot wait for more.
_NUM_NAMED = 3

T = TypeVar('T')


@contextlib.contextmanager
def pool(num_workers: int) -> Iterator[futures.ProcessPoolExecutor]:
  """Yields a pool of processes, which end with the body.

  An error waits for works that are being read; Ctrl-C and SIGTERM do not.
  """
  # A fork of a process with JAX's threads may hang.
  context = multiprocessing.get_context('spawn')
  watched, held = context.Pipe(duplex=False)
  is_quiet = logging.root.manager.disable >= logging.WARNING
  workers = futures.ProcessPoolExecutor(
      min(num_workers, MAX_WORKERS),
      mp_context=context,
      initializer=_start_worker,
      initargs=(watched, is_quiet),
  )
  wait = True
  with watched, held:
    try:
      yield workers
    except KeyboardInterrupt:
      held.close()  # They notice, and end.
      wait = False
      raise
    finally:
      # If one fails, works that have not begun are cancelled.
      with progress.telling('ending the processes that read works'):
        workers.shutdown(wait, cancel_futures=True)


def _start_worker(watched: connection.Connection, is_quiet: bool) -> None:
  if is_quiet:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter('ignore')
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  if hasattr(os, 'setpgid'):
    os.setpgid(0, 0)  # A process group with all its children.
  threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched: connection.Connection) -> None:
  """Ends this process once the other end of the pipe is closed."""
  with contextlib.suppress(EOFError, OSError):
    watched.recv()
  if hasattr(os, 'killpg'):
    os.killpg(0, signal.SIGKILL)
  os._exit(1)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
  """Keeps Ctrl-C from processes that the body starts.

  It would end them with a traceback before they can ignore it. This process
  receives it when the body ends.
  """
  if not hasattr(signal, 'pthread_sigmask'):
    yield
    return
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ordered_map(
    workers: futures.Executor,
    num_workers: int,
    name: Callable[[T], str],
    function: Callable[[T], Any],
    items: Sequence[T],
) -> Iterator[Any]:
  """Like `workers.map`, but never far ahead, as results hold audio.

  Args:
    workers: Pool of processes.
    num_workers: Number of processes.
    name: Returns the name of an item, for messages.
    function: Module-level function.
    items: Arguments of the function.

  Yields:
    The result of each item, in their order.

  Raises:
    UserError: If a process was killed.
  """
  pending: collections.deque[tuple[T, futures.Future]] = collections.deque()
  try:
    for item in items:
      with _without_interrupts():
        pending.append((item, workers.submit(function, item)))
      if len(pending) > 2 * num_workers:
        yield pending[0][1].result()
        pending.popleft()
    while pending:
      yield pending[0][1].result()
      pending.popleft()
  except process.BrokenProcessPool as e:
    # Works begin in order, so it is one of the first without a result.
    left = [item for item, work in pending if not _succeeded(work)]
    names = [name(item) for item in left[: min(num_workers, _NUM_NAMED)]]
    raise errors.UserError(
        'processes that read works must end by themselves, but one was'
        f' killed at {" or ".join(names)}, most likely because memory ran out.'
        f' Give --num_workers a number below {num_workers}, or leave such a'
        ' work out.'
    ) from e


def _succeeded(work: futures.Future) -> bool:
  return work.done() and work.exception() is None
