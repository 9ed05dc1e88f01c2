"""Plots of a report: values with their errors, and spectrograms of clips."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from musiclm_jax import files
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics.music import ears
from musiclm_jax.metrics.music import rows
from musiclm_jax.metrics.music import sounds

_COLUMNS = 3
_ERRORS = 2  # Standard errors on either side of a value: 95%.

# Inches of a spectrogram: in a row, and in a grid.
_PANEL, _SMALL_PANEL = (4, 2.5), (2.2, 1.3)


def _save(path: pathlib.Path, drawing: Any) -> None:
  with files.replacing(path) as unfinished:
    drawing.savefig(unfinished, format=path.suffix[1:])


def draw_values(
    path: pathlib.Path, found: Sequence[rows.Row], systems: Sequence[str]
) -> None:
  """Draws a panel for each measure, with a line for each system.

  Args:
    path: A .png, .svg or .pdf file.
    found: Rows of one group.
    systems: Names of the systems, from the top.
  """
  from matplotlib import figure

  names = list(dict.fromkeys(row.measure for row in found))
  height = -(-len(names) // _COLUMNS)
  size = 4 * _COLUMNS, height * (1 + 0.3 * len(systems))
  drawing = figure.Figure(size, layout='constrained')
  panels = drawing.subplots(height, _COLUMNS, squeeze=False).flat
  for axes, name in zip(panels, names):
    own = {row.system: row for row in found if row.measure == name}
    _draw_panel(axes, name, own, systems)
  for axes in [*panels][len(names) :]:
    axes.set_axis_off()
  _save(path, drawing)


def _draw_panel(
    axes: Any,
    title: str,
    by_system: Mapping[str, rows.Row],
    systems: Sequence[str],
) -> None:
  for place, name in enumerate(systems):
    row = by_system.get(name)
    if row is None:
      continue
    error = _ERRORS * (row.standard_error or 0.0)
    axes.errorbar([row.value], [place], xerr=[error], fmt='o', capsize=3)
    if row.chance is not None:
      axes.plot([row.chance], [place], '|', color='gray', markersize=14)
  axes.set_title(title, fontsize=9)
  axes.set_yticks(range(len(systems)), systems)
  axes.set_ylim(len(systems) - 0.5, -0.5)


def draw_clips(
    path: pathlib.Path,
    rows: Sequence[Mapping[str, tuple[sounds.Sound, float]]],
) -> None:
  """Draws the log-mel spectrograms of clips side by side.

  Args:
    path: A .png, .svg or .pdf file.
    rows: Of each row, each clip, and how much of it is heard, by its title.
  """
  from matplotlib import figure

  columns = max(map(len, rows))
  width, height = _PANEL if len(rows) == 1 else _SMALL_PANEL
  drawing = figure.Figure(
      (width * columns, height * len(rows)), layout='constrained'
  )
  grid = drawing.subplots(len(rows), columns, squeeze=False)
  for places, clips in zip(grid, rows):
    for axes, (title, (clip, seconds)) in zip(places, clips.items()):
      audio = sounds.read_first(clip, seconds, ears.SAMPLE_RATE)
      log_mel = hearing.Sound(audio, ears.SAMPLE_RATE).log_mel
      extent = (0, len(audio) / ears.SAMPLE_RATE, 0, len(log_mel))
      axes.imshow(log_mel, origin='lower', aspect='auto', extent=extent)
      axes.set_title(title, fontsize=9 if len(rows) == 1 else 7)
      axes.tick_params(labelsize=7)
  _save(path, drawing)
