"""How verbs that run long are interrupted, and keep their results."""

from collections.abc import Callable
from concurrent import futures
import os
import pathlib
import shutil
import tempfile
import threading
from typing import Any

from musiclm_jax import errors
import tqdm

Write = Callable[[str | pathlib.Path], None]


def interruptible(work: Callable[[], Any]) -> Any:
  """Runs `work` in a thread and returns its result; a signal ends the wait.

  Python handles signals in the main thread between bytecodes: while that thread
  compiled a network, Ctrl-C would have no effect.
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
      bar.close()  # Its thread goes on.
    raise


def _keep(path: str, write: Write) -> None:
  """Writes a result; if that fails, keeps it in another folder.

  Raises:
    WriteError: If it could not be written to `path`; names the other folder.
  """
  try:
    write(path)
    return
  except (errors.UserError, OSError) as e:
    error, reason = e, errors.one_line(e)
  for folder in (None, os.getcwd()):
    try:
      spare = pathlib.Path(tempfile.mkdtemp(prefix='musiclm-', dir=folder))
    except OSError:
      continue
    kept = spare / f'made{pathlib.Path(path).suffix}'
    try:
      write(kept)
    except (errors.UserError, OSError):
      shutil.rmtree(spare, ignore_errors=True)
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
  """Writes each output even if others fail; adds the paths to `written`."""
  refusals = []
  for path, write in outputs.items():
    try:
      _keep(path, write)
      written.append(path)
    except errors.WriteError as e:
      refusals.append(str(e))
  if refusals:
    raise errors.WriteError(' '.join(refusals))
