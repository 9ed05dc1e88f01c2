"""Drums for arrangements that have none (ours), in time with the beats."""

import dataclasses

from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import planned
from musiclm_jax.tokenizers import terms
import numpy as np

_Stroke = tuple[float, int, int]  # Its second, drum and velocity.

SHARE = 0.5  # Of the arrangements for several instruments, without drums.
# Drums of General MIDI.
_KICK, _STICK, _SNARE = 36, 37, 38
_CLOSED, _PEDAL, _OPEN, _RIDE = 42, 44, 46, 51
_SECONDS = 0.1  # Of a stroke; drums ring on.
_LEVELS = (60, 100)  # Range of mean velocities.
_ACCENT, _SPREAD = 10, 5  # Of velocities: on beats, and from stroke to stroke.
_VOLUME = 0.8
# A bar of each drum, for the metres that are drummed; x is a stroke.
_PATTERNS: dict[str, tuple[dict[int, str], ...]] = {
    '4/4': (
        {  # Rock.
            _KICK: 'x.......x.......',
            _SNARE: '....x.......x...',
            _CLOSED: 'x.x.x.x.x.x.x.x.',
        },
        {  # Funk.
            _KICK: 'x..x..x...x.....',
            _SNARE: '....x..x.x..x...',
            _CLOSED: 'xxxxxxxxxxxxxxxx',
        },
        {  # Four on the floor.
            _KICK: 'x...x...x...x...',
            _SNARE: '....x.......x...',
            _OPEN: '..x...x...x...x.',
        },
        {  # Ballad.
            _KICK: 'x.........x.....',
            _STICK: '....x.......x...',
            _RIDE: 'x...x...x...x...',
        },
        {  # Bossa nova.
            _KICK: 'x..xx..xx..xx..x',
            _STICK: 'x..x..x...x..x..',
            _CLOSED: 'x.x.x.x.x.x.x.x.',
        },
        {  # Swing.
            _KICK: 'x.....x.....',
            _PEDAL: '...x.....x..',
            _RIDE: 'x..x.xx..x.x',
        },
    ),
    '3/4': (
        {_KICK: 'x.....', _SNARE: '..x.x.', _CLOSED: 'xxxxxx'},
        {_KICK: 'x...........', _STICK: '....x...x...', _RIDE: 'x...x.x.x.x.'},
        {_KICK: 'x........', _PEDAL: '...x..x..', _RIDE: 'x..x.xx..'},
    ),
    '2/4': (
        {_KICK: 'x...x...', _SNARE: '..x...x.', _CLOSED: 'x.x.x.x.'},
        {_KICK: 'x.......', _SNARE: '....x..x', _CLOSED: 'xxxxxxxx'},
    ),
    '6/8': (
        {_KICK: 'x.....', _SNARE: '...x..', _CLOSED: 'xxxxxx'},
        {_KICK: 'x....x', _STICK: '...x..', _RIDE: 'x.xx.x'},
    ),
}


def accompany(
    arrangement: arranging.Arrangement,
    beats: planned.Beats,
    rng: np.random.Generator,
) -> arranging.Arrangement:
  """Adds drums to some arrangements for several instruments without drums.

  Args:
    arrangement: An arrangement.
    beats: Its beats, as `planned.find_beats` returns them. Where their number
      in the bar is unknown, or the metre has no patterns, nothing is added.
    rng: Draws whether to add drums, which, and how loud.
  """
  score = arrangement.score
  played = {score.parts[part].program for part in score.part.tolist()}
  if score.is_drums.any() or len(played) < 2 or rng.random() >= SHARE:
    return arrangement
  strokes = _strokes(beats, rng)
  if not strokes:
    return arrangement
  part = notation.Part('drums', int(rng.choice(instruments.DRUM_KITS)), True)
  roles = (*arrangement.roles, arranging.Role.DRUMS)
  score = _add(score, part, strokes)
  return dataclasses.replace(arrangement, score=score, roles=roles)


def _add(
    score: notation.Score, part: notation.Part, strokes: list[_Stroke]
) -> notation.Score:
  """Adds a part of drums, up to the last note of the others."""
  last = score.start.max()
  start, drum, velocity = map(np.array, zip(*strokes))
  joined = dataclasses.replace(
      score,
      parts=(*score.parts, part),
      start=np.append(score.start, start),
      end=np.append(score.end, start + _SECONDS),
      pitch=np.append(score.pitch, drum),
      velocity=np.append(score.velocity, velocity),
      volume=np.append(score.volume, np.full(len(start), _VOLUME)),
      part=np.append(score.part, np.full(len(start), len(score.parts))),
  )
  joined = joined.select(np.argsort(joined.start, kind='stable'))
  return joined.select(joined.start <= last)


def _strokes(beats: planned.Beats, rng: np.random.Generator) -> list[_Stroke]:
  """Returns the strokes from 0 s on."""
  metres = list(terms.METRES)
  choice, level = rng.random(), int(rng.integers(*_LEVELS))
  found = []
  for (time, number, metre), (after, *_) in zip(beats, beats[1:]):
    patterns = _PATTERNS.get(metres[int(metre)], ()) if metre >= 0 else ()
    if number < 0 or not patterns:
      continue
    pattern = patterns[int(choice * len(patterns))]
    for drum, bar in pattern.items():
      steps = len(bar) // terms.METRES[metres[int(metre)]].beats
      first = int(number) * steps
      for i, mark in enumerate(bar[first : first + steps]):
        second = time + (after - time) * i / steps
        if mark == 'x' and second >= 0:
          loud = level + _ACCENT * (i == 0) + int(rng.normal(0, _SPREAD))
          found.append((second, drum, min(127, max(1, loud))))
  return found
