"""MuLan tokens of audio or of text (MusicLM, section 3.1)."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import jax
from jaxtyping import Float, Int
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax import streams as streams_lib
from musiclm_jax.models import mulan
from musiclm_jax.models import parts
from musiclm_jax.models import quantizer
from musiclm_jax.tokenizers import base
import numpy as np

_quantize = jax.jit(quantizer.quantize)


class MuLan(base.TextEmbedder):
  """Turns audio, or text, into one frame of MuLan tokens.

  Attributes:
    streams: The one it writes.
    window_seconds: Audio that one embedding stands for.
    codebooks: [quantizers, codes, embed] float32.
    sha256: Hash of the part.
  """

  sample_rate = mulan.SAMPLE_RATE

  def __init__(
      self,
      embedder: mulan.Embedder,
      codebooks: Float[np.ndarray, 'quantizers codes embed'],
      sha256: str,
  ):
    """Makes a tokenizer.

    Args:
      embedder: Networks of the trained model.
      codebooks: [quantizers, codes, embed].
      sha256: Hash of the part that both are from.
    """
    self.streams = (_stream(embedder.config),)
    self.window_seconds = embedder.config.window_seconds
    self.codebooks = codebooks
    self.sha256 = sha256
    self._embedder = embedder
    self._checked: set[str] = set()

  @classmethod
  def streams_of(
      cls, config: Mapping[str, Any]
  ) -> tuple[streams_lib.Stream, ...]:
    return (_stream(mulan.MuLanConfig.from_json(config['config'])),)

  @classmethod
  def from_dir(cls, directory: str | os.PathLike[str]) -> 'MuLan':
    """Loads the part 'mulan' of a model.

    Raises:
      NotFoundError: If the model has no such part.
      UserError: If the part is damaged, or does not fit its config.
    """
    part = parts.load(directory, 'mulan')
    with parts.building(directory, 'mulan'):
      config = mulan.MuLanConfig.from_json(part.config['config'])
      shape = (config.num_quantizers, config.codebook_size, config.embed_dim)
      expected = jax.ShapeDtypeStruct(shape, np.float32)
      parts.check_variables(
          'mulan', part.variables, {'codebooks': {'codes': expected}}
      )
      codebooks = part.variables['codebooks']['codes']
      embedder = mulan.Embedder(
          config, part.variables['params'], part.config['vocab']
      )
      return cls(embedder, codebooks, part.sha256)

  def embed_audio(
      self, audio: np.ndarray
  ) -> Float[np.ndarray, 'batch windows embed']:
    """Embeds every window of some clips.

    Args:
      audio: [batch, samples] floats in [-1, 1] at 16 kHz.

    Returns:
      [batch, windows, embed] of length 1; a window starts at each second that
      is at least `window_seconds` before the end. A shorter clip is padded with
      silence to one window.

    Raises:
      UserError: If `audio` is not a batch of mono floats in [-1, 1].
    """
    base.check_audio(audio, self.sample_rate)
    return self._embedder.audio(audio)

  def embed_text(
      self, texts: Sequence[str], truncate: bool = True
  ) -> Float[np.ndarray, 'batch embed']:
    """Embeds captions.

    Args:
      texts: A batch of them.
      truncate: Whether one that is too long loses its end, as in training.

    Returns:
      [batch, embed] of length 1.

    Raises:
      UserError: If there is no text, or one is empty, or too long and not to
        be truncated.
    """
    return self._embedder.text(texts, truncate)

  def check_text(self, text: str) -> None:
    """Says which words of a prompt are unknown, once for each prompt.

    Raises:
      UserError: If all of them are, or it has none: such prompts would all
        sound alike.
    """
    if text in self._checked:
      return
    known, unknown = self._embedder.wordpiece.words(text)
    named = ', '.join(repr(word) for word in dict.fromkeys(unknown[:10]))
    named += ' …' * (len(unknown) > 10)
    if not known:
      what = f'knows none of {named}' if unknown else 'finds no word in it'
      raise errors.UserError(
          'a prompt must hold words that the model knows, but is'
          f' {text!r:.100},'
          f' and the model {what}. Describe the music in the language of the'
          ' captions that the model was trained on.'
      )
    if unknown:
      progress.say(
          f'the prompt {text!r:.100} should hold words that the model knows,'
          f' but it knows none of {named}: they say nothing to it.'
      )
    self._checked.add(text)

  def quantize(
      self, embeddings: Float[np.ndarray, 'batch embed']
  ) -> Int[np.ndarray, 'batch 1 quantizers']:
    """Returns the [batch, 1, quantizers] tokens of embeddings of length 1."""
    tokens = np.asarray(_quantize(embeddings, self.codebooks))
    return tokens[:, np.newaxis].astype(np.int32)

  def tokenize(self, audio: np.ndarray) -> streams_lib.Tokens:
    """Tokenizes the average of each clip's windows; see `base.Tokenizer`."""
    embeddings = mulan.pool_windows(self.embed_audio(audio))
    return {self.streams[0].name: self.quantize(embeddings)}

  def tokenize_text(self, texts: Sequence[str]) -> streams_lib.Tokens:
    """Tokenizes prompts, with the codebooks of audio.

    Args:
      texts: A batch of them.

    Returns:
      The tokens of the stream 'mulan'.

    Raises:
      UserError: If there is no text, or one is empty, too long or all of
        words that are not known.
    """
    for text in texts:
      self.check_text(text)
    embeddings = self.embed_text(texts, truncate=False)
    return {self.streams[0].name: self.quantize(embeddings)}


def _stream(config: mulan.MuLanConfig) -> streams_lib.Stream:
  return streams_lib.Stream(
      'mulan',
      config.num_quantizers,
      config.codebook_size,
      is_conditioning=True,
  )
