"""Traces of some steps of a run, for xprof.

TensorBoard shows them in its tab "Profile" if the package xprof is installed:
`tensorboard --logdir MODEL_DIR`. Every process of a job writes its own.
"""

from collections.abc import Callable, Iterator
import contextlib
import os
import pathlib
import tempfile
from typing import Any

import jax
from musiclm_jax import paths
from musiclm_jax.training import reports


class Profiler:
  """Traces a range of steps; a trace that fails does not end the run."""

  def __init__(
      self,
      model_dir: str | os.PathLike[str],
      steps: tuple[int, int] | None,
      wait: Callable[[], None],
      say: Callable[[str], None],
  ):
    """Does nothing yet.

    Args:
      model_dir: Folder of the run, in which traces go to plugins/profile.
      steps: First step to trace, and the one after the last; None for none. A
        run that goes on from within traces the rest.
      wait: Waits for the end of the steps that were taken.
      say: Takes a line.
    """
    self._model_dir = os.fspath(model_dir)
    self._folder: Any = None  # On this machine, of a run in a bucket.
    self._start, self._stop = steps or (0, 0)
    self._wait = wait
    self._say = say
    self._is_tracing = False

  @contextlib.contextmanager
  def step(self, step: int) -> Iterator[None]:
    """Traces the body, a step, if it is one of the range."""
    if not self._start <= step < self._stop:
      yield
      return
    if not self._is_tracing:
      self._begin()
    with jax.profiler.StepTraceAnnotation('train', step_num=step):
      yield
    if step == self._stop - 1:
      self.close()

  def _begin(self) -> None:
    self._wait()  # For what is not to be traced.
    with reports.diagnosing('tracing', self._say):
      if paths.is_remote(self._model_dir):
        self._folder = tempfile.TemporaryDirectory(prefix='musiclm-')
      jax.profiler.start_trace(
          self._folder.name if self._folder else self._model_dir
      )
      self._is_tracing = True

  def close(self) -> None:
    """Writes the trace if one is under way."""
    if not self._is_tracing:
      return
    self._is_tracing = False
    with reports.diagnosing('writing the trace', self._say):
      self._wait()
      jax.profiler.stop_trace()
      if self._folder:
        paths.upload_tree(
            pathlib.Path(self._folder.name), paths.to_path(self._model_dir)
        )
        self._folder.cleanup()
      self._say(f'traced steps in {self._model_dir}/plugins/profile')
