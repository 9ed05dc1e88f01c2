"""Scores as arrays of notes, read from MIDI files and written to them."""

import collections
from collections.abc import Sequence
import dataclasses
import io
import itertools
import os
from typing import Any

from jaxtyping import Float, Int
import mido
from musiclm_jax import errors
from musiclm_jax.data.scores import smf
import numpy as np

DRUM_CHANNEL = 9
_TICKS_PER_BEAT = 480
_TEMPO = 500_000  # Microseconds per beat in written files.
_TICKS_PER_SECOND = _TICKS_PER_BEAT * 1_000_000 / _TEMPO
_RELEASE_SECONDS = 3.0  # FluidSynth stops at the end of the file.
# Bank selects, which would undo changes of program, and channel modes.
_DROPPED_CONTROLS = frozenset({0, 32, *range(120, 128)})

# The tick, velocity, volume and part of a note that has begun.
_Started = tuple[int, int, float, int]


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of a score, played by one instrument.

  Attributes:
    name: Name of its track; often empty.
    program: Program of General MIDI, from 0.
    is_drums: Whether its pitches name drums rather than notes.
  """

  name: str
  program: int
  is_drums: bool = False


@dataclasses.dataclass(frozen=True)
class Score:
  """Notes with times in seconds, and the marks of the score.

  Attributes:
    parts: The parts, in the order of their tracks.
    start: [notes] onsets in seconds, in order.
    end: [notes] releases in seconds.
    pitch: [notes] MIDI pitches.
    velocity: [notes] velocities in [1, 127].
    volume: [notes] volumes in [0, 1], set by the faders of the part.
    part: [notes] indices into `parts`.
    tempos: (second, quarter notes per minute) of each tempo mark.
    metres: (second, metre, e.g. '3/4') of each time signature.
    controls: (second, part, message) of pedals, faders and pitch bends.
  """

  parts: tuple[Part, ...]
  start: Float[np.ndarray, ' notes']
  end: Float[np.ndarray, ' notes']
  pitch: Int[np.ndarray, ' notes']
  velocity: Int[np.ndarray, ' notes']
  volume: Float[np.ndarray, ' notes']
  part: Int[np.ndarray, ' notes']
  tempos: tuple[tuple[float, float], ...] = ()
  metres: tuple[tuple[float, str], ...] = ()
  controls: tuple[tuple[float, int, Any], ...] = ()

  @property
  def seconds(self) -> float:
    return float(np.max(self.end, initial=0.0))

  @property
  def is_drums(self) -> np.ndarray:
    """[notes] bools: which notes are drums."""
    return np.array([p.is_drums for p in self.parts], bool)[self.part]

  def select(self, keep: np.ndarray) -> 'Score':
    """Returns the score with the notes where [notes] `keep` is true."""
    arrays = ('start', 'end', 'pitch', 'velocity', 'volume', 'part')
    return dataclasses.replace(
        self, **{name: getattr(self, name)[keep] for name in arrays}
    )

  def crop(self, start: float, end: float) -> 'Score':
    """Returns the notes that sound in [start, end) seconds, cut to it."""
    score = self.select((self.start < end) & (self.end > start))
    return dataclasses.replace(
        score,
        start=np.maximum(score.start, start),
        end=np.minimum(score.end, end),
        controls=tuple(c for c in self.controls if c[0] < end),
    )

  def trim(self) -> 'Score':
    """Returns the score without the silence before its first note."""
    first = float(np.min(self.start))

    def earlier(marks):
      return tuple((max(0.0, t - first), *rest) for t, *rest in marks)

    return dataclasses.replace(
        self,
        start=self.start - first,
        end=self.end - first,
        tempos=earlier(self.tempos),
        metres=earlier(self.metres),
        controls=earlier(self.controls),
    )

  def transpose(self, semitones: int) -> 'Score':
    """Returns the score `semitones` higher; drums stay as they are."""
    pitch = np.where(self.is_drums, self.pitch, self.pitch + semitones)
    score = dataclasses.replace(self, pitch=pitch)
    return score.select((pitch >= 0) & (pitch <= 127))

  def accelerate(self, factor: float) -> 'Score':
    """Returns the score at `factor` times its tempo."""
    return dataclasses.replace(
        self,
        start=self.start / factor,
        end=self.end / factor,
        tempos=tuple((t / factor, bpm * factor) for t, bpm in self.tempos),
        metres=tuple((t / factor, metre) for t, metre in self.metres),
        controls=tuple((t / factor, p, m) for t, p, m in self.controls),
    )


def read_midi(file: str | os.PathLike[str] | io.BufferedIOBase) -> Score:
  """Reads a MIDI file.

  Args:
    file: Path of a file, or an open file.

  Returns:
    Its notes, with a part for each program of each track and channel.

  Raises:
    UserError: If it is not a MIDI file, or has no notes.
  """
  name = getattr(file, 'name', file)
  with errors.reading(str(name), 'a MIDI file'):
    if isinstance(file, (str, os.PathLike)):
      with open(file, 'rb') as opened:
        data = opened.read(smf.MAX_BYTES + 1)
    else:
      data = file.read(smf.MAX_BYTES + 1)
  try:
    reader = _Reader(smf.read(data))
  except smf.MidiError as e:
    raise errors.UserError(
        f'{name} must be a MIDI file, but cannot be read: it {e}. Replace it or'
        ' leave it out.'
    ) from e
  if not reader.notes:
    raise errors.UserError(
        f'{name} must have notes, but has none. Leave it out.'
    )
  return reader.score()


class _Reader:
  """Collects the notes of the tracks of a file."""

  def __init__(self, events: smf.Events):
    tempos = [(0, _TEMPO)]
    self.metres = []
    for tick, message in itertools.chain(*events.tracks):
      if message.type == 'set_tempo' and message.tempo > 0:
        tempos.append((tick, message.tempo))
      elif message.type == 'time_signature':
        metre = f'{message.numerator}/{message.denominator}'
        self.metres.append((tick, metre))
    tempos.sort(key=lambda t: t[0])
    self.metres.sort(key=lambda m: m[0])
    self.tempos = tempos[1:]
    if events.ticks_per_second:  # Such files have no beats.
      rates = [1 / events.ticks_per_second for _ in tempos]
      self.tempos, self.metres = [], []
    else:
      rates = [t / 1e6 / (events.ticks_per_beat or 1) for _, t in tempos]
    # Seconds at the tick of each change of tempo, and seconds per tick.
    self.ticks = np.array([tick for tick, _ in tempos], float)
    self.rates = np.array(rates)
    self.times = np.cumsum(
        np.append(0.0, np.diff(self.ticks) * self.rates[:-1])
    )
    self.parts: dict[tuple[int, int, int], Part] = {}
    self.indices: dict[tuple[int, int, int], int] = {}
    self.notes: list[tuple[int, int, int, int, float, int]] = []
    self.controls: list[tuple[int, int, Any]] = []
    self.num_tracks = 0
    for track in events.tracks:
      self.read(track)

  def seconds(self, ticks: np.ndarray) -> np.ndarray:
    """Returns the times of [...] `ticks`, in seconds."""
    i = np.searchsorted(self.ticks, ticks, side='right') - 1
    return self.times[i] + (ticks - self.ticks[i]) * self.rates[i]

  def read(self, track: smf.Track) -> None:
    """Adds the notes and controls of a track."""
    self.num_tracks += 1
    name = next((m.name for _, m in track if m.type == 'track_name'), '')
    programs = [0] * 16
    faders = [{7: 127, 11: 127} for _ in range(16)]
    sounding: dict[tuple[int, int], collections.deque[_Started]] = {}
    controls = []
    tick = 0
    for tick, message in track:
      if message.type == 'program_change':
        programs[message.channel] = message.program
      elif message.type == 'control_change':
        if message.control in faders[message.channel]:
          faders[message.channel][message.control] = message.value
        if message.control not in _DROPPED_CONTROLS:
          controls.append((tick, message))
      elif message.type == 'pitchwheel':
        controls.append((tick, message))
      elif message.type in ('note_on', 'note_off'):
        channel = message.channel
        key = (channel, message.note)
        started = sounding.setdefault(key, collections.deque())
        if message.type == 'note_on' and message.velocity > 0:
          part = self._part(name, channel, programs[channel])
          volume = faders[channel][7] * faders[channel][11] / 127**2
          started.append((tick, message.velocity, volume, part))
        elif started:
          self._add(*started.popleft(), message.note, tick)
    # A note that is never released ends with its track.
    for (_, pitch), started in sounding.items():
      for note in started:
        self._add(*note, pitch, tick)
    self._add_controls(controls)

  def _part(self, name: str, channel: int, program: int) -> int:
    """Returns the index of a part of the track being read."""
    key = (self.num_tracks, channel, program)
    part = Part(name.strip(), program, channel == DRUM_CHANNEL)
    self.parts.setdefault(key, part)
    return self.indices.setdefault(key, len(self.indices))

  def _add(self, start, velocity, volume, part, pitch, end):
    if end > start:
      self.notes.append((start, end, pitch, velocity, volume, part))

  def _add_controls(self, controls):
    """Gives the controls of a channel to each part of it in this track."""
    for part, (track, channel, _) in enumerate(self.parts):
      if track == self.num_tracks:
        self.controls.extend(
            (tick, part, m) for tick, m in controls if m.channel == channel
        )
      if len(self.controls) > smf.MAX_EVENTS:
        raise smf.MidiError(
            f'has more than {smf.MAX_EVENTS} controls of its parts'
        )

  def score(self) -> Score:
    """Returns the score that was read."""
    notes = sorted(self.notes)
    start, end, pitch, velocity, volume, part = map(np.array, zip(*notes))
    return Score(
        parts=tuple(self.parts.values()),
        start=self.seconds(start),
        end=self.seconds(end),
        pitch=pitch,
        velocity=velocity,
        volume=volume.astype(float),
        part=part,
        tempos=self._timed(self.tempos, lambda tempo: 60e6 / tempo),
        metres=self._timed(self.metres, str),
        controls=self._timed_controls(),
    )

  def _timed(self, marks, convert) -> tuple:
    """Returns (tick, mark)s as (seconds, converted mark)s."""
    seconds = self.seconds(np.array([tick for tick, _ in marks], int))
    values = [convert(mark) for _, mark in marks]
    return tuple(zip(seconds.tolist(), values))

  def _timed_controls(self) -> tuple:
    marks = [(tick, (part, m)) for tick, part, m in self.controls]
    return tuple((t, *mark) for t, mark in self._timed(marks, tuple))


def write_midi(score: Score, path: str | os.PathLike[str]) -> None:
  """Writes a score as a MIDI file, with a channel for each part.

  Args:
    score: Notes; parts with the same program may share a channel.
    path: Path of the file.

  Raises:
    UserError: If the notes need more than the 15 channels of MIDI.
  """
  channels = _assign_channels(score)
  events = []  # (tick, order within the tick, message)
  for part, channel in channels.items():
    program = score.parts[part].program
    message = mido.Message('program_change', channel=channel, program=program)
    events.append((0, 0, message))
  for seconds, part, message in score.controls:
    if part in channels:
      message = message.copy(channel=channels[part])
      events.append((_tick(seconds), 1, message))
  notes = zip(score.start, score.end, score.pitch, score.velocity, score.part)
  for start, end, pitch, velocity, part in notes:
    note = {'channel': channels[int(part)], 'note': int(pitch)}
    on = mido.Message('note_on', velocity=int(velocity), **note)
    events.append((_tick(start), 3, on))
    # Releases come first, so that a repeated note is struck again.
    off = mido.Message('note_off', **note)
    events.append((max(_tick(end), _tick(start) + 1), 2, off))
  events.sort(key=lambda event: event[:2])
  track = mido.MidiTrack([mido.MetaMessage('set_tempo', tempo=_TEMPO)])
  tick = 0
  for time, _, message in events:
    track.append(message.copy(time=time - tick))
    tick = time
  rest = _tick(score.seconds + _RELEASE_SECONDS) - tick
  track.append(mido.MetaMessage('end_of_track', time=max(0, rest)))
  mido.MidiFile(ticks_per_beat=_TICKS_PER_BEAT, tracks=[track]).save(path)


def _tick(seconds: float) -> int:
  return round(seconds * _TICKS_PER_SECOND)


def _assign_channels(score: Score) -> dict[int, int]:
  """Returns the channel of each part that has notes."""
  used = sorted(set(score.part.tolist()))
  drums = [p for p in used if score.parts[p].is_drums]
  pitched: Sequence[int] = [p for p in used if not score.parts[p].is_drums]
  # Parts in one channel share pedals, and release each other's notes.
  groups = {p: p for p in pitched}
  if len(pitched) > 15:
    groups = {p: score.parts[p].program for p in pitched}
  numbers = sorted(set(groups.values()))
  if len(numbers) > 15:
    raise errors.UserError(
        'a score must have at most 15 programs, as MIDI has 15 channels for'
        f' them, but has {len(numbers)}. Leave it out.'
    )
  free = [c for c in range(16) if c != DRUM_CHANNEL]
  channels = {p: free[numbers.index(groups[p])] for p in pitched}
  return channels | {p: DRUM_CHANNEL for p in drums}
