"""Phrases that were rendered several times, as records, and their crops.

The renditions of a phrase have the same melody in the same key at different
tempos. Melody time is that of the written score, so that the same place can be
cut from each.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
from typing import Any

from jaxtyping import Float, Int8
from musiclm_jax.data import clips
import numpy as np
import tensorflow_datasets as tfds

NAME = 'melody_pairs'
SAMPLE_RATE = 16000
JITTER_SECONDS = 0.25  # Largest distance of the centres of two crops.
_MAX_SHIFT = 4.0  # Semitones.
_MAX_TILT = 4.0  # Decibels per octave.
_SNR = (15.0, 50.0)  # Decibels.


@dataclasses.dataclass(frozen=True)
class Rendition:
  """One rendition of a phrase.

  Attributes:
    kind: One of `melody_pairs.KINDS`.
    tempo_factor: Tempo relative to the written one.
    audio: [samples] float32 in [-1, 1], 16 kHz mono, from melody second 0.
  """

  kind: str
  tempo_factor: float
  audio: Float[np.ndarray, ' samples']


@dataclasses.dataclass(frozen=True)
class Phrase:
  """A phrase and its renditions.

  Attributes:
    renditions: At least two renditions.
    melody: [frames] MIDI pitches as written, at 50 Hz, -1 in rests.
    id: Unique name of the phrase in the dataset.
    work: Name of its work; phrases of a work share a split.
    source: Origin of the work.
    license: License of the work; empty if unknown.
  """

  renditions: Sequence[Rendition]
  melody: Int8[np.ndarray, ' frames']
  id: str
  work: str
  source: str = ''
  license: str = ''

  def to_example(self) -> dict[str, Any]:
    """Returns the phrase as an example of the dataset `melody_pairs`."""
    audio = np.concatenate([r.audio for r in self.renditions])
    return {
        'audio': clips.to_int16(audio),
        'lengths': np.array([len(r.audio) for r in self.renditions], np.int32),
        'tempo_factors': np.array(
            [r.tempo_factor for r in self.renditions], np.float32
        ),
        'kinds': [r.kind for r in self.renditions],
        'melody': self.melody,
        'id': self.id,
        'work': self.work,
        'work_id': np.array([work_id(self.work)], np.int32),
        'source': self.source,
        'license': self.license,
    }


def features() -> dict[str, Any]:
  """Returns the tfds features of the dataset.

  They are those of `Phrase`; audio holds all renditions in order, with their
  lengths in samples.
  """

  def array(dtype):
    return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding='bytes')

  return {
      'audio': array(np.int16),
      'lengths': array(np.int32),
      'tempo_factors': array(np.float32),
      'kinds': tfds.features.Sequence(tfds.features.Text()),
      'melody': array(np.int8),
      'id': tfds.features.Text(),
      'work': tfds.features.Text(),
      'work_id': array(np.int32),
      'source': tfds.features.Text(),
      'license': tfds.features.Text(),
  }


def work_id(work: str) -> int:
  """Returns a hash of the name of a work, in [0, 2^31)."""
  digest = hashlib.sha256(work.encode()).digest()
  return int.from_bytes(digest[:4], 'little') >> 1


def crop(
    record: Mapping[str, Any], index: int, second: float, length: int
) -> Float[np.ndarray, ' length']:
  """Cuts an excerpt from a rendition.

  Args:
    record: An example of `melody_pairs`.
    index: Index of the rendition.
    second: Melody time at the middle of the excerpt.
    length: Samples of the excerpt.

  Returns:
    [length] float32 in [-1, 1], zero beyond the ends of the rendition.
  """
  last = np.cumsum(record['lengths'])[index]
  first = last - record['lengths'][index]
  middle = second / record['tempo_factors'][index] * SAMPLE_RATE
  start = first + round(middle - length / 2)
  inside = slice(max(first, start), max(first, min(last, start + length)))
  piece = clips.to_float(record['audio'][inside])
  before = min(length, max(0, first - start))
  return np.pad(piece, (before, length - before - len(piece)))


def middle(record: Mapping[str, Any]) -> float:
  """Returns the melody time in the middle of a phrase."""
  seconds = record['lengths'] * record['tempo_factors'] / SAMPLE_RATE
  return float(np.max(seconds)) / 2


def draw_pair(
    record: Mapping[str, Any], length: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, ' length'], Float[np.ndarray, ' length']]:
  """Cuts excerpts of two different renditions, at about the same melody time.

  Both are sped up or slowed down by one factor, like a tape, which changes
  their pitches equally.

  Args:
    record: An example of `melody_pairs`.
    length: Samples of an excerpt.
    rng: Chooses the renditions, the melody time and the augmentation.

  Returns:
    The two excerpts, [length] float32 in [-1, 1] each.
  """
  chosen = rng.permutation(len(record['lengths']))[:2]
  speed = 2 ** (rng.uniform(-_MAX_SHIFT, _MAX_SHIFT) / 12)
  played = round(length * speed)
  # At these times, excerpts of the slowest and the fastest rendition fit.
  reach = played / SAMPLE_RATE / 2 * float(np.max(record['tempo_factors']))
  center = middle(record)
  second = center + max(0.0, center - reach) * rng.uniform(-1, 1)
  jitter = rng.uniform(-JITTER_SECONDS, JITTER_SECONDS)
  first, other = (
      augment(_play(crop(record, int(index), time, played), length), rng)
      for index, time in zip(chosen, (second, second + jitter))
  )
  return first, other


def _play(
    audio: Float[np.ndarray, ' played'], length: int
) -> Float[np.ndarray, ' length']:
  """Stretches audio to `length` samples by linear interpolation."""
  times = np.linspace(0, len(audio) - 1, length)
  return np.interp(times, np.arange(len(audio)), audio).astype(np.float32)


def augment(
    audio: Float[np.ndarray, ' samples'], rng: np.random.Generator
) -> Float[np.ndarray, ' samples']:
  """Randomizes loudness, spectral tilt and noise, which are not the melody.

  Args:
    audio: [samples] float32 at 16 kHz.
    rng: Draws the changes.

  Returns:
    [samples] float32 that peaks at .1 to .9.
  """
  hertz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE).astype(np.float32)
  # A tilt in decibels per octave is a power of the frequency.
  power = rng.uniform(-_MAX_TILT, _MAX_TILT) / (20 * np.log10(2))
  tilt = (np.maximum(hertz, 50) / 1000) ** np.float32(power)
  audio = np.fft.irfft(np.fft.rfft(audio) * tilt, len(audio))
  level = np.std(audio) * 10 ** (-rng.uniform(*_SNR) / 20)
  noise = rng.standard_normal(len(audio), np.float32)
  audio = audio + np.float32(level) * noise
  peak = rng.uniform(0.1, 0.9) / max(np.max(np.abs(audio)), 1e-6)
  return (np.float32(peak) * audio).astype(np.float32)
