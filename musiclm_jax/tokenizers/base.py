"""The interface of everything that turns audio into tokens."""

import abc
import dataclasses
import math

from musiclm_jax import errors
import numpy as np

# Tokens of each stream, by its name: [batch, frames, quantizers] int32. Those
# of a frame that is not known are ABSENT.
Tokens = dict[str, np.ndarray]

ABSENT = -1


@dataclasses.dataclass(frozen=True)
class Stream:
  """A named sequence of tokens, `num_quantizers` to a frame.

  Attributes:
    name: Key of the stream in every example and every `Tokens`.
    num_quantizers: Tokens per frame.
    codebook_size: Tokens are in [0, codebook_size).
    frame_rate: Frames per second; None for one frame per clip.
    window_seconds: Audio that a frame stands for, where frames are windows that
      overlap; 0 where each has its own time.
  """

  name: str
  num_quantizers: int
  codebook_size: int
  frame_rate: float | None = None
  window_seconds: float = 0.0

  def num_frames(self, seconds: float) -> int:
    """Returns the frames that a stage reads of `seconds` of audio."""
    if self.frame_rate is None:
      return 1
    if not self.window_seconds:
      return round(seconds * self.frame_rate)
    # Windows that fit; a millisecond more, lest rounding errors lose one.
    room = seconds - self.window_seconds + 1e-3
    return max(0, 1 + math.floor(room * self.frame_rate))

  def crop(
      self, tokens: np.ndarray, start: float, seconds: float
  ) -> np.ndarray:
    """Returns the frames that a stage reads of a crop.

    Args:
      tokens: [..., frames, quantizers] of a clip.
      start: Of the crop, in seconds from the start of the clip.
      seconds: Length of the crop.

    Returns:
      [..., frames, quantizers], fewer than `num_frames` where the clip ends;
      windows that are not there are ABSENT, so that a melody may be short.
    """
    if self.frame_rate is None:
      return tokens
    first, count = round(start * self.frame_rate), self.num_frames(seconds)
    found = tokens[..., first : first + count, :]
    if not self.window_seconds:
      return found
    padding = [(0, 0)] * found.ndim
    padding[-2] = (0, count - found.shape[-2])
    return np.pad(found, padding, constant_values=ABSENT)


# The streams of MusicLM (sections 3.1 and 3.2 of the paper).
MULAN = Stream('mulan', num_quantizers=12, codebook_size=1024)
SEMANTIC = Stream(
    'semantic', num_quantizers=1, codebook_size=1024, frame_rate=25.0
)
COARSE = Stream('coarse', num_quantizers=4, codebook_size=1024, frame_rate=50.0)
FINE = Stream('fine', num_quantizers=8, codebook_size=1024, frame_rate=50.0)
# Section 4.5: of windows of 4 s; one for each second (ours), not every third.
MELODY = Stream(
    'melody',
    num_quantizers=24,
    codebook_size=512,
    frame_rate=1.0,
    window_seconds=4.0,
)
# Streams that say what the music should be; a stage may have to do without.
CONDITIONING = (MULAN.name, MELODY.name)


class Tokenizer(abc.ABC):
  """Turns audio into the tokens of its streams.

  Attributes:
    streams: What it writes.
    sample_rate: Of the audio it reads, in Hz.
  """

  streams: tuple[Stream, ...]
  sample_rate: int

  @abc.abstractmethod
  def tokenize(self, audio: np.ndarray) -> Tokens:
    """Tokenizes mono audio.

    Args:
      audio: [batch, samples] floats in [-1, 1], at `self.sample_rate`.

    Returns:
      The tokens of each of `self.streams`.

    Raises:
      UserError: If `audio` is not a batch of mono floats in [-1, 1].
    """


class Codec(Tokenizer):
  """A tokenizer whose tokens can be turned back into audio."""

  @abc.abstractmethod
  def detokenize(self, tokens: Tokens) -> np.ndarray:
    """Returns [batch, samples] audio, from some or all of `self.streams`."""


def check_audio(audio: np.ndarray, sample_rate: int) -> None:
  """Raises UserError unless `audio` is [batch, samples] floats in [-1, 1]."""
  if audio.ndim != 2:
    raise errors.UserError(
        f'audio must be [batch, samples], but has shape {audio.shape}. Add a'
        ' batch axis to one clip with audio[np.newaxis]; mix stereo down with'
        ' audio.mean(axis=-1).'
    )
  if not np.issubdtype(audio.dtype, np.floating):
    raise errors.UserError(
        f'audio must be floats in [-1, 1], but is {audio.dtype}. Read it with'
        f' audio.io.read_audio(path, sample_rate={sample_rate}), which scales.'
    )
  peak = float(np.max(np.abs(audio), initial=0.0))
  if not peak <= 1.0:
    raise errors.UserError(
        f'audio must be in [-1, 1], but peaks at {peak:.3g}.'
    )
