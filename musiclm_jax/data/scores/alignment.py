"""Finds where beats and bars begin, if the file of a score cannot be trusted.

Files of performances often have the right tempo but an arbitrary start, and
programs write default metres.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
from musiclm_jax.data.scores import notation
import numpy as np

_STEPS = 48  # Places in a beat that are tried.
_NEAR = 0.06  # Tolerance of the onset of a note, in beats.
# Least shares of notes: of those that begin on the file's beats, among all and
# relative to the best place; of those that begin at the best place, among all.
_TRUSTED, _NEARLY_BEST, _LEAST = 0.17, 0.6, 0.4
_LOW_PITCH = 52  # Below it is the bass, which says most of beats and chords.
_DRUM_SECONDS, _MOST_SECONDS = 0.2, 1.0  # Length of a drum; most of any note.

_BAR_LENGTHS = (3, 4)
_SAMPLES = 8  # Points in each beat at which sounding notes are counted.
# Least change of harmony at bar lines, relative to the mean of all beats and to
# the second best beat of a bar.
_CHANGE, _AHEAD = 1.3, 1.1


class Bars(NamedTuple):
  """Bars of equal length.

  Attributes:
    beats: Beats in a bar.
    first: Index of a beat that begins a bar.
  """

  beats: int
  first: int


def shift(
    score: notation.Score, positions: Float[np.ndarray, ' notes']
) -> float | None:
  """Returns how late notes are, as a fraction of a beat.

  Args:
    score: A score.
    positions: [notes] the onset of each of its notes, in beats.

  Returns:
    0 if many notes begin on the beats; otherwise the place in the beat at which
    most begin; None if notes begin anywhere.
  """
  length = np.minimum(score.end - score.start, _MOST_SECONDS)
  length = np.where(score.is_drums, _DRUM_SECONDS, length)
  weights = length * np.where(score.pitch < _LOW_PITCH, 2.0, 1.0)
  places = np.arange(_STEPS) / _STEPS
  off = (positions[:, np.newaxis] - places + 0.5) % 1 - 0.5
  near = weights[:, np.newaxis] * (np.abs(off) < _NEAR)
  shares = near.sum(axis=0) / weights.sum()
  best = int(shares.argmax())
  if shares[0] >= max(_TRUSTED, _NEARLY_BEST * shares[best]):
    return 0.0
  if shares[best] < _LEAST:
    return None
  mean = np.sum(near[:, best] * off[:, best]) / near[:, best].sum()
  return float(places[best] + mean) % 1


def find_bars(
    score: notation.Score,
    starts: Float[np.ndarray, ' notes'],
    ends: Float[np.ndarray, ' notes'],
) -> Bars | None:
  """Finds bars by the changes of harmony that they begin with.

  Args:
    score: A score.
    starts: [notes] the onset of each of its notes, in beats.
    ends: [notes] their releases, in beats.

  Returns:
    The bars; None if none are clear.
  """
  if score.is_drums.all():
    return None
  change = _changes(_sounding(score, starts, ends))
  found = []
  for beats in _BAR_LENGTHS:
    means = [change[first::beats].mean() for first in range(beats)]
    second, most = np.sort(means)[-2:]
    if most > _CHANGE * change.mean() and most > _AHEAD * second:
      found.append((most, Bars(beats, int(np.argmax(means)))))
  return max(found)[1] if found else None


def _sounding(
    score: notation.Score, starts: np.ndarray, ends: np.ndarray
) -> Float[np.ndarray, 'beats classes']:
  """Returns how long pitch classes sound in each beat, the bass separately.

  Args:
    score: A score.
    starts: As in `find_bars`.
    ends: As in `find_bars`.
  """
  beats = max(_BAR_LENGTHS[-1] + 1, int(np.ceil(ends.max())))
  kinds: Int[np.ndarray, ' notes'] = score.pitch % 12
  kinds = kinds + 12 * (score.pitch < _LOW_PITCH)
  bounds = np.round(np.stack([starts, ends]) * _SAMPLES).astype(int)
  first, last = np.clip(bounds, 0, beats * _SAMPLES)
  pitched = ~score.is_drums
  changes = np.zeros((beats * _SAMPLES + 1, 24))
  np.add.at(changes, (first[pitched], kinds[pitched]), 1)
  np.add.at(changes, (last[pitched], kinds[pitched]), -1)
  roll = np.cumsum(changes, axis=0)[:-1]
  return roll.reshape(beats, _SAMPLES, 24).sum(axis=1)


def _changes(
    sounding: Float[np.ndarray, 'beats classes'],
) -> Float[np.ndarray, ' beats']:
  """Returns how unlike each beat is to the one before: 0 to 1."""
  length = np.linalg.norm(sounding, axis=1, keepdims=True)
  unit = sounding / np.maximum(length, 1e-9)
  change = 1 - np.sum(unit[1:] * unit[:-1], axis=1)
  is_rest = (length[1:, 0] == 0) | (length[:-1, 0] == 0)
  return np.concatenate([[0.0], np.where(is_rest, 0.0, change)])
