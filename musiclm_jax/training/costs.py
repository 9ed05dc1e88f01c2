"""The cost of a train step, computed without running or compiling it."""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import math
from typing import Any

import jax
from jax.extend import core as jax_core
from jax.interpreters import partial_eval
import jax.numpy as jnp
from musiclm_jax.training import devices
from musiclm_jax.training import model as model_lib

Specs = Mapping[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True)
class Rates:
  """Converts steps per second to other rates.

  Attributes:
    unit: Elements of a batch, 'tokens' or 'examples'.
    count: Elements per batch.
    examples: Rows per batch.
    flops: Operations of a step, over all devices.
    peak: Operations per second that the devices are capable of; None if that
      is not known.
  """

  unit: str
  count: int
  examples: int
  flops: int
  peak: float | None

  def at(self, steps_per_second: float) -> dict[str, float]:
    """Returns metrics, including 'mfu', the share of the peak, if known."""
    flops_per_second = self.flops * steps_per_second
    rates = {
        f'{self.unit}_per_second': self.count * steps_per_second,
        'examples_per_second': self.examples * steps_per_second,
        'flops_per_second': flops_per_second,
    }
    if self.peak is not None:
      rates['mfu'] = flops_per_second / self.peak
    return rates


def _product_flops(equation) -> int:
  """Returns the multiplications and additions of a product or convolution."""
  name = equation.primitive.name
  if name not in ('dot_general', 'conv_general_dilated'):
    return 0
  a, b = (x.aval.shape for x in equation.invars)
  dims = equation.params['dimension_numbers']
  if name == 'dot_general':
    (summed, _), _ = dims
    per_output = math.prod(a[d] for d in summed)
  else:
    per_output = math.prod(b) // b[dims.rhs_spec[0]]
  return 2 * math.prod(equation.outvars[0].aval.shape) * per_output


def _inner(value: Any) -> Iterator[jax_core.Jaxpr]:
  """Yields the programs in a parameter of an equation."""
  if isinstance(value, jax_core.ClosedJaxpr):
    yield value.jaxpr
  elif isinstance(value, jax_core.Jaxpr):
    yield value
  elif isinstance(value, (tuple, list)):
    for item in value:
      yield from _inner(item)


def _count(jaxpr: jax_core.Jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    inner = [_count(j) for value in params.values() for j in _inner(value)]
    times = params['length'] if name == 'scan' else 1
    total += times * (max(inner, default=0) if name == 'cond' else sum(inner))
    total += _product_flops(equation)
  return total


def count_flops(function: Callable[..., Any], *args: Any) -> int:
  """Counts the operations of the products and convolutions of a function.

  Loops count as often as they run. Everything else, e.g. softmax, is left out,
  usual where a rate is compared with a device's peak (PaLM, arXiv 2204.02311,
  appendix B).

  Args:
    function: A function of arrays.
    *args: Its arguments, or anything with their shapes.
  """
  jaxpr = jax.make_jaxpr(function)(*args).jaxpr
  # Drop gradients that nobody asked for.
  jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _count(jaxpr)


def variables(
    model: model_lib.TrainableModel, specs: Specs
) -> model_lib.Variables:
  """Returns the shapes of the variables of a model, axes included."""
  shapes = {name: s.shape for name, s in specs.items()}
  types = {name: s.dtype for name, s in specs.items()}
  return jax.eval_shape(
      lambda: model.get_initial_variables(jax.random.key(0), shapes, types)
  )


def loss_of(
    model: model_lib.TrainableModel, shapes: model_lib.Variables, specs: Specs
) -> tuple[Callable[[Any, Any], jax.Array], tuple[Any, Any]]:
  """Returns the loss as a function of (parameters, rest), and its arguments."""
  mutables = {
      k: v
      for k, v in shapes.items()
      if k != 'params' and not k.endswith('_axes') and v
  }

  def loss(params, rest):
    batch, mutables, seed = rest
    rng = jax.random.key(seed)
    args = (mutables,) if mutables else ()
    return model.loss_fn(params, batch, rng, *args)[0]

  seed = jax.ShapeDtypeStruct((), jnp.uint32)
  return loss, (shapes['params'], (dict(specs), mutables, seed))


def train_flops(model: model_lib.TrainableModel, specs: Specs) -> int:
  """Returns the operations of the loss and gradients of a batch.

  Operations that rematerialization repeats count once: only the work that the
  model needs.

  Args:
    model: See `TrainableModel`.
    specs: Shapes and dtypes of a batch, over all devices.
  """
  model = model.without_remat()
  loss, args = loss_of(model, variables(model, specs), specs)
  return count_flops(jax.grad(loss), *args)


def kept_bytes(model: model_lib.TrainableModel, specs: Specs) -> int:
  """Returns the bytes that the forward pass of a batch keeps for the backward.

  Args:
    model: See `TrainableModel`.
    specs: Shapes and dtypes of the rows of one device.
  """
  loss, args = loss_of(model, variables(model, specs), specs)

  def keep(params, rest):
    _, pull = jax.vjp(lambda p: loss(p, rest), params)
    return jax.tree.leaves(pull)  # As a tree, it consists of its residuals.

  jaxpr = jax.make_jaxpr(keep)(*args).jaxpr
  kept = {v for v in jaxpr.outvars if isinstance(v, jax_core.Var)}
  # Parameters and the batch are there anyway.
  return total_bytes([v.aval for v in kept - set(jaxpr.invars)])


def activation_bytes(model: model_lib.TrainableModel, specs: Specs) -> int:
  """Returns `kept_bytes` plus the bytes that recomputing a layer takes."""
  kept = kept_bytes(model, specs)
  whole = kept_bytes(model.without_remat(), specs)
  if whole <= kept:
    return kept
  return kept + (whole - kept) // model.config.num_layers


def units(specs: Specs) -> tuple[str, int]:
  """Returns the unit of a batch, 'tokens' or 'examples', and its count."""
  if set(specs) == {'inputs', 'targets'}:
    return 'tokens', sum(math.prod(s.shape) for s in specs.values())
  return 'examples', next(iter(specs.values())).shape[0]


def rates(model: model_lib.TrainableModel, specs: Specs) -> Rates:
  """Returns the rates of a model on all devices of the run.

  Args:
    model: See `TrainableModel`.
    specs: Shapes and dtypes of a batch, over all devices.
  """
  unit, count = units(specs)
  examples = next(iter(specs.values())).shape[0]
  device = devices.find(jax.devices()[0].device_kind)
  peak = None if device is None else device.flops * jax.device_count()
  return Rates(unit, count, examples, train_flops(model, specs), peak)


def total_bytes(tree: Any) -> int:
  """Returns the bytes of anything with shapes and dtypes."""
  return sum(
      math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )
