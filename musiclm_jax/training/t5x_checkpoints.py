"""Checkpoints of t5x, which need orbax alone to be read or written."""

from collections.abc import Mapping
import os
import re
from typing import Any

from etils import epath
import jax
from musiclm_jax import errors
from musiclm_jax import paths
import numpy as np
import orbax.checkpoint as ocp

_STEP = re.compile(r'checkpoint_(0|[1-9][0-9]*)')
_ITEM = 'state'


def complete_steps(model_dir: str | os.PathLike[str]) -> list[int]:
  """Returns the steps of the complete checkpoints of a run of t5x, in order."""
  folder = epath.Path(paths.to_path(model_dir))
  if not folder.is_dir():
    return []
  found = [_STEP.fullmatch(path.name) for path in folder.iterdir()]
  return sorted(
      int(match[1])
      for match in found
      if match and ocp.utils.is_checkpoint_finalized(folder / match[0])
  )


def restore_variables(model_dir: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads the variables of the last checkpoint of a run of t5x.

  Args:
    model_dir: Folder of the run.

  Returns:
    Linen collections ('params' and mutables) of numpy arrays.

  Raises:
    NotFoundError: If there is no complete checkpoint.
    UserError: If it can't be read.
  """
  steps = complete_steps(model_dir)
  if not steps:
    raise errors.NotFoundError(
        f'{model_dir} must hold a checkpoint of t5x, but holds none. Train'
        ' first.'
    )
  folder = epath.Path(paths.to_path(model_dir))
  path = folder / f'checkpoint_{steps[-1]}' / _ITEM
  with errors.reading(path, 'a checkpoint of t5x', 'Take another step.'):
    handler = ocp.PyTreeCheckpointHandler()
    saved = dict(handler.metadata(path).tree)
    # The state of the optimizer is twice as large, and stays on disk.
    wanted = {
        name: jax.tree.map(lambda m: np.empty(m.shape, m.dtype), saved[name])
        for name in ('target', 'flax_mutables')
        if saved.get(name)
    }
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted
    )
    restored = handler.restore(
        path,
        args=ocp.args.PyTreeRestore(
            wanted, restore_args=as_numpy, partial_restore=True
        ),
    )
  return {'params': restored['target'], **restored.get('flax_mutables', {})}


def write(
    model_dir: str | os.PathLike[str], variables: Mapping[str, Any]
) -> epath.Path:
  """Writes a checkpoint from which t5x can begin at step 0.

  Args:
    model_dir: Folder that holds checkpoints; made if missing.
    variables: Linen collections ('params' and mutables) of arrays.

  Returns:
    The folder of the checkpoint.

  Raises:
    WriteError: If there is a checkpoint of step 0.
  """
  path = epath.Path(paths.absolute(model_dir)) / 'checkpoint_0'
  if path.exists():
    raise errors.WriteError(
        f'{path} must be free for a checkpoint, but exists. Choose another'
        ' --output.'
    )
  mutables = {k: v for k, v in variables.items() if k != 'params'}
  state = {
      'target': variables['params'],
      'state': {'step': np.zeros((), np.int32)},
      **({'flax_mutables': mutables} if mutables else {}),
  }
  handler = ocp.CompositeCheckpointHandler(
      **{_ITEM: ocp.PyTreeCheckpointHandler()}
  )
  with ocp.Checkpointer(handler) as checkpointer:
    checkpointer.save(
        path, args=ocp.args.Composite(**{_ITEM: ocp.args.PyTreeSave(state)})
    )
  return path
