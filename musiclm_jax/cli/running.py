"""The `musiclm` command: one verb per step, from data to music.

Each verb imports what it needs and nothing else, so that `musiclm generate`
starts without the training stack.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from types import FrameType
import warnings

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.cli import auditing
from musiclm_jax.cli import batch
from musiclm_jax.cli import common
from musiclm_jax.cli import data
from musiclm_jax.cli import evaluate
from musiclm_jax.cli import generate
from musiclm_jax.cli import train

# Set to show the traceback of every error, and the logs of libraries.
TRACEBACK = 'MUSICLM_TRACEBACK'


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog='musiclm', description=__doc__)
  verbs = parser.add_subparsers(dest='verb', required=True)
  for module in (generate, batch, data, train, evaluate, auditing):
    module.add_verbs(verbs)
  return parser


def _shows_all() -> bool:
  return os.environ.get(TRACEBACK, '') not in ('', '0')


def _mute() -> Callable[[], None]:
  """Silences messages of libraries.

  Returns:
    A function that undoes it, except for the environment of other processes.
  """
  if _shows_all():
    return lambda: None
  # Messages from C++, e.g. about missing CUDA and slow compilation.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('GRPC_VERBOSITY', 'NONE')
  os.environ.setdefault('PYTHONWARNINGS', 'ignore')
  undo = contextlib.ExitStack()
  undo.callback(logging.disable, logging.root.manager.disable)
  undo.callback(setattr, sys, 'unraisablehook', sys.unraisablehook)
  undo.enter_context(warnings.catch_warnings())
  # Anything that matters is also raised.
  logging.disable(logging.CRITICAL)
  sys.unraisablehook = lambda unraisable: None
  warnings.simplefilter('ignore')
  return undo.close


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
  """Makes SIGTERM end a verb as Ctrl-C does, so that it cleans up."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def end(signum: int, frame: FrameType | None) -> None:
    raise errors.Interrupted(signum)

  before = signal.signal(signal.SIGTERM, end)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


def _explain(error: BaseException) -> tuple[int, str] | None:
  """Returns the exit status and message of an error; None if it is a bug."""
  if isinstance(error, errors.Preempted):
    return 0, str(error)
  if isinstance(error, KeyboardInterrupt):
    signum = getattr(error, 'signum', signal.SIGINT)
    return 128 + signum, str(error) or 'interrupted; run it again to go on.'
  is_of_device = type(error).__name__ == 'JaxRuntimeError'
  if isinstance(error, MemoryError) or (
      is_of_device and 'RESOURCE_EXHAUSTED' in str(error)
  ):
    return 2, (
        'there must be enough memory, but it ran out. Ask for less at once,'
        f' e.g. by a smaller batch: {errors.one_line(error):.200}'
    )
  if isinstance(error, ModuleNotFoundError):
    if (error.name or '').startswith('musiclm_jax'):
      return None
    return 2, (
        f'{error.name} must be installed for this. Install the extras train'
        " and eval: pip install 'musiclm_jax[train,eval]'."
    )
  if isinstance(error, (errors.UserError, OSError)):
    return 2, errors.one_line(error)
  return None


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a verb; returns the exit status, 2 for errors of the user."""
  args, rest = _parser().parse_known_args(argv)
  unmute = _mute()
  try:
    with _ended_by_sigterm():
      return args.run(args, rest) or 0
  except (Exception, KeyboardInterrupt) as e:
    explained = _explain(e)
    if explained is None:
      raise
    if _shows_all():
      traceback.print_exc()
    status, message = explained
    progress.say(message)
    return status
  finally:
    unmute()


def script() -> None:
  """Runs `main` as a program, which an interrupt ends at once."""
  _mute()  # Not undone, as libraries also log while they shut down.
  try:
    status = main()
  except Exception:
    if not common.in_job():
      raise
    traceback.print_exc()
    status = 1
  # In a job, JAX would wait for the others, which wait for this process.
  if status <= 128 and not (status and common.in_job()):
    sys.exit(status)
  # Running threads and processes would delay the exit.
  for child in multiprocessing.active_children():
    child.terminate()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
