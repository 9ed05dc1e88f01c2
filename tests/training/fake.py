"""A model that trains in milliseconds, for tests of what trains models."""

from collections.abc import Iterable, Mapping
import os
from typing import Any

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax.models import layers
from musiclm_jax.models import parts
from musiclm_jax.training import model as model_lib
import numpy as np
import optax


class FakeNetwork(nn.Module):
  """Two layers, and the mean of its inputs as a mutable.

  Attributes:
    dropout: Rate.
  """

  dropout: float = 0.0

  def setup(self):
    self.wide = layers.Dense(4, 8, ('embed', 'mlp'))
    self.narrow = layers.Dense(8, 1, ('mlp', 'embed'))
    self.drop = nn.Dropout(self.dropout)
    self.mean = partitioning.variable_with_axes(
        'statistics', 'mean', jnp.zeros, (4,), axes=('embed',)
    )

  def __call__(
      self, x: Float[Array, 'batch 4'], train: bool = False
  ) -> Float[Array, ' batch']:
    if train:
      self.mean.value = 0.9 * self.mean.value + 0.1 * jnp.mean(x, axis=0)
    hidden = self.drop(jnp.tanh(self.wide(x)), deterministic=not train)
    return self.narrow(hidden)[:, 0]


class FakeModel(model_lib.TrainableModel):
  """Learns the sum of four numbers, from batches of `examples`."""

  def __init__(
      self, optimizer_def: optax.GradientTransformation, dropout: float = 0.0
  ):
    super().__init__(optimizer_def)
    self.name = 'fake'
    self.sample_rate = 24000
    self.config = None
    self.module = FakeNetwork(dropout)

  def get_initial_variables(
      self,
      rng: jax.Array,
      input_shapes: Mapping[str, tuple[int, ...]],
      input_types: Mapping[str, Any] | None = None,
  ) -> model_lib.Variables:
    del input_types
    return self.module.init(rng, jnp.zeros(input_shapes['x']))

  def loss_fn(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      dropout_rng: jax.Array | None,
      flax_mutables: model_lib.Variables | None = None,
  ) -> tuple[jax.Array, Any]:
    y, mutables = self.module.apply(
        {'params': params, **(flax_mutables or {})},
        batch['x'],
        train=True,
        rngs=None if dropout_rng is None else {'dropout': dropout_rng},
        mutable=['statistics'],
    )
    loss = jnp.mean((y - batch['y']) ** 2)
    return loss, (model_lib.average(rms_error=jnp.sqrt(loss)), mutables)

  def eval_fn(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      flax_mutables: model_lib.Variables | None = None,
  ) -> tuple[jax.Array, model_lib.Metrics]:
    variables = {'params': params, **(flax_mutables or {})}
    y = jnp.asarray(self.module.apply(variables, batch['x']))
    loss = jnp.mean((y - batch['y']) ** 2)
    return loss, model_lib.average(rms_error=jnp.sqrt(loss))

  def export(
      self,
      variables: model_lib.Variables,
      directory: str | os.PathLike[str],
      clips: Iterable[np.ndarray],
      lineage: Mapping[str, str],
      dtype: str = 'float32',
  ) -> str:
    return parts.save(directory, self.name, {}, variables, lineage, dtype)


def examples(count: int) -> list[dict[str, Any]]:
  """Returns `count` examples: 'x', [4] random floats, and 'y', their sum."""
  x = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
  return [{'x': row, 'y': row.sum()} for row in x]


def make_example(
    record: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
  """Returns `record`, for `Batches`."""
  del rng
  return record
