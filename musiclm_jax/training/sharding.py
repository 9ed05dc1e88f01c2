"""Sharding: a (data, model) mesh, and rules from logical axes to its axes."""

import collections
from collections.abc import Mapping, Sequence
import functools
import math
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from musiclm_jax import errors
import numpy as np

AXES = ('data', 'model')
# Mesh axis of each logical axis; an axis that is not listed is not split.
RULES = (
    ('batch', 'data'),
    ('vocab', 'model'),
    ('heads', 'model'),
    ('mlp', 'model'),
)
# With these, each device holds only its share of every matrix, and fetches the
# rest when it is needed (FSDP, arXiv 1910.02054).
FSDP_RULES = (*RULES, ('embed', 'data'), ('channels', 'data'))

Rules = tuple[tuple[str, str], ...]
AnyMesh = Mesh | AbstractMesh


def rules(fsdp: bool = False) -> Rules:
  """Returns the mesh axis of each logical axis.

  Args:
    fsdp: Whether to split parameters, and the optimizer's state, over the data
      axis too: for models that do not fit in the memory of one device.
  """
  return FSDP_RULES if fsdp else RULES


def make_mesh(num_model_partitions: int = 1) -> Mesh:
  """Returns a (data, model) mesh of all devices.

  Args:
    num_model_partitions: Devices that share one copy of the parameters.

  Raises:
    UserError: If the devices cannot be divided evenly.
  """
  return Mesh(arrange(jax.devices(), num_model_partitions), AXES)


