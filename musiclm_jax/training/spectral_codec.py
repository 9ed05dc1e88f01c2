"""Trains the codec in the time-frequency domain."""

import dataclasses

import jax
import jax.numpy as jnp
from musiclm_jax.audio import distances
from musiclm_jax.models import discriminators
from musiclm_jax.models import spectral_codec
from musiclm_jax.training import codec
from musiclm_jax.training import losses
import optax

_SDR_RANGE = 20.0, 30.0  # SI-SDR is clipped so many dB below and above 0.


@dataclasses.dataclass(frozen=True)
class LossWeights:
  """Weights of the generator's losses (all figures are ours).

  Attributes:
    log_mel: Weight of the distance of log-mel spectra.
    spectrum: Weight of the relative distance of complex spectra, without which
      it learns no phase.
    log_spectrum: Weight of the distance of logarithmic spectra; 0 leaves it
      out.
    si_sdr: Weight of each decibel of SI-SDR.
    commitment: Weight of the commitment loss.
    adversarial: Weight of the adversarial loss.
    feature: Weight of the feature matching loss.
  """

  log_mel: float = 0.5
  spectrum: float = 1.0
  log_spectrum: float = 0.0
  si_sdr: float = 0.1
  commitment: float = 0.25
  adversarial: float = 0.0
  feature: float = 0.0


class SpectralCodecModel(codec.CodecModel):
  """The codec and, if there are any, the discriminators to train it against."""

  name = 'spectral_codec'
  network = spectral_codec.SpectralCodec
  decoder_prefixes = ('from_embedding', 'decoder_', 'part', 'last')

  def __init__(
      self,
      config: spectral_codec.SpectralCodecConfig,
      discriminator_config: discriminators.DiscriminatorConfig | None,
      optimizer_def: optax.GradientTransformation,
      weights: LossWeights = LossWeights(),
      discriminator_start: int = 0,
      decoder_only: bool = False,
  ):
    super().__init__(
        config,
        discriminator_config,
        optimizer_def,
        weights,
        discriminator_start,
        decoder_only,
    )

  def _distances(self, audio, reconstruction):
    log_mel, spectrum = losses.spectral_losses(
        audio, reconstruction, self.config.sample_rate
    )
    least, most = _SDR_RANGE
    ratio = distances.si_sdr(audio, reconstruction)
    found = {
        'log_mel_loss': log_mel,
        'spectrum_loss': spectrum,
        'si_sdr_loss': -jnp.mean(jnp.clip(ratio, -least, most)),
    }
    if self.weights.log_spectrum:
      loss = losses.log_spectrum_loss(audio, reconstruction)
      found['log_spectrum_loss'] = loss
    return found

  def _weigh(self, metrics) -> jax.Array:
    w = self.weights
    return (
        w.log_mel * metrics['log_mel_loss']
        + w.spectrum * metrics['spectrum_loss']
        + w.si_sdr * metrics['si_sdr_loss']
        + w.log_spectrum * metrics.get('log_spectrum_loss', 0.0)
        + w.commitment * metrics['commitment_loss']
    )
