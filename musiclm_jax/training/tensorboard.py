"""TensorBoard files of a run."""

from concurrent import futures
import os
import pathlib
import tempfile
import time
from typing import Any

from musiclm_jax import errors
from musiclm_jax import muting
from musiclm_jax import paths

PERIOD = 120.0  # Seconds between two copies to a bucket.


def _clu_writer(folder: str) -> Any:
  try:
    # Takes seconds, as it imports TensorFlow.
    with muting.importing_tensorflow():
      from clu import metric_writers  # pylint: disable=g-import-not-at-top
  except ModuleNotFoundError as e:
    raise errors.UserError(
        f'TensorBoard files need {e.name}, which is not installed. Run pip'
        " install 'musiclm_jax[train]', or set TENSORBOARD = False."
    ) from e
  return metric_writers.AsyncMultiWriter([metric_writers.SummaryWriter(folder)])


class Writer:
  """A `clu.metric_writers.MetricWriter` that also writes to buckets.

  Nothing can be appended to an object: files that are to be in a bucket grow on
  this machine, and are copied from time to time.
  """

  def __init__(self, model_dir: str | os.PathLike[str]):
    """Makes a file in the folder of a run."""
    self._model_dir = paths.to_path(model_dir)
    self._folder: Any = None
    if paths.is_remote(model_dir):
      self._folder = tempfile.TemporaryDirectory(prefix='musiclm-')
    self._writer = _clu_writer(
        self._folder.name if self._folder else os.fspath(model_dir)
    )
    self._copier = futures.ThreadPoolExecutor(1)
    self._copied = time.monotonic()
    self._copying: futures.Future[None] | None = None

  def __getattr__(self, name: str) -> Any:
    return getattr(self._writer, name)

  def copy_if_due(self) -> None:
    """Starts copying to the bucket, unless that was done a moment ago."""
    if self._folder is None or time.monotonic() - self._copied < PERIOD:
      return
    if self._copying is not None:
      if not self._copying.done():
        return
      copying, self._copying = self._copying, None
      copying.result()  # If it failed, the next one may not.
    self._copied = time.monotonic()
    self._writer.flush()
    self._copying = self._copier.submit(self._copy)

  def _copy(self) -> None:
    for file in pathlib.Path(self._folder.name).iterdir():
      paths.upload(file, self._model_dir / file.name)

  def close(self) -> None:
    """Writes what is left."""
    self._writer.close()
    self._copier.shutdown()
    if self._folder is not None:
      self._copy()
      self._folder.cleanup()
