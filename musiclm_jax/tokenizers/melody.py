"""Melody tokens of audio: hummed, played or sung (MusicLM, section 4.5)."""

import os

import jax
from jaxtyping import Float, Int
from musiclm_jax import streams as streams_lib
from musiclm_jax.models import melody
from musiclm_jax.models import parts
from musiclm_jax.models import quantizer
from musiclm_jax.tokenizers import base
import numpy as np

_quantize = jax.jit(quantizer.quantize)


class Melody(base.Tokenizer):
  """Turns audio into melody tokens, 24 for each window of 4 s.

  There is a window for each second.

  Attributes:
    codebooks: [quantizers, codes, embed] float32.
    sha256: Of the part.
  """

  streams = (base.MELODY,)
  sample_rate = melody.SAMPLE_RATE

  def __init__(
      self,
      embedder: melody.Embedder,
      codebooks: Float[np.ndarray, 'quantizers codes embed'],
      sha256: str,
  ):
    """Makes a tokenizer.

    Args:
      embedder: Of the trained network.
      codebooks: [quantizers, codes, embed].
      sha256: Of the part that both are from.
    """
    self.codebooks = codebooks
    self.sha256 = sha256
    self._embedder = embedder

  @classmethod
  def from_dir(cls, directory: str | os.PathLike[str]) -> 'Melody':
    """Loads the part 'melody' of a model.

    Raises:
      NotFoundError: If the model has no such part.
      UserError: If the part is damaged, or not what its config describes.
    """
    part = parts.load(directory, melody.NAME)
    with parts.building(directory, melody.NAME):
      config = melody.MelodyConfig.from_json(part.config)
      shape = (melody.NUM_QUANTIZERS, melody.CODEBOOK_SIZE, config.melody_dim)
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
    return {base.MELODY.name: self.quantize(self.embed_audio(audio))}
