"""Measures every part of a model on held-out works, in one table."""

from collections.abc import Mapping, Sequence
import importlib.resources
import math
import os
from typing import Any

import jax
from jaxtyping import Int
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import examples
from musiclm_jax.data import records
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import mulan as mulan_metrics
from musiclm_jax.models import parts
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np
import tqdm

MAX_CLIPS = 64
STAGE_BATCH = 8

Row = dict[str, Any]


def _row(part: str, metric: str, value: float, chance: float | None = None):
  return {
      'part': part,
      'metric': metric,
      'value': float(value),
      'chance': chance,
  }


def _tokenize(
    data_dir: str | os.PathLike[str],
    tokenizers: records.Tokenizers,
    split: str,
    max_clips: int,
) -> list[dict[str, Any]]:
  """Returns token records of evenly spread clips, with their 'audio'."""
  dataset = datasets.open_dataset('music', data_dir, split)
  count = min(max_clips, len(dataset))
  indices = np.linspace(0, len(dataset) - 1, count).astype(int)
  tokenized = []
  for index in tqdm.tqdm(indices, 'tokenize', unit='clip'):
    clip = dataset[int(index)]
    [record] = records.tokenize_clips([clip], tokenizers)
    tokenized.append({**record, 'audio': clips.to_float(clip['audio'])})
  return tokenized


def _codec_rows(
    tokenized: Sequence[Mapping[str, Any]], codec: base.Codec
) -> list[Row]:
  """Compares audio with what the codec makes of its tokens."""
  distances = {
      'log-mel distance': codec_metrics.mel_distance,
      'multi-resolution STFT distance': codec_metrics.multi_resolution_stft_distance,
      'SI-SDR (dB)': codec_metrics.si_sdr,
  }
  values: dict[str, list[float]] = {name: [] for name in distances}
  for record in tokenized:
    tokens = {s.name: record[s.name][np.newaxis] for s in codec.streams}
    made = codec.detokenize(tokens)
    length = min(made.shape[1], len(record['audio']))
    audio = record['audio'][np.newaxis, :length]
    for name, distance in distances.items():
      values[name].append(float(np.mean(distance(audio, made[:, :length]))))
  return [_row('soundstream', k, np.mean(v)) for k, v in values.items()]


def perplexity(tokens: Int[np.ndarray, ' n'], codebook_size: int) -> float:
  """Returns e to the entropy of the codes used: how many are, in effect."""
  counts = np.bincount(tokens, minlength=codebook_size)
  shares = counts[counts > 0] / counts.sum()
  return float(np.exp(-np.sum(shares * np.log(shares))))


def _perplexity_rows(tokenized: Sequence[Mapping[str, Any]]) -> list[Row]:
  """The codes in use, in the mean over the quantizers of each stream."""
  rows = []
  for part, stream in (
      ('soundstream', base.COARSE),
      ('soundstream', base.FINE),
      ('w2v_bert', base.SEMANTIC),
  ):
    tokens = np.concatenate([r[stream.name] for r in tokenized])
    each = [
        perplexity(tokens[:, q], stream.codebook_size)
        for q in range(stream.num_quantizers)
    ]
    rows.append(_row(part, f'{stream.name} codebook perplexity', np.mean(each)))
  return rows


def _mulan_rows(tokenized: Sequence[Mapping[str, Any]]) -> list[Row]:
  """Finds the clip of a caption among all clips."""
  audio = np.stack([r['mulan'].mean(axis=0) for r in tokenized])
  audio /= np.maximum(np.linalg.norm(audio, axis=1, keepdims=True), 1e-6)
  text = np.stack([r['mulan_text'][0] for r in tokenized])
  found = mulan_metrics.retrieval(text, audio)
  pool = len(tokenized)
  chance = {f'recall_at_{k}': min(k, pool) / pool for k in (1, 5, 10)}
  chance['median_rank'] = (pool + 1) / 2
  return [
      _row(
          'mulan',
          f'text to audio {name}, {pool} clips',
          value,
          chance.get(name),
      )
      for name, value in found.items()
  ]


def stage_loss(
    directory: str | os.PathLike[str],
    name: str,
    tokenized: Sequence[Mapping[str, Any]],
    mulan: Any,
) -> float:
  """Returns the nats per token of a stage, on one crop of each record.

  Args:
    directory: Of the model.
    name: Of the stage.
    tokenized: Token records.
    mulan: The tokenizer that quantizes the conditioning.
  """
  part = parts.load(directory, name)
  stage = stages.get_stage(part.config['stage'], part.config['crop_seconds'])
  config = transformer.TransformerConfig(**part.config['transformer'])
  module = transformer.StageTransformer(config, stage)
  context = {
      'codebooks': np.asarray(mulan.codebooks),
      'window_seconds': mulan.window_seconds,
  }
  make = examples.StageExamples(name)
  crops = [
      make(record, stage.feature_lengths, np.random.default_rng(i), **context)
      for i, record in enumerate(tokenized)
  ]
  offsets = np.tile(
      stage.offsets(stage.targets),
      stage.feature_lengths['targets'] // stage.targets.num_quantizers,
  )

  @jax.jit
  def nats(inputs, targets):
    logits = module.apply({'params': part.variables['params']}, inputs, targets)
    codes = jax.numpy.maximum(targets - offsets, 0)[..., None]
    logs = jax.nn.log_softmax(logits)
    picked = jax.numpy.take_along_axis(logs, codes, axis=-1)[..., 0]
    seen = targets != 0
    return -jax.numpy.sum(picked, where=seen), jax.numpy.sum(seen)

  sums = np.zeros(2)
  for i in range(0, len(crops), STAGE_BATCH):
    batch = crops[i : i + STAGE_BATCH]
    sums += nats(
        *(np.stack([c[k] for c in batch]) for k in ('inputs', 'targets'))
    )
  return sums[0] / sums[1]


def evaluate(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'test',
    max_clips: int = MAX_CLIPS,
) -> list[Row]:
  """Measures a model on a split of the dataset `music`.

  Args:
    data_dir: Folder of the dataset.
    model_dir: With every part; None for the model in the package.
    split: 'test' has works that no part was trained on.
    max_clips: Evenly spread over the split.

  Returns:
    Rows with 'part', 'metric', 'value', and 'chance': what knowing nothing
    would give, where that is defined.

  Raises:
    FileNotFoundError: If the dataset or a part is missing.
  """
  if model_dir is None:
    model_dir = str(
        importlib.resources.files('musiclm_jax') / 'pretrained/small'
    )
  tokenizers = records.load_tokenizers(os.fspath(model_dir))
  tokenized = _tokenize(data_dir, tokenizers, split, max_clips)
  rows = [
      *_codec_rows(tokenized, tokenizers.soundstream),
      *_perplexity_rows(tokenized),
      *_mulan_rows(tokenized),
  ]
  for name in ('semantic', 'coarse', 'fine'):
    loss = stage_loss(model_dir, name, tokenized, tokenizers.mulan)
    size = stages.get_stage(name).targets.codebook_size
    rows.append(_row(name, 'nats per token', loss, math.log(size)))
  return rows


def render(rows: Sequence[Row]) -> str:
  """Returns the table of `evaluate` as text."""
  width = max(len(row['metric']) for row in rows)
  lines = [f'{"part":12} {"metric":{width}} {"value":>9} {"chance":>9}']
  for row in rows:
    chance = '' if row['chance'] is None else f'{row["chance"]:.3f}'
    lines.append(
        f'{row["part"]:12} {row["metric"]:{width}} {row["value"]:9.3f}'
        f' {chance:>9}'
    )
  return '\n'.join(lines)
