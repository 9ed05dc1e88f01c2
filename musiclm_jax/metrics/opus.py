"""Opus, a codec to compare with, by the commands of opus-tools."""

import pathlib
import shutil
import subprocess
import tempfile

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.audio import io
import numpy as np
import soundfile

RATES = (8000, 12000, 16000, 24000, 48000)  # Sample rates it takes.
_COMMAND = 'opusenc'
_PAGE_HEADER = 27  # Bytes of an Ogg page before the lengths of its segments.


def is_installed() -> bool:
  """Returns whether Opus can be compared with on this machine."""
  return shutil.which(_COMMAND) is not None


def payload_bytes(ogg: bytes) -> int:
  """Returns how many bytes of an Ogg Opus file are audio packets.

  The container and the headers, which have no place in time (RFC 7845, section
  4), are left out: a stream needs neither.
  """
  total = position = 0
  while position < len(ogg):
    lengths_at = position + _PAGE_HEADER
    num_segments = ogg[lengths_at - 1]
    body = sum(ogg[lengths_at : lengths_at + num_segments])
    granule = int.from_bytes(ogg[position + 6 : position + 14], 'little')
    total += body if granule else 0
    position = lengths_at + num_segments + body
  return total


def transcode(
    audio: Float[np.ndarray, ' samples'], sample_rate: int, kbps: int
) -> tuple[Float[np.ndarray, ' samples'], int]:
  """Encodes and decodes mono audio, in Opus's best quality.

  Args:
    audio: [samples] floats in [-1, 1].
    sample_rate: One of RATES, in Hz.
    kbps: Kilobits per second to aim at, from 6; the encoder's rate varies.

  Returns:
    [samples] float32 audio, in time with the original, and the bytes of its
    packets.

  Raises:
    NotFoundError: If opusenc is not installed.
    UserError: If opusenc rejects the audio or bitrate, with its message.
  """
  if not is_installed():
    raise errors.NotFoundError(
        f'{_COMMAND} must be installed, but is not found. Install opus-tools.'
    )
  with tempfile.TemporaryDirectory() as folder:
    wav, ogg = pathlib.Path(folder, 'a.wav'), pathlib.Path(folder, 'a.opus')
    io.write_audio(wav, audio, sample_rate)
    # At low bitrates opusenc takes much music for speech, and does it worse.
    flags = ['--quiet', '--music', '--comp=10', f'--bitrate={kbps}']
    done = subprocess.run(
        [_COMMAND, *flags, wav, ogg], capture_output=True, text=True
    )
    if done.returncode:
      raise errors.UserError(f'{_COMMAND} must accept the audio: {done.stderr}')
    # Decoding drops the samples of the encoder's delay (pre-skip).
    decoded, rate = soundfile.read(ogg, dtype='float32')
    if rate != sample_rate or decoded.shape != audio.shape:
      raise errors.UserError(
          f'Opus audio must be {audio.shape} at {sample_rate} Hz as before, but'
          f' is {decoded.shape} at {rate} Hz. Resample it to a rate of Opus.'
      )
    return decoded, payload_bytes(ogg.read_bytes())
