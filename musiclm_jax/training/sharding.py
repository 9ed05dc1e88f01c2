"""Sharding: a (data, model) mesh, and rules from logical axes to its axes."""

import collections
from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from musiclm_jax import errors
import numpy as np

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
  num_devices = jax.device_count()
  check_partitions(num_model_partitions, num_devices)
  shape = (num_devices // num_model_partitions, num_model_partitions)
  devices = mesh_utils.create_device_mesh(shape)
  check_processes(devices)
  return Mesh(devices, ('data', 'model'))


def check_processes(devices: np.ndarray) -> None:
  """Raises UserError unless each process holds the rows that it makes.

  It does not matter which device has which rows, as they are interchangeable.

  Args:
    devices: [data, model], of all processes.
  """
  processes = [{d.process_index for d in replica} for replica in devices]
  if any(len(of_replica) > 1 for of_replica in processes):
    least = min(_counts(devices))
    raise errors.UserError(
        'num_model_partitions must leave each copy of the parameters to the'
        f' devices of one process, {least} at most, but'
        f' {devices.shape[1]} devices of several processes would share one, and'
        ' read different rows. Set it to a divisor of the devices of a process;'
        ' where memory is short, set FSDP = True.'
    )
  rows = collections.Counter(next(iter(found)) for found in processes)
  if len(set(rows.values())) > 1:
    raise errors.UserError(
        'every process must have as many devices as any other, as it makes as'
        f' many rows of a batch, but they have {sorted(_counts(devices))}.'
        ' Start the same number of devices on every host.'
    )


def _counts(devices: np.ndarray) -> list[int]:
  """Returns the devices of each process."""
  owners = [device.process_index for device in devices.flat]
  return list(collections.Counter(owners).values())


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
    mesh: AnyMesh, batch: Mapping[str, np.ndarray]
) -> dict[str, jax.Array]:
  """Returns the global batch of which this process holds the rows `batch`."""
  return {
      name: jax.make_array_from_process_local_data(by_row(mesh), rows)
      for name, rows in batch.items()
  }
