"""Reads, writes and resamples audio files."""

from collections.abc import Callable
import contextlib
import io
import itertools
import os
import pathlib
from typing import Any, NamedTuple

from jaxtyping import Float
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.audio import containers
from musiclm_jax.audio import decoding
from musiclm_jax.audio import mixing
import numpy as np
import soundfile
import soxr

SUFFIXES = (
    '.wav',
    '.flac',
    '.ogg',
    '.mp3',
)  # Formats that can also be written.
READABLE = (
    *SUFFIXES,
    *('.aac', '.ac3', '.aif', '.aifc', '.aiff', '.amr', '.ape', '.au', '.avi'),
    *('.caf', '.dsf', '.m4a', '.m4b', '.m4v', '.mka', '.mkv', '.mov', '.mp2'),
    *('.mp4', '.mpc', '.mpeg', '.mpg', '.oga', '.opus', '.rf64', '.snd'),
    *('.spx', '.tta', '.voc', '.w64', '.wave', '.weba', '.webm', '.wma'),
    *('.wv', '.3gp'),
)
MAX_SECONDS = decoding.MAX_SECONDS
MAX_COMMENT = 40_000  # Characters: libsndfile limits the headers of wav.

_TAGS = {'encoder': 'software', 'track': 'tracknumber', 'tyer': 'date'}
_KNOWN_TAGS = (
    *('title', 'artist', 'album', 'genre', 'date', 'comment', 'copyright'),
    *('license', 'software', 'tracknumber'),
)


class _Recording(NamedTuple):
  """A stretch of a file with one sample rate and layout of channels.

  Attributes:
    rate: Sample rate, in Hz.
    mixer: The mixer of its channels, with their statistics.
    audio: [samples] float32 mix.
  """

  rate: int
  mixer: mixing.Mixer
  audio: np.ndarray


def _mix(path: pathlib.Path, picks: dict[int, int]) -> list[_Recording]:
  """Mixes the recordings of a file; `picks` names channels to use alone."""

  def sound(block):
    return block.rate, block.layout, block.samples.shape[1]

  recordings = []
  groups = itertools.groupby(decoding.read_blocks(path), sound)
  for i, ((rate, layout, channels), blocks) in enumerate(groups):
    mixer = mixing.Mixer(mixing.weigh(layout, channels))
    if i in picks:
      picked = [block.samples[:, picks[i]] for block in blocks]
      audio = np.concatenate(picked)
    else:
      audio = np.concatenate([mixer.mix(block.samples) for block in blocks])
      if mixer.gain != 1:
        audio *= np.float32(mixer.gain)
    recordings.append(_Recording(rate, mixer, audio))
  return recordings


def _read_mono(path: pathlib.Path) -> list[_Recording]:
  """Reads the recordings of a file; where a mix would cancel, one channel."""
  recordings = _mix(path, {})
  mixers = [recording.mixer for recording in recordings]
  if not all(mixer.is_finite for mixer in mixers):
    raise errors.UserError(
        f'{path} must be finite, but has NaN or inf samples.'
    )
  level = max(mixer.level for mixer in mixers)
  if level < mixing.SILENCE:
    decibels = 20 * np.log10(max(level, 1e-10))
    raise errors.UserError(
        f'{path} must be heard, but is silent: its loudest part is at'
        f' {decibels:.0f} dB of full scale. Replace it or leave it out.'
    )
  picks = {i: mixer.pick for i, mixer in enumerate(mixers) if mixer.fault}
  if not picks:
    return recordings
  for i in picks:
    progress.say(f'{path}: {mixers[i].fault}')
  del recordings
  return _mix(path, picks)


def read_audio(
    path: str | os.PathLike[str], sample_rate: int
) -> Float[np.ndarray, ' samples']:
  """Reads a file whole, mixes it to mono and resamples it.

  Args:
    path: A wav, flac, ogg or mp3 file, or another that FFmpeg reads.
    sample_rate: Sample rate of the result, in Hz.

  Returns:
    [samples] float32 audio in [-1, 1]; louder audio is scaled down to peak at
    1. Stereo becomes the mean of its channels, unless they cancel each other or
    one is silent: then the louder one is used, and a message says so.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If the file is empty, damaged, cut off, silent or not audio.
  """
  path = caching.local(path)
  resampled = []
  for recording in _read_mono(path):
    audio, mended = mixing.fit(recording.audio)
    if mended:
      progress.say(f'{path}: {mended}')
    resampled.append(resample(audio, recording.rate, sample_rate))
  return resampled[0] if len(resampled) == 1 else np.concatenate(resampled)


def read_tags(path: str | os.PathLike[str]) -> dict[str, str]:
  """Returns the tags of a file.

  Args:
    path: Path of an audio file.

  Returns:
    Those that are set of: title, artist, album, genre, date, comment,
    copyright, license, software, tracknumber.

  Raises:
    UserError: If the file is damaged or not audio.
  """
  path = pathlib.Path(path)
  decoding.check_file(path)
  with decoding.reading(path):
    # libsndfile prints warnings about the headers of mp3 files.
    kind = containers.open_kind(path)[0]
    if kind == 'mp3':
      tags = _read_av_tags(path)
    else:
      try:
        with soundfile.SoundFile(path) as file:
          tags = file.copy_metadata()
      except soundfile.LibsndfileError as e:
        tags = _read_av_tags(path, e.error_string)
      if kind == 'wav' and 'comment' not in tags:
        # libsndfile leaves out what is longer than 2,000 characters.
        with contextlib.suppress(errors.UserError):
          tags = {**_read_av_tags(path), **tags}
  return {key: value.strip() for key, value in tags.items() if value.strip()}


