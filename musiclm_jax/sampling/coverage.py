"""How a stage of limited context covers a piece of any length."""

from collections.abc import Iterator, Sequence
import dataclasses
import math

from jaxtyping import Bool
from musiclm_jax import streams
import numpy as np


@dataclasses.dataclass(frozen=True)
class Window:
  """Frames of the targets that a stage sees at one time.

  Attributes:
    start: First frame of the window.
    first: First frame to sample; those from `start` on are known.
    end: Frame behind the last one.
  """

  start: int
  first: int
  end: int


@dataclasses.dataclass(frozen=True)
class Windows:
  """Windows of one stage, as long as its training examples.

  So the stage sees no layout that it was not trained on.

  Attributes:
    stage: The stage, whose targets have a frame rate.
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
    """Yields windows that fill the unknown frames, each after those before.

    Where music comes before, it fills half of a window or more (MusicLM 3.3).
    No window ends after the piece, unless it starts with it.

    Args:
      unknown: [frames] which frames of the targets are to be sampled.
      borders: Seconds at which another window starts to sample, because it has
        other conditioning than the one before.
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
      end = min(start + self.length, end)
      yield Window(start, first, end)
      first = end

  def independent(
      self, unknown: Bool[np.ndarray, ' frames'], until: int
  ) -> list[Window]:
    """Returns windows that fill the unknown frames, none knowing another.

    Args:
      unknown: [frames] which frames of the targets are to be sampled; of a
        window or more.
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
    """Returns where a window starts that should start at a frame.

    That is on the grid of all streams, so that their frames line up.

    Args:
      frame: The frame.
      total: Frames of the piece that the window has to end with; None for any.
    """
    grid = self.stage.grid
    # A thousandth more, or less, lest rounding lose a step.
    start = math.floor(frame / self.rate * grid + 1e-3)
    if total is not None:
      last = math.ceil((total - self.length) / self.rate * grid - 1e-3)
      start = min(start, last)
    return round(max(0, start) / grid * self.rate)

  def whole(self, seconds: float) -> float:
    """Returns the time up to which windows of a piece may read their inputs."""
    grid = self.stage.grid
    whole = math.ceil(seconds * grid - 1e-3) / grid
    return max(self.stage.crop_seconds, whole)

  def inputs(self, tokens: streams.Tokens, start: int) -> streams.Tokens:
    """Returns the inputs of a window; of streams without time, all.

    Args:
      tokens: [batch, frames, quantizers] of each input. Conditions that end
        before the window does are ABSENT from there on.
      start: First frame of the window, a frame of the targets.
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
