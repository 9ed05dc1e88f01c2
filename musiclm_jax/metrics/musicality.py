"""How much a clip sounds like music, whatever it was asked to be."""

from jaxtyping import Float
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import rhythm
from musiclm_jax.metrics import transcription
import numpy as np

_FULL_SCALE = 0.999
_LEAST_LUFS = -70.0  # The gate of ITU-R BS.1770.


def measure(
    audio: Float[np.ndarray, ' samples'], sample_rate: int
) -> dict[str, float]:
  """Measures a clip.

  Args:
    audio: [samples] mono audio in [-1, 1], of at least a second.
    sample_rate: Sample rate, in Hz.

  Returns:
    Shares from 0 to 1, and others where a unit says so; see `transcription`
    and `rhythm` for the first of them.

  Raises:
    NotFoundError: If Basic Pitch is missing.
    UserError: If the audio is too short or not finite.
  """
  sound = hearing.Sound(audio, sample_rate)
  pitches = transcription.transcribe(sound.audio, hearing.SAMPLE_RATE)
  return {
      'pitched frames': pitches.pitched,
      'polyphony': pitches.polyphony,
      'notes per second': pitches.notes_per_second,
      'pulse clarity': rhythm.pulse_clarity(sound),
      'loudness (LUFS)': loudness(audio, sample_rate),
      'clipping': clipping(audio),
      'silence': silence(sound),
      'spectral flatness': flatness(sound),
  }


def loudness(audio: Float[np.ndarray, ' samples'], sample_rate: int) -> float:
  """Returns the integrated loudness, in LUFS (ITU-R BS.1770); at least -70."""
  import pyloudnorm

  meter = pyloudnorm.Meter(sample_rate)
  return max(_LEAST_LUFS, float(meter.integrated_loudness(audio)))


def clipping(audio: Float[np.ndarray, ' samples']) -> float:
  """Returns the share of samples at full scale beside another such sample."""
  is_full = np.abs(audio) >= _FULL_SCALE
  both = is_full[1:] & is_full[:-1]
  return float(np.mean(np.append(both, False) | np.append(False, both)))


def silence(sound: hearing.Sound) -> float:
  """Returns the share of frames below -60 dB of full scale."""
  return float(np.mean(sound.level < hearing.SILENT_DB))


def flatness(sound: hearing.Sound) -> float:
  """Returns the mean flatness of the spectrum: 1 in noise, near 0 in tones."""
  import librosa

  heard = sound.level >= hearing.SILENT_DB
  if not heard.any():
    return 0.0
  flat = librosa.feature.spectral_flatness(S=sound.spectrum)[0]
  return float(np.mean(flat[: len(heard)][heard]))
