"""What verbs that work long have in common: how they end, and what is kept."""

from collections.abc import Callable
from concurrent import futures
import os
import pathlib
import tempfile
import threading
from typing import Any

from musiclm_jax import errors
import tqdm

Write = Callable[[str | pathlib.Path], None]


def interruptible(work: Callable[[], Any]) -> Any:
  """Returns what `work` returns; a signal ends the wait at once.

  Python handles signals in the main thread, between two steps of its own: if
  that thread compiled a network, Ctrl-C would seem to do nothing.
  """
  result: futures.Future[Any] = futures.Future()

  def run() -> None:
    try:
      result.set_result(work())
    except BaseException as e:  # pylint: disable=broad-except
      result.set_exception(e)

  threading.Thread(target=run, daemon=True).start()
  try:
    return result.result()
  except KeyboardInterrupt:
    for bar in [*getattr(tqdm.tqdm, '_instances', [])]:
      bar.close()  # The thread that draws it is left behind.
    raise


def _keep(path: str, write: Write) -> None:
  """Writes what took long to make, elsewhere if it can't be where it should.

  Raises:
    WriteError: If it can't; says where the result is.
  """
  try:
    write(path)
    return
  except (errors.UserError, OSError) as e:
    error, reason = e, errors.one_line(e)
  for folder in (None, os.getcwd()):
    try:
      spare = pathlib.Path(tempfile.mkdtemp(prefix='musiclm-', dir=folder))
      kept = spare / f'made{pathlib.Path(path).suffix}'
      write(kept)
    except (errors.UserError, OSError):
      continue
    raise errors.WriteError(
        f"{reason} What was made is in '{kept}'."
    ) from error
  raise errors.WriteError(
      f'{reason} There was no other place for what was made, and it is lost.'
  ) from error


def write_all(
    outputs: dict[str, Write],
    written: list[str],
) -> None:
  """Writes each output, also if another can't be; notes what is written."""
  refusals = []
  for path, write in outputs.items():
    try:
      _keep(path, write)
      written.append(path)
    except errors.WriteError as e:
      refusals.append(str(e))
  if refusals:
    raise errors.WriteError(' '.join(refusals))
