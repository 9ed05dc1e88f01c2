"""Room, level and tone of renditions."""

import dataclasses

from jaxtyping import Float
from musiclm_jax.audio import mixing
from musiclm_jax.data.scores import synthesizer
import numpy as np
from scipy import signal

_PIVOT = 1000.0  # Frequency that a tilt leaves as loud as it was, in Hz.
# Ranges of random values.
_ROOM_SIZE = (0.1, 0.8)
_DAMPING = (0.0, 0.6)
_REVERB = (0.2, 1.0)
_TILT = 4.0
_LEVEL = (-9.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Effects:
  """A room, a tilt and a level; by default only FluidSynth's own room.

  Attributes:
    room_size: Size of the room, 0 to 1.
    damping: Loss of treble in the room, 0 to 1.
    reverb: Level of the room, 0 to 1.
    tilt: Decibels that treble gains, and bass loses.
    level: Decibels relative to other audio; at most 0.
  """

  room_size: float = 0.2
  damping: float = 0.0
  reverb: float = 0.9
  tilt: float = 0.0
  level: float = 0.0

  @property
  def settings(self) -> synthesizer.Settings:
    return {
        'synth.reverb.room-size': self.room_size,
        'synth.reverb.damp': self.damping,
        'synth.reverb.level': self.reverb,
    }


PLAIN = Effects()


def draw(rng: np.random.Generator) -> Effects:
  """Draws mild effects."""
  return Effects(
      room_size=float(rng.uniform(*_ROOM_SIZE)),
      damping=float(rng.uniform(*_DAMPING)),
      reverb=float(rng.uniform(*_REVERB)),
      tilt=float(rng.uniform(-_TILT, _TILT)),
      level=float(rng.uniform(*_LEVEL)),
  )


def apply(
    audio: Float[np.ndarray, ' samples'], sample_rate: int, effects: Effects
) -> Float[np.ndarray, ' samples']:
  """Tilts the spectrum of audio, and sets its level.

  Args:
    audio: [samples] audio that has sounded in its room.
    sample_rate: Its sample rate.
    effects: The tilt and the level.

  Returns:
    [samples] audio at -20 dB RMS and `effects.level` more, less if it would
    peak over .95. Timing is unchanged.
  """
  if effects.tilt:
    audio = _tilt(audio, sample_rate, effects.tilt)
  gain = np.float32(10 ** (effects.level / 20))
  return gain * mixing.normalize(audio)


def _tilt(audio: np.ndarray, sample_rate: int, decibels: float) -> np.ndarray:
  """Filters with (a s + w) / (s + a w): 1/a in the bass, a in the treble."""
  a = 10 ** (decibels / 20)
  w = 2 * np.pi * _PIVOT
  numerator, denominator = signal.bilinear([a, w], [1, a * w], sample_rate)
  return signal.lfilter(
      numerator.astype(np.float32), denominator.astype(np.float32), audio
  )
