"""Decodes mp3 files frame by frame.

Libraries only estimate the length of a file, wrongly if its bitrate varies, and
stop at the end of the first of several files that were joined.
"""

from collections.abc import Iterator
import dataclasses
import itertools
import pathlib
import re
from typing import Any, NamedTuple

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.audio import containers
import numpy as np

_MAX_CANDIDATES = 1 << 20  # Places to try in data that holds no frame.
_DECODER_DELAY = 529  # Samples by which a decoder's output is late.
_SYNC = re.compile(rb'\xff[\xe2-\xff]')
_RATES = (44100, 48000, 32000)  # Sample rates of MPEG-1, in Hz.
# Kilobits per second of each (is MPEG-1, layer).
_V1_L3 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_V2_L3 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_BITRATES = {
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, *_V1_L3[3:], 384),
    (True, 3): _V1_L3,
    (False, 1): (32, *_V2_L3[5:], 176, 192, 224, 256),
    (False, 2): _V2_L3,
    (False, 3): _V2_L3,
}


class Frame(NamedTuple):
  """The header of a frame.

  Attributes:
    length: Bytes of the frame.
    samples: Samples of each channel in the frame.
    rate: Sample rate, in Hz.
    layer: MPEG audio layer, 1 to 3.
    is_mono: Whether there is one channel, not two.
    is_version_1: Whether it is MPEG-1, not 2 or 2.5.
  """

  length: int
  samples: int
  rate: int
  layer: int
  is_mono: bool
  is_version_1: bool

  @property
  def sound(self) -> tuple[int, int, bool]:
    """Properties that all frames of a recording share."""
    return self.rate, self.layer, self.is_mono


@dataclasses.dataclass
class Segment:
  """The frames of one of the recordings that a file consists of.

  Attributes:
    frame: Its first frame.
    spans: Start and length in bytes of each frame.
    stated: Number of frames that its header states; 0 if unknown.
    delay: Samples that the encoder added at the start.
    padding: Samples that the encoder added at the end.
  """

  frame: Frame
  spans: list[tuple[int, int]]
  stated: int = 0
  delay: int = 0
  padding: int = 0


