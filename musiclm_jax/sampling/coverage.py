"""How a stage of limited context covers a piece of any length."""

from collections.abc import Iterator, Sequence
import dataclasses
import math

from jaxtyping import Bool
from musiclm_jax import streams
import numpy as np


@dataclasses.dataclass(frozen=True)
class Window:
  """What a stage sees at one time, in frames of its targets.

  Attributes:
    start: Where it begins.
    first: The first frame to sample; those from `start` on are known.
    end: Behind the last one.
  """

  start: int
  first: int
  end: int


@dataclasses.dataclass(frozen=True)
class Windows:
  """Windows of one stage, as long as its training examples.

  So the stage sees no layout that it was not trained on.

  Attributes:
    stage: What is read and written.
  """

  stage: streams.Stage

  def frames(self, stream: streams.Stream) -> int:
    """Returns the frames of `stream` in a window."""
    return stream.num_frames(self.stage.crop_seconds)

  def seconds(self, frame: int) -> float:
    """Returns the time of a frame of the targets."""
    return frame / self.stage.targets.num_frames(1.0)

  def continued(
      self,
      unknown: Bool[np.ndarray, ' frames'],
      borders: Sequence[float] = (),
      context_seconds: float = 0.0,
  ) -> Iterator[Window]:
    """Yields windows that fill what is unknown, each knowing the ones before.

    Where there is music before, half of a window or more is of it (MusicLM
    3.3). No window ends after the piece, unless it starts with it.

    Args:
      unknown: [frames] which frames of the targets are to be sampled.
      borders: Seconds at which another window starts to sample, because it has
        other conditioning than the one before.
      context_seconds: How much of the music before is known there, up to half
        of a window.
    """
    length = self.frames(self.stage.targets)
    rate, grid = self.stage.targets.num_frames(1.0), self.stage.grid
    starts = {round(border * rate) for border in borders}
    ends = starts | {len(unknown)}
    # Inputs end where the piece does; a melody may end before.
    has_end = any(
        s.frame_rate and not s.window_seconds for s in self.stage.inputs
    )
    first = 0
    while np.any(unknown[first:]):
      first += int(np.argmax(unknown[first:]))
      end = min(e for e in ends if e > first)
      if not np.all(unknown[first:end]):
        end = first + int(np.argmin(unknown[first:end]))
      # On the grid of all streams; a thousandth lest rounding lose a step.
      context = length // 2
      if first in starts:
        context = min(context, round(context_seconds * rate))
      start = math.floor((first - context) / rate * grid + 1e-3)
      if has_end or first not in starts:
        last = math.ceil((len(unknown) - length) / rate * grid - 1e-3)
        start = min(start, last)
      start = round(max(0, start) / grid * rate)
      end = min(start + length, end)
      yield Window(start, first, end)
      first = end

  def independent(
      self, unknown: Bool[np.ndarray, ' frames'], until: int
  ) -> list[Window]:
    """Returns windows that fill what is unknown, none knowing another.

    Args:
      unknown: [frames] which frames of the targets are to be sampled; of a
        window or more.
      until: Frames from here on may be left unknown.
    """
    length = self.frames(self.stage.targets)
    windows, first = [], 0
    while np.any(unknown[first:until]):
      first += int(np.argmax(unknown[first:]))
      start = min(first, len(unknown) - length)
      windows.append(Window(start, first, start + length))
      first = start + length
    return windows

  def whole(self, seconds: float) -> float:
    """Returns up to where windows of a piece may read their inputs."""
    grid = self.stage.grid
    whole = math.ceil(seconds * grid - 1e-3) / grid
    return max(self.stage.crop_seconds, whole)

  def inputs(self, tokens: streams.Tokens, start: int) -> streams.Tokens:
    """Returns the inputs of a window; of streams without time, all.

    Args:
      tokens: Of each input: [batch, frames, quantizers].
      start: Of the window, in frames of the targets.
    """
    seconds = self.stage.crop_seconds
    return {
        s.name: s.crop(tokens[s.name], self.seconds(start), seconds)
        for s in self.stage.inputs
    }
