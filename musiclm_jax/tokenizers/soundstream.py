"""Acoustic tokens of a trained SoundStream (MusicLM, section 3.1)."""

from musiclm_jax.models import soundstream
from musiclm_jax.tokenizers import codec


class SoundStream(codec.NeuralCodec):
  """Turns audio into coarse and fine acoustic tokens, and back."""

  name = 'soundstream'
  network = soundstream.SoundStream
  config_class = soundstream.SoundStreamConfig
