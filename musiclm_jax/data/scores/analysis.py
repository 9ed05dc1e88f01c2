"""Measures the key, the metre, the tempo and the melody of scores."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int, Num
from musiclm_jax.data.scores import arranging
from musiclm_jax.data import clips
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import notation
from musiclm_jax.tokenizers import terms
import numpy as np

MODES, TONICS = terms.MODES, terms.TONICS
# Profiles of C major and C minor (Krumhansl and Kessler, 1982).
_PROFILES = {
    'major': np.array(
        '6.35 2.23 3.48 2.33 4.38 4.09 2.52 5.19 2.39 3.66 2.29 2.88'.split(),
        float,
    ),
    'minor': np.array(
        '6.33 2.68 3.52 5.38 2.60 3.53 2.54 4.75 3.98 2.69 3.34 3.17'.split(),
        float,
    ),
}
_MIN_CORRELATION = 0.65
_METRES = '2/4 3/4 4/4 5/4 2/2 3/2 3/8 5/8 6/8 9/8 12/8'.split()
_STEADY = 0.05  # Largest variation of the tempo of a clip.
HEARD = 0.02  # Least share of the loudest part's energy that is heard.


def estimate_key(score: notation.Score) -> str | None:
  """Estimates the key by the method of Krumhansl and Schmuckler.

  Args:
    score: Notes; drums are left out.

  Returns:
    A key such as 'A minor' or 'Eb major'; None if no key fits well.
  """
  pitched = score.select(~score.is_drums)
  weights = np.bincount(
      pitched.pitch % 12, weights=pitched.end - pitched.start, minlength=12
  )
  return fit_key(weights)


def fit_key(weights: Num[np.ndarray, '12']) -> str | None:
  """Returns the key whose profile best matches weights of pitch classes."""
  if np.ptp(weights) == 0:
    return None
  fits = {
      f'{TONICS[mode][tonic]} {mode}': np.corrcoef(
          weights, np.roll(_PROFILES[mode], tonic)
      )[0, 1]
      for mode in MODES
      for tonic in range(12)
  }
  key = max(fits, key=fits.__getitem__)
  return key if fits[key] >= _MIN_CORRELATION else None


def transpose_key(key: str, semitones: int) -> str:
  """Returns e.g. 'C minor' for 'A minor' and 3.

  Args:
    key: A tonic and 'major' or 'minor', or a short form such as 'Am' or 'A'.
    semitones: Semitones up.

  Raises:
    UserError: If `key` is not a key.
  """
  mode, tonic = divmod(terms.parse_key(key), 12)
  return terms.KEYS[12 * mode + (tonic + semitones) % 12]


def find_metre(score: notation.Score, start: float, end: float) -> str | None:
  """Returns the metre of [start, end) seconds, if it is known and constant."""
  metres = _during(score.metres, start, end)
  if len(set(metres)) == 1 and metres[0] in _METRES:
    return metres[0]
  return None


def find_tempo(
    score: notation.Score, start: float, end: float, metre: str | None
) -> float | None:
  """Returns the beats per minute of [start, end) seconds.

  Args:
    score: A score, with its tempos.
    start: Start in seconds.
    end: End in seconds.
    metre: Metre, which decides the length of a beat: a dotted quarter in 6/8,
      9/8 and 12/8, a half in 2/2 and the like, else a quarter.

  Returns:
    Beats per minute; None if no tempo is marked, or if it changes.
  """
  tempos = _during(score.tempos, start, end)
  if not tempos or max(tempos) > (1 + _STEADY) * min(tempos):
    return None
  _, quarters = terms.find_metre(metre or '') or ('', 1.0)
  return float(np.mean(tempos)) / quarters


def _during(marks: Sequence[tuple[float, Any]], start: float, end: float):
  """Returns the marks in force during [start, end)."""
  before = [mark for time, mark in marks if time <= start][-1:]
  return before + [mark for time, mark in marks if start < time < end]


def heard_parts(score: notation.Score) -> list[int]:
  """Returns the parts of `score` that are heard, the loudest first."""
  energy = np.square(score.velocity / 127 * score.volume)
  # Drums ring on after their notes, whose lengths mean nothing.
  seconds = np.where(score.is_drums, 0.2, score.end - score.start)
  loudness = np.bincount(
      score.part, weights=energy * seconds, minlength=len(score.parts)
  )
  order = np.argsort(-loudness, kind='stable')
  return [int(p) for p in order if loudness[p] > HEARD * loudness[order[0]]]


def part_name(part: notation.Part) -> str:
  """Returns the name of the instrument of a part."""
  return instruments.DRUMS if part.is_drums else instruments.NAMES[part.program]


def melody_frames(
    arrangement: arranging.Arrangement, start: float, num_frames: int
) -> Int[np.ndarray, ' frames']:
  """Returns the melody line of an arrangement.

  Args:
    arrangement: An arrangement. Its melody is the highest note of its melody
      parts, or without any, of all parts but drums.
    start: Second at which the first frame begins.
    num_frames: Number of frames, at `clips.MELODY_RATE`.

  Returns:
    [frames] int8 MIDI pitches, -1 where the melody is silent.
  """
  score = arrangement.score
  melodies = [
      i
      for i, role in enumerate(arrangement.roles)
      if role == arranging.Role.MELODY
  ]
  chosen = np.isin(score.part, melodies) if melodies else ~score.is_drums
  score = score.select(chosen)
  frames = np.full(num_frames, -1, np.int8)
  # A frame holds the note that sounds at its centre.
  first = np.ceil((score.start - start) * clips.MELODY_RATE - 0.5)
  last = np.ceil((score.end - start) * clips.MELODY_RATE - 0.5)
  bounds = np.clip([first, last], 0, num_frames).astype(int)
  for i in np.argsort(score.pitch):
    frames[bounds[0, i] : bounds[1, i]] = score.pitch[i]
  return frames
