"""Splits a score into a melody, chords and a bass line."""

import dataclasses

from jaxtyping import Bool
from musiclm_jax.data.scores import notation
import numpy as np

_TOGETHER = 0.05  # Notes that begin closer are a chord, in seconds.
_BASS_PITCH = 55  # A bass line goes no higher.
_PEDAL = 64


def separate(
    score: notation.Score, part: int, names: tuple[str, ...]
) -> notation.Score:
  """Moves the outer voices of a part to new parts.

  Args:
    score: A score.
    part: Index of a part that plays chords.
    names: Names of the voices that are separated: 'melody', the highest notes,
      or 'bass', the lowest ones.

  Returns:
    The score with a part for each voice that has notes, after all others. A
    pedal stays with the chords.
  """
  mine = np.flatnonzero(score.part == part)
  left = np.ones(len(mine), bool)
  parts, of_note = list(score.parts), score.part.copy()
  controls = list(score.controls)
  for name in names:
    found = outer_voice(score.select(mine), name == 'melody') & left
    if not found.any():
      continue
    left &= ~found
    of_note[mine[found]] = len(parts)
    controls += [
        (time, len(parts), message)
        for time, p, message in score.controls
        if p == part and not is_pedal(message)
    ]
    parts.append(dataclasses.replace(score.parts[part], name=name))
  return dataclasses.replace(
      score,
      parts=tuple(parts),
      part=of_note,
      controls=tuple(sorted(controls, key=lambda c: c[0])),
  )


def outer_voice(score: notation.Score, highest: bool) -> Bool[np.ndarray, ' n']:
  """Finds the notes with no others sounding above, or below, them.

  Args:
    score: The notes of one part.
    highest: Whether to find the highest ones; otherwise the lowest ones, but
      only below `_BASS_PITCH` and where others sound above.

  Returns:
    [notes] bools.
  """
  sign = 1 if highest else -1
  found = np.zeros(len(score.start), bool)
  first = 0
  longest = float(np.max(score.end - score.start, initial=0.0))
  for i, (start, pitch) in enumerate(zip(score.start, score.pitch)):
    while score.start[first] < start - longest:
      first += 1
    # Notes that have begun by then, and are not just about to end.
    last = np.searchsorted(score.start, start + _TOGETHER, side='right')
    sounding = score.end[first:last] > start + _TOGETHER
    others = score.pitch[first:last][sounding]
    is_outer = bool(np.all(sign * others <= sign * pitch))
    if highest:
      found[i] = is_outer and pitch >= _BASS_PITCH
    else:
      has_others = bool(np.any(others > pitch))
      found[i] = is_outer and pitch < _BASS_PITCH and has_others
  return found


def is_pedal(message) -> bool:
  return message.type == 'control_change' and message.control == _PEDAL
