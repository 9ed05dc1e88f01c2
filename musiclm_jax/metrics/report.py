"""Measures every part of a model on held-out works, in one table."""

from collections.abc import Callable, Mapping, Sequence
import functools
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import examples
from musiclm_jax.data import records
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import mulan as mulan_metrics
from musiclm_jax.models import mulan
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
      'value': value,
      'chance': chance,
  }


def spread(length: int, count: int) -> np.ndarray:
  """Returns `count` indices, evenly spread over `length`, or all of them.

  Raises:
    UserError: If `count` is not positive.
  """
  if count < 1:
    raise errors.UserError(f'max_clips must be at least 1, but is {count}.')
  return np.linspace(0, length - 1, min(count, length)).astype(int)


def _tokenize(
    data_dir: str | os.PathLike[str],
    tokenizers: records.Tokenizers,
    split: str,
    max_clips: int,
) -> list[dict[str, Any]]:
  """Returns token records of evenly spread clips, with their 'audio'."""
  dataset = datasets.open_dataset('music', data_dir, split)
  indices = spread(len(dataset), max_clips)
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
  values: dict[str, list[float]] = {}
  for record in tokenized:
    tokens = {s.name: record[s.name][np.newaxis] for s in codec.streams}
    made = codec.detokenize(tokens)
    length = min(made.shape[1], len(record['audio']))
    pair = record['audio'][np.newaxis, :length], made[:, :length]
    found = {
        'log-mel distance (dB)': codec_metrics.mel_distance(
            *pair, codec.sample_rate
        ),
        'STFT distance': codec_metrics.multi_resolution_stft_distance(*pair),
        'SI-SDR (dB)': codec_metrics.si_sdr(*pair),
    }
    for name, value in found.items():
      values.setdefault(name, []).append(float(np.mean(value)))
  return [_row('soundstream', k, float(np.mean(v))) for k, v in values.items()]


def _perplexity_rows(tokenized: Sequence[Mapping[str, Any]]) -> list[Row]:
  """The codes in use, in the mean over the quantizers of each stream."""
  rows = []
  for part, stream in (
      ('soundstream', base.COARSE),
      ('soundstream', base.FINE),
      ('w2v_bert', base.SEMANTIC),
  ):
    tokens = np.concatenate([r[stream.name] for r in tokenized])
    each = codec_metrics.codebook_perplexity(tokens, stream.codebook_size)
    rows.append(
        _row(part, f'{stream.name} codebook perplexity', float(np.mean(each)))
    )
  return rows


def _mulan_rows(tokenized: Sequence[Mapping[str, Any]]) -> list[Row]:
  """Finds the clip of a caption among all clips."""
  audio = np.stack([mulan.pool_windows(r['mulan']) for r in tokenized])
  text = np.stack([r['mulan_text'][0] for r in tokenized])
  found = mulan_metrics.retrieval(text, audio, np.arange(len(text)))
  pool = len(tokenized)
  rows = [
      _row(
          'mulan',
          f'caption to clip recall@{k}, of {pool}',
          found[f'recall@{k}'],
          found[f'chance@{k}'],
      )
      for k in (1, 5, 10)
  ]
  rank, chance = found['median_rank'], (pool + 1) / 2
  return [*rows, _row('mulan', 'caption to clip median rank', rank, chance)]


def stage_crops(
    directory: str | os.PathLike[str],
    name: str,
    tokenized: Sequence[Mapping[str, Any]],
    context: Mapping[str, Any],
    conditioning: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, np.ndarray]:
  """Returns 'inputs' and 'targets' of a stage, one crop of each record.

  Args:
    directory: Of the model.
    name: Of the stage.
    tokenized: Token records.
    context: How MuLan is quantized; see `examples.StageExamples`.
    conditioning: Records to read the inputs from, one for each; their own by
      default.
  """
  config = parts.read_description(directory, name)['config']
  stage = stages.of_part(config)
  make = examples.StageExamples(stage)
  target = stage.targets.name
  pairs = zip(conditioning or tokenized, tokenized, strict=True)
  crops = [
      make(
          {**inputs, target: record[target]},
          stage.feature_lengths,
          np.random.default_rng(i),
          **context,
      )
      for i, (inputs, record) in enumerate(pairs)
  ]
  return {k: np.stack([crop[k] for crop in crops]) for k in crops[0]}


