"""Trains a codec: generator and discriminators, with one combined loss."""

import abc
from collections.abc import Callable, Iterable, Mapping
import dataclasses
import os
from typing import Any

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax.audio import distances
from musiclm_jax.models import discriminators
from musiclm_jax.models import parts
from musiclm_jax.training import losses
from musiclm_jax.training import model
from musiclm_jax.training import optimizers
import numpy as np
import optax


class CodecModel(model.TrainableModel):
  """A codec and, optionally, the discriminators it is trained against.

  Attributes:
    discriminators: Networks that tell its output from real audio.
    discriminator_start: Step from which on they are trained and heard.
    weights: Weight of each loss.
    decoder_only: Whether encoder and codebooks stay as they are.
    decoder_prefixes: How the names of the parameters of the decoder begin.
  """

  decoder_prefixes: tuple[str, ...]
  network: Callable[[Any], nn.Module]
  writes_audio = True

  def __init__(
      self,
      config: Any,
      discriminator_config: discriminators.DiscriminatorConfig | None,
      optimizer_def: optax.GradientTransformation,
      weights: Any,
      discriminator_start: int = 0,
      decoder_only: bool = False,
  ):
    """Makes the networks.

    Args:
      config: Sizes of the codec.
      discriminator_config: Sizes of the discriminators; None for none.
      optimizer_def: See TrainableModel.
      weights: Weight of each loss, including 'adversarial' and 'feature'.
      discriminator_start: Step from which on discriminators are trained and
        heard; before it they take no time (ours: they cost more than a small
        codec, and teach it little before it can do the rest).
      decoder_only: Whether to train the decoder alone, so that tokens stay what
        they are, and stages that were trained on them go with it. It begins
        from a trained codec, see `adopt`.
    """
    if decoder_only:
      optimizer_def = optimizers.only(optimizer_def, self.is_trained)
    super().__init__(optimizer_def)
    self.decoder_only = decoder_only
    self.config = config
    self.sample_rate = config.sample_rate
    self.module = self.network(config)
    self.discriminators = None
    if discriminator_config is not None:
      self.discriminators = discriminators.Discriminators(discriminator_config)
    self.weights = weights
    self.discriminator_start = discriminator_start

  def get_initial_variables(
      self,
      rng: jax.Array,
      input_shapes: Mapping[str, tuple[int, ...]],
      input_types: Mapping[str, Any] | None = None,
  ) -> model.Variables:
    """See the base class; reads the shape of 'audio', [batch, samples]."""
    del input_types
    self._check_samples(input_shapes['audio'][1])
    # The shapes of variables do not depend on the length of the audio.
    audio = jnp.zeros((1, self.config.hop_length))
    generator_rng, discriminator_rng = jax.random.split(rng)
    generator = self.module.init(generator_rng, audio)
    both = {'generator': generator}
    if self.discriminators is not None:
      both['discriminator'] = self.discriminators.init(discriminator_rng, audio)
    variables = {
        collection: {name: made[collection] for name, made in both.items()}
        for collection in ('params', 'params_axes')
    }
    if self._starts_later:
      axes = partitioning.AxisMetadata(names=())
      variables[model.STEP] = {model.STEP: jnp.zeros((), jnp.int32)}
      variables[f'{model.STEP}_axes'] = {f'{model.STEP}_axes': axes}
    return variables | {
        collection: generator[collection]
        for collection in ('codebooks', 'codebooks_axes')
    }

  @property
  def _starts_later(self) -> bool:
    return self.discriminators is not None and self.discriminator_start > 0

  def loss_fn(
      self,
      params: model.Variables,
      batch: model.Batch,
      dropout_rng: jax.Array | None,
      flax_mutables: model.Variables | None = None,
  ) -> tuple[jax.Array, Any]:
    """Returns the sum of two losses that share no gradient.

    The generator's loss sees the discriminators' parameters under
    stop_gradient, and the discriminators' loss sees the reconstruction under
    it. So the gradient of the sum is the gradient of each loss with respect to
    its own parameters, and any trainer with a single loss can train this GAN,
    t5x included. Both losses judge the same audio with the same parameters, so
    XLA runs the repeated forward pass only once.

    Args:
      params: 'generator' and 'discriminator'.
      batch: 'audio', [batch, samples] in whole frames.
      dropout_rng: Key of quantizer dropout and new codes; None for neither.
      flax_mutables: 'codebooks', and `model.STEP` if it matters.

    Returns:
      The loss, and (metrics, updated mutables).
    """
    audio = self._audio(batch)
    rngs = {} if dropout_rng is None else {'dropout': dropout_rng}
    told = dict(flax_mutables or {})
    step = {name: told.pop(name) for name in (model.STEP,) if name in told}
    generator = params['generator']
    if self.decoder_only:
      generator = self._hold(generator)
    (reconstruction, metrics), mutables = self.module.apply(
        {'params': generator, **told},
        audio,
        train=bool(rngs) and not self.decoder_only,
        mutable=['codebooks'],
        rngs=rngs,
    )
    compared = {
        **self._distances(audio, reconstruction),
        'commitment_loss': metrics['commitment_loss'],
    }
    compared['reconstruction_loss'] = self._weigh(compared)
    judged = self._judged(params, audio, reconstruction, step)
    perplexity = metrics['codebook_perplexity']
    health = {
        'dead_codes': metrics['dead_codes'],
        'codebook_perplexity_mean': jnp.mean(perplexity),
        'codebook_perplexity_min': jnp.min(perplexity),
        'si_sdr': jnp.mean(distances.si_sdr(audio, reconstruction)),
    } | {
        f'codebook_perplexity_q{i + 1:02}': perplexity[i]
        for i in range(self.config.num_quantizers)
    }
    loss = compared['reconstruction_loss']
    if judged:
      loss += self.weights.adversarial * judged['adversarial_loss']
      loss += self.weights.feature * judged['feature_loss']
      judged['generator_loss'] = loss
      loss += judged['discriminator_loss']
    averages = model.average(loss=loss, **compared, **judged, **health)
    return loss, (averages, {**mutables, **step})

  def eval_fn(
      self,
      params: model.Variables,
      batch: model.Batch,
      flax_mutables: model.Variables | None = None,
  ) -> tuple[jax.Array, model.Metrics]:
    """Returns loss and metrics of audio quantized with every quantizer."""
    loss, (metrics, _) = self.loss_fn(params, batch, None, flax_mutables)
    return loss, metrics

  def score_batch_with_aux(
      self,
      params: model.Variables,
      batch: model.Batch,
      flax_mutables: model.Variables | None = None,
  ) -> tuple[Float[Array, ' batch'], dict[str, Float[Array, ' batch']]]:
    """Returns the SI-SDR of each reconstruction, in dB, and further scores.

    These are [batch]: 'si_sdr'; 'log_mel', the distance of
    `losses.spectral_losses`; and 'count', which is 1.
    """
    audio = self._audio(batch)
    reconstruction, _ = self.module.apply(
        {'params': params['generator'], **(flax_mutables or {})}, audio
    )
    log_mel = lambda real, fake: losses.spectral_losses(
        real[jnp.newaxis], fake[jnp.newaxis], self.config.sample_rate
    )[0]
    si_sdr = distances.si_sdr(audio, reconstruction)
    return si_sdr, {
        'si_sdr': si_sdr,
        'log_mel': jax.vmap(log_mel)(audio, reconstruction),
        'count': jnp.ones_like(si_sdr),
    }

  def predict_batch(
      self,
      params: model.Variables,
      batch: model.Batch,
      flax_mutables: model.Variables | None = None,
  ) -> Int[Array, 'batch frames quantizers']:
    """Returns the tokens of the audio, as if silence followed it."""
    ahead = self.config.lookahead
    tokens: Any = self.module.apply(
        {'params': params['generator'], **(flax_mutables or {})},
        jnp.pad(self._audio(batch), ((0, 0), (0, ahead))),
        method='encode',
    )
    return tokens

  def predict_batch_with_aux(
      self,
      params: model.Variables,
      batch: model.Batch,
      flax_mutables: model.Variables | None = None,
  ) -> tuple[
      Int[Array, 'batch frames quantizers'], dict[str, Float[Array, ' batch']]
  ]:
    """Returns `predict_batch`, and the SI-SDR of each example as 'scores'."""
    tokens = self.predict_batch(params, batch, flax_mutables)
    scores, _ = self.score_batch_with_aux(params, batch, flax_mutables)
    return tokens, {'scores': scores}

  def summaries(
      self, variables: model.Variables, batch: Mapping[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    """Returns the first example and its reconstruction."""
    audio = batch['audio'][:1]
    reconstruction, _ = jax.jit(self.module.apply)(
        {
            'params': variables['params']['generator'],
            'codebooks': variables['codebooks'],
        },
        audio,
    )
    return {
        'original': np.asarray(audio[0]),
        'reconstruction': np.asarray(reconstruction[0]),
    }

  def adopt(self, part: parts.Part) -> model.Variables:
    """See the base class.

    Raises:
      UserError: If this is not to train the decoder alone: discriminators and
        counts of codes would begin anew.
    """
    if not self.decoder_only:
      raise errors.UserError(
          f"INITIAL_MODEL must be None for '{part.name}', unless only its"
          ' decoder is trained (decoder_only). Leave it out.'
      )
    variables = part.variables
    return {
        'params': {'generator': variables['params']},
        'codebooks': variables['codebooks'],
    }

  def is_trained(self, path: tuple[str, ...]) -> bool:
    """Whether the parameter at a path is of the decoder or a discriminator."""
    return path[0] != 'generator' or path[1].startswith(self.decoder_prefixes)

  def _hold(self, generator: model.Variables) -> model.Variables:
    """Returns the parameters without gradients but for those of the decoder."""
    is_trained = lambda name: self.is_trained(('generator', name))
    return {
        name: x if is_trained(name) else jax.lax.stop_gradient(x)
        for name, x in generator.items()
    }

  def export(
      self,
      variables: model.Variables,
      directory: str | os.PathLike[str],
      clips: Iterable[np.ndarray] | None = None,
      lineage: Mapping[str, str] | None = None,
      dtype: str = 'float32',
  ) -> str:
    """Writes the generator as a part; see the base class.

    Clips are not read, as there is nothing to fit; codebooks stay float32.
    """
    del clips
    generator = {
        'params': variables['params']['generator'],
        'codebooks': variables['codebooks'],
    }
    return parts.save(
        directory,
        self.name,
        dataclasses.asdict(self.config),
        jax.device_get(generator),
        lineage,
        dtype,
    )

  @abc.abstractmethod
  def _distances(
      self, audio: jax.Array, reconstruction: jax.Array
  ) -> dict[str, jax.Array]:
    """Returns the losses that compare a reconstruction with its original."""

  @abc.abstractmethod
  def _weigh(self, metrics: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the weighted sum of those losses and 'commitment_loss'."""

  def _judged(self, params, audio, reconstruction, step):
    """Returns the losses of discriminators: none without, 0 before the start.

    Args:
      params: 'discriminator', if there are any.
      audio: [batch, samples] original.
      reconstruction: [batch, samples].
      step: `model.STEP` if they start later.
    """
    if self.discriminators is None:
      return {}
    judge = lambda *args: self._judge(params['discriminator'], *args)
    if not self._starts_later:
      return judge(audio, reconstruction)
    found = jax.eval_shape(judge, audio, reconstruction)
    return jax.lax.cond(
        step[model.STEP][model.STEP] >= self.discriminator_start,
        judge,
        lambda *_: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found),
        audio,
        reconstruction,
    )

  def _judge(self, params, audio, reconstruction):
    judge = lambda params, x: self.discriminators.apply({'params': params}, x)
    frozen = jax.lax.stop_gradient(params)
    real = jax.lax.stop_gradient(judge(frozen, audio))
    fake = judge(frozen, reconstruction)
    heard = judge(params, audio)
    told_apart = judge(params, jax.lax.stop_gradient(reconstruction))
    mean = lambda judgements: jnp.mean(
        jnp.stack([jnp.mean(logits) for logits, _ in judgements])
    )
    return {
        'adversarial_loss': losses.adversarial_loss(fake),
        'feature_loss': losses.feature_loss(real, fake),
        'discriminator_loss': losses.discriminator_loss(heard, told_apart),
        # Equal logits mean that the discriminators have given up, and a gap
        # above 2 that the generator no longer fools them.
        'logits_real': mean(heard),
        'logits_fake': mean(told_apart),
    }

  def _audio(self, batch):
    self._check_samples(batch['audio'].shape[1])
    return batch['audio'].astype(jnp.float32)

  def _check_samples(self, samples):
    if samples == 0 or samples % self.config.hop_length:
      raise errors.UserError(
          "the crop 'audio' must be a whole number of frames of"
          f' {self.config.hop_length} samples, but has {samples} samples. Set'
          " TASK_FEATURE_LENGTHS['audio'] to a multiple."
      )