def _read_av_tags(path: pathlib.Path, reason: str = '') -> dict[str, str]:
  """Returns tags read by FFmpeg; `reason` is why soundfile could not."""
  found: dict[str, Any] = {}
  try:
    with decoding.open_av(path) as container:
      # Tags of ogg files belong to the stream.
      for source in (*container.streams.audio[:1], container):
        found |= {key.lower(): value for key, value in source.metadata.items()}
  except ValueError as e:
    raise errors.UserError(
        f'{path} must be audio: {reason or errors.one_line(e)}'
    ) from e
  tags = {_TAGS.get(key, key): str(value) for key, value in found.items()}
  return {key: tags[key] for key in _KNOWN_TAGS if key in tags}


def resample(
    audio: Float[np.ndarray, '*batch samples'], from_rate: int, to_rate: int
) -> Float[np.ndarray, '*batch resamples']:
  """Changes the sample rate, without aliasing (soxr HQ, -143 dB).

  Args:
    audio: [..., samples] in [-1, 1].
    from_rate: Sample rate of `audio`, in Hz.
    to_rate: Sample rate of the result, in Hz.

  Returns:
    [..., ceil(samples * to_rate / from_rate)] float32 in [-1, 1]; the
    filter's overshoot is clipped.
  """
  audio = np.asarray(audio, np.float32)
  if from_rate == to_rate:
    return audio
  length = -(-audio.shape[-1] * to_rate // from_rate)
  rows = [
      soxr.resample(row, from_rate, to_rate, quality='HQ')
      for row in audio.reshape(-1, audio.shape[-1])
  ]
  # soxr rounds lengths in another way.
  rows = [np.pad(row, (0, max(0, length - len(row))))[:length] for row in rows]
  resampled = np.reshape(rows, (*audio.shape[:-1], length))
  return np.clip(resampled, -1, 1).astype(np.float32)


def write_audio(
    path: str | os.PathLike[str],
    audio: np.ndarray,
    sample_rate: int,
    comment: str = '',
    finish: Callable[[bytes], bytes] = bytes,
) -> None:
  """Writes a file whole or not at all.

  The same arguments give the same bytes, except for .ogg, where each file has
  a random serial number.

  Args:
    path: Path ending in .wav, .flac (16 bits), .ogg or .mp3; its folders are
      made.
    audio: [samples] floats in [-1, 1].
    sample_rate: Sample rate of the audio, in Hz.
    comment: The tag 'comment', see `read_tags`: ASCII, up to 40,000
      characters.
    finish: Changes the bytes of the file before they are written.

  Raises:
    UserError: If the audio is not [samples], finite and in [-1, 1], or if the
      format is unknown or cannot have this sample rate, or the comment is too
      long.
    WriteError: If the system refuses, e.g. as the disk is full.
  """
  path = paths.to_path(path)
  if path.suffix.lower() not in SUFFIXES:
    raise errors.UserError(f'{path} must end in one of {", ".join(SUFFIXES)}.')
  if audio.ndim != 1 or not len(audio):
    raise errors.UserError(
        f'audio must be [samples] to be written to {path}, but has shape'
        f' {audio.shape}.'
    )
  peak = float(np.max(np.abs(audio)))
  if not peak <= 1:
    raise errors.UserError(
        f'audio must be finite and in [-1, 1], but peaks at {peak:.3g}. Divide'
        f' it by its peak before writing {path}.'
    )
  if len(comment) > MAX_COMMENT or not comment.isascii():
    raise errors.UserError(
        f'comment must be ASCII of at most {MAX_COMMENT} characters, but has'
        f' {len(comment)}: {comment[:40]!r}…'
    )
  encoded = _encode(path, audio, sample_rate, comment)
  with files.replacing(path) as unfinished:
    unfinished.write_bytes(finish(encoded))


def _encode(
    path: paths.Path, audio: np.ndarray, sample_rate: int, comment: str
) -> bytes:
  """Returns the bytes of a file.

  They are made in memory because libsndfile does not report a full disk.
  """
  buffer = io.BytesIO()
  suffix = path.suffix.lower()
  try:
    with soundfile.SoundFile(
        buffer, 'w', sample_rate, channels=1, format=suffix[1:].upper()
    ) as file:
      if comment:
        file.comment = comment
      # libsndfile overflows its stack when given minutes of ogg in one call.
      for start in range(0, len(audio), sample_rate):
        file.write(audio[start : start + sample_rate])
  except soundfile.LibsndfileError as e:
    raise errors.UserError(
        f'{path} cannot be written at {sample_rate} Hz: {e.error_string}'
    ) from e
  return buffer.getvalue()
