"""Adapters for t5x; the only module that imports it."""

from collections.abc import Iterable

from flax import core
from musiclm_jax import errors
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import optimizers
import optax
from optax import contrib
from t5x import optimizers as t5x_optimizers

_AxesOf = t5x_optimizers.OptaxStatePartitionRules


def _muon_axes(
    state: contrib.MuonState, params_axes: core.FrozenDict
) -> contrib.MuonState:
  """Returns the axes of Muon's state, whose momenta are as the parameters."""
  mu = _AxesOf.derive_params_axes(state.mu, params_axes)
  return contrib.MuonState(count=None, mu=mu, ns_coeffs=None)


# t5x knows the states of optax alone, not of its contributions.
_AxesOf._RULES.setdefault(contrib.MuonState, _muon_axes)  # pylint: disable=protected-access


def adapt(model: model_lib.TrainableModel) -> model_lib.TrainableModel:
  """Returns `model` with optimizer, mutables and scores as t5x has them.

  Raises:
    UserError: If its loss has to be told the step, which t5x does not.
  """
  start = getattr(model, 'discriminator_start', 0)
  if start:
    raise errors.UserError(
        'discriminator_start must be 0 under t5x, which does not tell losses'
        f' the step, but is {start}. Set it to 0, or use'
        ' `musiclm train`.'
    )
  loss_fn = model.loss_fn

  def frozen_loss_fn(params, batch, dropout_rng, flax_mutables=None):
    loss, outputs = loss_fn(params, batch, dropout_rng, flax_mutables)
    if flax_mutables:
      metrics, mutables = outputs
      outputs = metrics, core.freeze(mutables)
    return loss, outputs

  model.loss_fn = frozen_loss_fn  # type: ignore[method-assign]
  if hasattr(model, 'score_batch_with_aux'):  # What metrics of tasks read.
    model.score_batch = model.score_batch_with_aux  # type: ignore[attr-defined]
  model.optimizer_def = t5x_optimizers.OptaxWrapper(model.optimizer_def)
  return model


def learning_rate(optimizer: optimizers.Optimizer) -> optax.Schedule:
  """Returns the learning rate of each step, which t5x logs."""
  return optimizer.learning_rate


def output_feature(names: Iterable[str]) -> str:
  """Returns the feature that tokens are predicted for, e.g. 'targets'."""
  names = list(names)
  return 'targets' if 'targets' in names else names[0]
