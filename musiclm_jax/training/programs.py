"""The steps of a model, compiled for a mesh."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from musiclm_jax.training import averaging
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import sharding
from musiclm_jax.training import steps
import numpy as np


class Program:
  """Compiled train and eval steps, and the sharding of their state.

  Attributes:
    specs: ShapeDtypeStructs of a batch, over all processes.
    abstract_state: ShapeDtypeStructs of the state, with shardings.
  """

  def __init__(
      self,
      model: model_lib.TrainableModel,
      mesh: Mesh,
      batch: Mapping[str, Any],
      num_microbatches: int,
      random_seed: int,
      rules: sharding.Rules = sharding.RULES,
      average_decay: float | None = None,
  ):
    """Compiles nothing yet.

    Args:
      model: See `TrainableModel`.
      mesh: Mesh of `sharding.make_mesh`.
      batch: Any batch, over all processes, or anything with its shapes.
      num_microbatches: Parts of a batch whose gradients are taken in turn.
      random_seed: Seed of initialization and dropout.
      rules: Mesh axis of each logical axis, see `sharding.rules`.
      average_decay: Decay of an average of the parameters, which `eval_step`
        then takes in their place; None or 0 for none.

    Raises:
      UserError: If the batch cannot be divided evenly.
    """
    shapes = {name: x.shape for name, x in batch.items()}
    sharding.check_batch_size(
        next(iter(shapes.values()))[0], mesh, num_microbatches
    )
    self._mesh = mesh
    self._init_rng, self._step_rng = jax.random.split(
        jax.random.key(random_seed)
    )
    types = {name: x.dtype for name, x in batch.items()}
    self.specs = {
        name: jax.ShapeDtypeStruct(shape, types[name])
        for name, shape in shapes.items()
    }
    self._initialize = steps.with_rules(
        mesh,
        rules,
        steps.make_initializer(
            model, shapes, types, averaging.is_on(average_decay)
        ),
    )
    state, variables = jax.eval_shape(self._initialize, self._init_rng)
    self._shardings = steps.shard_state(mesh, state, variables, rules)
    self.abstract_state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        state,
        self._shardings,
    )
    whole, rows = sharding.replicated(mesh), sharding.by_row(mesh)
    self._train_step = jax.jit(
        steps.with_rules(
            mesh,
            rules,
            steps.make_train_step(
                model,
                num_microbatches,
                self._shardings.params,
                average_decay,
            ),
        ),
        in_shardings=(self._shardings, rows, whole),
        out_shardings=(self._shardings, whole, whole),
        donate_argnums=0,
    )
    self._eval_step = jax.jit(
        steps.with_rules(mesh, rules, steps.make_eval_step(model)),
        in_shardings=(self._shardings.params, self._shardings.mutables, rows),
        out_shardings=whole,
    )

  def compile_train_step(self) -> Any:
    """Compiles the train step for a mesh, whose devices need not be present."""
    rng = jax.eval_shape(lambda: self._step_rng)
    return self._train_step.lower(
        self.abstract_state, self.specs, rng
    ).compile()

  def initial_state(self) -> steps.TrainState:
    """Returns the state before the first step."""
    # Runs only once, and is mostly random numbers, which XLA optimizes slowly.
    options = {'xla_backend_optimization_level': 0}
    return jax.jit(
        lambda rng: self._initialize(rng)[0],
        out_shardings=self._shardings,
        compiler_options=options if jax.default_backend() == 'cpu' else None,
    )(self._init_rng)

  def train_step(
      self, state: steps.TrainState, batch: Mapping[str, np.ndarray]
  ) -> tuple[steps.TrainState, model_lib.Metrics, jax.Array]:
    """Takes a step, see `steps.make_train_step`; consumes `state`.

    Args:
      state: The state before it.
      batch: This process's rows, see `sharding.put_batch`.
    """
    placed = sharding.put_batch(self._mesh, batch)
    return self._train_step(state, placed, self._step_rng)

  def eval_step(
      self, state: steps.TrainState, batch: Mapping[str, np.ndarray]
  ) -> model_lib.Metrics:
    """Returns the metrics of a batch, given this process's rows."""
    placed = sharding.put_batch(self._mesh, batch)
    variables = averaging.averaged(state.kept)
    return self._eval_step(variables['params'], state.mutables, placed)

  def gather(self, tree: Any) -> Any:
    """Returns whole arrays that one process can compute with.

    Every process must call it.

    Args:
      tree: Arrays that lie on the mesh.
    """
    if jax.process_count() == 1:
      return tree
    whole = sharding.replicated(self._mesh)
    copy = jax.jit(lambda tree: tree, out_shardings=whole)(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), copy)
