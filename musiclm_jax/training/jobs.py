"""Agreement among the processes of a job, all of which must do the same.

In a job of one process, everybody agrees.
"""

from collections.abc import Callable, Mapping, Sequence
import json
from typing import Any
import zlib

import jax
from jax.experimental import multihost_utils
from musiclm_jax import errors
import numpy as np


def decided(decide: Callable[[], Any]) -> Any:
  """Returns to every process what the first one decides.

  Processes may see files of different ages, or at different times.

  Args:
    decide: Returns a JSON value; called in the first process only.

  Raises:
    UserError: In every process, if `decide` raises it.
  """
  if jax.process_count() == 1:
    return decide()
  value, failure = None, None
  if jax.process_index() == 0:
    try:
      value = decide()
    except errors.UserError as e:
      failure = e
  told = str(failure) if failure else None
  value, told = json.loads(_broadcast(json.dumps([value, told])))
  if failure is not None:
    raise failure
  if told is not None:
    raise errors.UserError(told)
  return value


def _broadcast(text: str) -> str:
  """Returns to every process the text of the first."""
  data = np.frombuffer(text.encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  data = np.resize(data, size)
  return bytes(multihost_utils.broadcast_one_to_all(data)).decode()


def check(holds: bool, message: str) -> None:
  """Raises UserError in every process unless a condition holds in all.

  Args:
    holds: Whether it holds in this process.
    message: Format of the message; {} is replaced by the processes in which it
      does not.
  """
  held = _gather(np.array([holds], np.int32))[:, 0]
  if not held.all():
    raise errors.UserError(message.format(np.flatnonzero(held == 0).tolist()))


def check_same(value: Any, message: str) -> None:
  """Raises UserError in every process unless all have the same JSON value."""
  mine = zlib.crc32(json.dumps(value).encode()) >> 1
  first = decided(lambda: mine)
  check(mine == first, message)


def check_rows(
    rows: Sequence[int], batch: Mapping[str, np.ndarray], batch_size: int
) -> None:
  """Raises UserError unless processes that share rows made the same ones.

  Training on rows that differ among the devices of a model axis would go
  wrong without a sign.

  Args:
    rows: Indices of this process's rows in a batch.
    batch: Those rows.
    batch_size: Rows over all processes.
  """
  made = next(iter(batch.values())).shape[0]
  check(
      made == len(rows),
      'every process must make the rows of a batch that its devices hold, but'
      ' processes {} do not.',
  )
  hashes = np.full(batch_size, -1, np.int32)
  for i, row in enumerate(rows):
    content = b''.join(x[i].tobytes() for _, x in sorted(batch.items()))
    hashes[row] = zlib.crc32(content) >> 1
  gathered = _gather(hashes)
  same = (gathered == gathered.max(axis=0)) | (gathered < 0)
  if not same.all():
    raise errors.UserError(
        'processes whose devices share a row of a batch must make the same'
        f' row, but processes {np.flatnonzero(~same.all(axis=1)).tolist()} made'
        ' others. Give all hosts the same data, and make batch i a function of'
        ' i and the seed alone.'
    )


def _gather(values: np.ndarray) -> np.ndarray:
  """Returns [processes, ...] values of every process."""
  gathered = multihost_utils.process_allgather(values)
  return np.asarray(gathered).reshape(jax.process_count(), *values.shape)


def is_preempted(step: int) -> bool:
  """Returns whether the job must save at this step and end.

  SIGTERM in any process ends all of them after the same step.

  Args:
    step: Steps taken; every process must ask at each.
  """
  return jax.process_count() > 1 and (
      multihost_utils.reached_preemption_sync_point(step)
  )
