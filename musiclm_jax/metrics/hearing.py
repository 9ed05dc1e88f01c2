"""Features of audio that estimators of music share, by librosa.

They know nothing of our models, and are computed when first asked for.
"""

import functools

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.audio import io
import numpy as np

SAMPLE_RATE = 22050  # That librosa's defaults are made for.
HOP_LENGTH = 441
FRAME_RATE = SAMPLE_RATE / HOP_LENGTH  # 50 Hz.
_WINDOW = 2048
_NUM_MELS = 64
_NUM_MFCC = 20
_MIN_SECONDS = 1.0
SILENT_DB = -60.0  # Relative to full scale.


class Sound:
  """A clip of mono audio, and its features at FRAME_RATE.

  Attributes:
    audio: [samples] float32 at SAMPLE_RATE.
  """

  def __init__(self, audio: Float[np.ndarray, ' samples'], sample_rate: int):
    """Resamples the audio.

    Args:
      audio: [samples] mono audio in [-1, 1].
      sample_rate: Sample rate, in Hz.

    Raises:
      UserError: If it is no mono audio, is shorter than a second, or is not
        finite.
    """
    if audio.ndim != 1 or len(audio) < _MIN_SECONDS * sample_rate:
      raise errors.UserError(
          f'audio must be mono and last at least {_MIN_SECONDS:g} s, but has'
          f' shape {audio.shape} at {sample_rate} Hz. Mix stereo down, and'
          ' leave out shorter clips.'
      )
    if not np.isfinite(audio).all():
      raise errors.UserError(
          'audio must be finite, but has NaN or inf. Leave the clip out.'
      )
    audio = io.resample(audio.astype(np.float32), sample_rate, SAMPLE_RATE)
    self.audio = np.asarray(audio)

  @property
  def seconds(self) -> float:
    return len(self.audio) / SAMPLE_RATE

  @functools.cached_property
  def level(self) -> Float[np.ndarray, ' frames']:
    """[frames] level, in dB of full scale."""
    import librosa

    rms = librosa.feature.rms(
        y=self.audio, frame_length=_WINDOW, hop_length=HOP_LENGTH
    )[0]
    return 20 * np.log10(np.maximum(rms, 1e-10))

  @property
  def is_silent(self) -> bool:
    return bool(self.level.max() < SILENT_DB)

  @functools.cached_property
  def spectrum(self) -> Float[np.ndarray, 'bins frames']:
    """[bins, frames] magnitudes."""
    import librosa

    return np.abs(
        librosa.stft(self.audio, n_fft=_WINDOW, hop_length=HOP_LENGTH)
    )

  @functools.cached_property
  def log_mel(self) -> Float[np.ndarray, 'mels frames']:
    """[mels, frames] decibels, at most 80 below the loudest."""
    import librosa

    mel = librosa.feature.melspectrogram(
        S=self.spectrum**2, sr=SAMPLE_RATE, n_mels=_NUM_MELS
    )
    return librosa.power_to_db(mel, ref=1.0, top_db=80.0)

  @functools.cached_property
  def mfcc(self) -> Float[np.ndarray, 'mfccs frames']:
    """[mfccs, frames] timbre; the first is the level."""
    import librosa

    return librosa.feature.mfcc(S=self.log_mel, n_mfcc=_NUM_MFCC)

  @functools.cached_property
  def onsets(self) -> Float[np.ndarray, ' frames']:
    """[frames] how much begins in each frame."""
    import librosa

    return librosa.onset.onset_strength(
        S=self.log_mel, sr=SAMPLE_RATE, hop_length=HOP_LENGTH
    )

  @functools.cached_property
  def chroma(self) -> Float[np.ndarray, '12 frames']:
    """[12, frames] magnitude of each pitch class, from C on."""
    import librosa

    return librosa.feature.chroma_cqt(
        y=self.audio, sr=SAMPLE_RATE, hop_length=HOP_LENGTH, norm=None
    )


def unit_rows(x: Float[np.ndarray, 'rows n']) -> Float[np.ndarray, 'rows n']:
  """Centres rows, and scales them to length 1, so that products correlate."""
  x = x - x.mean(axis=1, keepdims=True)
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