def arrange(devices: Sequence[Any], num_model_partitions: int) -> np.ndarray:
  """Arranges devices so that those which talk most are closest.

  Slices of TPUs are connected by a slower network: a row of the data axis, and
  so the model axis, stays in a slice if it fits.

  Args:
    devices: Devices of all processes.
    num_model_partitions: Devices on the model axis.

  Returns:
    [data, model] devices.

  Raises:
    UserError: If they cannot be divided evenly.
  """
  check_partitions(num_model_partitions, len(devices))
  slices = collections.Counter(getattr(d, 'slice_index', 0) for d in devices)
  if len(slices) == 1:
    shape = (len(devices) // num_model_partitions, num_model_partitions)
    return mesh_utils.create_device_mesh(shape, devices)
  if len(set(slices.values())) > 1:
    raise errors.UserError(
        'every slice must have as many devices as any other, but they have'
        f' {sorted(slices.values())}. Start slices of equal size.'
    )
  per_slice = len(devices) // len(slices)
  inside = math.gcd(num_model_partitions, per_slice)
  across = num_model_partitions // inside
  return mesh_utils.create_hybrid_device_mesh(
      (per_slice // inside, inside), (len(slices) // across, across), devices
  )


@functools.cache
def data_positions(mesh: Mesh) -> list[tuple[int, ...]]:
  """Returns the positions on the data axis of each process's devices.

  Several processes share a position if a model axis spans them.
  """
  found: list[set[int]] = [set() for _ in range(jax.process_count())]
  for (position, _), device in np.ndenumerate(mesh.devices):
    found[device.process_index].add(position)
  return [tuple(sorted(positions)) for positions in found]


def rows_of_processes(mesh: Mesh, batch_size: int) -> list[tuple[int, ...]]:
  """Returns the rows of a batch that each process holds, and so must make.

  Args:
    mesh: Mesh of all processes.
    batch_size: Rows over all processes.

  Raises:
    UserError: If they cannot be divided evenly.
  """
  check_batch_size(batch_size, mesh)
  size = batch_size // mesh.shape['data']
  return [
      tuple(p * size + row for p in positions for row in range(size))
      for positions in data_positions(mesh)
  ]


def check_batch_size(
    batch_size: int, mesh: AnyMesh, num_microbatches: int = 1
) -> None:
  """Raises UserError unless a batch can be divided over mesh and parts."""
  divisor = mesh.shape['data'] * num_microbatches
  if batch_size < 1 or batch_size % divisor:
    raise errors.UserError(
        f'BATCH_SIZE must be a multiple of {divisor} ({mesh.shape["data"]} on'
        f' the data axis of the mesh × {num_microbatches} microbatches), but'
        f' is {batch_size}.'
    )


def check_partitions(num_model_partitions: int, num_devices: int) -> None:
  """Raises UserError unless devices can be divided evenly."""
  if num_model_partitions < 1 or num_devices % num_model_partitions:
    raise errors.UserError(
        f'num_model_partitions must divide the {num_devices} devices, but is'
        f' {num_model_partitions}. Set it to 1, or to another divisor.'
    )


def replicated(mesh: AnyMesh) -> NamedSharding:
  """Returns the sharding of arrays that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: AnyMesh) -> NamedSharding:
  """Returns the sharding of batches: rows split over the data axis."""
  return NamedSharding(mesh, PartitionSpec('data'))


def _place(
    mesh: AnyMesh, shape: tuple[int, ...], names, rules: Rules
) -> NamedSharding:
  axes = nn.logical_to_mesh_axes(names, rules) or ()
  # An axis is not split if the mesh axis does not divide its size.
  return NamedSharding(
      mesh,
      PartitionSpec(
          *(
              axis if axis and size % mesh.shape[axis] == 0 else None
              for size, axis in zip(shape, axes, strict=True)
          )
      ),
  )


def shard_variables(
    mesh: AnyMesh, variables: Mapping[str, Any], rules: Rules = RULES
) -> dict[str, Any]:
  """Returns the sharding of each variable, by its logical axes.

  Args:
    mesh: Mesh to split them over.
    variables: Linen collections of anything with a shape, and the
      '<collection>_axes' of each.
    rules: See `rules`.

  Raises:
    UserError: If a variable has no logical axes.
  """
  shardings = {}
  for collection, tree in variables.items():
    if collection.endswith('_axes'):
      continue
    axes = traverse_util.flatten_dict(variables.get(f'{collection}_axes', {}))
    flat = {}
    for path, value in traverse_util.flatten_dict(tree).items():
      metadata = axes.get((*path[:-1], f'{path[-1]}_axes'))
      if metadata is None:
        raise errors.UserError(
            f"every variable must have logical axes, but {'/'.join(path)} of"
            f" '{collection}' has none. Make it with param_with_axes or"
            ' variable_with_axes.'
        )
      flat[path] = _place(mesh, value.shape, metadata.names, rules)
    shardings[collection] = traverse_util.unflatten_dict(flat)
  return shardings


def _path(keys) -> tuple[str, ...]:
  """Returns the names in a key path, whatever the containers are."""
  return tuple(
      str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k))))
      for k in keys
  )


def shard_optimizer(
    mesh: AnyMesh, opt_state: Any, params: Any, param_shardings: Any
) -> Any:
  """Returns the sharding of each leaf of an optimizer's state.

  A leaf that is a statistic of a parameter (its path ends in the parameter's,
  and their shapes are equal) is sharded like the parameter.

  Args:
    mesh: Mesh to split it over.
    opt_state: State of the optimizer; anything with shapes.
    params: Parameters; anything with shapes.
    param_shardings: The sharding of each of `params`.
  """
  flat_params = jax.tree_util.tree_flatten_with_path(params)[0]
  by_path = {
      _path(keys): (param.shape, sharding)
      for (keys, param), sharding in zip(
          flat_params, jax.tree.leaves(param_shardings), strict=True
      )
  }

  def place(keys, leaf):
    path = _path(keys)
    for start in range(len(path)):
      shape, sharding = by_path.get(path[start:], (None, None))
      if shape == leaf.shape:
        return sharding
    return replicated(mesh)

  return jax.tree_util.tree_map_with_path(place, opt_state)


def put_batch(
    mesh: Mesh, batch: Mapping[str, np.ndarray]
) -> dict[str, jax.Array]:
  """Returns the global batch of which this process holds the rows `batch`.

  Args:
    mesh: Mesh of all processes.
    batch: Arrays of the rows that `rows_of_processes` names, in that order.
  """
  mine = data_positions(mesh)[jax.process_index()]

  def put(rows):
    size = len(rows) // len(mine)  # Rows per position.

    def shard(index):
      start = mine.index((index[0].start or 0) // size) * size
      return rows[start : start + size]

    shape = (size * mesh.shape['data'], *rows.shape[1:])
    return jax.make_array_from_callback(shape, by_row(mesh), shard)

  return {name: put(rows) for name, rows in batch.items()}