def stage_nats(
    directory: str | os.PathLike[str],
    name: str,
    crops: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the nats of each crop's targets, and how many tokens they are.

  Args:
    directory: Of the model.
    name: Of the stage.
    crops: Of `stage_crops`.
  """
  part = parts.load(directory, name)
  stage = stages.of_part(part.config)
  # As the sampler computes; bfloat16 takes several times as long on a CPU.
  config = transformer.TransformerConfig(
      **{**part.config['transformer'], 'dtype': 'float32'}
  )
  module = transformer.StageTransformer(config, stage)
  offsets = np.tile(
      stage.offsets(stage.targets),
      stage.feature_lengths['targets'] // stage.targets.num_quantizers,
  )

  @jax.jit
  def nats(params, inputs, targets):
    logits = module.apply({'params': params}, inputs, targets)
    codes = jnp.maximum(targets - offsets, 0)[..., None]
    logs = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(logs, codes, axis=-1)[..., 0]
    seen = targets != 0
    return -jnp.sum(picked, axis=1, where=seen), jnp.sum(seen, axis=1)

  found = []
  for i in range(0, len(crops['targets']), STAGE_BATCH):
    batch = (crops[k][i : i + STAGE_BATCH] for k in ('inputs', 'targets'))
    found.append(jax.device_get(nats(part.variables['params'], *batch)))
  sums, counts = zip(*found)
  return np.concatenate(sums), np.concatenate(counts)


def stage_loss(
    directory: str | os.PathLike[str],
    name: str,
    tokenized: Sequence[Mapping[str, Any]],
    tokenizer: Any,
) -> float:
  """Returns the nats per token of a stage, on one crop of each record.

  Args:
    directory: Of the model.
    name: Of the stage.
    tokenized: Token records.
    tokenizer: The MuLan that quantizes the conditioning.
  """
  context = {
      'codebooks': np.asarray(tokenizer.codebooks),
      'window_seconds': tokenizer.window_seconds,
  }
  crops = stage_crops(directory, name, tokenized, context)
  nats, counts = stage_nats(directory, name, crops)
  return float(nats.sum() / counts.sum())


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
    would give, where that is defined. A part that cannot be measured is told
    and left out.

  Raises:
    NotFoundError: If the dataset or a part is missing.
  """
  if model_dir is None:
    model_dir = parts.embedded_model()
  tokenizers = records.load_tokenizers(os.fspath(model_dir))
  tokenized = _tokenize(data_dir, tokenizers, split, max_clips)
  measures: dict[str, Callable[[], list[Row]]] = {
      'soundstream': lambda: _codec_rows(tokenized, tokenizers.soundstream),
      'codebooks': lambda: _perplexity_rows(tokenized),
      'mulan': lambda: _mulan_rows(tokenized),
  }
  for name in ('semantic', 'coarse', 'fine'):
    measures[name] = functools.partial(
        _stage_rows, model_dir, name, tokenized, tokenizers.mulan
    )
  rows = []
  for name, measure in measures.items():
    with progress.telling(f'measuring {name}'):
      rows += _or_nothing(name, measure)
  return rows


def _stage_rows(
    directory: str | os.PathLike[str],
    name: str,
    tokenized: Sequence[Mapping[str, Any]],
    tokenizer: Any,
) -> list[Row]:
  loss = stage_loss(directory, name, tokenized, tokenizer)
  config = parts.read_description(directory, name)['config']
  size = stages.of_part(config).targets.codebook_size
  return [_row(name, 'nats per token', loss, math.log(size))]


def _or_nothing(name: str, measure: Callable[[], list[Row]]) -> list[Row]:
  """Returns the rows of a measure; if it fails, says so and returns none."""
  try:
    return measure()
  except Exception as e:  # One broken part must not hide the others.
    progress.say(f'{name} not measured: {errors.one_line(e)}')
    return []


def render(rows: Sequence[Row]) -> str:
  """Returns a table as text: a line per row, a column per key of the first.

  Args:
    rows: Of texts, numbers, and None where there is nothing to say.
  """
  if not rows:
    return 'nothing could be measured'
  columns = list(rows[0])
  cells = [[_cell(row[column]) for column in columns] for row in rows]
  widths = [max(map(len, column)) for column in zip(columns, *cells)]
  is_text = [isinstance(value, str) for value in rows[0].values()]

  def line(values):
    aligned = (
        value.ljust(width) if left else value.rjust(width)
        for value, width, left in zip(values, widths, is_text)
    )
    return '  '.join(aligned).rstrip()

  return '\n'.join([line(columns), *map(line, cells)])


def _cell(value: Any) -> str:
  if value is None:
    return ''
  return f'{value:.3f}' if isinstance(value, float) else str(value)
