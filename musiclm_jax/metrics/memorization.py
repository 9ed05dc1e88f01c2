"""How much of the clips it was trained on a stage knows by heart.

As in MusicLM (section 6), a stage reads what it is given of a clip, and a
prompt, the clip's own first tokens, and goes on with the likeliest tokens. Its
continuation is an exact match if it is that of the clip, and an approximate one
if it costs little to turn one into the other: the optimal transport between
their frames, by the distances of the codes that frames stand for. Little is
less than nearly all pairs cost that can't match: the same continuations and
clips of other works.

A stage that also reads the time after the prompt, as acoustic stages read the
clip's semantic tokens, is given that: it is audited as it is used.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any, cast

from jaxtyping import Float, Int
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import progress
from musiclm_jax import streams
from musiclm_jax.data import stage_examples
from musiclm_jax.data import token_dataset
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import stage_loss
from musiclm_jax.models import parts
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import decode
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np

# 0, 25, 50, 125 and 250 semantic tokens, and a continuation of 125.
PROMPT_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0)
SECONDS = 5.0
# Share of the pairs that can't match which are cheaper than the threshold.
FALSE_RATE = 1e-3
MAX_PAIRS = 4000

Row = dict[str, Any]
_GREEDY = choosing.SamplingConfig(temperature=0.0)


@dataclasses.dataclass(frozen=True)
class Crops:
  """Crops of clips that a stage is asked to go on with.

  Attributes:
    inputs: [clips, frames, quantizers] tokens of each input of the stage.
    targets: [clips, frames, quantizers] tokens of its targets.
    works: The work of each clip.
    prompts: Lengths of the prompts, in frames of the targets.
    length: Length of a continuation, likewise.
  """

  inputs: streams.Tokens
  targets: Int[np.ndarray, 'clips frames quantizers']
  works: Sequence[str]
  prompts: tuple[int, ...]
  length: int


def lengths(stage: streams.Stage, room: int) -> tuple[tuple[int, ...], int]:
  """Returns the lengths of prompts and of a continuation, in frames.

  Args:
    stage: The stage.
    room: Frames of the targets that both have to fit.
  """
  rate = cast(float, stage.targets.frame_rate)
  length = min(round(SECONDS * rate), room // 2)
  prompts = {round(seconds * rate) for seconds in PROMPT_SECONDS}
  return tuple(sorted(x for x in prompts if x + length <= room)), length


def make_crops(
    stage: streams.Stage,
    records: Sequence[Mapping[str, Any]],
    quantizers: Mapping[str, stage_examples.Quantizer],
) -> Crops:
  """Cuts clips as in training; those that are too short are left out."""
  ids = stage_loss.crop(stage, records, quantizers)

  def tokens(of, stream):
    shape = len(of), -1, stream.num_quantizers
    return of.reshape(shape) - stage.offsets(stream)

  places = np.cumsum([stage.num_ids(s) for s in stage.inputs])[:-1]
  split = np.split(ids['inputs'], places, axis=1)
  targets = tokens(ids['targets'], stage.targets)
  frames = np.sum(np.all(targets >= 0, axis=-1), axis=1)
  # Of the longest clip alone, a single one could leave out all others.
  prompts, length = lengths(stage, int(np.median(frames)))
  kept = np.flatnonzero(frames >= prompts[-1] + length)
  return Crops(
      {s.name: tokens(x[kept], s) for s, x in zip(stage.inputs, split)},
      targets[kept],
      [records[int(i)]['work'] for i in kept],
      prompts,
      length,
  )


def continue_all(
    decoder: decode.StageDecoder, crops: Crops, prompt: int
) -> Int[np.ndarray, 'clips frames quantizers']:
  """Returns the likeliest continuation of each crop after a prompt."""
  count = len(crops.targets)
  made = decoder.sample(
      crops.inputs,
      crops.targets[:, :prompt],
      prompt + crops.length,
      np.zeros((count, 1), np.int32),
      np.zeros(count, np.int32),
      _GREEDY,
  )
  return made[:, prompt:]


def codebooks_of(
    tokenizers: table.Tokenizers, stream: streams.Stream
) -> Float[np.ndarray, 'quantizers codes embed']:
  """Returns the codes that the tokens of a stream stand for.

  Raises:
    UserError: If no part of the model has them.
  """
  writer = tokenizers.writer_of(stream.name)
  codebooks = getattr(tokenizers[writer], 'codebooks', None) if writer else None
  if codebooks is None:
    raise errors.UserError(
        f"the stream '{stream.name}' must be of a part with codebooks to say"
        f' how near its tokens are, but is of {writer}. Audit another stage.'
    )
  first = 0
  for other in cast(base.Tokenizer, tokenizers[cast(str, writer)]).streams:
    if other.name == stream.name:
      break
    first += other.num_quantizers
  return codebooks[first : first + stream.num_quantizers]


def embed(
    tokens: Int[np.ndarray, '*batch quantizers'],
    codebooks: Float[np.ndarray, 'quantizers codes embed'],
) -> Float[np.ndarray, '*batch embed']:
  """Returns the sum of the codes of each frame."""
  return codebooks[np.arange(len(codebooks)), tokens].sum(axis=-2)


def transport_cost(
    a: Float[np.ndarray, 'frames embed'], b: Float[np.ndarray, 'frames embed']
) -> float:
  """Returns the mean distance that frames move to become those of another.

  It is the optimal transport between the histograms of their tokens: frames of
  equal number and weight are best assigned one to one.
  """
  from scipy import optimize
  from scipy.spatial import distance

  distances = distance.cdist(a, b)
  return float(distances[optimize.linear_sum_assignment(distances)].mean())


def _unit(frames: Float[np.ndarray, 'frames embed']) -> float:
  """Returns the mean distance of two frames, in which costs are told."""
  from scipy.spatial import distance

  some = frames[held_out.spread(len(frames), 1000)]
  return max(float(distance.pdist(some).mean()), 1e-9)


def threshold(
    made: Sequence[Float[np.ndarray, 'clips frames embed']],
    targets: Sequence[Float[np.ndarray, 'clips frames embed']],
    works: Sequence[str],
) -> tuple[float, int]:
  """Returns the cost below which a match is no chance, and of how many pairs.

  Args:
    made: Continuations after each prompt.
    targets: What the clips have there.
    works: The work of each clip.

  Raises:
    UserError: If all clips are of one work.
  """
  names = np.asarray(works)
  others = np.argwhere(names[:, np.newaxis] != names)
  if not len(others):
    raise errors.UserError(
        'clips must be of two works or more, to know what can not match, but'
        f" all are of '{works[0]}'. Raise --max_clips or take another split."
    )
  rng = np.random.default_rng(0)
  total = len(others) * len(made)
  picks = rng.choice(total, min(MAX_PAIRS, total), replace=False)
  costs = []
  for pick in picks:
    i, j = others[pick % len(others)]
    of_prompt = pick // len(others)
    costs.append(transport_cost(made[of_prompt][i], targets[of_prompt][j]))
  if len(costs) * FALSE_RATE < 1:
    progress.say(
        f'approximate matches are rough: {len(costs)} pairs that can not match'
        f' are fewer than {1 / FALSE_RATE:.0f}. Raise --max_clips if there are'
        ' more clips'
    )
  return float(np.quantile(costs, FALSE_RATE, method='lower')), len(costs)


def audit(
    decoder: decode.StageDecoder,
    crops: Crops,
    codebooks: Float[np.ndarray, 'quantizers codes embed'],
) -> list[Row]:
  """Returns the matches of a stage after prompts of each length.

  Args:
    decoder: The stage.
    crops: Crops of clips that it may know.
    codebooks: The codes that its tokens stand for.

  Returns:
    Rows with shares of the clips and their standard errors: exact matches,
    approximate ones, and tokens that are the same; the mean cost, in mean
    distances of two frames; the threshold, and the number of pairs that can't
    match behind it.
  """
  there = [crops.targets[:, x : x + crops.length] for x in crops.prompts]
  made = [continue_all(decoder, crops, x) for x in crops.prompts]
  heard = crops.targets[:, : crops.prompts[-1] + crops.length]
  unit = _unit(embed(heard, codebooks).reshape(-1, codebooks.shape[-1]))
  points = [[embed(x, codebooks) / unit for x in made]]
  points.append([embed(x, codebooks) / unit for x in there])
  limit, num_pairs = threshold(points[0], points[1], crops.works)
  rate = cast(float, decoder.stage.targets.frame_rate)
  return [
      {
          'stage': decoder.stage.targets.name,
          'prompt (s)': round(prompt / rate, 3),
          'continuation (s)': round(crops.length / rate, 3),
          'clips': len(crops.targets),
          **_matches(*pair, [*map(transport_cost, *costs)], limit),
          'threshold': limit,
          'pairs': num_pairs,
      }
      for prompt, pair, costs in zip(
          crops.prompts, zip(made, there), zip(*points)
      )
  ]


def _matches(made, there, costs, limit) -> Row:
  same = made == there
  exact = np.all(same, axis=(1, 2))
  near = exact | (np.asarray(costs) < limit)
  values = {
      'exact': exact,
      'approximate': near,
      'same tokens': same.mean(axis=(1, 2)),
  }
  row: Row = {}
  for name, value in values.items():
    row[name] = float(np.mean(value))
    row[f'± {name}'] = float(np.std(value) / np.sqrt(len(value)))
  return {**row, 'cost': float(np.mean(costs))}


def evaluate(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'train',
    max_clips: int = held_out.MAX_CLIPS,
    only: str | None = None,
) -> list[Row]:
  """Audits the stages of a model.

  Args:
    data_dir: Folder of the dataset `music_tokens`.
    model_dir: Directory of the model; None for the one in the package.
    split: Split of clips: that of the training, or another to compare with.
    max_clips: Most clips, evenly spread over the split.
    only: Name of the one stage to audit; None for all.

  Returns:
    The rows of `audit` of each stage.

  Raises:
    NotFoundError: If there are no tokens, or no such stage.
    UserError: If the tokens are not those of the model.
  """
  directory = caching.local(model_dir or parts.embedded_model())
  found = stages.stages_in(directory)
  if only is not None and only not in found:
    raise errors.NotFoundError(
        f"stage must be one of {list(found)}, but is '{only}'."
    )
  records = list(
      held_out.read(data_dir, split, max_clips, name=token_dataset.NAME)
  )
  tokenizers, rows = table.Tokenizers(directory), []
  for name, stage in found.items():
    if only in (None, name):
      decoder = decode.StageDecoder.from_dir(directory, name)
      token_dataset.check_lineage(data_dir, decoder.lineage)
      context = stage_examples.StageExamples().context(data_dir, stage=stage)
      crops = make_crops(stage, records, context['quantizers'])
      if len(crops.works) < len(records):
        short = len(records) - len(crops.works)
        progress.say(f'{name}: left out {short} clips, which are too short')
      with progress.telling(f'continuing clips with {name}'):
        codebooks = codebooks_of(tokenizers, stage.targets)
        rows += audit(decoder, crops, codebooks)
  return rows


def write_json(
    path: str | os.PathLike[str], rows: Sequence[Row], **settings: Any
) -> None:
  """Writes the rows, and the settings they were measured with, as JSON."""
  value = {**settings, 'false_rate': FALSE_RATE, 'rows': list(rows)}
  files.write_text(path, json.dumps(value, indent=2))


def plot(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
  """Draws matches over the length of the prompt, a panel for each stage.

  Args:
    path: A .png, .svg or .pdf file.
    rows: What `evaluate` returned.
  """
  from matplotlib import figure

  names = list(dict.fromkeys(row['stage'] for row in rows))
  drawing = figure.Figure((4 * len(names), 3), layout='constrained')
  for axes, name in zip(
      drawing.subplots(1, len(names), squeeze=False)[0], names
  ):
    own = [row for row in rows if row['stage'] == name]
    for kind in ('exact', 'approximate', 'same tokens'):
      axes.errorbar(
          [row['prompt (s)'] for row in own],
          [row[kind] for row in own],
          [row[f'± {kind}'] for row in own],
          marker='o',
          capsize=3,
          label=kind,
      )
    axes.set(
        title=name, xlabel='prompt (s)', ylabel='share', ylim=(-0.05, 1.05)
    )
    axes.legend()
  with files.replacing(pathlib.Path(path)) as unfinished:
    drawing.savefig(unfinished, format=pathlib.Path(path).suffix[1:])
