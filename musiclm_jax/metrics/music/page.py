"""A report as text, and as a page: Markdown, plots, and the JSON beside it."""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
from typing import Any

from musiclm_jax import files
from musiclm_jax import progress
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import report as report_lib
from musiclm_jax.metrics.music import measures
from musiclm_jax.metrics.music import plots
from musiclm_jax.metrics.music import prompts as prompts_lib
from musiclm_jax.metrics.music import reports
from musiclm_jax.metrics.music import rows
from musiclm_jax.metrics.music import sounds

PAGE, DATA = 'report.md', 'report.json'
_NUM_LEFT_OUT = 20
_NUM_SIDE_BY_SIDE = 12  # Prompts whose clips are drawn beside true audio.
_SIDE_BY_SIDE = 'side by side'
_MEANINGS = {
    measures.COVERAGE: (
        'For how many prompts there is a clip that can be heard. All other'
        ' figures are of prompts for which every system has one.'
    ),
    measures.DISTANCES: (
        'How far the embeddings of clips are from those of true audio; less is'
        ' better. No system can be expected to come nearer than the halves of'
        ' true audio, with as many clips. Clips passed through the codec are'
        ' those of the true audio itself, and so are nearer than others.'
    ),
    measures.TEXT: (
        'How well clips agree with their prompts. Chance is that of clips with'
        ' the prompts of others.'
    ),
    measures.CLASSES: (
        'How far what a tagger hears is from what it hears in true audio of the'
        ' same prompts, in nats; less is better.'
    ),
    measures.OBEDIENCE: (
        'Whether clips are what their plans ask for, by estimators that err on'
        f" true audio, too: the column '{rows.REFERENCE}' is their ceiling."
    ),
    measures.MUSICALITY: 'What clips sound like, whatever they were to be.',
    measures.STRUCTURE: (
        'How far the last third of a clip drifts from the first; and how much'
        ' more alike sections of one letter are than others.'
    ),
    measures.DIVERSITY: 'How different takes of one prompt are; copies have 0.',
}


def render(report: reports.Report) -> str:
  """Returns the whole report as plain text."""
  parts = [*_summary(report.about)]
  parts.append(report_lib.render(rows.table(report.values, report.columns)))
  parts += [
      f'refused: {x.group}, {x.measure}: {x.reason}' for x in report.refusals
  ]
  if report.left_out:
    parts.append(f'{len(report.left_out)} clips left out:')
    parts += [_reason(x) for x in report.left_out[:_NUM_LEFT_OUT]]
  if report.comparable:
    parts += ['published, beside ours', report_lib.render(report.comparable)]
  if report.others:
    parts += ['published, not comparable', report_lib.render(report.others)]
  parts.append(_times(report.seconds))
  return '\n'.join(parts)


def _summary(about: Mapping[str, Any]) -> list[str]:
  prompts = about['prompts']
  lines = [
      f"{prompts['measured']} of {prompts['wanted']} prompts of"
      f" {prompts['source']}"
  ]
  lines += [f'missing: {x}' for x in prompts['missing']]
  for name, system in about['systems'].items():
    sha256 = system.get('model_sha256')  # Reports of old versions lack it.
    model = f', sha256 {sha256[:16]}' if sha256 else ''
    lines.append(
        f"{name}: {system['clips']} clips of {system['source']}{model}"
    )
  if about['reference']:
    true = about['reference']
    lines.append(
        f"{rows.REFERENCE}: {true['clips']} clips of {true['source']},"
        f" {true['paired']} of them of the prompts"
    )
  for name, embedder in about['embedders'].items():
    lines.append(
        f"{name}: sha256 {embedder['sha256'][:16]}, hears"
        f" {embedder['sample_rate']} Hz in windows of"
        f" {embedder['window_seconds']:g} s"
    )
  return lines


def _reason(left_out: Mapping[str, str]) -> str:
  return f"{left_out['system']}, {left_out['id']}: {left_out['reason']}"


def _times(seconds: Mapping[str, float]) -> str:
  total = sum(seconds.values())
  parts = ', '.join(f'{part} {took:.0f} s' for part, took in seconds.items())
  return f'took {total:.0f} s: {parts}'


def write_json(path: str | os.PathLike[str], report: reports.Report) -> None:
  """Writes all figures and what they were measured on.

  Raises:
    WriteError: If the system refuses.
  """
  text = json.dumps(report.to_json(), indent=1, ensure_ascii=False) + '\n'
  files.write_text(path, text)


def write(
    folder: str | os.PathLike[str],
    report: reports.Report,
    prompts: prompts_lib.Prompts,
    systems: Sequence[reports.System],
    reference: prompts_lib.Reference | None = None,
) -> None:
  """Writes a page with tables and plots, and the JSON of it.

  Args:
    folder: Folder of report.md, report.json, and plots.
    report: What was found.
    prompts: What it was found for.
    systems: The clips of each.
    reference: True audio, if there is any.

  Raises:
    WriteError: If the system refuses.
  """
  directory = pathlib.Path(folder)
  with progress.telling(f"drawing plots into '{directory}'"):
    pictures = _draw_groups(directory, report)
    pictures |= _draw_examples(directory, report, prompts, systems)
    columns = {system.name: system.clips for system in systems}
    if reference and reference.paired:
      columns[rows.REFERENCE] = reference.paired
    left_out = {x['id'] for x in report.left_out}
    heard = [prompt for prompt in prompts.prompts if prompt.id not in left_out]
    pictures |= _draw_side_by_side(directory, heard, columns)
  write_json(directory / DATA, report)
  files.write_text(directory / PAGE, _markdown(report, pictures))


