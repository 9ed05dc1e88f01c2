"""Synthesizes melodies as people hum, sing and whistle them.

The tone has harmonics, shaped by the formants of a vowel or of a whistle;
the pitch scoops, glides, drifts and trembles; breath is added, and notes begin
a little early or late.
"""

import dataclasses

from jaxtyping import Float, Int
from musiclm_jax.audio import mixing
from musiclm_jax.data import clips
from musiclm_jax.data.scores import notation
import numpy as np

SAMPLE_RATE = 16000
_CONTROL_RATE = 200  # Points of each curve per second.
_RELEASE_SECONDS = 0.3
_MAX_HZ = 6000.0


@dataclasses.dataclass(frozen=True)
class Voice:
  """The timbre of a voice.

  Attributes:
    lowest: Lowest MIDI pitch for the median of a melody, which is moved by
      octaves into the octave above it.
    harmonics: Largest number of harmonics.
    slope: Exponent of the fall of harmonics with frequency.
    formants: Frequency in Hz, bandwidth in Hz and gain of each formant.
    breath: Lowest and highest level of breath, relative to the tone.
  """

  lowest: int
  harmonics: int
  slope: float
  formants: tuple[tuple[float, float, float], ...]
  breath: tuple[float, float]


_HUM = ((250.0, 150.0, 1.0), (1100.0, 300.0, 0.05))
_OO = ((330.0, 120.0, 1.0), (850.0, 150.0, 0.3), (2400.0, 300.0, 0.03))
_AH = ((750.0, 150.0, 1.0), (1150.0, 180.0, 0.6), (2600.0, 300.0, 0.2))
VOICES = {
    'low hum': Voice(43, 24, 1.0, _HUM, (0.01, 0.05)),
    'high hum': Voice(55, 16, 1.0, _HUM, (0.01, 0.05)),
    'low oo': Voice(43, 32, 0.8, _OO, (0.01, 0.08)),
    'high oo': Voice(55, 20, 0.8, _OO, (0.01, 0.08)),
    'low ah': Voice(43, 40, 0.7, _AH, (0.01, 0.06)),
    'high ah': Voice(55, 24, 0.7, _AH, (0.01, 0.06)),
    'whistle': Voice(70, 2, 2.5, (), (0.03, 0.2)),
}


def hum(
    melody: notation.Score,
    rng: np.random.Generator,
    voice: str | None = None,
) -> Float[np.ndarray, ' samples']:
  """Synthesizes a melody with a voice.

  Args:
    melody: Notes, one at a time.
    rng: Draws the voice, and the singer's deviations from the score of tens of
      milliseconds and tens of cents.
    voice: One of `VOICES`; at random by default.

  Returns:
    [samples] float32 at 16 kHz and -20 dB RMS.
  """
  names = sorted(VOICES)
  chosen = VOICES[voice or names[rng.integers(len(names))]]
  shift = _octaves(melody.pitch, chosen)
  onsets = _jitter(melody, rng)
  seconds = melody.seconds + _RELEASE_SECONDS
  times = np.arange(round(seconds * _CONTROL_RATE)) / _CONTROL_RATE
  pitch = _pitch_curve(times, onsets, melody.pitch + 12.0 * shift, rng)
  level = _level_curve(times, onsets, melody.end, rng)
  tone = _tone(pitch, level, chosen, round(seconds * SAMPLE_RATE))
  audio = tone + _breath(level, len(tone), chosen, rng)
  return mixing.normalize(audio)


def hum_frames(
    frames: Int[np.ndarray, ' frames'],
    rng: np.random.Generator,
    num_samples: int,
) -> Float[np.ndarray, ' samples'] | None:
  """Synthesizes the melody of a clip.

  Args:
    frames: [frames] MIDI pitches at `clips.MELODY_RATE`, negative in rests.
    rng: See `hum`.
    num_samples: Samples of the result, at 16 kHz.

  Returns:
    [num_samples] float32; None if the melody rests for at least half the time.
  """
  if 2 * np.sum(frames >= 0) <= len(frames):
    return None
  changes = np.flatnonzero(np.diff(frames)) + 1
  starts, ends = np.r_[0, changes], np.r_[changes, len(frames)]
  sounding = frames[starts] >= 0
  starts, ends = starts[sounding], ends[sounding]
  melody = notation.Score(
      parts=(notation.Part('', 0),),
      start=starts / clips.MELODY_RATE,
      end=ends / clips.MELODY_RATE,
      pitch=frames[starts].astype(int),
      velocity=np.full(len(starts), 80),
      volume=np.ones(len(starts)),
      part=np.zeros(len(starts), int),
  )
  audio = hum(melody, rng)[:num_samples]
  return np.pad(audio, (0, num_samples - len(audio)))


