"""How well a clip keeps to the melody that was hummed for it."""

from jaxtyping import Float, Int
from musiclm_jax import errors
from musiclm_jax.metrics import transcription
import numpy as np

_NONE = -1
_CLEAR = 0.5  # How likely the highest pitch must be: overtones are less so.


def likeness(
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    hum: Float[np.ndarray, ' hummed'],
    hum_sample_rate: int,
) -> dict[str, float]:
  """Compares the pitches of a clip with a hummed melody.

  Args:
    audio: [samples] mono audio.
    sample_rate: Its sample rate, in Hz.
    hum: [hummed] one voice that hums, sings, whistles or plays the melody.
    hum_sample_rate: Its sample rate.

  Returns:
    Of the frames in which the hum has a pitch: 'chroma', the share in which its
    pitch class sounds in the clip, too; 'chroma by chance', the same for the
    hum at other times; and 'contour', the correlation of its pitch with the
    highest one of the clip, 0 where either never changes.

  Raises:
    NotFoundError: If Basic Pitch is missing.
    UserError: If the hum has no pitch.
  """
  made = transcription.transcribe(audio, sample_rate)
  line = _line(transcription.transcribe(hum, hum_sample_rate))
  frames = min(len(line), len(made.sounding))
  line = line[:frames]
  if not np.any(line != _NONE):
    raise errors.UserError(
        'a hum must have a pitch, but none is heard. Record it louder, or'
        ' without other sounds.'
    )
  sounding = made.sounding[:frames] >= transcription.SOUNDING
  shifts = np.linspace(0, frames, 8, endpoint=False).astype(int)[1:]
  return {
      'chroma': _share(line, sounding),
      'chroma by chance': float(
          np.mean([_share(np.roll(line, shift), sounding) for shift in shifts])
      ),
      'contour': _contour(line, _highest(made.sounding[:frames] >= _CLEAR)),
  }


def _line(pitches: transcription.Pitches) -> Int[np.ndarray, ' frames']:
  """Returns the likeliest pitch of each frame, from 0; -1 in rests."""
  best = pitches.sounding.argmax(axis=1)
  is_heard = pitches.sounding.max(axis=1) >= transcription.SOUNDING
  return np.where(is_heard, best, _NONE)


def _highest(sounding: np.ndarray) -> Int[np.ndarray, ' frames']:
  """Returns the highest pitch that sounds in each frame; -1 if none does."""
  best = sounding.shape[1] - 1 - sounding[:, ::-1].argmax(axis=1)
  return np.where(sounding.any(axis=1), best, _NONE)


def _share(line: np.ndarray, sounding: np.ndarray) -> float:
  """Returns the share of the line whose pitch class sounds."""
  classes = np.arange(sounding.shape[1]) % 12
  heard = line != _NONE
  is_class = classes == line[heard, np.newaxis] % 12
  return float(np.mean(np.any(is_class & sounding[heard], axis=1)))


def _contour(a: np.ndarray, b: np.ndarray) -> float:
  both = (a != _NONE) & (b != _NONE)
  if both.sum() < 2 or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
    return 0.0
  return float(np.corrcoef(a[both], b[both])[0, 1])
