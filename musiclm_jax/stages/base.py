"""What a stage reads and writes, and how its tokens become vocabulary ids."""

from collections.abc import Mapping
import dataclasses
import importlib
import pathlib

from musiclm_jax import errors
from musiclm_jax.tokenizers import base
import numpy as np

NUM_RESERVED_IDS = 2  # 0 is padding and the start of a sequence.
ABSENT_ID = 1  # Of a token that is not known, e.g. of no melody.


@dataclasses.dataclass(frozen=True)
class Stage:
  """One language model of the cascade: it reads `inputs`, writes `targets`.

  Attributes:
    name: The module in `musiclm_jax.stages` that defines it. The part of a
      model that it is has the name of the stream it writes.
    inputs: Conditioning streams, in the order they are laid out. One of windows
      is not part of the sequence, but is added to the positions that each
      window is about.
    targets: The stream it predicts.
    crop_seconds: Length of a training example.
  """

  name: str
  inputs: tuple[base.Stream, ...]
  targets: base.Stream
  crop_seconds: float

  @property
  def grid(self) -> float:
    """Crops start at multiples of 1 / grid seconds: frames of every stream."""
    return min(
        s.frame_rate
        for s in self.streams
        if s.frame_rate and s.num_frames(self.crop_seconds)
    )

  @property
  def streams(self) -> tuple[base.Stream, ...]:
    return (*self.inputs, self.targets)

  @property
  def windows(self) -> base.Stream | None:
    """The input whose frames are windows; None if there is none."""
    return next((s for s in self.inputs if s.window_seconds), None)

  @property
  def prefix(self) -> tuple[base.Stream, ...]:
    """The inputs that stand before the targets in the sequence."""
    return tuple(s for s in self.inputs if s != self.windows)

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

  def num_ids(self, stream: base.Stream) -> int:
    """Returns how many ids of a stream a crop has."""
    return stream.num_frames(self.crop_seconds) * stream.num_quantizers

  def offsets(self, stream: base.Stream) -> np.ndarray:
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

  def ids(self, stream: base.Stream) -> slice:
    """Returns which ids are those of `stream`: codes innermost."""
    first = int(self.offsets(stream)[0])
    return slice(first, first + stream.num_quantizers * stream.codebook_size)

  def to_ids(self, tokens, stream: base.Stream):
    """[..., frames, quantizers] tokens -> [..., frames, quantizers] ids."""
    return np.where(
        tokens == base.ABSENT, ABSENT_ID, tokens + self.offsets(stream)
    )


def names() -> list[str]:
  """Returns the name of every stage: each module beside this one."""
  modules = pathlib.Path(__file__).parent.glob('[a-z]*.py')
  return sorted(m.stem for m in modules if m.stem != 'base')


def get_stage(name: str, crop_seconds: float | None = None) -> Stage:
  """Returns the STAGE of `musiclm_jax.stages.<name>`.

  Args:
    name: Of the stage.
    crop_seconds: Overrides the paper's length of a training example.

  Raises:
    UserError: If there is no such stage.
  """
  if name not in names():
    raise errors.UserError(f"stage must be one of {names()}, but is '{name}'.")
  stage = importlib.import_module(f'musiclm_jax.stages.{name}').STAGE
  if crop_seconds is None:
    return stage
  return dataclasses.replace(stage, crop_seconds=crop_seconds)


def feature_lengths(stage: Stage) -> Mapping[str, int]:
  """Returns `stage.feature_lengths`; a function so that gin can call it."""
  return stage.feature_lengths
