"""Tempo, beats, metre and clarity of the pulse, estimated from audio."""

import dataclasses

from jaxtyping import Float, Int
from musiclm_jax.metrics import hearing
import numpy as np

TEMPOS = (50.0, 200.0)  # Beats per minute that are told apart.
_GRID = 120  # Candidates in an octave.
_USUAL, _OCTAVES = 95.0, 1.0  # Centre of the prior of tempos, and its width.
_BEATS = 4  # Multiples of a beat that add to its salience.
_FAR = 8.0  # Seconds over which the tempo is refined.
_NEAR = 0.04  # Share by which it may change then.
_PULSES = (0.25, 1.5)  # Seconds between pulses that can be clear.
_CONTRAST = 0.3  # Least deviation of onsets, in dB, of a rhythm.
_TRIPLE, _DUPLE = (3, 6), (4, 8)  # Beats after which accents return.
_BEFORE, _AFTER = (-6, -2), (-1, 5)  # Frames around a beat.
_CLEAR = 0.1  # Least clarity of a pulse.


@dataclasses.dataclass(frozen=True)
class Rhythm:
  """A rhythm that was heard.

  Attributes:
    bpm: Beats per minute.
    beats: [beats] frame of each beat, at `hearing.FRAME_RATE`.
    metre: 3 if accents return after three beats, 4 if after two or four.
  """

  bpm: float
  beats: Int[np.ndarray, ' beats']
  metre: int


def find_rhythm(sound: hearing.Sound) -> Rhythm | None:
  """Estimates the rhythm of a clip; None if it has none."""
  if pulse_clarity(sound) < _CLEAR:
    return None
  bpm = _tempo(sound)
  beats = _beats(sound, bpm)
  if len(beats) < 2:
    return None
  return Rhythm(bpm, beats, _metre(sound, beats))


def has_onsets(sound: hearing.Sound) -> bool:
  """Whether single sounds begin, as they do in music and not in noise."""
  return not sound.is_silent and float(sound.onsets.std()) > _CONTRAST


def pulse_clarity(sound: hearing.Sound) -> float:
  """Returns how periodic onsets are: their largest autocorrelation, 0 to 1.

  As in Lartillot et al., ISMIR 2008, at lags of .25 to 1.5 s.
  """
  if not has_onsets(sound):
    return 0.0
  first, last = (round(s * hearing.FRAME_RATE) for s in _PULSES)
  return float(np.max(_autocorrelation(sound)[first : last + 1], initial=0.0))


def _autocorrelation(sound: hearing.Sound) -> Float[np.ndarray, ' lags']:
  """Returns the autocorrelation of onsets; lags of equal weight."""
  x = sound.onsets - sound.onsets.mean()
  full = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * len(x))) ** 2)[: len(x)]
  return full / np.maximum(full[0], 1e-9)


def _tempo(sound: hearing.Sound) -> float:
  correlation = _autocorrelation(sound)
  least, most = TEMPOS
  count = round(_GRID * np.log2(most / least)) + 1
  candidates = np.geomspace(least, most, count)
  salience = np.mean(
      [_at(correlation, k * 60 / candidates) for k in range(1, _BEATS + 1)],
      axis=0,
  )
  prior = np.exp(-0.5 * (np.log2(candidates / _USUAL) / _OCTAVES) ** 2)
  bpm = candidates[np.argmax(np.maximum(salience, 1e-9) * prior)]
  near = bpm * np.linspace(1 - _NEAR, 1 + _NEAR, 161)
  multiples = range(1, max(2, int(_FAR * bpm / 60) + 1))
  total = sum(_at(correlation, k * 60 / near) for k in multiples)
  return float(near[np.argmax(total)])


def _at(
    correlation: Float[np.ndarray, ' lags'], lags: Float[np.ndarray, ' n']
) -> Float[np.ndarray, ' n']:
  """Returns the autocorrelation at some lags, in seconds."""
  frames = lags * hearing.FRAME_RATE
  return np.interp(frames, np.arange(len(correlation)), correlation, right=0.0)


def _beats(sound: hearing.Sound, bpm: float) -> Int[np.ndarray, ' beats']:
  """Returns the beats of a steady tempo that meet the most onsets."""
  period = 60 * hearing.FRAME_RATE / bpm
  onsets = sound.onsets
  phases = np.arange(0, period, 0.5)
  grids = [np.arange(phase, len(onsets) - 1, period) for phase in phases]
  frames = np.arange(len(onsets))
  strength = [np.mean(np.interp(grid, frames, onsets)) for grid in grids]
  return np.round(grids[int(np.argmax(strength))]).astype(int)


def _metre(sound: hearing.Sound, beats: Int[np.ndarray, ' beats']) -> int:
  """Tells 3 from 4 by the beats after which the same sounds begin."""
  begins = _beginnings(sound, beats)

  def recurs(periods):
    return sum(_likeness(begins, p) * periods[0] / p for p in periods)

  return 3 if recurs(_TRIPLE) > recurs(_DUPLE) else 4


def _beginnings(
    sound: hearing.Sound, beats: Int[np.ndarray, ' beats']
) -> Float[np.ndarray, 'beats mels']:
  """Returns how much each band rises at each beat, of length 1."""

  def near(first, last):
    frames = beats[:, np.newaxis] + np.arange(first, last + 1)
    return sound.log_mel[:, np.clip(frames, 0, sound.log_mel.shape[1] - 1)]

  rise = near(*_AFTER).max(axis=-1) - near(*_BEFORE).min(axis=-1)
  rise = np.maximum(rise, 0).T
  rise = rise - rise.mean(axis=0)
  return rise / np.maximum(np.linalg.norm(rise, axis=1, keepdims=True), 1e-9)


def _likeness(begins: Float[np.ndarray, 'beats mels'], period: int) -> float:
  """Returns how alike beats are that are so many beats apart."""
  if len(begins) <= period + 1:
    return 0.0
  return float(np.mean(np.sum(begins[period:] * begins[:-period], axis=1)))
