"""Estimates a training run without training: `musiclm train --dry_run`.

Nothing is allocated, so the devices need not be present. If they are, or if
libtpu is installed and a topology is named, the step is also compiled, and its
memory is the compiler's figure.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import AbstractMesh, Mesh
from musiclm_jax import errors
from musiclm_jax.data import mixtures
from musiclm_jax.models import products
from musiclm_jax.training import averaging
from musiclm_jax.training import costs
from musiclm_jax.training import devices
from musiclm_jax.training import gin_flags
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import programs
from musiclm_jax.training import sharding
from musiclm_jax.training import steps
from musiclm_jax.training import trainer

USUAL_MFU = 0.5  # Share of the peak that training usually reaches.


@dataclasses.dataclass(frozen=True)
class Run:
  """A planned training run.

  Attributes:
    model: See `TrainableModel`.
    specs: Shapes and dtypes of a batch, over all devices.
    train_steps: Total number of steps.
    partitioning: How a step is divided.
    average_decay: Decay of an average of the parameters, if there is one.
  """

  model: model_lib.TrainableModel
  specs: costs.Specs
  train_steps: int
  partitioning: trainer.Partitioning
  average_decay: float | None = None


@dataclasses.dataclass(frozen=True)
class Estimate:
  """The cost of a step by its shapes, as if the compiler wasted nothing.

  Attributes:
    num_parameters: Parameters of the model.
    flops: Operations of a step, over all devices.
    parameter_bytes: Bytes of the parameters, and of their average if there is
      one; like all others, on each device.
    mutable_bytes: Bytes of the model's other variables.
    optimizer_bytes: Bytes of the optimizer's state.
    gradient_bytes: Bytes of the gradients and, with microbatches, of their sum.
    activation_bytes: Bytes that a microbatch's forward pass keeps for the
      backward pass. The savings of a model axis are not counted.
  """

  num_parameters: int
  flops: int
  parameter_bytes: int
  mutable_bytes: int
  optimizer_bytes: int
  gradient_bytes: int
  activation_bytes: int

  @property
  def state_bytes(self) -> int:
    return self.parameter_bytes + self.mutable_bytes + self.optimizer_bytes

  @property
  def total_bytes(self) -> int:
    return self.state_bytes + self.gradient_bytes + self.activation_bytes


def parse_mesh(text: str) -> tuple[int, int]:
  """Parses DATAxMODEL, e.g. '64x2'.

  Raises:
    UserError: If it is not of that form.
  """
  found = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
  if found is None:
    raise errors.UserError(
        "--mesh must be DATAxMODEL, two numbers of devices such as '64x2', but"
        f" is '{text}'."
    )
  return int(found[1]), int(found[2])


def estimate(run: Run, mesh_shape: tuple[int, int]) -> Estimate:
  """Estimates the memory of each device of a mesh.

  Args:
    run: The planned run.
    mesh_shape: Devices on the data and on the model axis.

  Raises:
    UserError: If the batch cannot be divided over them.
  """
  mesh = AbstractMesh(mesh_shape, sharding.AXES)
  rows = next(iter(run.specs.values())).shape[0]
  num_microbatches = run.partitioning.num_microbatches
  sharding.check_batch_size(rows, mesh, num_microbatches)
  rows //= mesh_shape[0] * num_microbatches
  shapes = {name: s.shape for name, s in run.specs.items()}
  types = {name: s.dtype for name, s in run.specs.items()}
  state, variables = jax.eval_shape(
      steps.make_initializer(run.model, shapes, types), jax.random.key(0)
  )
  rules = sharding.rules(run.partitioning.fsdp)
  placed = steps.shard_state(mesh, state, variables, rules)
  of_params = _shard_bytes(state.params, placed.params)
  return Estimate(
      num_parameters=sum(x.size for x in jax.tree.leaves(state.params)),
      flops=costs.train_flops(run.model, run.specs),
      parameter_bytes=of_params * (1 + averaging.is_on(run.average_decay)),
      mutable_bytes=_shard_bytes(state.mutables, placed.mutables),
      optimizer_bytes=_shard_bytes(state.opt_state, placed.opt_state),
      gradient_bytes=of_params * (1 if num_microbatches == 1 else 2),
      activation_bytes=costs.activation_bytes(
          run.model,
          {
              name: jax.ShapeDtypeStruct((rows, *s.shape[1:]), s.dtype)
              for name, s in run.specs.items()
          },
      ),
  )


def _shard_bytes(tree: Any, shardings: Any) -> int:
  sizes = jax.tree.map(
      lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize,
      tree,
      shardings,
  )
  return sum(jax.tree.leaves(sizes))


def compiled_bytes(run: Run, mesh: Mesh) -> int | str:
  """Compiles the step; returns its peak memory on a device, in bytes.

  Args:
    run: The planned run.
    mesh: Mesh of the devices of this machine, or from `topology_mesh`.

  Returns:
    The bytes, or the compiler's message if they do not fit.
  """
  platform = mesh.devices.flat[0].platform
  with products.compiled_for(platform):
    program = programs.Program(
        run.model,
        mesh,
        run.specs,
        run.partitioning.num_microbatches,
        0,
        sharding.rules(run.partitioning.fsdp),
        run.average_decay,
    )
    try:
      memory = program.compile_train_step().memory_analysis()
    except jax.errors.JaxRuntimeError as e:
      if 'RESOURCE_EXHAUSTED' not in str(e):
        raise
      return str(e).splitlines()[0]
  return (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      - memory.alias_size_in_bytes
      + memory.temp_size_in_bytes
  )


def topology_mesh(name: str, num_model_partitions: int) -> Mesh | None:
  """Returns a mesh of devices that need not be present; None without libtpu.

  Args:
    name: Name of a TPU topology, e.g. 'v5p:4x4x4'.
    num_model_partitions: Devices on the model axis.

  Raises:
    UserError: If there is no such topology.
  """
  if importlib.util.find_spec('libtpu') is None:
    return None
  # Otherwise libtpu looks for the machine that it is supposed to run on.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  try:
    topology = topologies.get_topology_desc(name, 'tpu')
  except Exception as e:  # libtpu raises many types of errors.
    raise errors.UserError(
        "--topology must be one that libtpu knows, such as 'v5p:4x4x4', but is"
        f" '{name}': {str(e).splitlines()[0]}"
    ) from e
  count = len(topology.devices)
  sharding.check_partitions(num_model_partitions, count)
  shape = (count // num_model_partitions, num_model_partitions)
  return topologies.make_mesh(topology, shape, sharding.AXES)


def describe(
    run: Run,
    mesh_shape: tuple[int, int],
    device: devices.Device | None,
    compiled: int | str | None = None,
) -> str:
  """Describes the cost of a run in a table.

  Args:
    run: The planned run.
    mesh_shape: Devices on the data and on the model axis.
    device: The kind of device, if known.
    compiled: Result of `compiled_bytes`, if it was compiled.
  """
  found = estimate(run, mesh_shape)
  unit, count = costs.units(run.specs)
  rows = {
      'part': run.model.name,
      'mesh': f'{mesh_shape[0]} data x {mesh_shape[1]} model',
      'parameters': f'{found.num_parameters / 1e6:,.1f} M',
      f'{unit} per step': f'{count:,}',
      'FLOP per step': f'{found.flops:.4g}',
  }
  rows |= {
      f'{name}, per device': _bytes(value)
      for name, value in (
          ('parameters', found.parameter_bytes),
          ('mutables', found.mutable_bytes),
          ('optimizer', found.optimizer_bytes),
          ('gradients', found.gradient_bytes),
          ('activations', found.activation_bytes),
          ('all', found.total_bytes),
      )
      if value
  }
  if isinstance(compiled, int):
    rows['as compiled'] = _bytes(compiled)
  elif compiled is not None:
    rows['as compiled'] = compiled
  if device is not None:
    rows |= _against(device, found, compiled, mesh_shape, run)
  width = max(map(len, rows))
  return '\n'.join(f'{name:{width}}  {value}' for name, value in rows.items())


def _against(
    device: devices.Device,
    found: Estimate,
    compiled: int | str | None,
    mesh_shape: tuple[int, int],
    run: Run,
) -> dict[str, str]:
  """Returns rows about the memory and the speed of a kind of device."""
  needed = compiled if isinstance(compiled, int) else found.total_bytes
  fits = needed <= device.memory and not isinstance(compiled, str)
  seconds = found.flops / (math.prod(mesh_shape) * device.flops)
  days = seconds / USUAL_MFU * run.train_steps / 86400
  return {
      'device': (
          f'{device.kind}: {_bytes(device.memory)},'
          f' {device.flops / 1e12:.0f} TFLOP/s ({device.source})'
      ),
      'memory': (
          f'{"fits" if fits else "does not fit"}:'
          f' {needed / device.memory:.0%} of a device'
      ),
      'seconds per step': f'{seconds:.3g} at the peak',
      'days': (
          f'{days:.3g} for {run.train_steps:,} steps at {USUAL_MFU:.0%} of it'
      ),
      'input': _input(device, seconds / USUAL_MFU, mesh_shape, run),
  }


def _input(
    device: devices.Device,
    seconds: float,
    mesh_shape: tuple[int, int],
    run: Run,
) -> str:
  """Describes what hosts must read if a step takes so many seconds."""
  examples_per_second = next(iter(run.specs.values())).shape[0] / seconds
  num_rows, num_columns = mesh_shape
  # Hosts that share a row of the mesh all make its examples.
  rows_of_host = min(num_rows, max(1, device.per_host // num_columns))
  return (
      f'{examples_per_second:,.1f} examples per second at {USUAL_MFU:.0%} of'
      f' it, {examples_per_second * rows_of_host / num_rows:,.1f} of them on'
      f' each host of {device.per_host} devices'
  )


def _bytes(count: int) -> str:
  return f'{count / 2**30:,.2f} GiB'


def run_of_flags(argv: Sequence[str]) -> Run:
  """Returns the run that the gin flags of `musiclm train` describe.

  Raises:
    UserError: If they are invalid, or the task is not one of ours.
  """
  # Gin files require both; neither is read.
  unused = ('--gin.MODEL_DIR="unused"', '--gin.DATA_DIR="unused"')
  gin_flags.parse([*unused, *argv])
  mixtures.import_module(gin_flags.value_of('MIXTURE_OR_TASK_MODULE'))
  # All tasks of a mixture make the same features.
  task, *_ = mixtures.get_rates(gin_flags.value_of('MIXTURE_OR_TASK_NAME'))
  features: Mapping[str, Any] = mixtures.get_task(task).make.output_features
  lengths = gin_flags.value_of('TASK_FEATURE_LENGTHS')
  batch_size = gin_flags.value_of('BATCH_SIZE')
  return Run(
      model=gin_flags.value_of('MODEL'),
      specs={
          name: jax.ShapeDtypeStruct((batch_size, lengths[name]), dtype)
          for name, (_, dtype) in features.items()
      },
      train_steps=gin_flags.value_of('TRAIN_STEPS'),
      partitioning=gin_flags.train_argument('partitioning'),
      average_decay=gin_flags.value_of('AVERAGE_DECAY'),
  )


def dry_run_main(
    argv: Sequence[str],
    mesh: str | None = None,
    device_kind: str | None = None,
    topology: str | None = None,
) -> str:
  """Describes the run that a command line asks for, see `describe`.

  Args:
    argv: The gin flags of `musiclm train`.
    mesh: DATAxMODEL, see `parse_mesh`; by default all devices of this machine.
    device_kind: One of `devices.DEVICES`; by default that of this machine.
    topology: Name of a TPU topology, see `topology_mesh`, instead of a mesh.

  Raises:
    UserError: If arguments are invalid, or contradict each other.
  """
  run = run_of_flags(argv)
  device = devices.get_device(device_kind) if device_kind else None
  partitions = run.partitioning.num_model_partitions
  note, real = '', None
  if topology is not None:
    if mesh is not None:
      partitions = parse_mesh(mesh)[1]
    real = topology_mesh(topology, partitions)
    if real is None:
      if mesh is None:
        raise errors.UserError(
            '--topology needs libtpu, which is not installed. Install'
            ' jax[tpu], or give --mesh and --device_kind for an estimate.'
        )
      note = '\nlibtpu is not installed: estimated, not compiled'
  elif device_kind is None and (
      mesh is None or math.prod(parse_mesh(mesh)) == jax.device_count()
  ):
    real = sharding.make_mesh(parse_mesh(mesh)[1] if mesh else partitions)
  if real is not None:
    shape = tuple(real.shape[axis] for axis in sharding.AXES)
    device = device or devices.find(real.devices.flat[0].device_kind)
    return describe(run, shape, device, compiled_bytes(run, real))
  if mesh is None:
    raise errors.UserError(
        '--device_kind must come with --mesh DATAxMODEL, the devices there are.'
    )
  return describe(run, parse_mesh(mesh), device) + note
