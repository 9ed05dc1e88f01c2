"""What notebooks show: audio to hear and to see, and how a training goes."""

from collections.abc import Sequence
import contextlib
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import paths
import numpy as np

_LINES = 25  # Of the log of a command: the table of a recipe, and some.
_WINDOW, _FLOOR = 1024, -140.0  # Samples; dB per Hz.


def spectrogram(
    audio: Float[np.ndarray, ' samples'], sample_rate: int, axes: Any
) -> None:
  """Draws the spectrogram of audio on matplotlib axes."""
  # By matplotlib, as with JAX the notebook would hold on to the accelerator,
  # which commands need.
  with np.errstate(divide='ignore'):  # Silence.
    axes.specgram(
        audio, _WINDOW, sample_rate, noverlap=_WINDOW * 3 // 4, vmin=_FLOOR
    )
  axes.set(xlabel='seconds', ylabel='Hz')


def hear(
    audio: Float[np.ndarray, ' samples'], sample_rate: int, title: str = ''
) -> None:
  """Shows a player of audio, and its spectrogram.

  Args:
    audio: [samples] in [-1, 1].
    sample_rate: Samples per second.
    title: Stands above.
  """
  from IPython import display
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(8, 2))
  spectrogram(audio, sample_rate, axes)
  axes.set_title(title)
  display.display(figure)
  pyplot.close(figure)
  # Not normalized, so that takes can be compared.
  clipped = np.clip(audio, -1, 1)
  display.display(display.Audio(clipped, rate=sample_rate, normalize=False))


def _curves(
    folder: str | os.PathLike[str],
) -> dict[str, list[dict[str, Any]]]:
  """Returns the records with a loss of each run in a folder, by its name."""
  from musiclm_jax.training import run_files

  found = {}
  for path in paths.files_in(paths.to_path(folder)):
    if path.name != run_files.METRICS:
      continue
    records = run_files.read_metrics(path.parent)
    records = [record for record in records if 'loss' in record]
    if records:
      found[path.parent.name] = records
  return found


def draw_losses(folder: str | os.PathLike[str]) -> Any:
  """Draws the losses of the runs in a folder.

  Returns:
    A matplotlib figure; None if there are no losses yet.
  """
  from matplotlib import pyplot

  curves = _curves(folder)
  if not curves:
    return None
  figure, grid = pyplot.subplots(
      1, len(curves), figsize=(3 * len(curves), 2.5), squeeze=False
  )
  for axes, (name, records) in zip(grid[0], curves.items()):
    for split in ('train', 'eval'):
      points = [(r['step'], r['loss']) for r in records if r['split'] == split]
      if points:
        axes.plot(*zip(*points), marker='.', label=split)
    axes.set(title=name, xlabel='step')
    axes.legend()
  figure.tight_layout()
  return figure


def _show(folder: str | os.PathLike[str] | None, lines: Sequence[str]) -> None:
  from IPython import display
  from matplotlib import pyplot

  figure = draw_losses(folder) if folder is not None else None
  display.clear_output(wait=True)
  if figure is not None:
    display.display(figure)
    pyplot.close(figure)
  print('\n'.join(lines[-_LINES:]))


def _start(
    arguments: Sequence[str],
) -> tuple[Any, 'queue.Queue[str | None]']:
  """Starts the command `musiclm`.

  Returns:
    The process, and the lines that it says as they come; None after the last.
  """
  beside = pathlib.Path(sys.executable).parent
  path = os.pathsep.join([str(beside), os.environ.get('PATH', '')])
  process = subprocess.Popen(
      [shutil.which('musiclm', path=path) or 'musiclm', *arguments],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
  )
  said: queue.Queue[str | None] = queue.Queue()

  def listen():
    for line in process.stdout:
      said.put(line.rstrip())
    said.put(None)

  threading.Thread(target=listen, daemon=True).start()
  return process, said


def watch(
    arguments: Sequence[str],
    folder: str | os.PathLike[str] | None = None,
    period: float = 5.0,
) -> None:
  """Runs the command `musiclm` and shows its log, and losses as they fall.

  To stop the cell stops the command, which saves first.

  Args:
    arguments: Of the command, e.g. ['recipe', '--data', …].
    folder: The folder of its runs; None if it trains nothing.
    period: Seconds between two drawings.

  Raises:
    UserError: If it fails; says its last lines.
  """
  process, said = _start(arguments)
  lines: list[str] = []
  drawn = 0.0
  try:
    while True:
      with contextlib.suppress(queue.Empty):
        line = said.get(timeout=0.2)
        if line is None:
          break
        lines.append(line)
      if time.monotonic() - drawn > period:
        _show(folder, lines)
        drawn = time.monotonic()
  except KeyboardInterrupt:
    process.send_signal(signal.SIGINT)
    process.wait()
    raise
  process.wait()
  _show(folder, lines)
  if process.returncode:
    raise errors.UserError(
        f'musiclm {arguments[0]} must end well, but ended with status'
        f' {process.returncode}: {" ".join(lines[-1:])}'
    )
