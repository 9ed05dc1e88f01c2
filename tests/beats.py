"""A condition in a file of its own: how loud each moment of the music is."""

from musiclm_jax import streams
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base
import numpy as np

STREAM = streams.Stream(
    'beat', 1, 4, frame_rate=12.5, is_conditioning=True, is_added=True
)
_LOUDEST = 0.5  # Of the mean square of a frame.


class Beats(base.Tokenizer):
  """Turns audio into four levels of loudness, 12.5 times a second."""

  streams = (STREAM,)
  sample_rate = 8000

  def __init__(self, sha256: str):
    self.sha256 = sha256

  @classmethod
  def streams_of(cls, config):
    del config
    return (STREAM,)

  @classmethod
  def from_dir(cls, directory):
    return cls(parts.read_description(directory, 'beat')['sha256'])

  def tokenize(self, audio):
    base.check_audio(audio, self.sample_rate)
    hop = round(self.sample_rate / STREAM.frame_rate)
    whole = audio[:, : audio.shape[1] // hop * hop]
    loudness = np.mean(whole.reshape(len(audio), -1, hop) ** 2, axis=-1)
    levels = np.minimum(loudness / _LOUDEST * 4, 3).astype(np.int32)
    return {'beat': levels[..., np.newaxis]}
