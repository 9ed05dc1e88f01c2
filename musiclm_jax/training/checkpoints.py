"""Orbax checkpoints that are recognized as complete; see `step_folders`.

They hold the variables, the optimizer's state and the position in the data.
"""

from collections.abc import Mapping
from concurrent import futures
import contextlib
import logging
import os
import pathlib
import re
from typing import Any

from etils import epath
import jax
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax.training import averaging
from musiclm_jax.training import step_folders
import numpy as np
import orbax.checkpoint as ocp

CHECKSUMS = step_folders.CHECKSUMS
NUM_KEPT = 2

complete_steps = step_folders.complete_steps

# Failures of orbax in the background are raised, so they need not be logged.
logging.getLogger('absl').addFilter(
    lambda record: 'orbax' not in pathlib.Path(record.pathname).parts
)


def _describe(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(k): tuple(x.shape) for k, x in leaves}


def _check_shapes(path: paths.Path, saved: Any, expected: Any) -> None:
  held, wanted = _describe(saved), _describe(expected)
  for name in sorted(held.keys() | wanted.keys()):
    if held.get(name) != wanted.get(name):
      raise errors.UserError(
          f'{path} must fit the model, but holds {name} of shape'
          f' {held.get(name)} where the model has {wanted.get(name)}. Train'
          ' with the config it was made with, or into another MODEL_DIR.'
      )


def _reason(error: Exception) -> str:
  """Returns why something can't be written, as the system puts it."""
  text = errors.one_line(error)
  # TensorStore says so after much else, and calls resources exhausted.
  known = re.search(r'No space left on device|File too large|Disk quota', text)
  return known[0] if known else f'{type(error).__name__}: {text:.300}'


class Checkpoints:
  """The checkpoints of a run; the last two are kept, and the best.

  Attributes:
    model_dir: Folder of the run.
    best: Step of a checkpoint to keep, however old it is; None for none.
  """

  def __init__(self, model_dir: str | os.PathLike[str]):
    """Removes half-written checkpoints of a killed run."""
    self.model_dir = paths.absolute(model_dir)
    if jax.process_index() == 0:
      step_folders.directory(model_dir).mkdir(parents=True, exist_ok=True)
      step_folders.remove_unfinished(model_dir)
      step_folders.say_what_is_left_alone(model_dir)
    self.best: int | None = None
    self._checkpointer = ocp.AsyncCheckpointer(
        ocp.CompositeCheckpointHandler(
            variables=ocp.StandardCheckpointHandler(),
            optimizer=ocp.StandardCheckpointHandler(),
            data=ocp.JsonCheckpointHandler(),
        )
    )
    self._committer = futures.ThreadPoolExecutor(1)
    self._commit: futures.Future[None] | None = None

  def save(
      self,
      step: int,
      variables: Mapping[str, Any],
      optimizer: Any,
      data: Mapping[str, Any],
  ) -> None:
    """Starts saving; returns once the arrays may be changed.

    Args:
      step: The last step that was taken.
      variables: Linen collections.
      optimizer: Tree of arrays.
      data: JSON values.

    Raises:
      WriteError: If this checkpoint, or the one before, can't be written.
    """
    self.wait()
    folder = step_folders.directory(self.model_dir) / str(step)
    if paths.is_there(folder):
      raise errors.WriteError(
          f'{folder} must be free for the checkpoint of step {step}, but'
          f' exists. Move it. {self._what_is_safe()}'
      )
    try:
      self._checkpointer.save(
          folder,
          args=ocp.args.Composite(
              variables=ocp.args.StandardSave(dict(variables)),
              optimizer=ocp.args.StandardSave(optimizer),
              data=ocp.args.JsonSave(dict(data)),
          ),
      )
    except Exception as e:
      raise self._failure(step, e) from e
    self._commit = self._committer.submit(self._finish, step)

  def _finish(self, step: int) -> None:
    try:
      self._checkpointer.wait_until_finished()
      if jax.process_index() == 0:
        step_folders.seal(step_folders.directory(self.model_dir) / str(step))
        step_folders.remove_old(self.model_dir, NUM_KEPT, self.best)
    except Exception as e:
      raise self._failure(step, e) from e

  def _failure(self, step: int, error: Exception) -> errors.WriteError:
    """Removes an unfinished checkpoint; returns the error to raise."""
    if jax.process_index() == 0:
      folder = step_folders.directory(self.model_dir)
      for path in (*folder.glob(f'{step}.orbax-*'), folder / str(step)):
        with contextlib.suppress(Exception):  # That of the save is told.
          paths.remove_tree(path)
    return errors.WriteError(
        f'the checkpoint of step {step} must be written to {self.model_dir},'
        f' but the system says: {_reason(error)}. {self._what_is_safe()}'
    )

  def _what_is_safe(self) -> str:
    last = max(complete_steps(self.model_dir), default=0)
    safe = f'Step {last} is safe' if last else 'No step is saved yet'
    return f'{safe}: mend this, then run the same command to go on.'

  @property
  def is_saving(self) -> bool:
    """Whether a checkpoint is being written."""
    return self._commit is not None and not self._commit.done()

  def raise_failure(self) -> None:
    """Raises WriteError if the last save is known to have failed."""
    if not self.is_saving:
      self.wait()

  def wait(self) -> None:
    """Returns once the last save is complete; raises its error if it failed."""
    if self._commit is None:
      return
    try:
      self._commit.result()
    finally:  # Until now it was being written, and a signal must wait.
      self._commit = None

  def restore(
      self, step: int, variables: Any, optimizer: Any
  ) -> tuple[Any, Any, dict[str, Any]]:
    """Reads a checkpoint onto the devices of this run.

    Args:
      step: One of `complete_steps`.
      variables: ShapeDtypeStructs of the saved variables, with shardings. An
        average that was not saved is not restored, either.
      optimizer: ShapeDtypeStructs of the optimizer's tree, with shardings.

    Returns:
      The variables, the optimizer's tree and the data.

    Raises:
      UserError: If a file is damaged or the shapes differ.
    """
    path = step_folders.directory(self.model_dir) / str(step)
    with _reading(self.model_dir, step):
      metadata = self._checkpointer.metadata(path).item_metadata
      variables = averaging.held(variables, metadata['variables'].tree, path)
      _check_shapes(path, metadata['variables'].tree, variables)
      restored = self._checkpointer.restore(
          path,
          args=ocp.args.Composite(
              variables=ocp.args.StandardRestore(variables),
              optimizer=ocp.args.StandardRestore(optimizer),
              data=ocp.args.JsonRestore(),
          ),
      )
    return restored['variables'], restored['optimizer'], restored['data']

  def close(self) -> None:
    """Waits for the last save."""
    try:
      self.wait()
    finally:
      self._committer.shutdown()
      with contextlib.suppress(Exception):  # Raises the error of `wait` again.
        self._checkpointer.close()


