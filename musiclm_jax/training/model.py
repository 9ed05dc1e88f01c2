"""The interface of models to a trainer: the contract of t5x, duck-typed."""

import abc
from collections.abc import Iterable, Mapping
import os
from typing import Any

from clu import metrics as clu_metrics
from flax import linen as nn
import jax
from musiclm_jax import errors
from musiclm_jax.models import parts
import numpy as np
import optax

Batch = Mapping[str, jax.Array]
Metrics = dict[str, clu_metrics.Metric]
Variables = Mapping[str, Any]


# A mutable collection of a model whose loss depends on the steps taken before;
# the trainer sets its one variable of that name.
STEP = 'step'


class TrainableModel(abc.ABC):
  """A linen module, its loss and its optimizer.

  Collections other than 'params' and those that end in '_axes' are mutables:
  state that the loss updates, e.g. codebook statistics.

  Attributes:
    name: Name of the part that training makes, e.g. 'soundstream'.
    config: The frozen dataclass from which the module is made.
    module: The network.
    optimizer_def: An optax transformation, or t5x's wrapper of one.
    sample_rate: Rate of the audio it learns from, in Hz; None for tokens.
    writes_audio: Whether `summaries` returns any.
    decoder_only: Whether its tokens stay those of the part it began from.
    seconds_to_fit: Least music to which `export` can fit its quantizer.
  """

  name: str
  sample_rate: int | None = None
  writes_audio: bool = False
  decoder_only: bool = False
  seconds_to_fit: float = 0.0
  config: Any
  module: nn.Module

  def __init__(self, optimizer_def: optax.GradientTransformation):
    self.optimizer_def = optimizer_def

  @property
  def FEATURE_CONVERTER_CLS(self):  # pylint: disable=invalid-name
    """The seqio feature converter: tasks already yield what models read."""
    # Only t5x asks for it, and seqio imports TensorFlow.
    from musiclm_jax.data import converters  # pylint: disable=g-import-not-at-top

    return converters.FeatureConverter

  @abc.abstractmethod
  def get_initial_variables(
      self,
      rng: jax.Array,
      input_shapes: Mapping[str, tuple[int, ...]],
      input_types: Mapping[str, Any] | None = None,
  ) -> Variables:
    """Returns 'params', mutables, and the '<collection>_axes' of each."""

  def compute_loss(
      self, params: Variables, batch: Batch, dropout_rng: jax.Array | None
  ) -> tuple[jax.Array, Metrics]:
    """Returns loss and metrics; without dropout if `dropout_rng` is None.

    Models without mutables have to define it. Others define `loss_fn` and
    `eval_fn` instead.
    """
    raise NotImplementedError

  def loss_fn(
      self,
      params: Variables,
      batch: Batch,
      dropout_rng: jax.Array | None,
      flax_mutables: Variables | None = None,
  ) -> tuple[jax.Array, Any]:
    """Returns loss and metrics; with mutables, loss and (metrics, mutables)."""
    loss, metrics = self.compute_loss(params, batch, dropout_rng)
    if flax_mutables is None:
      return loss, metrics
    return loss, (metrics, flax_mutables)

  def eval_fn(
      self,
      params: Variables,
      batch: Batch,
      flax_mutables: Variables | None = None,
  ) -> tuple[jax.Array, Metrics]:
    """Returns loss and metrics, without dropout and without updates."""
    del flax_mutables
    return self.compute_loss(params, batch, None)

  def without_remat(self) -> 'TrainableModel':
    """Returns the same model without rematerialization."""
    return self

  def lineage(self, data_dir: str | os.PathLike[str]) -> dict[str, str]:
    """Returns the sha256 of each part that made the data; none for audio."""
    del data_dir
    return {}

  def adopt(self, part: parts.Part) -> Variables:
    """Returns the variables of a trained part in the layout of this model.

    Args:
      part: Trained part of the same name.

    Returns:
      Collections of float32 arrays; NaN where the part has no value.

    Raises:
      UserError: If this is not a stage: other exported parts lack variables
        that training needs.
    """
    raise errors.UserError(
        f"INITIAL_MODEL must be None for '{part.name}', as only stages can"
        ' begin from a trained part. Leave it out.'
    )

  def is_trained(self, path: tuple[str, ...]) -> bool:
    """Whether the parameter at a path of names is trained, not kept."""
    del path
    return True

  @abc.abstractmethod
  def export(
      self,
      variables: Variables,
      directory: str | os.PathLike[str],
      clips: Iterable[np.ndarray],
      lineage: Mapping[str, str],
      dtype: str = 'float32',
  ) -> str:
    """Writes the part for inference; see `models.parts.save`.

    Args:
      variables: Variables of the finished run.
      directory: Directory of the model; made if missing.
      clips: [samples] float32 clips at `sample_rate` to fit quantizers to.
      lineage: Result of `self.lineage`.
      dtype: Storage type of matrices.

    Returns:
      The sha256 of the stored variables.
    """

  def summaries(
      self, variables: Variables, batch: Mapping[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    """Returns [samples] audio at `sample_rate` for TensorBoard, by tag."""
    del variables, batch
    return {}


def at_step(mutables: dict[str, Any], step: jax.Array) -> dict[str, Any]:
  """Returns mutables of a model that is told the step, if it is to be told."""
  return {**mutables, STEP: {STEP: step}} if STEP in mutables else mutables


def average(**values: jax.Array) -> Metrics:
  """Returns a metric for each scalar, averaged over steps and hosts."""
  return {
      name: clu_metrics.Average.from_model_output(value)
      for name, value in values.items()
  }
