"""Arrangements of a score: other instruments, another key and tempo."""

import dataclasses
import enum

from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import notation
import numpy as np

MAX_TRANSPOSITION = 5  # Semitones.
TEMPO_RANGE = (0.7, 1.3)  # Factors.
# Shares of arrangements with one instrument, and without the drums.
_SOLO_SHARE = 0.35
_NO_DRUMS_SHARE = 0.5
_MELODY_WORDS = ('melody', 'bridge', 'vocal', 'voice', 'lead', 'solo', 'sopran')
_BASS_PROGRAMS = range(32, 40)
_BASS_PITCH = 48  # A bass line has a lower mean pitch.
_MONOPHONIC = 1.2  # Most notes at a time, on average, in a line.


class Role(enum.Enum):
  """Role of a part, with the instruments that can play it."""

  MELODY = instruments.MELODY
  CHORDS = instruments.CHORDS
  BASS = instruments.BASS
  DRUMS = ()


@dataclasses.dataclass(frozen=True)
class Arrangement:
  """A score as it is rendered, and its differences from the written one.

  Attributes:
    score: The notes.
    roles: Role of each part.
    transposition: Semitones up from the written score.
    tempo_factor: Tempo relative to the written score.
  """

  score: notation.Score
  roles: tuple[Role, ...]
  transposition: int = 0
  tempo_factor: float = 1.0


def polyphony(score: notation.Score, part: int) -> float:
  """Returns the mean number of notes of `part` at a time, without rests."""
  mine = score.part == part
  start, end = score.start[mine], score.end[mine]
  # In order, each note covers the time that it reaches past all before.
  reach = np.maximum.accumulate(end)
  before = np.concatenate([[-np.inf], reach[:-1]])
  covered = np.sum(np.maximum(0.0, end - np.maximum(start, before)))
  return float(np.sum(end - start) / max(covered, 1e-9))


def find_roles(score: notation.Score) -> tuple[Role, ...]:
  """Returns the role of each part, by its name, program, pitch and texture.

  If no part is named as a melody, the highest one that plays one note at a time
  becomes one, if there are other parts.
  """
  pitches = [score.pitch[score.part == p] for p in range(len(score.parts))]
  means = [float(np.mean(p)) if len(p) else 0.0 for p in pitches]
  lines = [
      bool(len(p)) and polyphony(score, i) <= _MONOPHONIC
      for i, p in enumerate(pitches)
  ]

  def role(i, part):
    name = part.name.lower()
    if part.is_drums:
      return Role.DRUMS
    if any(word in name for word in _MELODY_WORDS):
      return Role.MELODY
    if part.program in _BASS_PROGRAMS or (lines[i] and means[i] < _BASS_PITCH):
      return Role.BASS
    return Role.CHORDS

  roles = [role(i, part) for i, part in enumerate(score.parts)]
  if Role.MELODY not in roles and roles.count(Role.CHORDS) > 1:
    candidates = [
        i for i, r in enumerate(roles) if r == Role.CHORDS and lines[i]
    ]
    if candidates:
      roles[max(candidates, key=lambda i: means[i])] = Role.MELODY
  return tuple(roles)


def arrange(
    score: notation.Score,
    rng: np.random.Generator,
    max_transposition: int = MAX_TRANSPOSITION,
    tempo_range: tuple[float, float] = TEMPO_RANGE,
) -> Arrangement:
  """Returns the score for other instruments, in another key and tempo.

  Either one instrument plays all parts, or each part gets one that suits its
  role and range; parts that shared an instrument still do. Drums stay, or are
  left out if other parts play.

  Args:
    score: The written score.
    rng: Draws the instruments, the key and the tempo.
    max_transposition: Most semitones up or down; 0 if a note would leave the
      range of MIDI.
    tempo_range: Least and greatest factor of the tempo.
  """
  roles = find_roles(score)
  semitones = int(rng.integers(-max_transposition, max_transposition + 1))
  factor = float(rng.uniform(*tempo_range))
  pitched = [i for i, r in enumerate(roles) if r != Role.DRUMS]
  if pitched and Role.DRUMS in roles and rng.random() < _NO_DRUMS_SHARE:
    score = score.select(~score.is_drums)
  moved = score.transpose(semitones)
  if len(moved.start) < len(score.start):  # Notes left the range of MIDI.
    moved, semitones = score, 0
  score = moved.accelerate(factor)
  if len(pitched) < 2 or rng.random() < _SOLO_SHARE:
    groups = [pitched]
  else:
    groups = _groups(score, roles, pitched)
  parts = list(score.parts)
  for group in groups:
    program = _choose(score, group, roles, len(groups) == 1, rng)
    for i in group:
      parts[i] = dataclasses.replace(parts[i], program=program)
  score = dataclasses.replace(score, parts=tuple(parts))
  return Arrangement(score, roles, semitones, factor)


def _groups(score, roles, pitched) -> list[list[int]]:
  """Returns the parts that share a role and an instrument."""
  groups: dict[tuple[Role, int], list[int]] = {}
  for i in pitched:
    groups.setdefault((roles[i], score.parts[i].program), []).append(i)
  return list(groups.values())


def _choose(score, group, roles, alone, rng) -> int:
  """Returns a program that can play the parts of `group`."""
  pitches = score.pitch[np.isin(score.part, group)]
  is_line = all(polyphony(score, i) <= _MONOPHONIC for i in group)
  role = Role.CHORDS if alone or not is_line else roles[group[0]]
  able = [i for i in role.value if i.can_play(pitches)]
  if not able:
    return instruments.PIANO.program
  return able[rng.integers(len(able))].program
