"""Derives the plan of a score: its beats, and who plays when."""

from collections.abc import Iterator
import itertools

from jaxtyping import Float, Float32, Int8
from musiclm_jax.data.scores import alignment
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import facts
from musiclm_jax.data.scores import notation
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import terms
import numpy as np

Beats = Float[np.ndarray, 'beats 3']

_TEMPOS = (10, 1000)  # Lowest and highest tempo, in quarter notes per minute.
_MAX_BEATS = 100_000
_RELEASE_SECONDS = 10.0  # Notes may ring on after the score, and be counted.
_STEADY = 0.05  # Largest difference of the written tempo and the file's.
_METRES = tuple(terms.METRES)
# Drums ring on after their notes, and even the shortest notes are heard.
_LEAST_SECONDS, _DRUM_SECONDS = 0.1, 0.2
_PART_OF_NOTE = 0.02  # Seconds of a note that are heard.


def find_beats(score: notation.Score, metadata: facts.Metadata) -> Beats:
  """Returns the beats of a whole score as it was written.

  Args:
    score: A score, with the silence before its first note, if any: bars begin
      where its file says, unless most notes begin elsewhere.
    metadata: Facts from outside of the file. If they contradict it, the tempo
      of the file is not that of the music.

  Returns:
    [beats, 3] for each beat its time in seconds, its number in the bar, from 0,
    and the number of the metre in `terms.METRES`, both -1 where unknown. Empty
    if the tempo is unknown.
  """
  none = np.zeros((0, 3))
  tempos = [bpm for _, bpm in score.tempos]
  if not tempos or not _TEMPOS[0] <= min(tempos) <= max(tempos) <= _TEMPOS[1]:
    return none
  if metadata.tempo is not None:
    metre = metadata.metre or analysis.find_metre(score, 0.0, score.seconds)
    marked = analysis.find_tempo(score, 0.0, score.seconds, metre)
    if marked is None or abs(marked / metadata.tempo - 1) > _STEADY:
      return none
  clock = _Clock(score)
  if clock.quarters(score.seconds) > _MAX_BEATS:
    return none
  rows = [
      (clock.seconds(quarter), number, metre)
      for quarter, number, metre in _count(score, metadata.metre, clock)
  ]
  return _align(np.array(rows), score) if len(rows) > 1 else none


def _align(
    beats: Beats, score: notation.Score
) -> Float[np.ndarray, 'aligned 3']:
  """Moves beats and bars to where notes begin, if the file must be wrong."""
  times = beats[:, 0]
  numbers = np.arange(len(beats))
  late = alignment.shift(score, np.interp(score.start, times, numbers))
  if late is None:
    return np.zeros((0, 3))
  if late:
    beats = np.full_like(beats, -1.0)[:-1]
    beats[:, 0] = np.interp(numbers[:-1] + late, numbers, times)
  if np.any(beats[:, 2] >= 0):
    return beats
  bounds = np.stack([score.start, score.end])
  bars = alignment.find_bars(
      score, *np.interp(bounds, beats[:, 0], np.arange(len(beats)))
  )
  if bars is not None:
    beats[:, 1] = (np.arange(len(beats)) - bars.first) % bars.beats
    beats[:, 2] = _METRES.index(f'{bars.beats}/4')
  return beats


class _Clock:
  """Converts between quarter notes and seconds."""

  def __init__(self, score: notation.Score):
    marks = dict(score.tempos)  # Of two marks at one time, the last one counts.
    times = sorted(marks)
    rates = [marks[time] / 60 for time in times]
    # The first tempo holds from the start on, the last one to the end.
    self._times = np.array(
        [0.0, *times[1:], max(score.seconds, times[-1]) + 1e4]
    )
    spans = np.diff(self._times) * rates
    self._quarters = np.concatenate([[0.0], np.cumsum(spans)])

  def quarters(self, second: float) -> float:
    return float(np.interp(second, self._times, self._quarters))

  def seconds(self, quarter: float) -> float:
    return float(np.interp(quarter, self._quarters, self._times))


