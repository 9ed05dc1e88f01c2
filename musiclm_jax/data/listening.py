"""Estimates beats, chords and keys of recordings, with librosa."""

import dataclasses
from typing import Any

from jaxtyping import Float, Float32, Int8
from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import chords
import numpy as np

SAMPLE_RATE = 22050  # The rate that librosa's defaults are made for.
_HOP_LENGTH = 441  # 50 frames per second, as chords of clips have.
_MIN_BEATS = 4
_STEADY = 0.15  # Largest deviation of beat intervals, relative to their mean.
_SMOOTH = 1.0  # Seconds of chroma around a frame that decide its chord.
_TRIADS = chords.TEMPLATES[:24] / 3**0.5  # Major and minor, of length 1.
_ALIKE = 0.75  # Least cosine similarity of chroma and a chord.


@dataclasses.dataclass(frozen=True)
class Heard:
  """Beats, chords and key of a recording, as fields of a `clips.Clip`.

  Attributes:
    beats: The beats, without their numbers in bars.
    chords: Major and minor triads, at 50 Hz.
    key: The key; '' if none is clear.
  """

  beats: Float32[np.ndarray, 'beats 3']
  chords: Int8[np.ndarray, ' frames']
  key: str


def check() -> None:
  """Raises UserError unless librosa is installed."""
  try:
    import librosa  # noqa: F401  Slow, and of an extra.
  except ImportError as e:
    raise errors.UserError(
        'listening to recordings must have librosa, but it is not installed.'
        ' Install the extra: pip install "musiclm_jax[eval]".'
    ) from e


def listen(audio: Float32[np.ndarray, ' samples']) -> Heard:
  """Estimates beats, chords and key of a clip.

  Args:
    audio: [samples] at SAMPLE_RATE.
  """
  import librosa

  options: dict[str, Any] = {'sr': SAMPLE_RATE, 'hop_length': _HOP_LENGTH}
  _, beats = librosa.beat.beat_track(y=audio, units='time', **options)
  harmonic = librosa.effects.harmonic(audio)
  chroma = librosa.feature.chroma_cqt(y=harmonic, **options)
  frames = -(-len(audio) * clips.MELODY_RATE // SAMPLE_RATE)
  chroma = librosa.util.fix_length(chroma, size=frames, axis=1).T
  return Heard(
      beats=_steady(np.asarray(beats, float)),
      chords=find_chords(chroma),
      key=analysis.fit_key(chroma.sum(axis=0, dtype=float)) or '',
  )


def _steady(times: Float[np.ndarray, ' beats']) -> np.ndarray:
  """Returns beats if they are regular enough, otherwise none."""
  gaps = np.diff(times)
  is_steady = len(times) >= _MIN_BEATS and np.std(gaps) < _STEADY * gaps.mean()
  if not is_steady:
    return np.zeros((0, 3), np.float32)
  unknown = np.full(len(times), -1.0)
  return np.stack([times, unknown, unknown], axis=1).astype(np.float32)


def find_chords(
    chroma: Float[np.ndarray, 'frames 12'],
) -> Int8[np.ndarray, ' frames']:
  """Returns the triad that is most similar to the chroma around each frame.

  Args:
    chroma: [frames, 12] energy of pitch classes from C, at 50 Hz.
  """
  width = round(_SMOOTH * clips.MELODY_RATE)
  kernel = np.ones(width) / width
  smooth = np.stack([np.convolve(x, kernel, 'same') for x in chroma.T], axis=1)
  length = np.linalg.norm(smooth, axis=1, keepdims=True)
  alike = smooth / np.maximum(length, 1e-9) @ _TRIADS.T
  found = alike.argmax(axis=1)
  clear = alike.max(axis=1) >= _ALIKE
  return np.where(clear, found, chords.NO_CHORD).astype(np.int8)
