"""Writes a complete model of the smallest size, with random weights."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.models import bert
from musiclm_jax.models import melody
from musiclm_jax.models import mulan
from musiclm_jax.models import parts
from musiclm_jax.models import resnet
from musiclm_jax.models import soundstream
from musiclm_jax.models import spectral_codec
from musiclm_jax.models import transformer
from musiclm_jax.models import w2v_bert
from musiclm_jax.models import wordpiece
from musiclm_jax.stages import base as stages
import numpy as np

VOCAB = (
    *wordpiece.SPECIALS,
    *wordpiece.ALPHABET,
    *(f'##{c}' for c in wordpiece.ALPHABET),
    'slow',
    'piano',
    'waltz',
)
CROPS = {'semantic': 4.0, 'coarse': 1.0, 'fine': 0.48}
STAGE_CONFIG = transformer.TransformerConfig(
    num_layers=1, num_heads=2, head_dim=8, embed_dim=16, mlp_dim=32
)
CODECS = {
    soundstream.SoundStreamConfig: ('soundstream', soundstream.SoundStream),
    spectral_codec.SpectralCodecConfig: (
        'spectral_codec',
        spectral_codec.SpectralCodec,
    ),
}
CODEC_CONFIG = soundstream.SoundStreamConfig(channels=2, embed_dim=8)
MULAN_CONFIG = mulan.MuLanConfig(
    audio=resnet.ResNetConfig(stage_sizes=(1, 1), width=4, num_groups=2),
    text=bert.BertConfig(
        vocab_size=len(VOCAB),
        num_layers=1,
        num_heads=2,
        embed_dim=16,
        mlp_dim=32,
        max_length=32,
    ),
    window_seconds=4.0,
)
MELODY_CONFIG = melody.MelodyConfig(
    num_mels=16,
    num_layers=1,
    num_heads=2,
    head_dim=8,
    embed_dim=16,
    mlp_dim=32,
    melody_dim=8,
)
W2V_BERT_CONFIG = w2v_bert.W2vBertConfig(
    conv_channels=(4, 4),
    embed_dim=16,
    num_heads=2,
    mlp_dim=32,
    contrastive_layers=1,
    masked_prediction_layers=1,
    semantic_layer=1,
    codebook_dim=8,
)


def _random(shapes: Mapping[str, Any], seed: int) -> dict[str, Any]:
  """Returns normal matrices of variance 1 / inputs, scales 1 and biases 0."""
  rng = np.random.default_rng(seed)
  flat = {}
  for key, shape in sorted(traverse_util.flatten_dict(shapes).items()):
    if len(shape.shape) > 1:
      fan_in = np.prod(shape.shape[:-1])
      flat[key] = rng.normal(0, fan_in**-0.5, shape.shape).astype(np.float32)
    else:
      value = 1 if key[-1] in ('scale', 'std', 'counts') else 0
      flat[key] = np.full(shape.shape, value, shape.dtype)
  return traverse_util.unflatten_dict(flat)


def _shapes(module, *args) -> dict[str, Any]:
  variables = jax.eval_shape(module.init, jax.random.key(0), *args)
  return {k: v for k, v in variables.items() if not k.endswith('_axes')}


def _write_tokenizers(directory, seed: int, codec: Any) -> dict[str, str]:
  """Writes the tokenizers; returns their sha256."""
  audio = jax.ShapeDtypeStruct((1, codec.hop_length), np.float32)
  name, network = CODECS[type(codec)]
  variables = _random(_shapes(network(codec), audio), seed)
  config = dataclasses.asdict(codec)
  hashes = {name: parts.save(directory, name, config, variables)}
  audio = jax.ShapeDtypeStruct((1, MULAN_CONFIG.window_samples), np.float32)
  text_ids = jax.ShapeDtypeStruct((1, 8), np.int32)
  shapes = _shapes(mulan.MuLan(MULAN_CONFIG), audio, text_ids)
  codes = (
      MULAN_CONFIG.num_quantizers,
      MULAN_CONFIG.codebook_size,
      MULAN_CONFIG.embed_dim,
  )
  shapes['codebooks'] = {'codes': jax.ShapeDtypeStruct(codes, np.float32)}
  hashes['mulan'] = parts.save(
      directory,
      'mulan',
      {'config': MULAN_CONFIG.to_json(), 'vocab': VOCAB},
      _random(shapes, seed + 1),
  )
  audio = jax.ShapeDtypeStruct((1, w2v_bert.FRAME_LENGTH), np.float32)
  valid = jax.ShapeDtypeStruct((1, 1), np.bool_)
  shapes = _shapes(w2v_bert.W2vBertEncoder(W2V_BERT_CONFIG), audio, valid)
  vector = jax.ShapeDtypeStruct((W2V_BERT_CONFIG.embed_dim,), np.float32)
  shapes['kmeans'] = {
      'mean': vector,
      'std': vector,
      'centroids': jax.ShapeDtypeStruct((1024, *vector.shape), np.float32),
  }
  hashes['w2v_bert'] = parts.save(
      directory,
      'w2v_bert',
      dataclasses.asdict(W2V_BERT_CONFIG),
      _random(shapes, seed + 2),
  )
  return hashes


def _write_melody(directory, seed: int) -> str:
  """Writes the part 'melody'; returns its sha256."""
  audio = jax.ShapeDtypeStruct((1, MELODY_CONFIG.window_samples), np.float32)
  shapes = _shapes(melody.MelodyNet(MELODY_CONFIG), audio)
  codes = (MELODY_CONFIG.num_quantizers, MELODY_CONFIG.codebook_size)
  shapes['codebooks'] = {
      'codes': jax.ShapeDtypeStruct(
          (*codes, MELODY_CONFIG.melody_dim), np.float32
      )
  }
  config = MELODY_CONFIG.to_json()
  return parts.save(directory, 'melody', config, _random(shapes, seed))


def write_stage(
    directory: str | os.PathLike[str],
    stage: streams.Stage,
    lineage: Mapping[str, str],
    seed: int,
) -> None:
  """Writes the part of a stage."""
  ids = [
      jnp.zeros((1, length), jnp.int32)
      for length in stage.feature_lengths.values()
  ]
  module = transformer.StageTransformer(STAGE_CONFIG, stage)
  config = {
      'stage': stage.to_json(),
      'conditioning_dropout': 0.1,
      'transformer': dataclasses.asdict(STAGE_CONFIG),
  }
  variables = _random(_shapes(module, *ids), seed)
  parts.save(directory, stage.targets.name, config, variables, lineage)


def write_random_model(
    directory: str | os.PathLike[str],
    seed: int = 0,
    has_melody: bool = False,
    codec: Any = CODEC_CONFIG,
    cascade: Sequence[streams.Stage] = (),
) -> dict[str, str]:
  """Writes all parts of a model, each of random weights.

  Args:
    directory: Directory of the model; made if missing.
    seed: Seed of the weights.
    has_melody: Whether semantic tokens can follow a melody.
    codec: Config of the codec.
    cascade: The stages; by default those of the paper, with short windows.

  Returns:
    The sha256 of each tokenizer.
  """
  hashes = _write_tokenizers(directory, seed, codec)
  stage_of = {name: name for name in CROPS}
  if has_melody:
    hashes['melody'] = _write_melody(directory, seed)
    stage_of['semantic'] = 'semantic_melody'
  for i, stage in enumerate(
      cascade or [stages.get_stage(stage_of[n], s) for n, s in CROPS.items()]
  ):
    write_stage(directory, stage, hashes, seed + 3 + i)
  return hashes
