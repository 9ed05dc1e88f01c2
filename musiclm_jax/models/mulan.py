"""MuLan (arXiv 2208.12415): embeds audio and text in one space."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax.audio import dsp
from musiclm_jax.models import ast
from musiclm_jax.models import bert
from musiclm_jax.models import layers
from musiclm_jax.models import parts
from musiclm_jax.models import resnet
from musiclm_jax.models import wordpiece
import numpy as np

SAMPLE_RATE = 16000
STRIDE_SECONDS = 1  # From one window of a clip to the next (section 3.1).
_MEL_WINDOW, _MEL_HOP = 400, 160  # 25 and 10 ms.
# Approximate moments of the log-mel of music, to give inputs unit variance.
_LOG_MEL_MEAN, _LOG_MEL_STD = -3.0, 4.0
_WINDOWS_PER_CALL = 8

AUDIO_TOWERS = {'resnet': resnet.ResNetConfig, 'ast': ast.AstConfig}


@dataclasses.dataclass(frozen=True)
class MuLanConfig:
  """Sizes of MuLan.

  Attributes:
    audio: Sizes of the audio tower; their class decides its architecture.
    text: Sizes of the text tower.
    embed_dim: Width of the shared space.
    num_quantizers: Tokens per embedding.
    codebook_size: Codes of each quantizer.
    window_seconds: Length of the audio that one embedding describes.
    initial_temperature: Initial value of the learned temperature of the
      contrastive loss.
    num_time_masks: Spans of frames that SpecAugment masks in training.
    max_time_mask: Longest such span, in frames.
    num_mel_masks: Spans of mel bands that SpecAugment masks in training.
    max_mel_mask: Longest such span, in bands.
    dtype: Data type of the arithmetic; parameters are float32.
  """

  audio: resnet.ResNetConfig | ast.AstConfig = resnet.ResNetConfig()
  text: bert.BertConfig = bert.BertConfig()
  embed_dim: int = 128
  num_quantizers: int = 12
  codebook_size: int = 1024
  window_seconds: float = 10.0
  initial_temperature: float = 0.1
  num_time_masks: int = 2
  max_time_mask: int = 96
  num_mel_masks: int = 2
  max_mel_mask: int = 8
  dtype: str = 'float32'

  @property
  def window_samples(self) -> int:
    return round(self.window_seconds * SAMPLE_RATE)

  @property
  def num_frames(self) -> int:
    return 1 + self.window_samples // _MEL_HOP

  def to_json(self) -> dict[str, Any]:
    """Returns JSON values that `from_json` reads."""
    towers = {config: name for name, config in AUDIO_TOWERS.items()}
    tower = towers[type(self.audio)]
    return dataclasses.asdict(self) | {'audio_tower': tower}

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'MuLanConfig':
    """Makes the config that `to_json` wrote."""
    values = dict(values)
    audio = dict(values.pop('audio'))
    if 'stage_sizes' in audio:
      audio['stage_sizes'] = tuple(audio['stage_sizes'])
    tower = AUDIO_TOWERS[values.pop('audio_tower')]
    text = bert.BertConfig(**values.pop('text'))
    return cls(audio=tower(**audio), text=text, **values)


def feature_lengths(config: MuLanConfig) -> dict[str, int]:
  """Returns the length of each feature of a training example."""
  return {'audio': config.window_samples, 'text_ids': config.text.max_length}


def _span_mask(
    rng: jax.Array, batch: int, size: int, num_spans: int, max_span: int
) -> Array:
  """Returns a [batch, size] mask of `num_spans` random spans."""
  width_rng, start_rng = jax.random.split(rng)
  shape = (batch, num_spans, 1)
  width = jax.random.randint(width_rng, shape, 0, max_span + 1)
  start = jax.random.uniform(start_rng, shape) * (size - width + 1)
  positions = jnp.arange(size)
  start = jnp.floor(start)
  return jnp.any((positions >= start) & (positions < start + width), axis=1)


def spec_augment(
    rng: jax.Array, log_mel: Float[Array, 'b t m'], config: MuLanConfig
) -> Float[Array, 'b t m']:
  """Sets random spans of frames and of mel bands to 0 (arXiv 1904.08779)."""
  batch, num_frames, num_mels = log_mel.shape
  time_rng, mel_rng = jax.random.split(rng)
  time_mask = _span_mask(
      time_rng, batch, num_frames, config.num_time_masks, config.max_time_mask
  )
  mel_mask = _span_mask(
      mel_rng, batch, num_mels, config.num_mel_masks, config.max_mel_mask
  )
  return jnp.where(time_mask[:, :, None] | mel_mask[:, None, :], 0, log_mel)


class MuLan(nn.Module):
  """An audio tower and a text tower that embed into one space.

  Attributes:
    config: Sizes.
  """

  config: MuLanConfig

  def setup(self):
    c = self.config
    dtype = jnp.dtype(c.dtype)
    if isinstance(c.audio, ast.AstConfig):
      self.audio = ast.Ast(c.audio, c.num_frames, dtype)
    else:
      self.audio = resnet.ResNet(c.audio, dtype)
    self.text = bert.Bert(c.text, dtype)
    self.audio_projection = layers.Dense(
        c.audio.out_dim, c.embed_dim, ('embed', 'joint')
    )
    self.text_projection = layers.Dense(
        c.text.embed_dim, c.embed_dim, ('embed', 'joint')
    )
    self.log_temperature = partitioning.param_with_axes(
        'log_temperature',
        nn.initializers.constant(np.log(c.initial_temperature)),
        (),
        axes=(),
    )

  def embed_audio(
      self, audio: Float[Array, 'b samples'], deterministic: bool = True
  ) -> Float[Array, 'b d']:
    """Embeds windows of audio.

    Args:
      audio: [batch, window_samples] at 16 kHz, in [-1, 1].
      deterministic: Whether to leave out dropout and SpecAugment.

    Returns:
      [batch, embed_dim] unit vectors.
    """
    log_mel = dsp.log_mel(
        audio, SAMPLE_RATE, _MEL_WINDOW, _MEL_HOP, self.config.audio.num_mels
    )
    log_mel = (log_mel - _LOG_MEL_MEAN) / _LOG_MEL_STD
    if not deterministic:
      log_mel = spec_augment(self.make_rng('dropout'), log_mel, self.config)
    embedding = self.audio_projection(self.audio(log_mel, deterministic))
    return layers.normalize(embedding)

  def embed_text(
      self, text_ids: Int[Array, 'b l'], deterministic: bool = True
  ) -> Float[Array, 'b d']:
    """Embeds [batch, length] word pieces as [batch, embed_dim] unit vectors."""
    embedding = self.text_projection(self.text(text_ids, deterministic))
    return layers.normalize(embedding)

  def temperature(self) -> Float[Array, '']:
    # A floor bounds the logits of training, as in CLIP.
    return jnp.maximum(jnp.exp(self.log_temperature), 0.01)

  def __call__(
      self,
      audio: Float[Array, 'b samples'],
      text_ids: Int[Array, 'b l'],
      deterministic: bool = True,
  ) -> tuple[Float[Array, 'b d'], Float[Array, 'b d'], Float[Array, '']]:
    """Returns the embeddings of audio and of text, and the temperature."""
    return (
        self.embed_audio(audio, deterministic),
        self.embed_text(text_ids, deterministic),
        self.temperature(),
    )


class Embedder:
  """Embeds audio of any length, and texts.

  Each tower is compiled on first use, for one shape of audio and a few lengths
  of text, so that embeddings do not depend on the rest of their batch.

  Attributes:
    config: Sizes.
    wordpiece: The vocabulary of the text tower.
  """

  def __init__(
      self,
      config: MuLanConfig,
      params: Mapping[str, Any],
      vocab: Sequence[str],
  ):
    """Makes an embedder.

    Args:
      config: Sizes.
      params: Parameters of `MuLan`.
      vocab: The word piece of each id.
    """
    self.config = config
    self.wordpiece = wordpiece.WordPiece(vocab)
    self._params = params

  def _compile(self, tower: str, example: np.ndarray):
    """Returns a jitted function of the inputs of one tower.

    Args:
      tower: 'audio' or 'text'.
      example: An input of the right shape.
    """
    module, method = MuLan(self.config), f'embed_{tower}'
    init = functools.partial(module.init, method=method)
    with errors.reading("part 'mulan'", 'a trained MuLan', 'Export it again.'):
      expected = jax.eval_shape(
          init, jax.eval_shape(jax.random.key, 0), example
      )['params']
      params = {name: self._params.get(name, {}) for name in expected}
      parts.check_variables('mulan', {'params': params}, {'params': expected})
    apply = jax.jit(functools.partial(module.apply, method=method))
    return functools.partial(apply, {'params': jax.device_put(params)})

  @functools.cached_property
  def _embed_audio(self):
    return self._compile('audio', np.zeros((1, self.config.window_samples)))

  @functools.cached_property
  def _embed_text(self):
    length = self.config.text.max_length
    return self._compile('text', np.zeros((1, length), np.int32))

  def audio(
      self, audio: Float[np.ndarray, 'batch samples']
  ) -> Float[np.ndarray, 'batch windows d']:
    """Embeds every window of each clip.

    Args:
      audio: [batch, samples] at 16 kHz, in [-1, 1].

    Returns:
      [batch, windows, embed_dim] unit vectors; see `cut_windows`.
    """
    windows = cut_windows(audio, self.config.window_samples)
    return embed_windows(self._embed_audio, windows)

  def text(
      self, texts: Sequence[str], truncate: bool
  ) -> Float[np.ndarray, 'batch d']:
    """Embeds texts.

    Args:
      texts: A batch of texts.
      truncate: Whether to cut texts that are too long, rather than raise.

    Returns:
      [batch, embed_dim] unit vectors.

    Raises:
      UserError: If there is no text, or one is empty or too long.
    """
    if not texts or not all(text.strip() for text in texts):
      raise errors.UserError(
          f'texts must be at least one, and none empty, but are {texts!r}.'
          ' Describe the music.'
      )
    max_length = self.config.text.max_length
    ids = self.wordpiece.encode(texts, max_length, truncate)
    rows = []
    for row in ids:
      # Padded to a power of two, so that few shapes are compiled.
      length = 1 << max(4, int(np.count_nonzero(row) - 1).bit_length())
      rows.append(self._embed_text(row[np.newaxis, :length]))
    return np.concatenate(jax.device_get(rows))


def cut_windows(
    audio: Float[np.ndarray, 'batch samples'], window_samples: int
) -> Float[np.ndarray, 'batch windows window']:
  """Cuts clips into windows that start one second apart.

  Args:
    audio: [batch, samples] at 16 kHz.
    window_samples: Length of a window.

  Returns:
    [batch, windows, window_samples], all windows that fit. Shorter clips are
    padded with silence to one window.
  """
  missing = max(0, window_samples - audio.shape[1])
  audio = np.pad(np.asarray(audio, np.float32), ((0, 0), (0, missing)))
  windows = np.lib.stride_tricks.sliding_window_view(audio, window_samples, 1)
  return windows[:, :: STRIDE_SECONDS * SAMPLE_RATE]


def embed_windows(
    embed: Callable[[np.ndarray], Array],
    windows: Float[np.ndarray, 'batch windows window'],
) -> Float[np.ndarray, 'batch windows d']:
  """Embeds windows, `_WINDOWS_PER_CALL` per call of `embed`."""
  flat = windows.reshape(-1, windows.shape[-1])
  embeddings = []
  for start in range(0, len(flat), _WINDOWS_PER_CALL):
    chunk = flat[start : start + _WINDOWS_PER_CALL]
    padded = np.pad(chunk, ((0, _WINDOWS_PER_CALL - len(chunk)), (0, 0)))
    embeddings.append(np.asarray(embed(padded))[: len(chunk)])
  return np.concatenate(embeddings).reshape(*windows.shape[:2], -1)


def pool_windows(
    embeddings: Float[np.ndarray, '*batch windows d'],
) -> Float[np.ndarray, '*batch d']:
  """Averages the embeddings of a clip's windows, scaled to unit length."""
  mean = np.mean(embeddings, axis=-2)
  norm = np.linalg.norm(mean, axis=-1, keepdims=True)
  return mean / np.maximum(norm, 1e-6)
