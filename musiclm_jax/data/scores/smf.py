"""Reads the events of Standard MIDI Files, despite harmless defects.

Many files have a defect in something that is not played: a key signature of 18
flats, a chunk of another program, a wrong number of tracks. mido refuses those,
and is used here for messages only. Files that cannot be played as they were
meant, or that unpack beyond bounds, are refused.
"""

from collections.abc import Iterator
import dataclasses
import struct
from typing import Any

import mido
from mido.midifiles import meta as mido_meta

MAX_BYTES = 2**22
MAX_EVENTS = 500_000  # An hour at 140 a second.
_TEMPO, _METRE, _NAME, _END = 0x51, 0x58, 0x03, 0x2F
_FRAME_RATES = {24: 24.0, 25: 25.0, 29: 30 / 1.001, 30: 30.0}
_SYSEX = (0xF0, 0xF7)
# Data bytes of each status; channel messages by the upper half of theirs.
_NUM_DATA = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
_NUM_SYSTEM_DATA = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0}
_NUM_SYSTEM_DATA |= {0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
# Upper halves of the statuses that scores consist of.
_PLAYED = (0x8, 0x9, 0xB, 0xC, 0xE)

Track = list[tuple[int, Any]]


class MidiError(Exception):
  """A defect of a MIDI file; its message ends a sentence about the file."""


@dataclasses.dataclass(frozen=True)
class Events:
  """The events of a file.

  Attributes:
    tracks: The (tick, mido message)s of each track, in order: notes, programs,
      controls, pitch bends, tempos, metres, names, and the end.
    ticks_per_beat: Ticks in a beat; None if ticks have a fixed length.
    ticks_per_second: Ticks in a second; None if ticks follow the tempo.
  """

  tracks: list[Track]
  ticks_per_beat: int | None = None
  ticks_per_second: float | None = None


def read(data: bytes) -> Events:
  """Reads the bytes of a MIDI file.

  Args:
    data: Bytes of a file of format 0 or 1, plain or in RIFF.

  Raises:
    MidiError: If it is not a MIDI file, ends too early, or has too many events.
  """
  if len(data) > MAX_BYTES:
    raise MidiError(f'has {len(data)} bytes, over the limit of {MAX_BYTES}')
  chunks = _chunks(_unwrap(data))
  name, header = next(chunks, (b'', b''))
  if name != b'MThd' or len(header) < 6:
    raise MidiError('does not begin with a MIDI header')
  kind, num_tracks, division = struct.unpack('>HHh', header[:6])
  tracks: list[Track] = []
  num_events = 0
  while True:
    try:
      name, body = next(chunks, (b'', b''))
    except MidiError:
      if len(tracks) < max(1, num_tracks):
        raise
      break  # Data after the last track is not music.
    if not name:
      break
    if name == b'MTrk':
      tracks.append(_read_track(body, len(tracks) + 1, num_events))
      num_events += len(tracks[-1])
  if len(tracks) < num_tracks:
    raise MidiError(f'ends after {len(tracks)} of {num_tracks} tracks')
  if kind > 2 or (kind == 2 and len(tracks) > 1):
    raise MidiError(
        f'is of format {kind}, whose tracks are not played together'
    )
  return _timed(tracks, division)


def _timed(tracks: list[Track], division: int) -> Events:
  """Returns events with the length of a tick in the header."""
  if division > 0:
    return Events(tracks, ticks_per_beat=division)
  frame_rate, ticks = _FRAME_RATES.get(-(division >> 8)), division & 0xFF
  if not frame_rate or not ticks:
    raise MidiError(f'has ticks of no length (division {division})')
  return Events(tracks, ticks_per_second=frame_rate * ticks)


def _unwrap(data: bytes) -> bytes:
  """Returns the MIDI file in a RIFF file (.rmi)."""
  if data[:4] != b'RIFF' or data[8:12] != b'RMID':
    return data
  position = 12
  while position + 8 <= len(data):
    name, size = struct.unpack_from('<4sL', data, position)
    if name == b'data':
      return data[position + 8 : position + 8 + size]
    position += 8 + size + size % 2
  raise MidiError('is a RIFF file without MIDI data')


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
  """Yields the (name, body) of each chunk."""
  position = 0
  while position < len(data):
    if position + 8 > len(data):
      raise MidiError('ends within the header of a chunk')
    name, size = struct.unpack_from('>4sL', data, position)
    if not name.isalnum():
      raise MidiError(f'has no chunk at byte {position}')
    position += 8
    if position + size > len(data):
      raise MidiError(
          f'ends after {len(data) - position} of {size} bytes of a chunk'
      )
    yield name, data[position : position + size]
    position += size


def _read_track(body: bytes, number: int, num_events: int) -> Track:
  """Reads the events of a track; `num_events` were read before."""
  track = []
  try:
    for event in _events(body):
      track.append(event)
      if num_events + len(track) > MAX_EVENTS:
        raise MidiError(f'has more than {MAX_EVENTS} events')
  except IndexError as e:
    raise MidiError(f'breaks off in track {number}') from e
  return track


def _quantity(data: bytes, position: int) -> tuple[int, int]:
  """Reads a number of variable length; returns it and its end."""
  value = 0
  for end in range(position, position + 4):
    value = value << 7 | data[end] & 0x7F
    if data[end] < 0x80:
      return value, end + 1
  raise MidiError('has a number of more than four bytes')


def _bytes(data: bytes, position: int, size: int) -> bytes:
  if position + size > len(data):
    raise IndexError
  return data[position : position + size]


def _events(body: bytes) -> Iterator[tuple[int, Any]]:
  """Yields the (tick, message)s of a track that are part of a score."""
  position = tick = running = 0
  while position < len(body):
    delta, position = _quantity(body, position)
    tick += delta
    status = running
    if body[position] >= 0x80:
      status = body[position]
      position += 1
    if status == 0xFF:
      kind = body[position]
      size, position = _quantity(body, position + 1)
      message = _meta(kind, _bytes(body, position, size))
    elif status in _SYSEX:
      size, position = _quantity(body, position)
      _bytes(body, position, size)
      message = None
    else:
      size = _num_data(status)
      message = _message(status, _bytes(body, position, size))
    # System messages should end the running status, but files rely on it.
    running = status if status < 0xF0 else running
    position += size
    if message is not None:
      yield tick, message
      if message.type == 'end_of_track':
        return
  yield tick, mido.MetaMessage('end_of_track')


def _num_data(status: int) -> int:
  if not status:
    raise MidiError('has data without a status')
  if status >> 4 in _NUM_DATA:
    return _NUM_DATA[status >> 4]
  if status not in _NUM_SYSTEM_DATA:
    raise MidiError(f'has the unknown status {status:#x}')
  return _NUM_SYSTEM_DATA[status]


def _message(status: int, data: bytes) -> mido.Message | None:
  if status >> 4 not in _PLAYED:
    return None
  return mido.Message.from_bytes([status, *(min(b, 127) for b in data)])


def _meta(kind: int, data: bytes) -> mido.MetaMessage | None:
  """Returns a message about how to play; None for any other."""
  if kind == _TEMPO and len(data) != 3:
    raise MidiError(f'has a tempo of {len(data)} bytes, not 3')
  # Lower numbers up to 128 are enough; 2^255 would be absurd.
  if kind == _METRE and (len(data) != 4 or data[1] > 7):
    return None
  if kind in (_TEMPO, _METRE, _NAME, _END):
    return mido_meta.build_meta_message(kind, data)
  return None
