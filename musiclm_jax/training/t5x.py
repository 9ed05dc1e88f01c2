"""What t5x needs to train our models; the only module that imports it."""

from musiclm_jax.training import model as model_lib
from musiclm_jax.training import optimizers
import optax
from t5x import optimizers as t5x_optimizers


def wrap_optimizer(
    model: model_lib.TrainableModel,
) -> model_lib.TrainableModel:
  """Returns `model` with its optimizer in the form of t5x."""
  model.optimizer_def = t5x_optimizers.OptaxWrapper(model.optimizer_def)
  return model


def learning_rate(optimizer: optimizers.Optimizer) -> optax.Schedule:
  """Returns the learning rate of each step, which t5x logs."""
  return optimizer.learning_rate
