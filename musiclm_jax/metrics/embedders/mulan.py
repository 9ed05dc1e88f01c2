"""MuLan, of a model of ours, as an embedder to judge music by."""

from collections.abc import Sequence

from jaxtyping import Float
from musiclm_jax.metrics.embedders import base
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base as tokenizers
from musiclm_jax.tokenizers import table
import numpy as np


class MuLan(base.JointEmbedder):
  """The part of a model that reads prompts; windows start each second."""

  def __init__(self, name: str, part: tokenizers.TextEmbedder):
    self.identity = base.Identity(
        name,
        part.sha256,
        part.sample_rate,
        part.window_seconds,
        part.codebooks.shape[-1],
    )
    self._part = part

  def embed_audio(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, 'windows width']:
    return self._part.embed_audio(audio[np.newaxis])[0]

  def embed_clips(
      self, clips: Sequence[Float[np.ndarray, ' _']]
  ) -> list[Float[np.ndarray, '_ width']]:
    if len({len(clip) for clip in clips}) > 1:
      return super().embed_clips(clips)
    # A call takes as long for one window as for several.
    return list(self._part.embed_audio(np.stack(clips)))

  def embed_text(
      self, texts: Sequence[str]
  ) -> Float[np.ndarray, 'texts width']:
    base.check_texts(texts)
    return self._part.embed_text(list(texts))


def load(name: str, source: str) -> MuLan:
  """Loads it from the directory of a model; '' is the one in the package."""
  directory = source or parts.embedded_model()
  return MuLan(name, table.Tokenizers(directory).text_embedder)
