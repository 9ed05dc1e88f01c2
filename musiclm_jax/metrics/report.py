"""Measures every part of a model on held-out works, in one table."""

from collections.abc import Callable, Mapping, Sequence
import functools
import importlib
import math
import os
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import records
from musiclm_jax.data import stage_examples
from musiclm_jax.data import token_dataset
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import mulan as mulan_metrics
from musiclm_jax.metrics import stage_loss
from musiclm_jax.models import mulan
from musiclm_jax.models import parts
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np

Row = dict[str, Any]
Records = Sequence[Mapping[str, Any]]


def _row(part: str, metric: str, value: float, chance: float | None = None):
  return {
      'part': part,
      'metric': metric,
      'value': value,
      'chance': chance,
  }


def _tokenize(
    data_dir: str | os.PathLike[str],
    tokenizers: table.Tokenizers,
    split: str,
    max_clips: int,
) -> list[dict[str, Any]]:
  """Returns token records of evenly spread clips, with their 'audio'."""
  rate = datasets.sample_rate(data_dir)
  tokenized = []
  for clip in held_out.read(data_dir, split, max_clips, 'tokenize'):
    [record] = records.tokenize_clips([clip], tokenizers, rate)
    audio = io.resample(
        clips.to_float(clip['audio']), rate, tokenizers.codec.sample_rate
    )
    tokenized.append({**record, 'audio': audio})
  return tokenized


def _codec_rows(name: str, tokenized: Records, codec: base.Codec) -> list[Row]:
  """Compares audio with its reconstruction from tokens."""
  values: dict[str, list[float]] = {}
  for record in tokenized:
    tokens = {s.name: record[s.name][np.newaxis] for s in codec.streams}
    made = codec.detokenize(tokens)
    length = min(made.shape[1], len(record['audio']))
    pair = record['audio'][np.newaxis, :length], made[:, :length]
    found = codec_metrics.distances(*pair, codec.sample_rate)
    for metric, value in found.items():
      values.setdefault(metric, []).append(value)
  return [_row(name, k, float(np.mean(v))) for k, v in values.items()]


def _perplexity_rows(
    tokenized: Records, model_dir: str | os.PathLike[str]
) -> list[Row]:
  """Returns the codes in use, a mean over the quantizers of each stream."""
  rows = []
  for kind, stream in table.streams_in(model_dir):
    if stream.is_conditioning:
      continue
    tokens = np.concatenate([r[stream.name] for r in tokenized])
    each = codec_metrics.codebook_perplexity(tokens, stream.codebook_size)
    metric = f'{stream.name} codebook perplexity'
    rows.append(_row(kind.name, metric, float(np.mean(each))))
  return rows


def _text_rows(name: str, tokenized: Records, stream: str) -> list[Row]:
  """Measures how well the clip of a caption is found among all clips."""
  audio = np.stack([mulan.pool_windows(r[stream]) for r in tokenized])
  text = np.stack([r[token_dataset.text_of(stream)][0] for r in tokenized])
  found = mulan_metrics.retrieval(text, audio, np.arange(len(text)))
  pool = len(tokenized)
  rows = [
      _row(
          name,
          f'caption to clip recall@{k}, of {pool}',
          found[f'recall@{k}'],
          found[f'chance@{k}'],
      )
      for k in (1, 5, 10)
  ]
  rank, chance = found['median_rank'], (pool + 1) / 2
  return [*rows, _row(name, 'caption to clip median rank', rank, chance)]


def _stage_rows(
    directory: str | os.PathLike[str],
    stage: streams.Stage,
    tokenized: Records,
    tokenizers: table.Tokenizers,
) -> list[Row]:
  """Returns the nats per token of a stage, on one crop of each record."""
  name, read = stage.targets.name, {s.name for s in stage.inputs}
  quantizers = {
      stream.name: stage_examples.Quantizer(
          np.asarray(embedder.codebooks), embedder.window_seconds
      )
      for embedder in tokenizers.of_kind(base.TextEmbedder).values()
      for stream in embedder.streams
      if stream.name in read
  }
  crops = stage_loss.crop(stage, tokenized, quantizers)
  nats, counts = stage_loss.nats(directory, name, crops)
  loss, chance = nats.sum() / counts.sum(), stage.targets.codebook_size
  return [_row(name, 'nats per token', float(loss), math.log(chance))]


