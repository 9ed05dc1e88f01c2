"""Semantic tokens of a trained w2v-BERT (MusicLM, section 3.1)."""

from collections.abc import Callable, Mapping
import os
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int, Shaped
from musiclm_jax import errors
from musiclm_jax import streams as streams_lib
from musiclm_jax.models import kmeans
from musiclm_jax.models import parts
from musiclm_jax.models import w2v_bert
from musiclm_jax.tokenizers import base
import numpy as np


class W2vBert(base.Tokenizer):
  """Turns audio into semantic tokens.

  Attributes:
    config: Sizes of the encoder.
    streams: The one it writes.
    sha256: Hash of the part.
  """

  sample_rate = w2v_bert.SAMPLE_RATE

  def __init__(
      self,
      config: w2v_bert.W2vBertConfig,
      variables: Mapping[str, Any],
      sha256: str = '',
  ):
    """Makes a tokenizer.

    Args:
      config: Sizes of the encoder.
      variables: 'params' of the encoder, and 'kmeans': mean and std [embed],
        centroids [codes, embed].
      sha256: Hash of the part that both are from.
    """
    self.config = config
    self.streams = (_stream(config),)
    self.sha256 = sha256
    self._variables = jax.device_put(variables)
    self._encoder = w2v_bert.W2vBertEncoder(config)
    self._tokens = jax.jit(self._tokens_of_window)
    self._points = jax.jit(self._points_of_window)

  @property
  def codebooks(self) -> np.ndarray:
    """[1, codes, embed] float32 centroids of standardized embeddings."""
    return np.asarray(self._variables['kmeans']['centroids'])[np.newaxis]

  @classmethod
  def streams_of(
      cls, config: Mapping[str, Any]
  ) -> tuple[streams_lib.Stream, ...]:
    return (_stream(w2v_bert.W2vBertConfig(**config)),)

  @classmethod
  def from_dir(cls, directory: str | os.PathLike[str]) -> 'W2vBert':
    """Loads the part 'w2v_bert' of a model.

    Raises:
      NotFoundError: If the model has no such part.
      UserError: If the part is damaged, or does not fit its config.
    """
    part = parts.load(directory, 'w2v_bert')
    with parts.building(directory, 'w2v_bert'):
      config = w2v_bert.W2vBertConfig(**part.config)
      parts.check_variables('w2v_bert', part.variables, _expected(config))
      return cls(config, part.variables, part.sha256)

  def tokenize(
      self, audio: Float[np.ndarray, 'batch samples']
  ) -> streams_lib.Tokens:
    """Tokenizes mono audio.

    Audio of more than 30 s is tokenized in windows of 30 s, each on its own.

    Args:
      audio: [batch, samples] floats in [-1, 1] at 16 kHz.

    Returns:
      'semantic': [batch, frames, 1], 25 frames per second; less than half
      a frame at the end is cut off, more is filled up with silence.

    Raises:
      UserError: If `audio` is not a batch of mono floats in [-1, 1], or is
        shorter than half a frame.
    """
    tokens = self._in_windows(self._tokens, audio)
    return {self.streams[0].name: tokens[..., np.newaxis]}

  def embed(
      self, audio: Float[np.ndarray, 'batch samples']
  ) -> Float[np.ndarray, 'batch frames embed']:
    """Embeds audio: the standardized points of which tokens name the nearest.

    Args:
      audio: As `tokenize` takes it.

    Returns:
      [batch, frames, embed], frames as those of tokens.

    Raises:
      UserError: As `tokenize` does.
    """
    return self._in_windows(self._points, audio)

  def _in_windows(
      self, fn: Callable[..., Array], audio: np.ndarray
  ) -> Shaped[np.ndarray, 'batch frames ...']:
    """Applies `fn`, of variables and a window, to audio of any length."""
    base.check_audio(audio, self.sample_rate)
    num_frames = self.streams[0].num_frames(audio.shape[1] / self.sample_rate)
    if not num_frames:
      raise errors.UserError(
          'audio must last more than 20 ms, half a frame of semantic tokens,'
          f' but has {audio.shape[1]} samples at {self.sample_rate} Hz. Leave'
          ' the clip out.'
      )
    return w2v_bert.in_windows(
        lambda *window: fn(self._variables, *window),
        audio.astype(np.float32),
        num_frames,
    )

  def _points_of_window(
      self,
      variables: Mapping[str, Any],
      audio: Float[Array, 'batch samples'],
      valid: Bool[Array, 'batch frames'],
  ) -> Float[Array, 'batch frames embed']:
    embeddings = self._encoder.apply(
        {'params': variables['params']}, audio, valid
    )
    fitted = variables['kmeans']
    return (embeddings - fitted['mean']) / fitted['std']

  def _tokens_of_window(
      self,
      variables: Mapping[str, Any],
      audio: Float[Array, 'batch samples'],
      valid: Bool[Array, 'batch frames'],
  ) -> Int[Array, 'batch frames']:
    points = self._points_of_window(variables, audio, valid)
    codes = kmeans.nearest(
        points.reshape(-1, points.shape[-1]), variables['kmeans']['centroids']
    )
    return codes.reshape(valid.shape)


def _stream(config: w2v_bert.W2vBertConfig) -> streams_lib.Stream:
  rate = w2v_bert.SAMPLE_RATE / w2v_bert.FRAME_LENGTH
  return streams_lib.Stream('semantic', 1, config.num_centroids, rate)


def _expected(config: w2v_bert.W2vBertConfig) -> dict[str, Any]:
  """Returns the shapes of the variables of a part."""
  audio = jax.ShapeDtypeStruct((1, w2v_bert.FRAME_LENGTH), np.float32)
  valid = jax.ShapeDtypeStruct((1, 1), np.bool_)
  encoder = w2v_bert.W2vBertEncoder(config)
  params = jax.eval_shape(
      encoder.init, jax.eval_shape(jax.random.key, 0), audio, valid
  )
  vector = jax.ShapeDtypeStruct((config.embed_dim,), np.float32)
  centroids = jax.ShapeDtypeStruct(
      (config.num_centroids, config.embed_dim), np.float32
  )
  fitted = {'mean': vector, 'std': vector, 'centroids': centroids}
  return {'params': params['params'], 'kmeans': fitted}
