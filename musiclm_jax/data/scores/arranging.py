"""Arrangements of a score: other instruments, another key and tempo."""

import collections
import dataclasses
import enum

from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import voicing
import numpy as np

MAX_TRANSPOSITION = 5  # Semitones.
TEMPO_RANGE = (0.7, 1.3)  # Factors.
# Shares of arrangements: of the melody alone, for one instrument, and without
# drums; and, among those for several instruments, with a bass line.
_LINE_SHARE = 0.3
_SOLO_SHARE = 0.2
_NO_DRUMS_SHARE = 0.5
_BASS_SHARE = 0.6
_MELODY_WORDS = ('melody', 'bridge', 'vocal', 'voice', 'lead', 'solo', 'sopran')
_BASS_PROGRAMS = range(32, 40)
_BASS_PITCH = 48  # A bass line has a lower mean pitch.
# Families that play chords or basses. How much likelier others, such as flutes
# and reeds, are drawn for a melody, which is all that they can play.
_ACCOMPANYING = frozenset(
    i.family for i in (*instruments.CHORDS, instruments.BASS[0])
)
_LINES_ONLY = 3.0
_MONOPHONIC = 1.2  # Most simultaneous notes, on average, in a single line.


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
  """Returns the mean number of simultaneous notes of `part`, without rests."""
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
  """Arranges a score for other instruments, in another key and tempo.

  Either one instrument plays the melody alone, or all parts, or each part gets
  one that suits its role and range; parts that shared an instrument still do.
  Families of instruments are drawn so that each leads about equally often. If
  there is no melody or bass line, one may be split off from the chords. Drums
  get another kit, or are left out if other parts play.

  Args:
    score: The written score.
    rng: Draws the instruments, the key and the tempo.
    max_transposition: Most semitones up or down; 0 if a note would leave the
      range of MIDI. If it is not 0, parts may also move by octaves.
    tempo_range: Lowest and highest factor of the tempo.
  """
  roles = find_roles(score)
  semitones = int(rng.integers(-max_transposition, max_transposition + 1))
  factor = float(rng.uniform(*tempo_range))
  is_pitched = any(r != Role.DRUMS for r in roles)
  if is_pitched and Role.DRUMS in roles and rng.random() < _NO_DRUMS_SHARE:
    score = score.select(~score.is_drums)
  moved = score.transpose(semitones)
  if len(moved.start) < len(score.start):  # Notes left the range of MIDI.
    moved, semitones = score, 0
  score = moved.accelerate(factor)
  draw = rng.random()
  if draw < _LINE_SHARE:
    score, roles = _melody_alone(score, roles)
  elif draw >= _LINE_SHARE + _SOLO_SHARE:
    score, roles = _part_chords(score, roles, rng)
  groups = _groups(score, roles, draw < _LINE_SHARE + _SOLO_SHARE)
  for group in groups:
    able = _able(score, group, roles, len(groups) == 1)
    if not max_transposition:
      able = {i: octaves for i, octaves in able.items() if not octaves}
    score = _give(score, group, *_draw(able, rng))
  kit = int(rng.choice(instruments.DRUM_KITS))
  parts = tuple(
      dataclasses.replace(part, program=kit) if part.is_drums else part
      for part in score.parts
  )
  score = dataclasses.replace(score, parts=parts)
  return Arrangement(score, roles, semitones, factor)


def _melody_alone(score, roles) -> tuple[notation.Score, tuple[Role, ...]]:
  """Leaves out all but the melody and the drums, if it has a melody."""
  if Role.MELODY not in roles:
    score, roles = _separate(score, roles, ('melody',))
  melody = np.array([r == Role.MELODY for r in roles])
  if not np.any(melody[score.part]):
    return score, roles
  return score.select(melody[score.part] | score.is_drums), roles


def _part_chords(score, roles, rng) -> tuple[notation.Score, tuple[Role, ...]]:
  """Splits the missing voices off from the chords."""
  wanted: tuple[str, ...] = () if Role.MELODY in roles else ('melody',)
  if Role.BASS not in roles and rng.random() < _BASS_SHARE:
    wanted += ('bass',)
  return _separate(score, roles, wanted)


def _separate(score, roles, names) -> tuple[notation.Score, tuple[Role, ...]]:
  """Moves the outer voices of the part with the most chords to new parts."""
  counts = np.bincount(score.part, minlength=len(roles))
  chords = [
      i
      for i, role in enumerate(roles)
      if role == Role.CHORDS and polyphony(score, i) > _MONOPHONIC
  ]
  if not chords:
    return score, roles
  most = max(chords, key=lambda i: counts[i])
  score = voicing.separate(score, most, names)
  new = [Role[part.name.upper()] for part in score.parts[len(roles) :]]
  return score, (*roles, *new)


def _groups(score, roles, together: bool) -> list[list[int]]:
  """Returns the parts with notes that share an instrument.

  Args:
    score: The notes.
    roles: Role of each part.
    together: Whether all do; otherwise those with one role and program do.
  """
  groups: dict[tuple[Role | None, int], list[int]] = {}
  for i in sorted(set(score.part.tolist())):
    if roles[i] != Role.DRUMS:
      key = (None, 0) if together else (roles[i], score.parts[i].program)
      groups.setdefault(key, []).append(i)
  return list(groups.values())


def _able(
    score, group, roles, alone: bool
) -> dict[instruments.Instrument, int]:
  """Returns instruments that can play a group, and the octaves to move it."""
  pitches = score.pitch[np.isin(score.part, group)]
  role = roles[group[0]]
  is_line = all(polyphony(score, i) <= _MONOPHONIC for i in group)
  if not is_line or (alone and len({roles[i] for i in group}) > 1):
    role = Role.CHORDS
  elif role == Role.CHORDS or alone:
    role = Role.MELODY
  octaves = {i: i.octaves(pitches) for i in role.value}
  return {i: o for i, o in octaves.items() if o is not None}


def _draw(able, rng) -> tuple[instruments.Instrument, int]:
  """Draws a family, and then one of its instruments."""
  if not able:
    return instruments.PIANO, 0
  families = collections.Counter(i.family for i in able)
  # A family of one instrument would be that instrument too often.
  weights = np.sqrt(list(families.values()))
  is_rare = [f not in _ACCOMPANYING for f in families]
  weights[is_rare] *= _LINES_ONLY
  family = rng.choice(list(families), p=weights / np.sum(weights))
  able = [(i, o) for i, o in able.items() if i.family == family]
  return able[rng.integers(len(able))]


def _give(score, group, instrument, octaves: int) -> notation.Score:
  """Lets an instrument play the parts of `group`, octaves higher."""
  parts = tuple(
      dataclasses.replace(part, program=instrument.program)
      if i in group
      else part
      for i, part in enumerate(score.parts)
  )
  # Notes that do not die away would pile up.
  controls = tuple(
      (time, part, message)
      for time, part, message in score.controls
      if instrument.rings or part not in group or not voicing.is_pedal(message)
  )
  pitch = score.pitch + 12 * octaves * np.isin(score.part, group)
  return dataclasses.replace(score, parts=parts, controls=controls, pitch=pitch)
