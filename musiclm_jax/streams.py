"""The vocabulary of the cascade: streams of tokens, and stages over them."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from musiclm_jax import errors
import numpy as np

# Tokens of each stream by name: [batch, frames, quantizers] int32, ABSENT where
# a frame is unknown.
Tokens = dict[str, np.ndarray]

ABSENT = -1
MAX_FRAME_RATE = 1000.0  # Frames per second; well below any sample rate.

NUM_RESERVED_IDS = 2  # 0 is padding and the start of a sequence.
ABSENT_ID = 1  # The id of an unknown token, e.g. where there is no melody.

PATTERNS = ('flat', 'delay')  # See `models.patterns`.


@dataclasses.dataclass(frozen=True)
class Stream:
  """A named sequence of tokens, `num_quantizers` per frame.

  Attributes:
    name: Key of the stream in every example and every `Tokens`.
    num_quantizers: Tokens per frame.
    codebook_size: Tokens are in [0, codebook_size).
    frame_rate: Frames per second; None for one frame per clip.
    window_seconds: Length of the overlapping windows that frames describe; 0 if
      frames do not overlap.
    is_conditioning: Whether it describes the music to be made. Guidance
      compares predictions with and without such streams, so a stage may have
      to work without them.
    is_added: Whether its embeddings are added to the positions at the same
      time, rather than placed in the sequence before the targets.
  """

  name: str
  num_quantizers: int
  codebook_size: int
  frame_rate: float | None = None
  window_seconds: float = 0.0
  is_conditioning: bool = False
  is_added: bool = False

  def __post_init__(self):
    rate = self.frame_rate
    if rate is not None and not 0 < rate <= MAX_FRAME_RATE:
      raise errors.UserError(
          f"frame_rate of stream '{self.name}' must be above 0 and at most"
          f' {MAX_FRAME_RATE}, but is {rate}.'
      )

  def num_frames(self, seconds: float) -> int:
    """Returns how many frames a stage reads for `seconds` of audio."""
    if self.frame_rate is None:
      return 1
    if not self.window_seconds:
      return round(seconds * self.frame_rate)
    # The millisecond keeps rounding errors from losing the last window.
    room = seconds - self.window_seconds + 1e-3
    return max(0, 1 + math.floor(room * self.frame_rate))

  def crop(
      self, tokens: np.ndarray, start: float, seconds: float
  ) -> np.ndarray:
    """Returns the frames that a stage reads for a crop of a clip.

    Args:
      tokens: [..., frames, quantizers] of the whole clip.
      start: Start of the crop in the clip, in seconds.
      seconds: Length of the crop.

    Returns:
      [..., frames, quantizers]. Where the clip ends before the crop, added
      streams are padded with ABSENT, and others have fewer frames.
    """
    if self.frame_rate is None:
      return tokens
    first, count = round(start * self.frame_rate), self.num_frames(seconds)
    found = tokens[..., first : first + count, :]
    if not self.is_added:
      return found
    padding = [(0, 0)] * found.ndim
    padding[-2] = (0, count - found.shape[-2])
    return np.pad(found, padding, constant_values=ABSENT)

  def to_json(self) -> dict[str, Any]:
    """Returns the stream as JSON values for `from_json`, without defaults."""
    return {
        field.name: value
        for field in dataclasses.fields(self)
        if (value := getattr(self, field.name)) != field.default
    }

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> 'Stream':
    """Makes the stream that `to_json` described."""
    return cls(**value)


@dataclasses.dataclass(frozen=True)
class Stage:
  """A language model of the cascade: it reads `inputs` and writes `targets`.

  Attributes:
    name: Name of the stage. The part of a model that holds it is named after
      the stream it writes.
    inputs: Streams it reads, in the order in which examples hold them.
    targets: The stream it predicts.
    crop_seconds: Length of a training example.
    is_independent: Whether windows of a long piece are sampled in parallel,
      without knowing each other: right if targets depend only on the inputs at
      their own time. Otherwise each window continues the one before.
    temperature: Default sampling temperature.
    pattern: Layout of its targets: 'flat', one token per position, or 'delay',
      one frame per position, and so one pass of the network per frame.
    guidance_scale: Default scale of guidance, see `guiding`; 1 for none.
  """

  name: str
  inputs: tuple[Stream, ...]
  targets: Stream
  crop_seconds: float
  is_independent: bool = False
  temperature: float = 1.0
  pattern: str = 'flat'
  guidance_scale: float = 1.0

  def __post_init__(self):
    if self.pattern not in PATTERNS:
      raise errors.UserError(
          f"pattern of stage '{self.name}' must be one of {PATTERNS}, but is"
          f" '{self.pattern}'."
      )

  @property
  def grid(self) -> float:
    """Crops start at multiples of 1 / grid seconds: frames of all streams."""
    return min(
        s.frame_rate
        for s in self.streams
        if s.frame_rate and s.num_frames(self.crop_seconds)
    )

  @property
  def streams(self) -> tuple[Stream, ...]:
    return (*self.inputs, self.targets)

  @property
  def added(self) -> tuple[Stream, ...]:
    """Inputs whose embeddings are added to the positions at the same time.

    A stream whose windows are longer than a crop is left out.
    """
    return tuple(s for s in self.inputs if s.is_added and self.num_ids(s))

  @property
  def prefix(self) -> tuple[Stream, ...]:
    """Inputs that are placed in the sequence before the targets."""
    return tuple(s for s in self.inputs if not s.is_added)

  @property
  def conditioning(self) -> tuple[Stream, ...]:
    """Inputs that describe the music to be made."""
    return tuple(s for s in self.inputs if s.is_conditioning)

  @property
  def guiding(self) -> tuple[Stream, ...]:
    """Inputs that guidance compares predictions with and without.

    They are the conditioning, and all that is added to positions (ours): what
    came before says much of what comes next, and what a position is told must
    count, too.
    """
    return tuple(s for s in self.inputs if s.is_conditioning or s.is_added)

  @property
  def vocab_size(self) -> int:
    return NUM_RESERVED_IDS + sum(
        s.num_quantizers * s.codebook_size for s in self.streams
    )

  @property
  def feature_lengths(self) -> dict[str, int]:
    return {
        'inputs': sum(self.num_ids(s) for s in self.inputs),
        'targets': self.num_ids(self.targets),
    }

  def num_ids(self, stream: Stream) -> int:
    """Returns the number of ids of a stream in a crop."""
    return stream.num_frames(self.crop_seconds) * stream.num_quantizers

  def offsets(self, stream: Stream) -> np.ndarray:
    """Returns the [quantizers] id of token 0 of each quantizer of `stream`."""
    start = NUM_RESERVED_IDS
    for other in self.streams:
      if other == stream:
        return start + np.arange(stream.num_quantizers) * stream.codebook_size
      start += other.num_quantizers * other.codebook_size
    raise errors.UserError(
        f"stage '{self.name}' has no stream '{stream.name}'; it has"
        f' {[s.name for s in self.streams]}.'
    )

  def ids(self, stream: Stream) -> slice:
    """Returns the range of the ids of `stream`; codes vary fastest."""
    first = int(self.offsets(stream)[0])
    return slice(first, first + stream.num_quantizers * stream.codebook_size)

  def to_json(self) -> dict[str, Any]:
    """Returns the stage as JSON values, for `from_json`."""
    return {
        'name': self.name,
        'inputs': [stream.to_json() for stream in self.inputs],
        'targets': self.targets.to_json(),
        'crop_seconds': self.crop_seconds,
        'is_independent': self.is_independent,
        'temperature': self.temperature,
        'pattern': self.pattern,
        'guidance_scale': self.guidance_scale,
    }

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> 'Stage':
    """Makes the stage that `to_json` described."""
    return cls(
        **{
            **value,
            'inputs': tuple(Stream.from_json(s) for s in value['inputs']),
            'targets': Stream.from_json(value['targets']),
        }
    )

  def to_ids(self, tokens: np.ndarray, stream: Stream) -> np.ndarray:
    """[..., frames, quantizers] tokens -> [..., frames, quantizers] ids."""
    return np.where(tokens == ABSENT, ABSENT_ID, tokens + self.offsets(stream))


def feature_lengths(stage: Stage) -> Mapping[str, int]:
  """Returns `stage.feature_lengths`; a function so that gin can call it."""
  return stage.feature_lengths