def parse_frame(header: bytes) -> Frame | None:
  """Parses the four bytes of a header; None if they are not one."""
  if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
    return None
  version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
  bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
  # A free bitrate (0) leaves the length unknown.
  if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
    return None
  hz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
  bits = 1000 * _BITRATES[version == 3, layer][bitrate - 1]
  padding = header[2] >> 1 & 1
  if layer == 1:
    samples, length = 384, 4 * (12 * bits // hz + padding)
  else:
    samples = 576 if layer == 3 and version != 3 else 1152
    length = samples // 8 * bits // hz + padding
  return Frame(length, samples, hz, layer, header[3] >> 6 == 3, version == 3)


def _parse_info(segment: Segment, data: bytes) -> bool:
  """Reads an information frame into `segment`; False if it is not one."""
  frame = segment.frame
  side = {(True, False): 32, (False, True): 9}
  at = 4 + side.get((frame.is_version_1, frame.is_mono), 17)
  if data[36:40] == b'VBRI':
    segment.stated = int.from_bytes(data[50:54], 'big')
    return True
  if frame.layer != 3 or data[at : at + 4] not in (b'Xing', b'Info'):
    return False
  flags = data[at + 7]
  if flags & 1:
    segment.stated = int.from_bytes(data[at + 8 : at + 12], 'big')
  sizes = (4, 4, 100, 4)
  at += 8 + sum(size for i, size in enumerate(sizes) if flags >> i & 1)
  # Delay and padding, as LAME writes them, end at its 24th byte.
  if data[at : at + 4].isalnum() and len(data) >= at + 24:
    both = int.from_bytes(data[at + 21 : at + 24], 'big')
    segment.delay, segment.padding = both >> 12, both & 0xFFF
  return True


def _skip_tag(data: containers.Data, position: int) -> int:
  """Returns the bytes of the tag at a position; 0 if there is none."""
  head = data[position : position + 32]
  if head[:3] == b'TAG':
    return 128
  if head[:8] == b'APETAGEX' and len(head) == 32:
    # The size leaves out the header of the tag.
    return int.from_bytes(head[12:16], 'little') + 32
  return containers.tag_length(head)


def _is_followed(data: containers.Data, position: int, frame: Frame) -> bool:
  """Whether a frame is followed by another of its recording."""
  after = position + frame.length
  following = parse_frame(data[after : after + 4])
  return following is not None and following.sound == frame.sound


def _find_frame(data: containers.Data, position: int) -> int:
  """Returns the start of the next two adjacent frames; the end if none."""
  candidates = _SYNC.finditer(data, position)
  for match in itertools.islice(candidates, _MAX_CANDIDATES):
    start = match.start()
    frame = parse_frame(data[start : start + 4])
    if frame is not None and _is_followed(data, start, frame):
      return start
  return len(data)


def find_segments(data: containers.Data) -> tuple[list[Segment], int]:
  """Finds the frames of a file.

  Args:
    data: Contents of the file, or a memory map of them.

  Returns:
    Its recordings in order, and the number of bytes that are neither frames
    nor tags.
  """
  segments: list[Segment] = []
  position = junk = 0
  is_new = True  # Whether a recording begins with the next frame.
  while position < len(data):
    tag = _skip_tag(data, position)
    if tag:
      position += tag
      is_new = True
      continue
    frame = parse_frame(data[position : position + 4])
    sound = segments[-1].frame.sound if segments else None
    if (
        frame is None
        or position + frame.length > len(data)
        or (frame.sound != sound and not _is_followed(data, position, frame))
    ):
      found = _find_frame(data, position + 1)
      if any(data[position : min(found, position + 4096)]):
        junk += found - position
      position = found
      continue
    _add(segments, frame, position, data, is_new)
    is_new = False
    position += frame.length
  return segments, junk


def _add(
    segments: list[Segment],
    frame: Frame,
    position: int,
    data: containers.Data,
    is_new: bool,
) -> None:
  """Adds a frame to the segments."""
  segment = Segment(frame, [])
  if _parse_info(segment, data[position : position + min(frame.length, 256)]):
    segments.append(segment)
    return
  if is_new or segments[-1].frame.sound != frame.sound:
    if not segments or segments[-1].spans:
      segments.append(segment)
  segments[-1].spans.append((position, frame.length))


def _check(path: pathlib.Path, segments: list[Segment], junk: int) -> None:
  """Refuses recordings that break off, and reports bytes left out."""
  for segment in segments:
    found, stated = len(segment.spans), segment.stated
    seconds = segment.frame.samples / segment.frame.rate
    # Some encoders count the information frame, too.
    if found < stated - 1:
      raise errors.UserError(
          f'{path} must last {stated * seconds:.1f} s as its header says, but'
          f' breaks off after {found * seconds:.1f} s. Copy it again.'
      )
  if junk:
    progress.say(
        f'{path}: {junk} of its bytes are neither tags nor whole frames of'
        ' sound, and are left out'
    )


def read_blocks(
    path: pathlib.Path, data: containers.Data
) -> Iterator[tuple[int, np.ndarray]]:
  """Decodes all recordings of a file.

  Args:
    path: Path of the file, for messages.
    data: Contents of the file, or a memory map of them.

  Yields:
    The sample rate and [samples, channels] float32 audio of each frame.

  Raises:
    UserError: If there are no frames, or fewer than the file states.
  """
  segments, junk = find_segments(data)
  if not any(segment.spans for segment in segments):
    raise errors.UserError(f'{path} must hold audio, but has no samples.')
  _check(path, segments, junk)
  for segment in segments:
    yield from _read_segment(segment, data)


def _read_segment(
    segment: Segment, data: containers.Data
) -> Iterator[tuple[int, np.ndarray]]:
  """Decodes a recording, without its encoder's delay and padding."""
  # It is slow to import, and needed for few files.
  import av  # pylint: disable=g-import-not-at-top

  decoder: Any = av.CodecContext.create(f'mp{segment.frame.layer}float', 'r')
  count = len(segment.spans)
  skip, stop = 0, count * segment.frame.samples
  # A recording that was cut afterwards has lost its padding.
  if segment.delay and abs(count - segment.stated) <= 1:
    skip = segment.delay + _DECODER_DELAY
    stop -= max(0, segment.padding - _DECODER_DELAY)
  position = 0
  for start, length in segment.spans:
    for frame in decoder.decode(av.Packet(data[start : start + length])):
      first, last = np.clip((skip - position, stop - position), 0, None)
      position += frame.samples
      if first < last:
        yield frame.sample_rate, frame.to_ndarray()[:, first:last].T
