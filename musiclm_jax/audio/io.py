"""Reads, writes and resamples audio files: wav, flac, ogg and mp3."""

from collections.abc import Iterator
import os
import pathlib
import re

from jaxtyping import Float
from musiclm_jax import errors
import numpy as np
import soundfile
import soxr

SUFFIXES = ('.wav', '.flac', '.ogg', '.mp3')
MAX_SECONDS = 6 * 3600  # Held in memory at once: an hour takes .5 GB.
MAX_COMMENT = 2000  # What libsndfile reads back of a wav file.
# What `write_audio` leaves of a file, in its folder, if it is killed.
LEFTOVER = re.compile(r'\.\d+\.(?P<file>.+)', re.DOTALL)

_BLOCK = 1 << 16  # Frames read at once.


def _check_header(path: pathlib.Path, file: soundfile.SoundFile) -> None:
  """Raises ValueError if the header is not one of a recording."""
  if file.frames <= 0:
    raise errors.UserError(f'{path} must hold audio, but has no samples.')
  if not 1000 <= file.samplerate <= 768000 or not 1 <= file.channels <= 64:
    raise errors.UserError(
        f'{path} must have 1 to 64 channels at 1000 to 768000 Hz, but its'
        f' header says {file.channels} at {file.samplerate} Hz. Export it'
        ' again.'
    )
  seconds = file.frames / file.samplerate
  if seconds > MAX_SECONDS:
    raise errors.UserError(
        f'{path} must last at most {MAX_SECONDS} s, but its header says'
        f' {seconds:.0f} s. Split it, or export it again if it is shorter.'
    )


def _mono_blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
  """Yields [frames] blocks; a header that lies costs no memory."""
  while True:
    block = file.read(_BLOCK, dtype='float32', always_2d=True)
    if not len(block):
      return
    yield block.mean(axis=1)


def read_audio(
    path: str | os.PathLike[str], sample_rate: int
) -> Float[np.ndarray, ' samples']:
  """Reads a file, mixes it to mono and resamples it.

  Args:
    path: A wav, flac, ogg or mp3 file.
    sample_rate: Of the result, in Hz.

  Returns:
    [samples] float32 audio in [-1, 1]; what is louder is scaled down to peak
    at 1.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If the file is empty, damaged, cut off or no audio.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.NotFoundError(
        f'{path} must be an audio file, but is not there.'
    )
  try:
    with soundfile.SoundFile(path) as file:
      _check_header(path, file)
      audio = np.concatenate([np.zeros(0, np.float32), *_mono_blocks(file)])
      file_rate, frames = file.samplerate, file.frames
  except soundfile.LibsndfileError as e:
    raise errors.UserError(
        f'{path} must be a wav, flac, ogg or mp3 file, but cannot be read:'
        f' {e.error_string} Replace it or leave it out.'
    ) from e
  # The length in an mp3 header may be an estimate.
  if len(audio) < 0.9 * frames:
    raise errors.UserError(
        f'{path} must last {frames / file_rate:.1f} s as its header says, but'
        f' breaks off after {len(audio) / file_rate:.1f} s. Copy it again.'
    )
  peak = np.max(np.abs(audio))
  if not np.isfinite(peak):
    raise errors.UserError(
        f'{path} must be finite, but has NaN or inf samples.'
    )
  return resample(audio / max(peak, 1.0), file_rate, sample_rate)


def read_tags(path: str | os.PathLike[str]) -> dict[str, str]:
  """Returns the tags of a file that are set.

  Args:
    path: A wav, flac, ogg or mp3 file.

  Returns:
    Some of: title, artist, album, genre, date, comment, copyright, license,
    software, tracknumber.

  Raises:
    ValueError: If the file is damaged or no audio.
  """
  try:
    with soundfile.SoundFile(path) as file:
      tags = file.copy_metadata()
  except soundfile.LibsndfileError as e:
    raise errors.UserError(f'{path} must be audio: {e.error_string}') from e
  return {key: value.strip() for key, value in tags.items() if value.strip()}


def resample(
    audio: Float[np.ndarray, '*batch samples'], from_rate: int, to_rate: int
) -> Float[np.ndarray, '*batch resamples']:
  """Changes the sample rate, without aliasing (soxr HQ, -143 dB).

  Args:
    audio: [..., samples] in [-1, 1].
    from_rate: Its sample rate, in Hz.
    to_rate: The sample rate of the result, in Hz.

  Returns:
    [..., ceil(samples * to_rate / from_rate)] float32 in [-1, 1]; overshoot of
    the filter is clipped.
  """
  audio = np.asarray(audio, np.float32)
  if from_rate == to_rate:
    return audio
  length = -(-audio.shape[-1] * to_rate // from_rate)
  rows = [
      soxr.resample(row, from_rate, to_rate, quality='HQ')
      for row in audio.reshape(-1, audio.shape[-1])
  ]
  # soxr rounds the length its own way.
  rows = [np.pad(row, (0, max(0, length - len(row))))[:length] for row in rows]
  resampled = np.reshape(rows, (*audio.shape[:-1], length))
  return np.clip(resampled, -1, 1).astype(np.float32)


def write_audio(
    path: str | os.PathLike[str],
    audio: np.ndarray,
    sample_rate: int,
    comment: str = '',
) -> None:
  """Writes a file whole or not at all.

  The same arguments give the same bytes, but for .ogg, where each file has a
  random serial number.

  Args:
    path: Ends in .wav, .flac (16 bits), .ogg or .mp3; folders are made.
    audio: [samples] floats in [-1, 1].
    sample_rate: Of the audio, in Hz.
    comment: The tag 'comment', see `read_tags`: up to 2000 ASCII characters.

  Raises:
    ValueError: If the audio is not [samples], finite and in [-1, 1], or if the
      format is unknown or cannot have this sample rate, or the comment is too
      long.
  """
  path = pathlib.Path(path)
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
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{os.getpid()}.{path.name}')
  try:
    _write(temporary, audio, sample_rate, comment)
    temporary.replace(path)
  except soundfile.LibsndfileError as e:
    raise errors.UserError(
        f'{path} cannot be written at {sample_rate} Hz: {e.error_string}'
    ) from e
  finally:
    temporary.unlink(missing_ok=True)


def _write(
    path: pathlib.Path, audio: np.ndarray, sample_rate: int, comment: str
) -> None:
  with soundfile.SoundFile(path, 'w', sample_rate, channels=1) as file:
    if comment:
      file.comment = comment
    # libsndfile overflows its stack when given minutes of ogg in one call.
    for start in range(0, len(audio), sample_rate):
      file.write(audio[start : start + sample_rate])
  with open(path, 'rb') as file:
    os.fsync(file.fileno())