def _draw_groups(
    directory: pathlib.Path, report: reports.Report
) -> dict[str, str]:
  """Draws the rows of each group; returns the files by group."""
  drawn = {}
  for group in _MEANINGS:
    own = [row for row in report.values if row.group == group]
    if own:
      drawn[group] = f'{group}.png'
      plots.draw_values(directory / drawn[group], own, report.columns)
  return drawn


def _draw_examples(
    directory: pathlib.Path,
    report: reports.Report,
    prompts: prompts_lib.Prompts,
    systems: Sequence[reports.System],
) -> dict[str, str]:
  """Draws the best, median and worst clip of each system."""
  seconds = {prompt.id: prompt.seconds for prompt in prompts.prompts}
  drawn = {}
  for number, system in enumerate(systems):
    examples = report.examples.get(system.name, {})
    clips = {
        f"{kind}: {x['id']}": (system.clips[x['id']], seconds[x['id']])
        for kind, x in examples.items()
    }
    if clips:
      drawn[_key(system.name)] = f'clips-{number}.png'
      plots.draw_clips(directory / drawn[_key(system.name)], [clips])
  return drawn


def _draw_side_by_side(
    directory: pathlib.Path,
    prompts: Sequence[prompts_lib.Prompt],
    columns: Mapping[str, Mapping[str, sounds.Sound]],
) -> dict[str, str]:
  """Draws clips of some prompts, in a column for each system."""
  shared = [
      prompt
      for prompt in prompts
      if all(prompt.id in clips for clips in columns.values())
  ]
  if len(columns) < 2 or not shared:
    return {}
  picks = held_out.spread(len(shared), _NUM_SIDE_BY_SIDE)
  grid = [
      {
          f'{prompt.id}: {name}': (clips[prompt.id], prompt.seconds)
          for name, clips in columns.items()
      }
      for prompt in (shared[int(i)] for i in picks)
  ]
  plots.draw_clips(directory / 'side-by-side.png', grid)
  return {_SIDE_BY_SIDE: 'side-by-side.png'}


def _key(system: str) -> str:
  return f'clips of {system}'


def _markdown(report: reports.Report, pictures: Mapping[str, str]) -> str:
  lines = ['# How good the music is', '']
  lines += [f'- {line}' for line in _summary(report.about)]
  for group, meaning in _MEANINGS.items():
    own = [row for row in report.values if row.group == group]
    if own:
      lines += ['', f'## {group.capitalize()}', '', meaning, '']
      lines += _table(rows.table(own, report.columns), without='about')
      lines += ['', f'![{group}]({pictures[group]})']
  lines += _clips(report, pictures)
  if _SIDE_BY_SIDE in pictures:
    lines += ['', '## Side by side', '']
    lines += [f'![{_SIDE_BY_SIDE}]({pictures[_SIDE_BY_SIDE]})']
  if report.comparable:
    lines += ['', '## Published figures', '', *_table(report.comparable)]
  if report.others:
    lines += ['', '## Not comparable', '', *_table(report.others)]
  refused = [f'{x.group}, {x.measure}: {x.reason}' for x in report.refusals]
  lines += _list('Not measured', refused)
  lines += _list('Clips left out', [_reason(x) for x in report.left_out])
  return '\n'.join([*lines, '', _times(report.seconds), ''])


def _clips(report: reports.Report, pictures: Mapping[str, str]) -> list[str]:
  """Returns a section for the clips of each system that are drawn."""
  lines = []
  for system, examples in report.examples.items():
    lines += ['', f'## Clips of {system}', '']
    lines += [
        f"- {kind}: `{x['id']}`, cosine {x['cosine']:.3f}: {x['prompt']}"
        for kind, x in examples.items()
    ]
    lines += ['', f'![{_key(system)}]({pictures[_key(system)]})']
  return lines


def _list(title: str, items: Sequence[str]) -> list[str]:
  return ['', f'## {title}', '', *(f'- {x}' for x in items)] if items else []


def _table(
    found: Sequence[report_lib.Row], without: str | None = None
) -> list[str]:
  """Returns a table in Markdown, without one of its columns."""
  names = [name for name in found[0] if name != without]

  def line(cells):
    texts = (str(cell).replace('|', '\\|') for cell in cells)
    return f"| {' | '.join(texts)} |"

  values = [[_cell(row[name]) for name in names] for row in found]
  return [line(names), line(['---'] * len(names)), *map(line, values)]


def _cell(value: Any) -> str:
  return f'{value:.3f}' if isinstance(value, float) else str(value)
