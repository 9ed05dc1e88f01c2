"""Runs what writes a dataset: in this process, or as a Beam pipeline."""

from collections.abc import Iterator, Sequence
import contextlib
import io
import os
from typing import Any

from etils import epath
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax.data import builder as builder_lib
from musiclm_jax.data import building
import tensorflow_datasets as tfds

_RUNNERS_HERE = ('FnApiRunner', 'DirectRunner')  # Work on this machine.


def check_runner(runner: str | None, data_dir: str | os.PathLike[str]) -> None:
  """Raises UserError if a runner's workers could not write a dataset."""
  if paths.is_remote(data_dir) and runner not in (None, *_RUNNERS_HERE):
    raise errors.UserError(
        f'--runner must be one of {_RUNNERS_HERE} where the data directory is'
        f" in a bucket, but is '{runner}': array_records are written to a"
        ' folder that all workers see. Mount the bucket, and give its folder.'
    )


def prepare(
    builder: builder_lib.Builder,
    downloads: epath.Path,
    runner: str | None,
    beam_options: Any,
) -> None:
  """Writes the files of a dataset.

  Args:
    builder: Builder of the dataset.
    downloads: Folder that tfds makes for downloads, of which there are none.
    runner: Beam runner; None for this process.
    beam_options: The `options` of its pipeline.
  """
  config = tfds.download.DownloadConfig(
      try_download_gcs=False, beam_runner=runner, beam_options=beam_options
  )
  tfds.disable_progress_bar()
  # tfds announces downloads, but there are none.
  with contextlib.redirect_stdout(io.StringIO()), _told_by_beam():
    builder.download_and_prepare(download_dir=downloads, download_config=config)


@contextlib.contextmanager
def _told_by_beam() -> Iterator[None]:
  """Turns errors of a Beam pipeline into the UserErrors that they wrap."""
  try:
    yield
  except (ValueError, RuntimeError) as e:
    message, *while_running = str(e).split(' [while running', 1)
    if while_running and isinstance(e, errors.UserError):
      raise type(e)(message) from e
    if while_running and 'number of generated examples is 0' in message:
      raise building.TooLittleError(
          'every split must hold examples, but one is empty. Add works, or mend'
          f' those that were skipped: {message}'
      ) from e
    raise


def options(runner: str | None, flags: Sequence[str]) -> Any:
  """Returns the options of a Beam pipeline, given its runner and flags."""
  if runner is None:
    return None
  # Only this path needs Beam, which is slow to import.
  from apache_beam import runners  # pylint: disable=g-import-not-at-top
  from apache_beam.options import pipeline_options  # pylint: disable=g-import-not-at-top

  try:
    runners.create_runner(runner)
  except (ValueError, ImportError) as e:
    raise errors.UserError(
        f"--runner must be one of Beam, but is '{runner}': {e}"
    ) from e
  return pipeline_options.PipelineOptions(flags=list(flags))
