"""Checks that a file is as long as its container says.

Decoders accept a file that was cut short, and ignore all data after the end
that its header states.
"""

from collections.abc import Iterator
import mmap
import os
import pathlib
import struct
from typing import BinaryIO, NamedTuple

from musiclm_jax import errors
from musiclm_jax import progress

Data = bytes | mmap.mmap  # The contents of a file.

_MAX_CHUNKS = 100_000
_MAX_JUNK = 4096  # Fewer bytes after the sound are not reported.
_SLACK = 64  # Bytes by which some writers misstate the size of the sound.
_TAGS = (
    b'ID3',
    b'TAG',
    b'APE',
    b'LYR',
)  # Tags of mp3, appended to other formats.
_ASF_HEADER = bytes.fromhex('3026b2758e66cf11a6d900aa0062ce6c')
_W64_DATA = bytes.fromhex('64617461f3acd3118cd100c04f8edb8a')


class _Grammar(NamedTuple):
  """How the chunks of a container are written.

  Attributes:
    start: Offset of the first chunk.
    head: Format of the name and size of a chunk, for `struct`.
    sound: Names of the chunks that hold sound; if empty, all must be whole.
    align: Chunks start at multiples of this many bytes.
    counts_head: Whether the size of a chunk includes its head.
  """

  start: int
  head: str
  sound: tuple[bytes, ...] = ()
  align: int = 1
  counts_head: bool = False


_RIFF = _Grammar(12, '<4sI', (b'data',), align=2)
_GRAMMARS = {
    'wav': _RIFF,
    'rf64': _RIFF,
    'rifx': _RIFF._replace(head='>4sI'),
    'aiff': _Grammar(12, '>4sI', (b'SSND',), align=2),
    'caf': _Grammar(8, '>4sq', (b'data',)),
    'w64': _Grammar(40, '<16sQ', (_W64_DATA,), align=8, counts_head=True),
    'asf': _Grammar(0, '<16sQ', counts_head=True),
    'mp4': _Grammar(0, '>I4s', counts_head=True),
}
# Names at the start of a file; inside one, they begin another file.
_BEGINNINGS = (
    *(b'RIFF', b'RIFX', b'RF64', b'FORM', b'caff', b'ftyp'),
    *(_ASF_HEADER, bytes.fromhex('726966662e91cf11a5d628db04c10000')),
)


class Chunk(NamedTuple):
  """A chunk: its name, and the offset and stated length of its body."""

  name: bytes
  start: int
  length: int


