"""Melody tokens of audio: hummed, played or sung (MusicLM, section 4.5)."""

from collections.abc import Mapping
import os
from typing import Any

import jax
from jaxtyping import Float, Int
from musiclm_jax import streams as streams_lib
from musiclm_jax.models import melody
from musiclm_jax.models import parts
from musiclm_jax.models import quantizer
from musiclm_jax.tokenizers import base
import numpy as np

_quantize = jax.jit(quantizer.quantize)


class Melody(base.Embedder):
  """Turns audio into melody tokens of windows, one for each second.

  Attributes:
    streams: The one it writes.
    window_seconds: Audio that one embedding stands for.
    codebooks: [quantizers, codes, embed] float32.
    sha256: Hash of the part.
  """

  sample_rate = melody.SAMPLE_RATE
  hears_hums = True

  def __init__(
      self,
      embedder: melody.Embedder,
      codebooks: Float[np.ndarray, 'quantizers codes embed'],
      sha256: str,
  ):
    """Makes a tokenizer.

    Args:
      embedder: The trained network.
      codebooks: [quantizers, codes, embed].
      sha256: Hash of the part that both are from.
    """
    self.streams = (_stream(embedder.config),)
    self.window_seconds = embedder.config.window_seconds
    self.codebooks = codebooks
    self.sha256 = sha256
    self._embedder = embedder

  @classmethod
  def streams_of(
      cls, config: Mapping[str, Any]
  ) -> tuple[streams_lib.Stream, ...]:
    return (_stream(melody.MelodyConfig.from_json(config)),)

  @classmethod
  def from_dir(cls, directory: str | os.PathLike[str]) -> 'Melody':
    """Loads the part 'melody' of a model.

    Raises:
      NotFoundError: If the model has no such part.
      UserError: If the part is damaged, or does not fit its config.
    """
    part = parts.load(directory, melody.NAME)
    with parts.building(directory, melody.NAME):
      config = melody.MelodyConfig.from_json(part.config)
      shape = (config.num_quantizers, config.codebook_size, config.melody_dim)
      expected = jax.ShapeDtypeStruct(shape, np.float32)
      parts.check_variables(
          melody.NAME, part.variables, {'codebooks': {'codes': expected}}
      )
      codebooks = part.variables['codebooks']['codes']
      embedder = melody.Embedder(config, part.variables['params'])
      return cls(embedder, codebooks, part.sha256)

  def embed_audio(
      self, audio: np.ndarray
  ) -> Float[np.ndarray, 'batch windows embed']:
    """Embeds every window of some clips.

    Args:
      audio: [batch, samples] floats in [-1, 1] at 16 kHz.

    Returns:
      [batch, windows, embed] of length 1; a window of 4 s starts each second,
      as long as it fits. A shorter clip is padded with silence to one.

    Raises:
      UserError: If `audio` is not a batch of mono floats in [-1, 1].
    """
    base.check_audio(audio, self.sample_rate)
    return self._embedder(audio)

  def quantize(
      self, embeddings: Float[np.ndarray, 'batch windows embed']
  ) -> Int[np.ndarray, 'batch windows quantizers']:
    """Returns the tokens of embeddings of length 1."""
    return np.asarray(_quantize(embeddings, self.codebooks))

  def tokenize(self, audio: np.ndarray) -> streams_lib.Tokens:
    """Tokenizes each window of each clip; see `base.Tokenizer`."""
    return {self.streams[0].name: self.quantize(self.embed_audio(audio))}


def _stream(config: melody.MelodyConfig) -> streams_lib.Stream:
  # Section 4.5; a window for each second (ours), not for every third.
  return streams_lib.Stream(
      'melody',
      config.num_quantizers,
      config.codebook_size,
      frame_rate=1.0,
      window_seconds=config.window_seconds,
      is_conditioning=True,
      is_added=True,
  )