def _reading(model_dir: str | os.PathLike[str], step: int):
  """Checks a checkpoint, and turns errors from orbax into UserError."""
  step_folders.check(model_dir, step)
  return errors.reading(
      step_folders.directory(model_dir) / str(step),
      'a checkpoint of this program',
      step_folders.advice(model_dir, step),
  )


def restore_variables(
    model_dir: str | os.PathLike[str], step: int | None = None
) -> dict[str, Any]:
  """Reads the variables of a checkpoint of a run, e.g. to export them.

  Args:
    model_dir: Folder of the run.
    step: One of `complete_steps`; by default the last.

  Returns:
    Linen collections ('params' and mutables) of numpy arrays. If the run
    averages its parameters, 'params' is the average.

  Raises:
    NotFoundError: If there is no complete checkpoint.
    UserError: If one of its files is damaged.
  """
  if step is not None:
    return _read_variables(model_dir, step)
  while True:
    steps = complete_steps(model_dir)
    if not steps:
      raise errors.NotFoundError(
          f'{step_folders.directory(model_dir)} must hold a checkpoint, but'
          ' holds none. Train the part first.'
      )
    try:
      return _read_variables(model_dir, steps[-1])
    except errors.UserError:
      # A run in progress may have replaced it meanwhile.
      if max(complete_steps(model_dir), default=steps[-1]) == steps[-1]:
        raise


def _read_variables(
    model_dir: str | os.PathLike[str], step: int
) -> dict[str, Any]:
  with _reading(model_dir, step):
    folder = step_folders.directory(model_dir) / str(step)
    path = epath.Path(folder / 'variables')
    handler = ocp.StandardCheckpointHandler()
    metadata = handler.metadata(path).tree
    empty = jax.tree.map(lambda m: np.empty(m.shape, m.dtype), metadata)
    restored = handler.restore(path, args=ocp.args.StandardRestore(empty))
    return averaging.averaged(restored)
