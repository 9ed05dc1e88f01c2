"""Acoustic tokens of a trained codec in the time-frequency domain."""

from musiclm_jax.models import spectral_codec
from musiclm_jax.tokenizers import codec


class SpectralCodec(codec.NeuralCodec):
  """Turns audio into acoustic tokens, and back."""

  name = 'spectral_codec'
  network = spectral_codec.SpectralCodec
  config_class = spectral_codec.SpectralCodecConfig
