"""w2v-BERT: contrastive learning and masked prediction (arXiv 2108.06209)."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import NamedTuple

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped
from musiclm_jax import errors
from musiclm_jax.audio import dsp
from musiclm_jax.models import conformer
from musiclm_jax.models import layers
import numpy as np

SAMPLE_RATE = 16000
WINDOW_LENGTH = 400  # 25 ms, in samples.
HOP_LENGTH = 160  # 10 ms, in samples.
SUBSAMPLING = 4  # Log-mel frames per frame of the Conformer: 25 Hz.
FRAME_LENGTH = HOP_LENGTH * SUBSAMPLING  # In samples.
WINDOW_FRAMES = 750  # Long audio is cut into windows of 30 s.
BUCKET_FRAMES = 125  # Short audio is padded to a multiple of 5 s.
_TEMPERATURE = 0.02  # Divides cosine similarities to codes.


@dataclasses.dataclass(frozen=True)
class W2vBertConfig:
  """Sizes of w2v-BERT; those of w2v-BERT XL, 600M parameters, by default.

  Attributes:
    num_mels: Bands of the log-mel spectrogram.
    log_mel_mean: Mean of log-mels of music, which is subtracted (ours; fixed,
      so that a token does not depend on distant audio).
    log_mel_std: Their standard deviation, by which they are divided.
    conv_channels: Channels of the two convolutions that halve the frame rate.
    embed_dim: Width of the Conformer.
    num_heads: Attention heads.
    mlp_dim: Hidden size of its perceptrons.
    kernel_size: Frames that its depthwise convolution spans.
    contrastive_layers: Conformer blocks of the contrastive module.
    masked_prediction_layers: Conformer blocks of the masked prediction module.
    semantic_layer: Masked prediction block, counted from 1, whose outputs are
      clustered into semantic tokens (MusicLM, section 4.1).
    codebook_size: Codes of the contrastive codebook.
    codebook_dim: Width of a code. With few dimensions (ours, as in BEST-RQ,
      arXiv 2202.01855) similar frames have similar codes.
    num_centroids: Centroids of k-means, each a semantic token.
    dropout_rate: Dropout rate of every residual branch.
    dtype: Data type of the arithmetic, 'float32' or 'bfloat16'.
  """

  num_mels: int = 80
  log_mel_mean: float = -5.3
  log_mel_std: float = 2.2
  conv_channels: Sequence[int] = (128, 32)
  embed_dim: int = 1024
  num_heads: int = 8
  mlp_dim: int = 4096
  kernel_size: int = 5
  contrastive_layers: int = 12
  masked_prediction_layers: int = 12
  semantic_layer: int = 7
  codebook_size: int = 1024
  codebook_dim: int = 16
  num_centroids: int = 1024
  dropout_rate: float = 0.1
  dtype: str = 'float32'

  def __post_init__(self):
    # JSON has no tuples, and linen needs hashable attributes.
    object.__setattr__(self, 'conv_channels', tuple(self.conv_channels))
    if not 1 <= self.semantic_layer <= self.masked_prediction_layers:
      raise errors.UserError(
          'semantic_layer must be in [1, masked_prediction_layers ='
          f' {self.masked_prediction_layers}], but is {self.semantic_layer}.'
      )
    if self.embed_dim % self.num_heads:
      raise errors.UserError(
          f'embed_dim must be a multiple of num_heads {self.num_heads}, but is'
          f' {self.embed_dim}.'
      )

  @property
  def feature_dim(self) -> int:
    """Width of a frame after the convolutions, each of which halves bands."""
    bands = self.num_mels
    for _ in self.conv_channels:
      bands = -(-bands // 2)
    return bands * self.conv_channels[-1]


class FeatureEncoder(nn.Module):
  """Log-mel frames and two strided convolutions: audio to features at 25 Hz.

  Attributes:
    config: Sizes.
  """

  config: W2vBertConfig

  def setup(self):
    dtype = jnp.dtype(self.config.dtype)
    channels = (1, *self.config.conv_channels)
    self.convs = [
        layers.Conv(i, o, (3, 3), (2, 2), dtype=dtype)
        for i, o in zip(channels[:-1], channels[1:], strict=True)
    ]
    self.norm = layers.LayerNorm(self.config.feature_dim, dtype=dtype)

  def __call__(
      self,
      audio: Float[Array, 'batch samples'],
      valid: Bool[Array, 'batch frames'],
  ) -> Float[Array, 'batch frames features']:
    samples = valid.shape[1] * FRAME_LENGTH
    if audio.shape[1] != samples:
      raise errors.UserError(
          f'audio must hold {FRAME_LENGTH} samples for each frame, {samples} in'
          f' all, but holds {audio.shape[1]}. Crop it to a multiple.'
      )
    log_mel = dsp.log_mel(
        audio, SAMPLE_RATE, WINDOW_LENGTH, HOP_LENGTH, self.config.num_mels
    )
    # The last log-mel frame is centered on the end of the audio.
    x = (log_mel[:, :-1] - self.config.log_mel_mean) / self.config.log_mel_std
    x = x[..., None]
    for i, conv in enumerate(self.convs):
      x = nn.relu(x) if i else x
      # After the end, inputs must equal the padding of a convolution.
      kept = jnp.repeat(valid, x.shape[1] // valid.shape[1], axis=1)
      x = conv(jnp.where(kept[..., None, None], x, 0))
    return self.norm(x.reshape(*x.shape[:2], -1))


class W2vBertEncoder(nn.Module):
  """Encodes audio as embeddings at 25 Hz; all that tokenizing needs.

  Attributes:
    config: Sizes.
  """

  config: W2vBertConfig

  def setup(self):
    config, dtype = self.config, jnp.dtype(self.config.dtype)
    self.feature_encoder = FeatureEncoder(config)
    self.project = layers.Dense(
        config.feature_dim,
        config.embed_dim,
        ('in_channels', 'embed'),
        dtype=dtype,
    )
    self.bias = conformer.RelativeBias(config.num_heads)
    self.blocks = [
        conformer.ConformerBlock(
            config.embed_dim,
            config.num_heads,
            config.kernel_size,
            config.mlp_dim,
            dropout_rate=config.dropout_rate,
            dtype=dtype,
        )
        for _ in range(
            config.contrastive_layers + config.masked_prediction_layers
        )
    ]

  def encode_features(
      self,
      audio: Float[Array, 'batch samples'],
      valid: Bool[Array, 'batch frames'],
  ) -> Float[Array, 'batch frames features']:
    """Encodes each 40 ms as the features that are masked and quantized."""
    return self.feature_encoder(audio, valid)

  def contextualize(
      self,
      features: Float[Array, 'batch frames features'],
      valid: Bool[Array, 'batch frames'],
      deterministic: bool = True,
  ) -> list[Float[Array, 'batch frames embed']]:
    """Returns the output of every Conformer block."""
    x = self.project(features)
    bias = self.bias(x.shape[1])
    outputs = []
    for block in self.blocks:
      x = block(x, bias, valid, deterministic)
      outputs.append(x)
    return outputs

  def __call__(
      self,
      audio: Float[Array, 'batch samples'],
      valid: Bool[Array, 'batch frames'],
  ) -> Float[Array, 'batch frames embed']:
    """Embeds each 40 ms of audio with its context.

    Args:
      audio: [batch, frames * FRAME_LENGTH] at 16 kHz.
      valid: [batch, frames], False where audio is padding: it then has no
        influence on the other frames.

    Returns:
      [batch, frames, embed] outputs of block `semantic_layer` of the masked
      prediction module.
    """
    outputs = self.contextualize(self.encode_features(audio, valid), valid)
    layer = self.config.contrastive_layers + self.config.semantic_layer
    return outputs[layer - 1].astype(jnp.float32)


class Predictions(NamedTuple):
  """Inputs of the losses of pre-training.

  Attributes:
    context: [batch, frames, embed] predictions of `quantized`.
    quantized: [batch, frames, embed] codes of the unmasked features.
    code_logits: [batch, frames, codes] logits of these codes.
    logits: [batch, frames, codes] predictions of the argmax of `code_logits`.
  """

  context: Float[Array, 'batch frames embed']
  quantized: Float[Array, 'batch frames embed']
  code_logits: Float[Array, 'batch frames codes']
  logits: Float[Array, 'batch frames codes']


class Quantizer(nn.Module):
  """Picks a code for each frame, through a Gumbel softmax.

  Logits are cosine similarities of codes (ours; wav2vec 2.0 has a separate
  layer) and features minus their mean over the clip (ours); otherwise all
  frames of a clip would share a few codes.

  Attributes:
    config: Sizes.
  """

  config: W2vBertConfig

  def setup(self):
    config = self.config
    self.query = layers.Dense(
        config.feature_dim, config.codebook_dim, ('in_channels', 'code_embed')
    )
    self.codebook = partitioning.param_with_axes(
        'codebook',
        nn.initializers.normal(stddev=1.0),
        (config.codebook_size, config.codebook_dim),
        axes=('codes', 'code_embed'),
    )

  def __call__(
      self,
      features: Float[Array, 'batch frames features'],
      rng: jax.Array | None = None,
  ) -> tuple[
      Float[Array, 'batch frames code_embed'],
      Float[Array, 'batch frames codes'],
  ]:
    """Quantizes features.

    Args:
      features: [batch, frames, features], not masked.
      rng: Key of the Gumbel noise; if None, the nearest code is picked.

    Returns:
      [batch, frames, code_embed] codes, with the gradient of a softmax, and
      [batch, frames, codes] logits without the noise.
    """
    features = features.astype(jnp.float32)
    features = features - jnp.mean(features, axis=1, keepdims=True)
    codebook = layers.normalize(self.codebook)
    logits = layers.normalize(self.query(features)) @ codebook.T / _TEMPERATURE
    noise = 0 if rng is None else jax.random.gumbel(rng, logits.shape)
    soft = jax.nn.softmax(logits + noise)
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1])
    return (hard + soft - jax.lax.stop_gradient(soft)) @ codebook, logits


class W2vBert(nn.Module):
  """The encoder and the heads of pre-training.

  Attributes:
    config: Sizes.
  """

  config: W2vBertConfig

  def setup(self):
    config = self.config
    self.encoder = W2vBertEncoder(config)
    self.quantizer = Quantizer(config)
    # Learned, as in wav2vec 2.0: the paper's noise trains more slowly.
    self.mask = partitioning.param_with_axes(
        'mask',
        nn.initializers.normal(stddev=1.0),
        (config.feature_dim,),
        axes=('in_channels',),
    )
    self.target = layers.Dense(
        config.codebook_dim, config.embed_dim, ('code_embed', 'embed')
    )
    self.context = layers.Dense(
        config.embed_dim, config.embed_dim, ('in_channels', 'embed')
    )
    self.prediction = layers.Dense(
        config.embed_dim, config.codebook_size, ('embed', 'codes')
    )

  def __call__(
      self,
      audio: Float[Array, 'batch samples'],
      mask: Bool[Array, 'batch frames'],
      rng: jax.Array | None = None,
  ) -> Predictions:
    """Predicts the codes of masked frames.

    Args:
      audio: [batch, frames * FRAME_LENGTH] at 16 kHz.
      mask: [batch, frames], True where a frame is hidden from the encoder.
      rng: Key of the Gumbel noise and dropout; if None, the nearest codes are
        chosen, without dropout.
    """
    valid = jnp.ones_like(mask)
    features = self.encoder.encode_features(audio, valid)
    codes, code_logits = self.quantizer(features, rng)
    outputs = self.encoder.contextualize(
        jnp.where(mask[..., None], self.mask.astype(features.dtype), features),
        valid,
        deterministic=rng is None,
    )
    context = outputs[self.config.contrastive_layers - 1]
    return Predictions(
        context=self.context(context.astype(jnp.float32)),
        quantized=self.target(codes),
        code_logits=code_logits,
        logits=self.prediction(outputs[-1].astype(jnp.float32)),
    )


def in_windows(
    fn: Callable[..., Array],
    audio: Float[np.ndarray, 'batch samples'],
    num_frames: int,
) -> Shaped[np.ndarray, 'batch frames ...']:
  """Applies `fn` to audio of any length, window by window.

  Memory does not grow with the length, and `fn` is compiled for few shapes:
  multiples of BUCKET_FRAMES up to WINDOW_FRAMES.

  Args:
    fn: Compiled function of audio [batch, samples] and valid [batch, frames]
      that returns [batch, frames, …].
    audio: [batch, samples] at 16 kHz.
    num_frames: Frames of the result, at 25 Hz; audio is cut or padded with
      zeros to them.

  Returns:
    [batch, num_frames, …].
  """
  outputs = []
  for start in range(0, num_frames, WINDOW_FRAMES):
    frames = min(WINDOW_FRAMES, num_frames - start)
    bucket = -(-frames // BUCKET_FRAMES) * BUCKET_FRAMES
    window = audio[:, start * FRAME_LENGTH : (start + frames) * FRAME_LENGTH]
    padding = bucket * FRAME_LENGTH - window.shape[1]
    valid = np.broadcast_to(np.arange(bucket) < frames, (len(audio), bucket))
    output = fn(np.pad(window, ((0, 0), (0, padding))), valid)
    outputs.append(np.asarray(output)[:, :frames])
  return np.concatenate(outputs, axis=1)