def _octaves(pitch: np.ndarray, voice: Voice) -> int:
  """Returns the octaves to move a melody up for a voice."""
  return int(np.ceil((voice.lowest - np.median(pitch)) / 12))


def _jitter(melody: notation.Score, rng: np.random.Generator) -> np.ndarray:
  """Returns [notes] onsets in their order, some early and some late."""
  onsets = melody.start + rng.normal(0, 0.02, melody.start.shape)
  return np.maximum.accumulate(np.clip(onsets, 0, melody.end - 0.03))


def _smooth(curve: np.ndarray, seconds: float) -> np.ndarray:
  """Averages a curve over about `seconds`."""
  width = max(1, round(seconds * _CONTROL_RATE))
  window = np.hanning(width + 2)
  padded = np.pad(curve, (width // 2 + 1, width - width // 2), 'edge')
  return np.convolve(padded, window / window.sum(), 'valid')[: len(curve)]


def _pitch_curve(
    times: np.ndarray,
    onsets: np.ndarray,
    pitch: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
  """Returns [times] MIDI pitches: glides, scoops, drift and vibrato."""
  note = np.maximum(0, np.searchsorted(onsets, times, side='right') - 1)
  since = np.maximum(0, times - onsets[note])
  # Some notes are approached from below.
  scoops = rng.uniform(0, 1.0, len(pitch)) * (rng.random(len(pitch)) < 0.3)
  curve = pitch[note] - scoops[note] * np.exp(-since / 0.05)
  curve = _smooth(curve, rng.uniform(0.04, 0.14))
  errors = rng.normal(0, 0.12, len(pitch))
  curve += _smooth(errors[note], 0.1) + rng.normal(0, 0.15)
  drift = _smooth(rng.normal(0, 1, len(times)), 0.5)
  curve += 0.08 * drift / max(np.std(drift), 1e-6)
  rate, depth = rng.uniform(4.5, 6.5), rng.uniform(0, 0.35)
  rise = np.clip((since - 0.15) / 0.3, 0, 1)
  return curve + depth * rise * np.sin(2 * np.pi * rate * times)


def _level_curve(
    times: np.ndarray,
    onsets: np.ndarray,
    ends: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
  """Returns [times] amplitudes: each note swells, and ends with a dip."""
  level = np.zeros(len(times))
  dip = rng.uniform(0.02, 0.08)  # Seconds between notes that are sung apart.
  legato = rng.random()
  following = np.append(onsets[1:], np.inf)
  for onset, end, after in zip(onsets, ends, following):
    is_bound = after - end < 0.05 and rng.random() < legato
    stop = after if is_bound else min(end, after - dip)
    loudness = rng.uniform(0.7, 1.0)
    level[(times >= onset) & (times < max(stop, onset + 0.05))] = loudness
  return _smooth(level, rng.uniform(0.04, 0.1))


def _spectrum(hertz: np.ndarray, voice: Voice) -> np.ndarray:
  """Returns the gain of a voice at each frequency."""
  gain = (100.0 / np.maximum(hertz, 100.0)) ** voice.slope
  if voice.formants:
    gain = gain * sum(
        g / (1 + np.square((hertz - center) / width))
        for center, width, g in voice.formants
    )
  return np.where(hertz < _MAX_HZ, gain, 0.0)


def _tone(
    pitch: np.ndarray, level: np.ndarray, voice: Voice, num_samples: int
) -> np.ndarray:
  """Returns [samples] of the harmonics of a voice."""
  samples = np.arange(num_samples) / SAMPLE_RATE
  times = np.arange(len(pitch)) / _CONTROL_RATE
  hertz = 440 * 2 ** ((pitch - 69) / 12)
  cycles = np.cumsum(np.interp(samples, times, hertz)) / SAMPLE_RATE
  audio = np.zeros(num_samples)
  for harmonic in range(1, voice.harmonics + 1):
    gain = level * _spectrum(harmonic * hertz, voice)
    if gain.any():
      wave = np.sin(2 * np.pi * harmonic * cycles)
      audio += np.interp(samples, times, gain) * wave
  return audio / max(np.max(np.abs(audio)), 1e-6)


def _breath(
    level: np.ndarray, num_samples: int, voice: Voice, rng: np.random.Generator
) -> np.ndarray:
  """Returns [samples] of noise, louder where the voice sounds."""
  spectrum = np.fft.rfft(rng.standard_normal(num_samples))
  hertz = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
  color = 1 / (1 + np.square((hertz - 1500) / 1500))
  noise = np.fft.irfft(spectrum * color, num_samples)
  noise = noise / max(float(np.std(noise)), 1e-6)
  samples = np.arange(num_samples) / SAMPLE_RATE
  times = np.arange(len(level)) / _CONTROL_RATE
  loudness = 0.1 + np.interp(samples, times, level)
  return rng.uniform(*voice.breath) * loudness * noise
