"""Splits rows over all devices of a process.

Rows do not depend on each other, so the devices never wait for one another:
each runs the whole program, loops included, on its own rows.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

AXIS = 'rows'
WHOLE = PartitionSpec()  # For an array that all devices need.


def num_devices(rows: int) -> int:
  """Returns how many of this process's devices can share rows evenly."""
  most = min(rows, jax.local_device_count())
  return next(n for n in range(most, 0, -1) if rows % n == 0)


@functools.cache
def _mesh(num_devices: int) -> Mesh:
  return Mesh(np.array(jax.local_devices()[:num_devices]), (AXIS,))


def copy_to_all(arrays: Any, num_devices: int) -> Any:
  """Copies a tree of arrays to each of some devices."""
  if num_devices == 1:
    return jax.device_put(arrays)
  return jax.device_put(arrays, NamedSharding(_mesh(num_devices), WHOLE))


def along(axis: int) -> PartitionSpec:
  """Returns the spec of an array whose rows are along an axis."""
  return PartitionSpec(*[None] * axis, AXIS)


def spread(
    function: Callable[..., Any],
    num_devices: int,
    in_specs: Any,
    out_specs: Any,
) -> Callable[..., Any]:
  """Returns a function that runs on some devices, each with its rows.

  Args:
    function: Function of arrays, some of which have rows.
    num_devices: From `num_devices`; for 1, the function is returned unchanged.
    in_specs: `along(axis)` or WHOLE for each argument, or a tree of them.
    out_specs: Likewise, for each of its results.
  """
  if num_devices == 1:
    return function
  return jax.shard_map(
      function,
      mesh=_mesh(num_devices),
      in_specs=in_specs,
      out_specs=out_specs,
      check_vma=False,
  )
