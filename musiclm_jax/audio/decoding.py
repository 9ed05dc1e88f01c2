"""Decodes audio files, with soundfile where it can, else with FFmpeg."""

from collections.abc import Iterable, Iterator
import contextlib
import io
import mmap
import pathlib
from typing import Any, NamedTuple

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.audio import containers
from musiclm_jax.audio import mp3
from musiclm_jax.audio import ogg
import numpy as np
import soundfile

MAX_SECONDS = 6 * 3600  # A file is held in memory: .5 GB an hour.
KIND = 'a wav, flac, ogg or mp3 file, or another that FFmpeg reads'

_BLOCK = 1 << 16  # Samples of a channel that are decoded at once.
_MAX_SAMPLES = MAX_SECONDS * 48000
_MAX_BYTES = 1 << 36
# Formats that FFmpeg may find; not playlists, which name other files.
_FORMATS = (
    'aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,iff,m4v,matroska,'
    'mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,ogg,tta,w64,wav,webm,wv'
)
# Formats that state a length, and the seconds of it that may be padding.
_STATED = {'flac': 0.0, 'tta': 0.0, 'wv': 0.0, 'ape': 0.0}
_STATED |= {'matroska,webm': 0.25, 'asf': 0.25}


class Block(NamedTuple):
  """A piece of a recording.

  Attributes:
    rate: Sample rate, in Hz.
    layout: Names of the channels; empty if unknown.
    samples: [samples, channels] float32, full scale at 1.
  """

  rate: int
  layout: tuple[str, ...]
  samples: np.ndarray


def check_file(path: pathlib.Path) -> None:
  """Raises UserError unless a path is a file of a sensible size."""
  try:
    is_file, exists = path.is_file(), path.exists()
  except (OSError, ValueError) as e:
    raise errors.UserError(
        f'{path} must be an audio file, but cannot be opened: {e}.'
    ) from e
  if not exists:
    raise errors.NotFoundError(
        f'{path} must be an audio file, but is not there.'
    )
  if not is_file:
    what = 'a folder' if path.is_dir() else 'a pipe, a socket or a device'
    raise errors.UserError(f'{path} must be an audio file, but is {what}.')
  size = path.stat().st_size
  if not size:
    raise errors.UserError(f'{path} must hold audio, but is empty.')
  if size > _MAX_BYTES:
    raise errors.UserError(
        f'{path} must be at most {_MAX_BYTES >> 30} GiB large, but is'
        f' {size >> 30} GiB. Split it.'
    )


def check_header(
    path: pathlib.Path, frames: int, rate: int, channels: int
) -> None:
  """Raises UserError if a header cannot be that of a recording."""
  if frames <= 0:
    raise errors.UserError(f'{path} must hold audio, but has no samples.')
  if not 1000 <= rate <= 768000 or not 1 <= channels <= 64:
    raise errors.UserError(
        f'{path} must have 1 to 64 channels at 1000 to 768000 Hz, but its'
        f' header says {channels} at {rate} Hz. Export it again.'
    )
  most = min(MAX_SECONDS, _MAX_SAMPLES / rate)
  if frames / rate > most:
    raise errors.UserError(
        f'{path} must last at most {most:.0f} s, but its header says'
        f' {frames / rate:.0f} s. Split it, or export it again if it is'
        ' shorter.'
    )


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
  """Turns errors of soundfile and FFmpeg into a UserError."""
  with errors.reading(path, KIND):
    try:
      yield
    except Exception as e:
      # FFmpeg runs out of memory, too, for the sizes in a damaged header.
      reason = getattr(e, 'error_string', None) or getattr(e, 'strerror', None)
      if reason is None or isinstance(e, OSError):
        raise
      raise errors.UserError(
          f'{path} must be {KIND}, but cannot be read: {reason.rstrip(".")}.'
          ' Replace it or leave it out.'
      ) from e


