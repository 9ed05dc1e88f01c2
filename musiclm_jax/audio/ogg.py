"""Checks the pages of an ogg file and finds the recordings in it."""

from collections.abc import Iterator
import pathlib
import struct
from typing import NamedTuple
import zlib

from musiclm_jax import errors
from musiclm_jax.audio import containers

_HEAD = struct.Struct('<4sBBqIIIB')
_FIRST, _LAST = 2, 4  # Flags of a page.
_REVERSED = bytes(int(f'{x:08b}'[::-1], 2) for x in range(256))


class Page(NamedTuple):
  """A page: its place in the file, its stream, flags and page number."""

  start: int
  stop: int
  serial: int
  flags: int
  number: int


def checksum(page: bytes) -> int:
  """Returns the checksum of a page whose checksum field is zeros.

  It is the CRC of zlib with the bits reversed and an initial value of 0.
  """
  reflected = ~zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
  return int(f'{reflected:032b}'[::-1], 2)


def _pages(
    path: pathlib.Path, data: containers.Data, start: int
) -> Iterator[Page]:
  """Yields the pages of a file.

  Raises:
    UserError: If a page is cut off or damaged, or other data lies between.
  """
  position = start
  while position < len(data):
    head = data[position : position + _HEAD.size]
    if head[:4] != b'OggS':
      if data.find(b'OggS', position) < 0:
        return  # Data after the last page does no harm.
      raise errors.UserError(
          f'{path} must be whole, but is damaged at byte {position}. Copy it'
          ' again.'
      )
    body = position + _HEAD.size
    stop = body
    if len(head) == _HEAD.size:
      _, _, flags, _, serial, number, expected, segments = _HEAD.unpack(head)
      stop = body + segments + sum(data[body : body + segments])
    if len(head) < _HEAD.size or stop > len(data) or stop == body:
      raise errors.UserError(
          f'{path} must end with a whole page, but breaks off in one. Copy or'
          ' export it again.'
      )
    page = data[position:stop]
    if checksum(page[:22] + bytes(4) + page[26:]) != expected:
      raise errors.UserError(
          f'{path} must be whole, but the checksum of its page at byte'
          f' {position} is wrong. Copy it again.'
      )
    yield Page(position, stop, serial, flags, number)
    position = stop


def find_links(
    path: pathlib.Path, data: containers.Data, start: int = 0
) -> list[tuple[int, int, int]]:
  """Finds the recordings that are chained in an ogg file.

  Args:
    path: Path of the file, for messages.
    data: Contents of the file, or a memory map of them.
    start: Offset of the first page.

  Returns:
    The start, the stop and the number of parallel streams of each.

  Raises:
    UserError: If the file is damaged, or a recording has no end.
  """
  links: list[tuple[int, int, int]] = []
  streams: dict[int, Page] = {}  # The latest page of each stream.
  begun = start
  for page in _pages(path, data, start):
    is_first = page.flags & _FIRST
    if is_first and any(not p.flags & _FIRST for p in streams.values()):
      links.append((begun, page.start, len(streams)))
      _check_ended(path, streams)
      streams, begun = {}, page.start
    before = streams.get(page.serial)
    if not is_first and (before is None or page.number != before.number + 1):
      raise errors.UserError(
          f'{path} must be whole, but pages are missing before byte'
          f' {page.start}. Copy it again.'
      )
    streams[page.serial] = page
    stop = page.stop
  if not streams:
    raise errors.UserError(f'{path} must hold audio, but has no samples.')
  _check_ended(path, streams)
  return [*links, (begun, stop, len(streams))]


def _check_ended(path: pathlib.Path, streams: dict[int, Page]) -> None:
  if not all(page.flags & _LAST for page in streams.values()):
    raise errors.UserError(
        f'{path} must end with the page that is marked as its last, but breaks'
        ' off before it. Copy or export it again.'
    )
