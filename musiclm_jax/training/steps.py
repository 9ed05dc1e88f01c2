"""The compiled train and eval steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flax import core
from flax import linen as nn
from flax import struct
import jax
from jax.sharding import Mesh
import jax.numpy as jnp
from musiclm_jax.training import averaging
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import sharding
import optax


@struct.dataclass
class TrainState:
  """The state of a run, which each step replaces.

  Attributes:
    step: Steps taken, skipped ones included.
    params: Parameters of the model.
    mutables: The model's other collections, by name.
    opt_state: State of the optimizer.
    num_skipped: Steps skipped so far.
    num_skipped_in_a_row: Steps skipped since the last one that was taken.
    average: Average of the parameters, see `averaging`; None for none.
  """

  step: Any
  params: Any
  mutables: dict[str, Any]
  opt_state: Any
  num_skipped: Any
  num_skipped_in_a_row: Any
  average: Any = None

  @property
  def variables(self) -> dict[str, Any]:
    return {'params': self.params, **self.mutables}

  @property
  def kept(self) -> dict[str, Any]:
    """The variables that checkpoints hold."""
    return averaging.with_average(self.variables, self.average)


def make_initializer(
    model: model_lib.TrainableModel,
    input_shapes,
    input_types,
    averages: bool = False,
) -> Callable[[jax.Array], tuple[TrainState, model_lib.Variables]]:
  """Returns a function from a key to the first state, and all variables.

  Args:
    model: See `TrainableModel`.
    input_shapes: Shapes of a batch.
    input_types: Types of a batch.
    averages: Whether the state has an average of the parameters.
  """

  def initialize(rng):
    variables = core.unfreeze(
        model.get_initial_variables(rng, input_shapes, input_types)
    )
    collections = {
        name: tree
        for name, tree in variables.items()
        if not name.endswith('_axes') and tree
    }
    params = collections.pop('params')
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        step=zero,
        params=params,
        mutables=collections,
        opt_state=model.optimizer_def.init(params),
        num_skipped=zero,
        num_skipped_in_a_row=zero,
        average=params if averages else None,
    )
    return state, variables

  return initialize


def shard_state(
    mesh: sharding.AnyMesh,
    state: TrainState,
    variables: Mapping[str, Any],
    rules: sharding.Rules = sharding.RULES,
) -> TrainState:
  """Returns the sharding of each leaf of a state.

  Args:
    mesh: Mesh to split it over.
    state: The state; anything with shapes.
    variables: Variables of `model.get_initial_variables`, with their axes.
    rules: Mesh axis of each logical axis, see `sharding.rules`.
  """
  placed = sharding.shard_variables(mesh, variables, rules)
  whole = sharding.replicated(mesh)
  return TrainState(
      step=whole,
      params=placed['params'],
      mutables={name: placed[name] for name in state.mutables},
      opt_state=sharding.shard_optimizer(
          mesh, state.opt_state, state.params, placed['params']
      ),
      num_skipped=whole,
      num_skipped_in_a_row=whole,
      average=None if state.average is None else placed['params'],
  )


def _loss_and_gradients(model, params, mutables, batch, rng, shardings):
  """Returns (loss, metrics, new mutables), gradients."""

  def loss_fn(params):
    if not mutables:
      loss, metrics = model.loss_fn(params, batch, rng)
      return loss, (loss, metrics, mutables)
    loss, (metrics, updated) = model.loss_fn(params, batch, rng, mutables)
    return loss, (loss, metrics, core.unfreeze(updated))

  gradients, outputs = jax.grad(loss_fn, has_aux=True)(params)
  if shardings is not None:
    # Otherwise every device may hold all of them before each takes its share.
    gradients = jax.lax.with_sharding_constraint(gradients, shardings)
  return outputs, gradients


def _accumulate(model, state, batch, rng, num_microbatches, shardings):
  """As `_loss_and_gradients`, accumulated over microbatches."""

  def split(x):
    # Row r goes to microbatch r mod n, so that no row leaves its device.
    x = x.reshape(-1, num_microbatches, *x.shape[1:])
    return jnp.swapaxes(x, 0, 1)

  def add_microbatch(carry, inputs):
    gradients, mutables = carry
    index, microbatch = inputs
    (loss, metrics, mutables), new_gradients = _loss_and_gradients(
        model,
        state.params,
        mutables,
        microbatch,
        jax.random.fold_in(rng, index),
        shardings,
    )
    gradients = jax.tree.map(jnp.add, gradients, new_gradients)
    return (gradients, mutables), (loss, metrics)

  zeros = jax.tree.map(jnp.zeros_like, state.params)
  (gradients, mutables), (losses, metrics) = jax.lax.scan(
      add_microbatch,
      (zeros, state.mutables),
      (jnp.arange(num_microbatches), jax.tree.map(split, dict(batch))),
  )
  gradients = jax.tree.map(lambda g: g / num_microbatches, gradients)
  metrics = {name: metric.reduce() for name, metric in metrics.items()}
  return (jnp.mean(losses), metrics, mutables), gradients


def make_train_step(
    model: model_lib.TrainableModel,
    num_microbatches: int = 1,
    shardings: Any = None,
    average_decay: float | None = None,
) -> Callable[..., tuple[TrainState, model_lib.Metrics, jax.Array]]:
  """Returns a function (state, batch, key) -> state, metrics, skipped in a row.

  A step with a non-finite loss or gradient changes nothing but the counts.

  Args:
    model: See `TrainableModel`.
    num_microbatches: Parts of a batch whose gradients are taken in turn.
    shardings: Shardings of the parameters, and so of their gradients; None for
      one device.
    average_decay: Decay of the state's average of the parameters, if any.
  """

  def train_step(state, batch, rng):
    rng = jax.random.fold_in(rng, state.step)
    told = model_lib.at_step(state.mutables, state.step)
    state = state.replace(mutables=told)
    if num_microbatches == 1:
      (loss, metrics, mutables), gradients = _loss_and_gradients(
          model, state.params, state.mutables, batch, rng, shardings
      )
    else:
      (loss, metrics, mutables), gradients = _accumulate(
          model, state, batch, rng, num_microbatches, shardings
      )
    norm = optax.global_norm(gradients)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)

    def update():
      updates, opt_state = model.optimizer_def.update(
          gradients, state.opt_state, state.params
      )
      params = optax.apply_updates(state.params, updates)
      average = averaging.update(
          state.average, params, state.step, average_decay or 0.0
      )
      return params, mutables, opt_state, average

    # Selecting values one by one would take memory for both.
    params, mutables, opt_state, average = jax.lax.cond(
        finite,
        update,
        lambda: (state.params, state.mutables, state.opt_state, state.average),
    )
    new_state = TrainState(
        step=state.step + 1,
        params=params,
        mutables=mutables,
        opt_state=opt_state,
        num_skipped=state.num_skipped + ~finite,
        num_skipped_in_a_row=jnp.where(
            finite, 0, state.num_skipped_in_a_row + 1
        ),
        average=average,
    )
    metrics = model_lib.average(loss=loss) | metrics
    metrics |= model_lib.average(gradient_norm=norm)
    learning_rate = getattr(model.optimizer_def, 'learning_rate', None)
    if learning_rate is not None:
      metrics |= model_lib.average(learning_rate=learning_rate(state.step))
    return new_state, metrics, new_state.num_skipped_in_a_row

  return train_step


def make_eval_step(
    model: model_lib.TrainableModel,
) -> Callable[..., model_lib.Metrics]:
  """Returns a function (params, mutables, batch) -> metrics."""

  def eval_step(params, mutables, batch):
    if mutables:
      loss, metrics = model.eval_fn(params, batch, mutables)
    else:
      loss, metrics = model.eval_fn(params, batch)
    return model_lib.average(loss=loss) | metrics

  return eval_step


def with_rules(
    mesh: Mesh, rules: sharding.Rules, function: Callable[..., Any]
) -> Callable[..., Any]:
  """Returns `function`, run with the mesh and the axis rules in context."""

  def run(*args):
    with mesh, nn.logical_axis_rules(rules):
      return function(*args)

  return run


def combine(metrics: Sequence[model_lib.Metrics]) -> model_lib.Metrics:
  """Combines each metric over several steps."""
  combined: model_lib.Metrics = {}
  for step in metrics:
    for name, metric in step.items():
      before = combined.get(name)
      combined[name] = metric if before is None else before.merge(metric)
  return combined


def compute(metrics: model_lib.Metrics) -> dict[str, float]:
  """Returns the value of each metric, the loss first."""
  names = sorted(metrics, key=lambda name: (name != 'loss', name))
  return {name: float(metrics[name].compute()) for name in names}


def merge(metrics: Sequence[model_lib.Metrics]) -> dict[str, float]:
  """Returns the value of each metric over several steps, the loss first."""
  return compute(combine(metrics))