def read_blocks(path: pathlib.Path) -> Iterator[Block]:
  """Decodes a file to its end.

  Args:
    path: Path of the file.

  Yields:
    Pieces of about a second. Rate and layout may change where files were
    joined.

  Raises:
    UserError: If the file is not audio, damaged, cut off or too long.
  """
  check_file(path)
  seconds, samples = 0.0, 0
  with reading(path):
    for block in _gather(_decode(path)):
      seconds += len(block.samples) / block.rate
      samples += len(block.samples)
      if seconds > MAX_SECONDS or samples > _MAX_SAMPLES:
        raise errors.UserError(
            f'{path} must last at most {MAX_SECONDS} s, and have at most'
            f' {_MAX_SAMPLES} samples, but has more. Split it.'
        )
      yield block


def _gather(blocks: Iterable[Block]) -> Iterator[Block]:
  """Joins short blocks of the same rate and layout."""
  pending: list[Block] = []
  size = 0

  def join():
    samples = np.concatenate([block.samples for block in pending])
    return pending[0]._replace(samples=samples)

  for block in blocks:
    if len(block.samples) >= _BLOCK and not pending:
      yield block
      continue
    if pending and (
        size + len(block.samples) > _BLOCK
        or block[:2] != pending[0][:2]
        or block.samples.shape[1] != pending[0].samples.shape[1]
    ):
      yield join()
      pending, size = [], 0
    pending.append(block)
    size += len(block.samples)
  if pending:
    yield join()


def _decode(path: pathlib.Path) -> Iterator[Block]:
  """Decodes a file with the decoder that suits its container."""
  kind, start = containers.open_kind(path)
  has_end = containers.check_whole(path, kind, start)
  if not kind and _is_mp3(path):
    kind = 'mp3'
  if kind in ('mp3', 'ogg', 'flac'):
    with path.open('rb') as file, mmap.mmap(
        file.fileno(), 0, access=mmap.ACCESS_READ
    ) as data:
      if kind == 'ogg':
        yield from _decode_ogg(path, data, start)
        return
      if kind == 'mp3':
        blocks = mp3.read_blocks(path, data)
        yield from (Block(rate, (), samples) for rate, samples in blocks)
        return
      if not _is_plain_flac(data, start):
        yield from _read_av(path, path)
        return
  yield from _read(path, path, has_end)


def _is_mp3(path: pathlib.Path) -> bool:
  """Whether a file holds mp3 frames after other data."""
  with contextlib.suppress(soundfile.LibsndfileError):
    return soundfile.info(path).format == 'MP3'
  return False


def _is_plain_flac(data: containers.Data, start: int) -> bool:
  """Whether a flac file states its length and is not joined to another."""
  head = data[start : start + 26]
  samples = int.from_bytes(head[21:26], 'big') & 0xFFFFFFFFF
  return samples > 0 and data.find(head[:8], start + 8) < 0


def _decode_ogg(
    path: pathlib.Path, data: containers.Data, start: int
) -> Iterator[Block]:
  """Decodes the recordings that are chained in an ogg file."""
  links = ogg.find_links(path, data, start)
  for begun, stop, streams in links:
    is_all = len(links) == 1
    file = path if is_all else io.BytesIO(data[begun:stop])
    yield from _read_av(path, file) if streams > 1 else _read(path, file)


def _read(
    path: pathlib.Path,
    source: pathlib.Path | io.BytesIO,
    has_end: bool = True,
) -> Iterator[Block]:
  """Reads a file with soundfile, or with FFmpeg where soundfile is unreliable.

  Args:
    path: Path of the file, for messages.
    source: The file, or a recording in it.
    has_end: Whether its header states its length.
  """
  reason = ''
  try:
    with soundfile.SoundFile(source) as file:
      # In a wav file, the length of mp3 is an estimate.
      is_known = has_end or 0 < file.frames < _MAX_BYTES
      if is_known and not file.subtype.startswith('MPEG'):
        check_header(path, file.frames, file.samplerate, file.channels)
        # Only FFmpeg gives the names of the channels.
        if file.channels <= 2:
          yield from _read_soundfile(path, file)
          return
  except soundfile.LibsndfileError as e:
    if not e.prefix:  # It failed after the file was opened.
      raise
    reason = e.error_string
  if isinstance(source, io.BytesIO):
    source.seek(0)
  yield from _read_av(path, source, reason)


def _read_soundfile(
    path: pathlib.Path, file: soundfile.SoundFile
) -> Iterator[Block]:
  found = 0
  while True:
    samples = file.read(_BLOCK, dtype='float32', always_2d=True)
    if not len(samples):
      break
    found += len(samples)
    yield Block(file.samplerate, (), samples)
  _check_length(path, found, file.frames, file.samplerate)