def _count(
    score: notation.Score, known: str, clock: _Clock
) -> Iterator[tuple[float, int, int]]:
  """Yields the beats of a score: quarter note, number in the bar, and metre."""
  marks = [(0.0, known)] if known else [*dict(score.metres).items()]
  if not marks or marks[0][0] > 0:
    marks.insert(0, (0.0, facts.UNKNOWN))
  end = score.seconds + _RELEASE_SECONDS
  for (start, written), (stop, _) in itertools.pairwise([*marks, (end, '')]):
    metre, quarters = terms.find_metre(written) or ('', 1.0)
    first, last = clock.quarters(start), clock.quarters(min(stop, end))
    # The thousandth keeps rounding errors from adding a beat before a metre.
    for i in range(int(np.ceil((last - first) / quarters - 1e-3))):
      number = i % terms.METRES[metre].beats if metre else -1
      index = _METRES.index(metre) if metre else -1
      yield first + i * quarters, number, index


def crop_beats(
    beats: Beats, start: float, end: float
) -> Float32[np.ndarray, 'near 3']:
  """Returns the beats of [start, end) seconds, and one before and after.

  Args:
    beats: As `find_beats` returns them.
    start: Start in seconds, from which times are counted.
    end: End in seconds.
  """
  times = beats[:, 0]
  first = max(0, int(np.searchsorted(times, start, side='right')) - 1)
  last = int(np.searchsorted(times, end, side='left')) + 1
  return (beats[first:last] - [start, 0, 0]).astype(np.float32)


def families(
    arrangement: arranging.Arrangement, start: float, num_seconds: int
) -> Int8[np.ndarray, 'seconds families']:
  """Returns which families of instruments play in each second.

  Args:
    arrangement: An arrangement. The family with the loudest melody leads; if
      there is no melody, the loudest of all.
    start: Second at which the first one begins.
    num_seconds: Number of seconds.

  Returns:
    [seconds, families] `plan_streams.OFF`, ON or LEADING.
  """
  roles, parts = arrangement.roles, arrangement.score.parts
  melodies = [i for i, r in enumerate(roles) if r == arranging.Role.MELODY]
  family = np.array([terms.family(p.program, p.is_drums) for p in parts])
  score = arrangement.score.crop(start, start + num_seconds)
  energy = _energy(score, start, num_seconds)
  total = _sum(energy, family[score.part])
  is_on = total > analysis.HEARD * total.max(axis=1, keepdims=True)
  is_melody = np.isin(score.part, melodies)
  sung = _sum(energy * is_melody[:, np.newaxis], family[score.part]) * is_on
  leads = np.where(sung.any(axis=1, keepdims=True), sung, total)
  tokens = np.where(is_on, plan_streams.ON, plan_streams.OFF)
  seconds = np.flatnonzero(is_on.any(axis=1))
  tokens[seconds, leads.argmax(axis=1)[seconds]] = plan_streams.LEADING
  return tokens.astype(np.int8)


def _energy(
    score: notation.Score, start: float, num_seconds: int
) -> Float[np.ndarray, 'notes seconds']:
  """Returns how much of each note is heard in each second."""
  length = np.maximum(score.end - score.start, _LEAST_SECONDS)
  length = np.where(score.is_drums, _DRUM_SECONDS, length)
  first = score.start[:, np.newaxis]
  seconds = start + np.arange(num_seconds)
  last = np.minimum(first + length[:, np.newaxis], seconds + 1)
  overlap = last - np.maximum(first, seconds)
  loudness = np.square(score.velocity / 127 * score.volume)
  return np.where(overlap > _PART_OF_NOTE, overlap, 0) * loudness[:, np.newaxis]


def _sum(
    energy: Float[np.ndarray, 'notes seconds'], family: np.ndarray
) -> Float[np.ndarray, 'seconds families']:
  """Adds up the notes of each family."""
  return energy.T @ np.eye(len(terms.FAMILIES))[family]
