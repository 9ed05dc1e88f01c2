"""Windows with which a stage of limited context covers a long piece."""

from collections.abc import Iterator, Sequence
import dataclasses
import math

from jaxtyping import Bool
from musiclm_jax import streams
import numpy as np


@dataclasses.dataclass(frozen=True)
class Window:
  """Target frames that a stage processes at once.

  Attributes:
    start: First frame of the window.
    first: First frame to sample; frames from `start` up to it are known.
    end: Frame after the last one.
  """

  start: int
  first: int
  end: int


@dataclasses.dataclass(frozen=True)
class Windows:
  """The windows of a stage, as long as its training examples.

  So the stage sees no layout that it was not trained on.

  Attributes:
    stage: A stage whose targets have a frame rate.
  """

  stage: streams.Stage

  @property
  def rate(self) -> float:
    """Frames of the targets per second."""
    return self.stage.targets.frame_rate or 0.0

  @property
  def length(self) -> int:
    """Frames of the targets in a window."""
    return self.frames(self.stage.targets)

  def frames(self, stream: streams.Stream) -> int:
    """Returns the frames of `stream` in a window."""
    return stream.num_frames(self.stage.crop_seconds)

  def seconds(self, frame: int) -> float:
    """Returns the time of a frame of the targets."""
    return frame / self.rate

  def continued(
      self,
      unknown: Bool[np.ndarray, ' frames'],
      borders: Sequence[float] = (),
      context_seconds: float = 0.0,
  ) -> Iterator[Window]:
    """Yields windows that fill unknown frames, each continuing the one before.

    Earlier music, if there is any, fills at least half of a window (MusicLM
    3.3). No window extends beyond the piece, unless it starts with the piece.

    Args:
      unknown: [frames] whether each target frame is to be sampled.
      borders: Seconds at which a new window starts to sample, because the
        conditioning changes.
      context_seconds: Known music before such a border, up to half a window.
    """
    starts = {round(border * self.rate) for border in borders}
    ends = starts | {len(unknown)}
    # Sampled inputs end where the piece does; conditions may end anywhere.
    has_end = any(
        s.frame_rate and not s.is_conditioning for s in self.stage.inputs
    )
    first = 0
    while np.any(unknown[first:]):
      first += int(np.argmax(unknown[first:]))
      end = min(e for e in ends if e > first)
      if not np.all(unknown[first:end]):
        end = first + int(np.argmin(unknown[first:end]))
      context = self.length // 2
      if first in starts:
        context = min(context, round(context_seconds * self.rate))
      may_end_later = first in starts and not has_end
      total = None if may_end_later else len(unknown)
      start = self._start(first - context, total)
      if start + self.length <= first:  # No room, where the grid is coarse.
        start = self._start(first, total)
      end = min(start + self.length, end)
      yield Window(start, first, end)
      first = end

  def independent(
      self, unknown: Bool[np.ndarray, ' frames'], until: int
  ) -> list[Window]:
    """Returns windows that fill unknown frames independently of each other.

    Args:
      unknown: [frames] whether each target frame is to be sampled; at least a
        window.
      until: Frames from here on may be left unknown.
    """
    windows, first = [], 0
    while np.any(unknown[first:until]):
      first += int(np.argmax(unknown[first:]))
      start = self._start(first, len(unknown))
      end = min(start + self.length, len(unknown))
      windows.append(Window(start, first, end))
      first = end
    return windows

  def _start(self, frame: int, total: int | None) -> int:
    """Returns the start of a window, as near before a frame as possible.

    It is on the grid of all streams, so that their frames line up.

    Args:
      frame: The frame.
      total: Frames of the piece, which the window must not exceed; None for no
        limit.
    """
    grid = self.stage.grid
    # The thousandths keep rounding errors from losing a step.
    start = math.floor(frame / self.rate * grid + 1e-3)
    if total is not None:
      last = math.ceil((total - self.length) / self.rate * grid - 1e-3)
      start = min(start, last)
    return round(max(0, start) / grid * self.rate)

  def whole(self, seconds: float) -> float:
    """Returns how many seconds of inputs the windows of a piece may read."""
    grid = self.stage.grid
    whole = math.ceil(seconds * grid - 1e-3) / grid
    return max(self.stage.crop_seconds, whole)

  def inputs(self, tokens: streams.Tokens, start: int) -> streams.Tokens:
    """Returns the inputs of a window; streams without a frame rate, whole.

    Args:
      tokens: [batch, frames, quantizers] of each input. Conditions that end
        before the window are padded with ABSENT.
      start: First frame of the window, in frames of the targets.
    """
    return {
        s.name: self._crop(s, tokens[s.name], start) for s in self.stage.inputs
    }

  def _crop(
      self, stream: streams.Stream, tokens: np.ndarray, start: int
  ) -> np.ndarray:
    found = stream.crop(tokens, self.seconds(start), self.stage.crop_seconds)
    if not stream.is_conditioning:
      return found
    missing = self.frames(stream) - found.shape[1]
    padding = (0, 0), (0, missing), (0, 0)
    return np.pad(found, padding, constant_values=streams.ABSENT)
