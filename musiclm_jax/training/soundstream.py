"""Trains SoundStream."""

import dataclasses

import jax.numpy as jnp
from musiclm_jax.models import discriminators
from musiclm_jax.models import soundstream
from musiclm_jax.training import codec
from musiclm_jax.training import losses
import optax


@dataclasses.dataclass(frozen=True)
class LossWeights:
  """Weights of the generator's losses (SoundStream, section III-E).

  Attributes:
    adversarial: Weight of the adversarial loss.
    feature: Weight of the feature matching loss.
    reconstruction: Weight of the multi-scale mel loss.
    waveform: Weight of the mean absolute difference of samples (ours: for
      training too short for the discriminators to teach phase; none in the
      paper).
    commitment: Weight of the commitment loss (ours: no figure in the paper).
  """

  adversarial: float = 1.0
  feature: float = 100.0
  reconstruction: float = 1.0
  waveform: float = 0.0
  commitment: float = 1.0


class SoundStreamModel(codec.CodecModel):
  """SoundStream, and the discriminators it is trained against."""

  name = 'soundstream'
  network = soundstream.SoundStream

  def __init__(
      self,
      config: soundstream.SoundStreamConfig,
      discriminator_config: discriminators.DiscriminatorConfig,
      optimizer_def: optax.GradientTransformation,
      weights: LossWeights = LossWeights(),
      discriminator_start: int = 0,
  ):
    super().__init__(
        config,
        discriminator_config,
        optimizer_def,
        weights,
        discriminator_start,
    )

  def _distances(self, audio, reconstruction):
    return {
        'mel_loss': losses.mel_loss(
            audio, reconstruction, self.config.sample_rate
        ),
        'waveform_loss': jnp.mean(jnp.abs(audio - reconstruction)),
    }

  def _weigh(self, metrics):
    return (
        self.weights.reconstruction * metrics['mel_loss']
        + self.weights.waveform * metrics['waveform_loss']
        + self.weights.commitment * metrics['commitment_loss']
    )
