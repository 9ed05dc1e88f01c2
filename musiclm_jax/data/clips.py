"""A clip of music with its description: the element of every corpus."""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any, NamedTuple

from jaxtyping import Float, Float32, Int16
from musiclm_jax import errors
from musiclm_jax.tokenizers import terms
import numpy as np

SAMPLE_RATE = 24000  # Default rate of datasets.
SAMPLE_RATES = (8000, 192000)  # Lowest and highest rate of a dataset.
MELODY_RATE = 50  # Frames of a melody per second.
MAX_SECONDS = 30.0
MIN_SECONDS = 1.0
# Reasons for leaving out a part of a work.
SILENT = 'silent'
SHORT = f'shorter than {MIN_SECONDS:g} s'

_FULL_SCALE = np.float32(32767)


class LeftOut(NamedTuple):
  """A file, or a part of one, that is left out of a corpus.

  Readers of works may yield these among their clips.

  Attributes:
    name: Name of the file, or of a part of it, e.g. 'song.wav at 30 s'.
    kind: Reason, e.g. 'silent', in the same words for all similar cases.
  """

  name: str
  kind: str


@dataclasses.dataclass(frozen=True)
class Clip:
  """An excerpt of a work, with its description.

  Attributes:
    audio: [samples] float32 in [-1, 1], mono, at the sample rate of the dataset
      that the clip is for.
    captions: Texts that describe it, at least one.
    caption_weights: Relative probability of each caption in training; empty if
      equal. A text written for the music may weigh more than one made from a
      file name.
    id: Unique name of the clip in the corpus: '<work>/<index>'.
    work: Name of its work; clips of a work share a split.
    title: Title of the work.
    source: Origin of the work, e.g. a file or a collection.
    license: License of the work; empty if unknown.
    start: Start of the clip in the work, in seconds.
    melody: [frames] int8 MIDI pitches at 50 Hz, -1 in rests; empty if unknown.
    chords: [frames] int8 chords at 50 Hz, as numbers in `tokenizers.terms`, -1
      where unclear; empty if unknown.
    beats: [beats, 3] float32, for each beat from the one before the clip to the
      one after it: its time in seconds, its number in the bar, from 0, and the
      number of the metre in `tokenizers.terms`, both -1 if unknown. Empty if
      there are no known beats.
    key: Key, e.g. 'A minor'; empty if unknown.
    families: [seconds, families] int8 state of each family of instruments: 0
      is off, 1 on, 2 leading; empty if unknown.
    facts: JSON of the `facts.Facts` of a rendered clip; empty if unknown.
  """

  audio: np.ndarray
  captions: tuple[str, ...]
  id: str
  work: str
  title: str
  source: str
  license: str = ''
  start: float = 0.0
  melody: np.ndarray = dataclasses.field(
      default_factory=lambda: np.zeros(0, np.int8)
  )
  chords: np.ndarray = dataclasses.field(
      default_factory=lambda: np.zeros(0, np.int8)
  )
  beats: np.ndarray = dataclasses.field(
      default_factory=lambda: np.zeros((0, 3), np.float32)
  )
  key: str = ''
  families: np.ndarray = dataclasses.field(
      default_factory=lambda: np.zeros((0, len(terms.FAMILIES)), np.int8)
  )
  facts: str = ''
  caption_weights: tuple[float, ...] = ()

  def to_example(self) -> dict[str, Any]:
    """Returns the clip as an example of the `music` dataset."""
    return {
        'audio': to_int16(self.audio),
        'captions': list(self.captions),
        'id': self.id,
        'work': self.work,
        'title': self.title,
        'source': self.source,
        'license': self.license,
        'start': np.float32(self.start),
        'melody': np.asarray(self.melody, np.int8),
        'chords': np.asarray(self.chords, np.int8),
        'beats': np.asarray(self.beats, np.float32),
        'key': self.key,
        'families': np.asarray(self.families, np.int8),
        'facts': self.facts,
        'caption_weights': np.asarray(
            self.caption_weights or [1.0] * len(self.captions), np.float32
        ),
    }


def to_int16(
    audio: Float[np.ndarray, '*batch samples'],
) -> Int16[np.ndarray, '*batch samples']:
  """Converts floats in [-1, 1] to int16, as examples store audio."""
  return np.round(np.clip(audio, -1, 1) * _FULL_SCALE).astype(np.int16)


def to_float(
    audio: Int16[np.ndarray, '*batch samples'],
) -> Float32[np.ndarray, '*batch samples']:
  """Converts int16, as examples store audio, to float32 in [-1, 1]."""
  return audio.astype(np.float32) / _FULL_SCALE


def caption_weights(record: Mapping[str, Any]) -> np.ndarray:
  """Returns the weight of each caption of an example of a dataset.

  Args:
    record: Example of `music` or `music_tokens`. In older datasets, without
      weights, all captions are equal.

  Returns:
    [captions] float32.
  """
  if 'caption_weights' in record:
    return record['caption_weights']
  return np.ones(len(record['captions']), np.float32)


def check_sample_rate(sample_rate: int) -> None:
  """Raises UserError unless a sample rate is allowed for datasets."""
  least, greatest = SAMPLE_RATES
  if not least <= sample_rate <= greatest:
    raise errors.UserError(
        f'sample_rate must be from {least} to {greatest} Hz, but is'
        f' {sample_rate}.'
    )


def check_clip(clip: Clip, sample_rate: int) -> None:
  """Raises UserError unless a clip is fit for training."""
  if clip.audio.ndim != 1 or len(clip.audio) < MIN_SECONDS * sample_rate:
    raise errors.UserError(
        f"clip '{clip.id}' must be at least {MIN_SECONDS:g} s of mono audio,"
        f' but has shape {clip.audio.shape} at {sample_rate} Hz.'
    )
  if not np.isfinite(clip.audio).all():
    raise errors.UserError(
        f"clip '{clip.id}' must be finite, but has NaN or inf."
    )
  if not clip.captions or not all(text.strip() for text in clip.captions):
    raise errors.UserError(
        f"clip '{clip.id}' must have captions that are not empty, but has"
        f' {clip.captions}.'
    )
  weights = clip.caption_weights
  if weights and (
      len(weights) != len(clip.captions)
      or min(weights) < 0
      or not 0 < sum(weights) < float('inf')
  ):
    raise errors.UserError(
        f"clip '{clip.id}' must have a weight of at least 0 for each of its"
        f' {len(clip.captions)} captions, and not 0 for all, but has {weights}.'
    )


def split_audio(
    audio: np.ndarray, sample_rate: int, clip_seconds: float
) -> Iterator[tuple[float, np.ndarray]]:
  """Cuts a work into clips.

  Args:
    audio: [samples] of the work.
    sample_rate: Samples per second.
    clip_seconds: Length of a clip.

  Yields:
    The start in seconds and the [samples] audio of each clip. The last may be
    shorter, and is left out if it is under a second and not the only one.
  """
  length = round(clip_seconds * sample_rate)
  for start in range(0, max(1, len(audio)), length):
    clip = audio[start : start + length]
    if start == 0 or len(clip) >= MIN_SECONDS * sample_rate:
      yield start / sample_rate, clip