def _check_length(
    path: pathlib.Path, found: int, stated: int, rate: int
) -> None:
  if found < stated - 1:
    raise errors.UserError(
        f'{path} must last {stated / rate:.1f} s as its header says, but breaks'
        f' off after {found / rate:.1f} s. Copy it again.'
    )


def _to_float(samples: np.ndarray) -> np.ndarray:
  """Converts decoded samples to float32 with full scale at 1."""
  if samples.dtype == np.uint8:
    return (samples.astype(np.float32) - 128) / 128
  if samples.dtype.kind == 'i':
    scale = -float(np.iinfo(samples.dtype).min)
    return (samples / scale).astype(np.float32)
  return samples.astype(np.float32)


def _read_av(
    path: pathlib.Path,
    source: pathlib.Path | io.BytesIO,
    reason: str = '',
) -> Iterator[Block]:
  """Reads the first sound track that FFmpeg finds.

  Args:
    path: Path of the file, for messages.
    source: The file, or a recording in it.
    reason: Why soundfile could not read it.
  """
  try:
    container = open_av(source)
  except ValueError as e:
    if not reason:
      raise
    raise errors.UserError(
        f'{path} must be {KIND}, but cannot be read: {reason} Replace it or'
        ' leave it out.'
    ) from e
  with container:
    streams = container.streams.audio
    if not streams:
      raise errors.UserError(f'{path} must hold audio, but has none.')
    if len(streams) > 1:
      progress.say(
          f'{path}: the first of its {len(streams)} sound tracks is used'
      )
    yield from _decode_av(path, container, streams[0])


def open_av(source: pathlib.Path | io.BytesIO) -> Any:
  """Opens a container that FFmpeg knows."""
  # It is slow to import, and needed for few files.
  import av  # pylint: disable=g-import-not-at-top

  name: Any = source
  if isinstance(source, pathlib.Path):
    name = f'file:{source.absolute()}'  # Not taken for an address.
  return av.open(
      name,
      options={
          'err_detect': 'crccheck+explode',
          'format_whitelist': _FORMATS,
          'protocol_whitelist': 'file',
      },
  )


def _decode_av(
    path: pathlib.Path, container: Any, stream: Any
) -> Iterator[Block]:
  rate, channels = stream.rate, stream.channels
  check_header(path, 1, rate, channels)
  packets = found = 0
  for packet in container.demux(stream):
    packets += packet.size > 0
    for frame in packet.decode():
      rate = frame.sample_rate
      channels = frame.layout.nb_channels
      check_header(path, 1, rate, channels)
      names = tuple(channel.name for channel in frame.layout.channels)
      samples = _to_float(frame.to_ndarray())
      samples = (
          samples.T
          if frame.format.is_planar
          else (samples.reshape(-1, channels))
      )
      found += frame.samples
      yield Block(rate, () if 'NONE' in names else names, samples)
  _check_stated(path, container, stream, found / rate)
  if container.format.name.startswith('mov') and packets < stream.frames:
    raise errors.UserError(
        f'{path} must have {stream.frames} packets of sound as its header says,'
        f' but breaks off after {packets}. Copy it again.'
    )
  if not found:
    raise errors.UserError(f'{path} must hold audio, but has no samples.')


def _check_stated(
    path: pathlib.Path, container: Any, stream: Any, seconds: float
) -> None:
  """Refuses a sound-only file with less sound than its container states."""
  slack = _STATED.get(container.format.name)
  if slack is None or any(not _is_cover(s) for s in container.streams.video):
    return
  if stream.duration:
    stated = float(stream.duration * stream.time_base)
  else:
    stated = (container.duration or 0) / 1e6
  if seconds < stated - slack - 0.001:
    raise errors.UserError(
        f'{path} must last {stated:.1f} s as its header says, but holds'
        f' {seconds:.1f} s that can be read. Copy it again.'
    )


def _is_cover(stream: Any) -> bool:
  """Whether a video stream is only a cover picture."""
  flags = stream.disposition
  return bool(flags & type(flags).attached_pic)
