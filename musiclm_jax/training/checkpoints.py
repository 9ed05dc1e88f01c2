"""Orbax checkpoints that know when they are whole.

<model_dir>/checkpoints/<step>/ holds the variables, the optimizer's state and
the position in the data. `checksums.json` is written last, once every file is
on disk: a folder without it was cut off, and is not a checkpoint.
"""

from collections.abc import Mapping
from concurrent import futures
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

from etils import epath
import jax
from musiclm_jax import errors
import numpy as np
import orbax.checkpoint as ocp

CHECKSUMS = 'checksums.json'
NUM_KEPT = 2


def _directory(model_dir: str | os.PathLike[str]) -> pathlib.Path:
  return pathlib.Path(model_dir).resolve() / 'checkpoints'


def complete_steps(model_dir: str | os.PathLike[str]) -> list[int]:
  """Returns the step of each whole checkpoint, in order."""
  paths = _directory(model_dir).glob(f'*/{CHECKSUMS}')
  return sorted(int(p.parent.name) for p in paths if p.parent.name.isdigit())


def _sha256(path: pathlib.Path) -> str:
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def _hash_files(directory: pathlib.Path) -> dict[str, str]:
  return {
      str(path.relative_to(directory)): _sha256(path)
      for path in sorted(directory.rglob('*'))
      if path.is_file() and path.name != CHECKSUMS
  }


def _write_checksums(directory: pathlib.Path) -> None:
  checksums = _hash_files(directory)
  temporary = directory / f'{CHECKSUMS}.tmp'
  with open(temporary, 'w') as f:
    json.dump(checksums, f, indent=2)
    f.flush()
    os.fsync(f.fileno())
  temporary.replace(directory / CHECKSUMS)


def check(model_dir: str | os.PathLike[str], step: int) -> None:
  """Raises ValueError if a file of a checkpoint is missing or damaged."""
  directory = _directory(model_dir) / str(step)
  for name, expected in json.loads((directory / CHECKSUMS).read_text()).items():
    path = directory / name
    came = _sha256(path) if path.exists() else 'nothing'
    if came != expected:
      others = [s for s in complete_steps(model_dir) if s != step]
      from_where = f'step {others[-1]}' if others else 'the start'
      raise errors.UserError(
          f'{path} must have sha256 {expected[:12]}, but has {came[:12]}: the'
          f' checkpoint is damaged. Delete {directory} to go on from'
          f' {from_where}.'
      )


def _describe(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(k): tuple(x.shape) for k, x in leaves}


def _check_shapes(path: pathlib.Path, saved: Any, expected: Any) -> None:
  held, wanted = _describe(saved), _describe(expected)
  for name in sorted(held.keys() | wanted.keys()):
    if held.get(name) != wanted.get(name):
      raise errors.UserError(
          f'{path} must fit the model, but holds {name} of shape'
          f' {held.get(name)} where the model has {wanted.get(name)}. Train'
          ' with the config it was made with, or into another MODEL_DIR.'
      )


class Checkpoints:
  """The checkpoints of a run; the last two are kept.

  Attributes:
    model_dir: Of the run.
  """

  def __init__(self, model_dir: str | os.PathLike[str]):
    """Removes what a killed run left half-written."""
    self.model_dir = pathlib.Path(model_dir).resolve()
    directory = _directory(model_dir)
    if jax.process_index() == 0:
      steps = {str(s) for s in complete_steps(model_dir)}
      directory.mkdir(parents=True, exist_ok=True)
      for path in directory.iterdir():
        if path.name not in steps:
          shutil.rmtree(path)
    self._manager = ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(max_to_keep=NUM_KEPT),
        item_handlers={
            'variables': ocp.StandardCheckpointHandler(),
            'optimizer': ocp.StandardCheckpointHandler(),
            'data': ocp.JsonCheckpointHandler(),
        },
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
    """Starts to save; returns once the arrays may be changed.

    Args:
      step: Of the run.
      variables: Linen collections.
      optimizer: Tree of arrays.
      data: JSON values.
    """
    self.wait()
    self._manager.save(
        step,
        args=ocp.args.Composite(
            variables=ocp.args.StandardSave(dict(variables)),
            optimizer=ocp.args.StandardSave(optimizer),
            data=ocp.args.JsonSave(dict(data)),
        ),
    )
    self._commit = self._committer.submit(self._finish, step)

  def _finish(self, step: int) -> None:
    self._manager.wait_until_finished()
    if jax.process_index() == 0:
      _write_checksums(_directory(self.model_dir) / str(step))

  def wait(self) -> None:
    """Returns once the last save is whole; raises what it failed with."""
    if self._commit is not None:
      self._commit.result()
      self._commit = None

  def restore(
      self, step: int, variables: Any, optimizer: Any
  ) -> tuple[Any, Any, dict[str, Any]]:
    """Reads a checkpoint onto the devices of this run.

    Args:
      step: One of `complete_steps`.
      variables: ShapeDtypeStructs, with shardings, of what was saved.
      optimizer: Likewise.

    Returns:
      The variables, the optimizer's tree and the data.

    Raises:
      ValueError: If a file is damaged or the shapes differ.
    """
    check(self.model_dir, step)
    path = _directory(self.model_dir) / str(step)
    metadata = self._manager.item_metadata(step)
    _check_shapes(path, metadata['variables'].tree, variables)
    restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
            variables=ocp.args.StandardRestore(variables),
            optimizer=ocp.args.StandardRestore(optimizer),
            data=ocp.args.JsonRestore(),
        ),
    )
    return restored['variables'], restored['optimizer'], restored['data']

  def close(self) -> None:
    """Waits for the last save."""
    self.wait()
    self._committer.shutdown()
    self._manager.close()


def restore_variables(model_dir: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads the variables of the last checkpoint of a run, e.g. to export them.

  Args:
    model_dir: Of the run.

  Returns:
    Linen collections ('params' and mutables) of numpy arrays.

  Raises:
    FileNotFoundError: If there is no whole checkpoint.
    ValueError: If a file of it is damaged.
  """
  steps = complete_steps(model_dir)
  if not steps:
    raise errors.NotFoundError(
        f'{_directory(model_dir)} must hold a checkpoint, but holds none.'
        ' Train the part first.'
    )
  check(model_dir, steps[-1])
  path = epath.Path(_directory(model_dir) / str(steps[-1]) / 'variables')
  handler = ocp.StandardCheckpointHandler()
  metadata = handler.metadata(path).tree
  empty = jax.tree.map(lambda m: np.empty(m.shape, m.dtype), metadata)
  return dict(handler.restore(path, args=ocp.args.StandardRestore(empty)))
