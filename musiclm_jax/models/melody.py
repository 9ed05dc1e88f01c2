"""Embeddings of melodies that ignore who plays or sings (MusicLM 4.5)."""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax import errors
from musiclm_jax.audio import dsp
from musiclm_jax.models import encoder
from musiclm_jax.models import layers
from musiclm_jax.models import mulan
from musiclm_jax.models import parts
import numpy as np

NAME = 'melody'
SAMPLE_RATE = 16000
# Windows of 64 ms every 20 ms, over the range of voices and their first
# harmonics, so that the spectrogram resolves pitches.
_MEL_WINDOW, _MEL_HOP = 1024, 320
_MIN_HZ, _MAX_HZ = 60.0, 5000.0
_NEIGHBORS = 1 / 8  # Share of all bands that a band is compared to.
_TOLERANCE = SAMPLE_RATE // 1000  # Samples that may be missing at the end.


@dataclasses.dataclass(frozen=True)
class MelodyConfig:
  """Sizes of the melody network; those of the paper by default.

  Attributes:
    num_mels: Mel bands of the spectrogram.
    frames_per_patch: Frames of 20 ms per position of the transformer.
    num_layers: Transformer layers.
    num_heads: Attention heads.
    head_dim: Size of a head (ours: the paper's 512 is no multiple of 6).
    embed_dim: Width of the residual stream.
    mlp_dim: Width of the feed-forward layers.
    melody_dim: Width of an embedding.
    num_segments: Segments of a window that are averaged separately, then
      concatenated, so that embeddings keep the order of notes but tolerate
      small delays (ours).
    dropout_rate: Dropout rate of the output of each layer.
    num_quantizers: Tokens per embedding.
    codebook_size: Codes of each quantizer.
    window_seconds: Length of the audio that one embedding describes.
    dtype: Data type of the arithmetic; parameters are float32.
  """

  num_mels: int = 128
  frames_per_patch: int = 4
  num_layers: int = 12
  num_heads: int = 6
  head_dim: int = 64
  embed_dim: int = 512
  mlp_dim: int = 1024
  melody_dim: int = 192
  num_segments: int = 10
  dropout_rate: float = 0.1
  num_quantizers: int = 24
  codebook_size: int = 512
  window_seconds: float = 4.0
  dtype: str = 'float32'

  def __post_init__(self):
    if self.num_patches % self.num_segments:
      raise errors.UserError(
          'num_segments must divide the positions of a window,'
          f' {self.num_patches}, but is {self.num_segments}. Change it or'
          ' frames_per_patch.'
      )

  @property
  def window_samples(self) -> int:
    return round(self.window_seconds * SAMPLE_RATE)

  @property
  def num_patches(self) -> int:
    return self.window_samples // (_MEL_HOP * self.frames_per_patch)

  def to_json(self) -> dict[str, Any]:
    """Returns JSON values that `from_json` reads."""
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'MelodyConfig':
    """Makes the config that `to_json` wrote."""
    return cls(**values)


def feature_lengths(config: MelodyConfig) -> dict[str, int]:
  """Returns the length of each feature of a training example."""
  samples = config.window_samples
  return {'anchor': samples, 'positive': samples, 'work_id': 1}


def spectrogram(
    audio: Float[Array, 'b samples'], num_mels: int
) -> Float[Array, 'b t m']:
  """Returns how far each log-mel band rises above the mean of its neighbours.

  This removes loudness and the smooth spectral envelope of an instrument, a
  vowel or a room (ours). The mean square of each window is 1; silence is 0.
  """
  log_mel = dsp.log_mel(
      audio,
      SAMPLE_RATE,
      _MEL_WINDOW,
      _MEL_HOP,
      num_mels,
      _MIN_HZ,
      _MAX_HZ,
  )
  bands = np.arange(num_mels)
  near = np.abs(bands[:, np.newaxis] - bands) <= num_mels * _NEIGHBORS // 2
  near = (near / near.sum(axis=0)).astype(np.float32)
  mean = jnp.einsum('btm,mn->btn', log_mel, near, precision='highest')
  peaks = jax.nn.relu(log_mel - mean)
  square = jnp.mean(jnp.square(peaks), axis=(1, 2), keepdims=True)
  return peaks * jax.lax.rsqrt(square + 1e-4)


