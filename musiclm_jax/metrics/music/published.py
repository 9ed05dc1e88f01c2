"""Figures that others published, and which of them ours can be held beside."""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

from musiclm_jax.metrics.embedders import vggish
from musiclm_jax.metrics.music import prompts as prompts_lib
from musiclm_jax.metrics.music import rows

_PATH = pathlib.Path(__file__).with_suffix('.json')


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure that was published.

  Attributes:
    system: What made the clips.
    source: Where the figure stands.
    benchmark: Which benchmark it is of.
    figure: What was measured.
    embedder: By which embedder, tagger or estimator.
    value: The figure.
    clips: Clips that it was measured on; 0 if that is not said.
    hidden: Why nobody else can measure it; '' if one can.
  """

  system: str
  source: str
  benchmark: str
  figure: str
  embedder: str
  value: float
  clips: int = 0
  hidden: str = ''


def read() -> list[Figure]:
  """Returns all figures."""
  systems = json.loads(_PATH.read_text(encoding='utf-8'))
  found = []
  for system in systems:
    figures = system.pop('figures')
    found += [Figure(**system, **figure) for figure in figures]
  return found


def reasons(
    figure: Figure,
    prompts: prompts_lib.Prompts,
    reference_count: int,
    row: rows.Row,
) -> list[str]:
  """Returns why a row of ours can't be compared with a figure; [] if it can.

  Args:
    figure: The figure, of the same kind as the row.
    prompts: What our clips were made from.
    reference_count: Clips of true audio that ours were held beside.
    row: Ours.
  """
  if figure.hidden:
    return [figure.hidden]
  found = []
  if prompts.benchmark != figure.benchmark:
    found.append(f'the prompts are not those of {figure.benchmark}')
  if row.count != figure.clips:
    found.append(f'it is of {figure.clips} clips, ours of {row.count}')
  if figure.figure == 'Fréchet distance' and reference_count != figure.clips:
    found.append(
        f'true audio is of {figure.clips} clips, ours of {reference_count}'
    )
  ours = row.details.get('embedder')
  if ours != figure.embedder:
    found.append(f'it is by {figure.embedder}, ours by {ours}')
  elif not row.details.get('variant', '').endswith(vggish.RELEASE):
    found.append(f'the weights of {figure.embedder} may be others')
  return found


def beside(
    found: Sequence[rows.Row],
    prompts: prompts_lib.Prompts,
    reference_count: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """Sorts the figures of a benchmark by whether ours can be held beside them.

  Args:
    found: Our rows.
    prompts: What our clips were made from.
    reference_count: Clips of true audio.

  Returns:
    Figures that can be compared, with ours; and those that can't, with the
    reasons.
  """
  comparable: list[dict[str, Any]] = []
  others: list[dict[str, Any]] = []
  for figure in read():
    if prompts.benchmark.split('-')[0] != figure.benchmark:
      continue
    shown: dict[str, Any] = {
        'system': figure.system,
        'measure': f'{figure.figure} ({figure.embedder})',
        'published': figure.value,
        'source': figure.source,
    }
    ours = [row for row in found if _is_like(row, figure)]
    why = [reasons(figure, prompts, reference_count, row) for row in ours]
    fitting = [row for row, reason in zip(ours, why) if not reason]
    comparable += [
        {**shown, 'ours': row.value, 'of': row.system} for row in fitting
    ]
    if not fitting:
      reason = '; '.join(why[0]) if why else 'ours was not measured'
      others.append({**shown, 'reason': reason})
  return comparable, others


def _is_like(row: rows.Row, figure: Figure) -> bool:
  is_system = row.system not in (rows.REFERENCE, rows.CODED)
  return is_system and row.details.get('figure', row.measure) == figure.figure