def find_kind(head: bytes) -> str:
  """Returns the kind of container that begins with `head`; '' if unknown."""
  if head[8:12] == b'WAVE':
    names = {b'RIFF': 'wav', b'RIFX': 'rifx', b'RF64': 'rf64'}
    return names.get(head[:4], '')
  if head[:4] == b'FORM' and head[8:12] in (b'AIFF', b'AIFC'):
    return 'aiff'
  if head[4:8] in (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip'):
    return 'mp4'
  beginnings = {
      b'caff': 'caf',
      b'riff\x2e\x91\xcf\x11': 'w64',
      _ASF_HEADER: 'asf',
      b'.snd': 'au',
      b'fLaC': 'flac',
      b'OggS': 'ogg',
      b'\x1aE\xdf\xa3': 'matroska',
  }
  for beginning, kind in beginnings.items():
    if head.startswith(beginning):
      return kind
  if len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0 and head[1] & 6:
    return 'mp3'  # Without the bits of a layer it would be AAC.
  return ''


def tag_length(head: bytes) -> int:
  """Returns the bytes of the ID3v2 tag that begins with `head`; 0 if none."""
  if len(head) < 10 or head[:3] != b'ID3' or max(head[6:10]) > 127:
    return 0
  length = 0
  for seven_bits in head[6:10]:
    length = length << 7 | seven_bits
  return length + (20 if head[5] & 0x10 else 10)


def open_kind(path: pathlib.Path) -> tuple[str, int]:
  """Returns the kind of container of a file, and its offset after tags."""
  start = 0
  with path.open('rb') as file:
    while length := tag_length(file.read(10)):
      start += length
      file.seek(start)
    file.seek(start)
    return find_kind(file.read(64)), start


def check_whole(path: pathlib.Path, kind: str, start: int) -> bool:
  """Raises UserError if a file ends before the end that its container states.

  Args:
    path: Path of the file.
    kind: Kind of container; see `open_kind`.
    start: Offset of the container in the file.

  Returns:
    Whether the container states an end. Those of recorders and pipes may not.
  """
  with path.open('rb') as file:
    if kind in _GRAMMARS:
      return _check_chunks(path, file, start, kind)
    if kind == 'au':
      return _check_au(path, file, start)
    if kind == 'matroska':
      return _check_matroska(path, file, start)
  return True


def _check_span(path: pathlib.Path, end: int, size: int) -> None:
  if end > size + _SLACK:
    raise errors.UserError(
        f'{path} must hold {end} bytes as its header says, but breaks off after'
        f' {size}. Copy or export it again.'
    )


def _chunks(file: BinaryIO, start: int, grammar: _Grammar) -> Iterator[Chunk]:
  """Yields the top-level chunks of a container, up to the first non-chunk."""
  position = start + grammar.start
  head = struct.Struct(grammar.head)
  for _ in range(_MAX_CHUNKS):
    file.seek(position)
    data = file.read(head.size)
    if len(data) < head.size:
      return
    name, length = head.unpack(data)
    body = position + head.size
    if isinstance(name, int):  # An mp4 file has the size first.
      name, length = length, name
      if length == 1:
        length = int.from_bytes(file.read(8), 'big')
    if grammar.counts_head:
      length -= head.size
    yield Chunk(name, body, length)
    if length < 0:  # The chunk lasts to the end of the file.
      return
    position = start + -(-(body + length - start) // grammar.align) * (
        grammar.align
    )


def _is_unknown(kind: str, chunk: Chunk) -> bool:
  """Whether the size is a placeholder of a writer that did not know it."""
  if chunk.length <= 0:
    return True
  if kind in ('w64', 'asf', 'mp4'):
    return chunk.length >= 1 << 62
  near_4_gib = chunk.length >= 0xFFFFF000
  return near_4_gib or 0x7FFFF000 <= chunk.length <= 0x80000000


def _is_name(name: bytes) -> bool:
  return len(name) == 16 or all(32 <= x < 127 or x == 0xA9 for x in name)


def _check_chunks(
    path: pathlib.Path, file: BinaryIO, start: int, kind: str
) -> bool:
  """Checks a container that is made of chunks."""
  grammar = _GRAMMARS[kind]
  size = os.fstat(file.fileno()).st_size
  long_size, is_begun, is_empty = 0, False, False
  for chunk in _chunks(file, start, grammar):
    if chunk.name in _BEGINNINGS and is_begun:
      raise errors.UserError(
          f'{path} must hold one recording, but another begins within it, at'
          f' byte {chunk.start}. Split it.'
      )
    if not _is_name(chunk.name):
      if is_empty:
        return False  # The sound itself follows, without a chunk of its own.
      _check_junk(path, file, chunk.start - struct.calcsize(grammar.head))
      return True
    if chunk.name == b'ds64':
      file.seek(chunk.start + 8)
      long_size = int.from_bytes(file.read(8), 'little')
    if grammar.sound and chunk.name not in grammar.sound:
      continue
    if kind == 'rf64' and chunk.length == 0xFFFFFFFF and long_size:
      chunk = chunk._replace(length=long_size)
    is_begun, is_empty = True, not chunk.length
    if not _is_unknown(kind, chunk):
      _check_span(path, chunk.start + chunk.length, size)
    elif not is_empty:
      return False
  return True


def _check_junk(path: pathlib.Path, file: BinaryIO, start: int) -> None:
  """Reports bytes after the sound that are no chunk, and refuses many."""
  size = os.fstat(file.fileno()).st_size
  file.seek(start)
  head = file.read(_MAX_JUNK + 1)
  # Recorders allocate zeros in advance.
  if len(head) <= _MAX_JUNK or not any(head) or head.startswith(_TAGS):
    return
  if 8 * (size - start) > size:
    raise errors.UserError(
        f'{path} must be whole, but its header ends the sound at byte {start}'
        f' of {size}. Export it again.'
    )
  progress.say(
      f'{path}: {size - start} bytes after the end of its sound are ignored'
  )


def _check_au(path: pathlib.Path, file: BinaryIO, start: int) -> bool:
  size = os.fstat(file.fileno()).st_size
  file.seek(start + 4)
  head = file.read(8)
  if len(head) == 8:
    offset, length = struct.unpack('>II', head)
    if length != 0xFFFFFFFF:
      _check_span(path, start + offset + length, size)
  return True


def _read_vint(file: BinaryIO, keep_marker: bool) -> int | None:
  """Reads a Matroska number; None if it stands for an unknown length."""
  first = file.read(1)
  if not first or not first[0]:
    return None
  extra = 8 - first[0].bit_length()
  number = int.from_bytes(first + file.read(extra), 'big')
  bits = 7 * (extra + 1)
  if keep_marker:
    return number
  number &= (1 << bits) - 1
  return None if number == (1 << bits) - 1 else number


def _check_matroska(path: pathlib.Path, file: BinaryIO, start: int) -> bool:
  """Checks that the top-level elements are whole and of one file."""
  size = os.fstat(file.fileno()).st_size
  file.seek(start)
  names = set()
  while file.tell() < size:
    name = _read_vint(file, keep_marker=True)
    length = _read_vint(file, keep_marker=False)
    if name is None or length is None:
      return False
    if name == 0x1A45DFA3 and name in names:
      raise errors.UserError(
          f'{path} must hold one recording, but holds several. Split it.'
      )
    names.add(name)
    _check_span(path, file.tell() + length, size)
    file.seek(length, os.SEEK_CUR)
  return True