def _all_stage_rows(
    directory: str | os.PathLike[str],
    tokenized: Records,
    tokenizers: table.Tokenizers,
) -> list[Row]:
  rows = []
  for name, stage in stages.stages_in(directory).items():
    measure = functools.partial(
        _stage_rows, directory, stage, tokenized, tokenizers
    )
    rows += _or_nothing(name, measure)
  return rows


def evaluate(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'test',
    max_clips: int = held_out.MAX_CLIPS,
) -> list[Row]:
  """Measures a model on a split of the dataset `music`.

  Args:
    data_dir: Folder of the dataset.
    model_dir: Directory of the model; None for the one in the package.
    split: Split to measure on; 'test' has works that no part was trained on.
    max_clips: Most clips, evenly spread over the split.

  Returns:
    Rows with 'part', 'metric', 'value', and 'chance': the value of knowing
    nothing, where that is defined. A part that cannot be measured is named on
    stderr and left out.

  Raises:
    NotFoundError: If the dataset or a part is missing.
  """
  directory = caching.local(model_dir or parts.embedded_model())
  tokenizers = records.load_tokenizers(os.fspath(directory))
  tokenized = _tokenize(data_dir, tokenizers, split, max_clips)
  measures: dict[str, Callable[[], list[Row]]] = {}
  for name, codec in tokenizers.of_kind(base.Codec).items():
    measures[name] = functools.partial(_codec_rows, name, tokenized, codec)
  measures['codebooks'] = functools.partial(
      _perplexity_rows, tokenized, directory
  )
  for name, embedder in tokenizers.of_kind(base.TextEmbedder).items():
    measures[name] = functools.partial(
        _text_rows, name, tokenized, embedder.streams[0].name
    )
  measures['stages'] = functools.partial(
      _all_stage_rows, directory, tokenized, tokenizers
  )
  rows = []
  for name, measure in measures.items():
    rows += _or_nothing(name, measure)
  return rows


def evaluate_part(
    part: str,
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'test',
    max_clips: int = held_out.MAX_CLIPS,
) -> list[Row]:
  """Measures a part in depth, with the report that the table of parts names.

  Args:
    part: Name of a part, or 'codec' for the model's codec.
    data_dir: Folder of the datasets.
    model_dir: Directory of the model; None for the one in the package.
    split: Split to measure on.
    max_clips: Most examples, evenly spread over the split.

  Raises:
    NotFoundError: If there is no report of such a part.
  """
  directory = caching.local(model_dir or parts.embedded_model())
  kinds = {kind.name: kind for kind in table.PARTS if kind.report}
  if part == 'codec':
    part = table.codec_in(directory).name
  if part not in kinds:
    raise errors.NotFoundError(
        f"part must be 'codec' or one of {list(kinds)}, but is {part!r:.100}."
        ' Leave it out to measure all parts.'
    )
  module = importlib.import_module(f'{__package__}.{kinds[part].report}')
  return module.evaluate(data_dir, directory, split, max_clips)


def _or_nothing(name: str, measure: Callable[[], list[Row]]) -> list[Row]:
  """Returns the rows of a measure; if it fails, says so and returns none."""
  try:
    with progress.telling(f'measuring {name}'):
      return measure()
  except Exception as e:  # One broken part must not hide the others.
    progress.say(f'{name} not measured: {errors.one_line(e)}')
    return []


def render(rows: Sequence[Row]) -> str:
  """Returns a table as text: a line per row, a column per key of the first.

  Args:
    rows: Texts, numbers, and None for empty cells, by column.
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