class MelodyNet(nn.Module):
  """A transformer over the frames of a spectrogram (ViT, arXiv 2010.11929).

  Attributes:
    config: Sizes.
  """

  config: MelodyConfig

  def setup(self):
    c = self.config
    dtype = jnp.dtype(c.dtype)
    self.patches = layers.Dense(
        c.frames_per_patch * c.num_mels,
        c.embed_dim,
        ('patch', 'embed'),
        dtype=dtype,
    )
    self.positions = partitioning.param_with_axes(
        'positions',
        nn.initializers.normal(stddev=0.3),
        (c.num_patches, c.embed_dim),
        axes=('length', 'embed'),
    )
    self.layers = [
        encoder.EncoderLayer(
            c.embed_dim,
            c.mlp_dim,
            c.num_heads,
            c.head_dim,
            c.dropout_rate,
            dtype,
        )
        for _ in range(c.num_layers)
    ]
    self.norm = layers.LayerNorm(c.embed_dim, dtype=dtype)
    self.projection = layers.Dense(
        c.num_segments * c.embed_dim, c.melody_dim, ('segments', 'joint')
    )

  def __call__(
      self, audio: Float[Array, 'b samples'], deterministic: bool = True
  ) -> Float[Array, 'b d']:
    """Embeds windows of audio.

    Args:
      audio: [batch, window_samples] at 16 kHz, in [-1, 1].
      deterministic: Whether to leave out dropout.

    Returns:
      [batch, melody_dim] unit vectors.
    """
    c = self.config
    log_mel = spectrogram(audio, c.num_mels)
    log_mel = log_mel[:, : c.num_patches * c.frames_per_patch]
    x = self.patches(log_mel.reshape(log_mel.shape[0], c.num_patches, -1))
    x = x + self.positions.astype(x.dtype)
    for layer in self.layers:
      x = layer(x, deterministic)
    segments = self.norm(x).reshape(x.shape[0], c.num_segments, -1, c.embed_dim)
    joined = jnp.mean(segments, axis=2).reshape(x.shape[0], -1)
    return layers.normalize(self.projection(joined))


class Embedder:
  """Embeds audio of any length.

  The network is compiled for one shape on first use, so that an embedding does
  not depend on the rest of its batch.

  Attributes:
    config: Sizes.
  """

  def __init__(self, config: MelodyConfig, params: Mapping[str, Any]):
    """Makes an embedder.

    Args:
      config: Sizes.
      params: Parameters of `MelodyNet`.

    Raises:
      UserError: If the parameters do not fit the config.
    """
    self.config = config
    module = MelodyNet(config)
    expected = jax.eval_shape(
        module.init,
        jax.eval_shape(jax.random.key, 0),
        jax.ShapeDtypeStruct((1, config.window_samples), jnp.float32),
    )
    parts.check_variables(
        NAME, {'params': params}, {'params': expected['params']}
    )
    variables = {'params': jax.device_put(dict(params))}
    self._embed = functools.partial(jax.jit(module.apply), variables)

  def __call__(
      self, audio: Float[np.ndarray, 'batch samples']
  ) -> Float[np.ndarray, 'batch windows d']:
    """Embeds every window of each clip.

    Args:
      audio: [batch, samples] at 16 kHz, in [-1, 1].

    Returns:
      [batch, windows, melody_dim] unit vectors; see `cut_windows`.
    """
    windows = cut_windows(audio, self.config.window_samples)
    return mulan.embed_windows(self._embed, windows)


def cut_windows(
    audio: Float[np.ndarray, 'batch samples'], window_samples: int
) -> Float[np.ndarray, 'batch windows window']:
  """Cuts clips into windows that start one second apart.

  Args:
    audio: [batch, samples] at 16 kHz.
    window_samples: Length of a window.

  Returns:
    [batch, windows, window_samples], all windows that fit; the last one may
    lack a millisecond. Shorter clips are padded with silence to one window.
  """
  padded = np.pad(audio, ((0, 0), (0, _TOLERANCE)))
  return mulan.cut_windows(padded, window_samples)
