"""Trains a stage to predict each token from all before it (MusicLM 3.2)."""

from collections.abc import Iterable, Mapping
import dataclasses
import os
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.data import token_dataset
from musiclm_jax.models import likelihood
from musiclm_jax.models import parts
from musiclm_jax.models import stacking
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.training import model as model_lib
import numpy as np
import optax


def _mean(values: jax.Array, seen: jax.Array) -> jax.Array:
  return jnp.sum(values, where=seen) / jnp.sum(seen)


def if_added(rate: float, stage: streams.Stage) -> float:
  """Returns `rate` if the stage has an added input, else 0; for gin."""
  return rate if stage.added else 0.0


class StageModel(model_lib.TrainableModel):
  """The transformer of a stage, and its cross entropy.

  Batches hold 'inputs' and 'targets', [batch, length] int32 ids, 0 = padding.

  Attributes:
    stage: The stage to train.
    z_loss: See `__init__`.
    conditioning_dropout: See `__init__`.
    history_dropout: See `__init__`.
  """

  def __init__(
      self,
      stage: streams.Stage,
      config: transformer.TransformerConfig,
      optimizer_def: optax.GradientTransformation,
      z_loss: float = 0.0,
      conditioning_dropout: float = 0.0,
      history_dropout: float = 0.0,
  ):
    """Makes the module.

    Args:
      stage: The stage to train.
      config: Sizes of the transformer.
      optimizer_def: See TrainableModel.
      z_loss: Weight of the square of the logarithm of the softmax's sum (PaLM,
        arXiv 2204.02311, section 5), which keeps bfloat16 logits small.
      conditioning_dropout: Probability, in training, that an example loses all
        the streams that guide it, as guidance requires (arXiv 2207.12598).
      history_dropout: Largest share of targets that are hidden, in training,
        from those after them; each example has a share between 0 and this (word
        dropout, arXiv 1511.06349, section 3.1). Conditioning then has more
        influence.

    Raises:
      UserError: If a dropout is not a probability.
    """
    super().__init__(optimizer_def)
    for name, rate in (
        ('conditioning_dropout', conditioning_dropout),
        ('history_dropout', history_dropout),
    ):
      if not 0 <= rate <= 1:
        raise errors.UserError(f'{name} must be in [0, 1], but is {rate}.')
    self.z_loss = z_loss
    self.conditioning_dropout = conditioning_dropout
    self.history_dropout = history_dropout
    self.name = stage.targets.name
    self.stage = stage
    self.config = config
    self.module = transformer.StageTransformer(config, stage)

  def get_initial_variables(
      self,
      rng: jax.Array,
      input_shapes: Mapping[str, tuple[int, ...]],
      input_types: Mapping[str, Any] | None = None,
  ) -> model_lib.Variables:
    del input_types
    inputs, targets = (
        jnp.zeros(input_shapes[k], jnp.int32) for k in ('inputs', 'targets')
    )
    return self.module.init(rng, inputs, targets)

  def compute_loss(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      dropout_rng: jax.Array | None,
  ) -> tuple[jax.Array, model_lib.Metrics]:
    """Returns the loss to minimize, and metrics.

    Without z-loss, that is the metric 'loss', the mean negative log likelihood
    in nats.
    """
    shown = batch
    if dropout_rng is not None:
      dropout_rng, *rngs = jax.random.split(dropout_rng, 3)
      shown = {
          'inputs': self._drop_conditioning(batch['inputs'], rngs[0]),
          'targets': self._drop_history(batch['targets'], rngs[1]),
      }
    logits = self._logits(params, shown, dropout_rng)
    nats, seen = likelihood.nats(self.stage, logits, batch['targets'])
    codes = likelihood.codes(self.stage, batch['targets'])
    hits = jnp.argmax(logits, axis=-1) == codes
    loss = _mean(nats, seen)
    metrics = {
        'loss': loss,
        'accuracy': _mean(hits, seen),
        'chance_ratio': loss / np.log(self.stage.targets.codebook_size),
    }
    num_quantizers = self.stage.targets.num_quantizers
    for q in range(num_quantizers) if num_quantizers > 1 else ():
      each = slice(q, None, num_quantizers)
      metrics[f'loss_q{q + 1}'] = _mean(nats[:, each], seen[:, each])
    if self.z_loss:
      square = jnp.square(jax.nn.logsumexp(logits, axis=-1))
      metrics['z_loss'] = self.z_loss * _mean(square, seen)
      loss += metrics['z_loss']
    return loss, model_lib.average(**metrics)

  def adopt(self, part: parts.Part) -> model_lib.Variables:
    """Returns the parameters of a stage that may have read other streams.

    See `TrainableModel.adopt`; rows of tokens that it did not read are NaN.
    """
    params = stacking.unstack(part.variables['params'])
    known = params['token_embed']['embedding']
    rows = np.full(
        (transformer.num_rows(self.stage), known.shape[1]), np.nan, np.float32
    )
    rows[self.stage.vocab_size :] = 0  # Rows of no token.
    theirs = stages.of_part(part.config)
    rows[: streams.NUM_RESERVED_IDS] = known[: streams.NUM_RESERVED_IDS]
    for stream in self.stage.streams:
      if stream in theirs.streams:
        rows[self.stage.ids(stream)] = known[theirs.ids(stream)]
    params = {**params, 'token_embed': {'embedding': rows}}
    if self.config.scan_layers:
      params = stacking.stack(params)
    return {'params': params}

  def without_remat(self) -> 'StageModel':
    return StageModel(
        self.stage,
        dataclasses.replace(self.config, remat='none'),
        self.optimizer_def,
        self.z_loss,
        self.conditioning_dropout,
        self.history_dropout,
    )

  def score_batch(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      flax_mutables: model_lib.Variables | None = None,
  ) -> Float[Array, ' batch']:
    """Returns the log likelihood of each example's targets, in nats."""
    return self.score_batch_with_aux(params, batch, flax_mutables)[0]

  def score_batch_with_aux(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      flax_mutables: model_lib.Variables | None = None,
  ) -> tuple[Float[Array, ' batch'], dict[str, Float[Array, 'batch q']]]:
    """Returns `score_batch`, and sums over the targets of each quantizer.

    These are [batch, quantizers]: 'nats', 'accuracy', which is how many targets
    are the likeliest, and 'count', how many there are.
    """
    del flax_mutables
    logits = self._logits(params, batch)
    nats, seen = likelihood.nats(self.stage, logits, batch['targets'])
    codes = likelihood.codes(self.stage, batch['targets'])
    hits = jnp.argmax(logits, axis=-1) == codes

    def total(values):
      by_frame = jnp.where(seen, values, 0.0).reshape(
          len(seen), -1, self.stage.targets.num_quantizers
      )
      return jnp.sum(by_frame, axis=1)

    sums = {'nats': total(nats), 'accuracy': total(hits), 'count': total(1.0)}
    return -jnp.sum(sums['nats'], axis=-1), sums

  def predict_batch(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      rng: jax.Array | None = None,
      flax_mutables: model_lib.Variables | None = None,
  ) -> Int[Array, 'batch length']:
    """Returns target ids, sampled with `rng`, or the likeliest without it.

    Each step runs the whole network, so this is only for evaluating a few
    examples during training; `sampling` has a cache.
    """
    del flax_mutables
    targets, pattern = batch['targets'], self.module.pattern
    offsets = likelihood.offsets(self.stage, targets.shape[1])
    num_frames = targets.shape[1] // pattern.num_quantizers
    num_positions = pattern.num_positions(num_frames)
    index = np.arange(num_positions)[:, np.newaxis]
    position = pattern.to_frames(
        np.broadcast_to(index, (1, num_positions, pattern.width))
    ).reshape(-1)

    def write(i, targets):
      logits = self._logits(params, {**batch, 'targets': targets})
      codes = (
          jnp.argmax(logits, axis=-1)
          if rng is None
          else jax.random.categorical(jax.random.fold_in(rng, i), logits)
      )
      ids = codes.astype(targets.dtype) + offsets
      return jnp.where(position == i, ids, targets)

    return jax.lax.fori_loop(0, num_positions, write, jnp.zeros_like(targets))

  def predict_batch_with_aux(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      rng: jax.Array | None = None,
      flax_mutables: model_lib.Variables | None = None,
  ) -> tuple[Int[Array, 'batch length'], dict[str, Float[Array, ' batch']]]:
    """Returns `predict_batch`, and the log likelihoods as 'scores'."""
    ids = self.predict_batch(params, batch, rng, flax_mutables)
    return ids, {'scores': self.score_batch(params, {**batch, 'targets': ids})}

  def lineage(self, data_dir: str | os.PathLike[str]) -> dict[str, str]:
    """Returns the sha256 of each tokenizer that wrote the training tokens."""
    return token_dataset.lineage(data_dir)

  def export(
      self,
      variables: model_lib.Variables,
      directory: str | os.PathLike[str],
      clips: Iterable[np.ndarray],
      lineage: Mapping[str, str],
      dtype: str = 'float32',
  ) -> str:
    """Writes the stage as a part of a model.

    Args:
      variables: Collections with 'params'.
      directory: Directory of the model; made if missing.
      clips: Not used: there is nothing to fit.
      lineage: The sha256 of each tokenizer that wrote the training tokens.
      dtype: Data type of the stored matrices, see `models.parts.save`.

    Returns:
      The sha256 of the stored variables.
    """
    del clips
    # Settings for training alone do not matter any more.
    network = dataclasses.replace(self.config, scan_layers=False, remat='none')
    config = {
        'stage': self.stage.to_json(),
        'conditioning_dropout': self.conditioning_dropout,
        'transformer': dataclasses.asdict(network),
    }
    params = stacking.unstack(jax.device_get(variables['params']))
    return parts.save(
        directory, self.name, config, {'params': params}, lineage, dtype
    )

  def _drop_conditioning(
      self, inputs: Int[Array, 'batch length'], rng: jax.Array
  ) -> Int[Array, 'batch length']:
    """Sets all that guides the stage to ABSENT_ID, in some examples."""
    if not self.stage.guiding or not self.conditioning_dropout:
      return inputs
    dropped = jax.random.bernoulli(
        rng, self.conditioning_dropout, (inputs.shape[0], 1)
    )
    for stream in self.stage.guiding:
      ids = self.stage.ids(stream)
      described = (inputs >= ids.start) & (inputs < ids.stop)
      inputs = jnp.where(dropped & described, streams.ABSENT_ID, inputs)
    return inputs

  def _drop_history(
      self, targets: Int[Array, 'batch length'], rng: jax.Array
  ) -> Int[Array, 'batch length']:
    """Sets some targets to ABSENT_ID where later positions read them."""
    if not self.history_dropout:
      return targets
    rngs = jax.random.split(rng)
    shares = self.history_dropout * jax.random.uniform(
        rngs[0], (targets.shape[0], 1)
    )
    dropped = jax.random.uniform(rngs[1], targets.shape) < shares
    return jnp.where(dropped & (targets != 0), streams.ABSENT_ID, targets)

  def _logits(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      dropout_rng: jax.Array | None = None,
  ) -> Float[Array, 'batch length codes']:
    logits = self.module.apply(
        {'params': params},
        batch['inputs'],
        batch['targets'],
        train=dropout_rng is not None,
        rngs=None if dropout_rng is None else {'dropout': dropout_rng},
    )
    return cast(jax.Array, logits)
