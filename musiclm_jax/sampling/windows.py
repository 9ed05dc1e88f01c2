"""How a stage of limited context covers a piece of any length."""

import dataclasses

from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np


@dataclasses.dataclass(frozen=True)
class Windows:
  """Windows of one stage, as long as its training examples.

  So the stage sees no layout that it was not trained on. Windows that continue
  each other start half a window apart; independent ones, a whole window.

  Attributes:
    stage: What is read and written.
  """

  stage: stages.Stage

  def frames(self, stream: base.Stream) -> int:
    """Returns the frames of `stream` in a window."""
    return stream.num_frames(self.stage.crop_seconds)

  @property
  def stride_seconds(self) -> float:
    """Seconds from one continued window to the next."""
    grid = self.stage.grid
    return max(1, round(self.stage.crop_seconds * grid) // 2) / grid

  def stride(self, stream: base.Stream) -> int:
    """Returns the frames of `stream` from one continued window to the next."""
    return stream.num_frames(self.stride_seconds)

  def count(self, num_frames: int) -> int:
    """Returns the continued windows that cover `num_frames` of the targets."""
    targets = self.stage.targets
    rest = max(0, num_frames - self.frames(targets))
    return 1 + -(-rest // self.stride(targets))

  def input_frames(self, num_frames: int, stream: base.Stream) -> int:
    """Returns the frames of an input that `num_frames` of the targets take."""
    hops = self.count(num_frames) - 1
    return hops * self.stride(stream) + self.frames(stream)

  def continued_inputs(self, tokens: base.Tokens, window: int) -> base.Tokens:
    """Returns the inputs of a continued window; of streams without time, all.

    Args:
      tokens: Of each input: [batch, frames, quantizers].
      window: Its number.
    """
    start, seconds = window * self.stride_seconds, self.stage.crop_seconds
    return {
        s.name: s.crop(tokens[s.name], start, seconds)
        for s in self.stage.inputs
    }

  def independent_starts(self, num_frames: int) -> np.ndarray:
    """Returns the first frame of each independent window of the targets.

    Args:
      num_frames: At least a window. The last window ends there, so it may
        overlap the one before.
    """
    length = self.frames(self.stage.targets)
    starts = np.arange(0, num_frames, length)
    return np.minimum(starts, num_frames - length)

  def independent_inputs(
      self, tokens: base.Tokens, starts: np.ndarray
  ) -> base.Tokens:
    """Returns the inputs of all independent windows, those of a row together.

    Args:
      tokens: Of each input: [batch, frames, quantizers].
      starts: First frame of each window, in frames of the targets.

    Returns:
      [batch * windows, frames, quantizers] of each input.
    """

    def cut(stream):
      if stream.frame_rate is None:
        return np.repeat(tokens[stream.name], len(starts), axis=0)
      rate = self.stage.targets.num_frames(1.0)
      first = [stream.num_frames(start / rate) for start in starts]
      index = np.asarray(first)[:, np.newaxis]
      index = index + np.arange(self.frames(stream))
      cuts = tokens[stream.name][:, index]  # [batch, windows, frames, …]
      return cuts.reshape(-1, *cuts.shape[2:])

    return {s.name: cut(s) for s in self.stage.inputs}
