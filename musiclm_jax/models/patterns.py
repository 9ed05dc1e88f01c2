"""Layouts of a stage's target tokens in the positions of a sequence.

'flat': one token per position, quantizers innermost (AudioLM 4.2).

'delay': one token of every quantizer per position, each quantizer one frame
later than the one before it (MusicGen, arXiv 2306.05284, section 2.2). So the
network runs once per frame, and still predicts each token from all coarser ones
of its frame.
"""

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped
from musiclm_jax import streams
import numpy as np

AnyArray = Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class Pattern:
  """A layout of frames in positions.

  Attributes:
    num_quantizers: Tokens per frame.
    is_delayed: Whether the pattern is 'delay', rather than 'flat'.
  """

  num_quantizers: int
  is_delayed: bool

  @property
  def width(self) -> int:
    """Tokens per position."""
    return self.num_quantizers if self.is_delayed else 1

  def num_positions(self, num_frames: int) -> int:
    """Returns how many positions some frames take."""
    if self.is_delayed:
      return num_frames + self.num_quantizers - 1
    return num_frames * self.num_quantizers

  def num_frames(self, num_positions: int) -> int:
    """Returns how many frames are complete after the first positions."""
    if self.is_delayed:
      return max(0, num_positions - self.num_quantizers + 1)
    return num_positions // self.num_quantizers

  def first_position(self, frame: int) -> int:
    """Returns the position of the first token of a frame."""
    return frame if self.is_delayed else frame * self.num_quantizers

  def places(
      self, positions: Int[AnyArray, '*b']
  ) -> tuple[Int[AnyArray, '*b width'], Int[AnyArray, '*#b width']]:
    """Returns the frame and the quantizer of each token of some positions.

    There is no token where the frame is negative or after the last one.
    """
    positions = positions[..., None]
    if not self.is_delayed:
      return positions // self.num_quantizers, positions % self.num_quantizers
    quantizers = np.arange(self.num_quantizers)
    return positions - quantizers, quantizers

  def to_positions(
      self, ids: Int[AnyArray, '*b frames quantizers']
  ) -> Int[AnyArray, '*b positions width']:
    """Lays out the ids of frames in positions; 0 where there is no token."""
    num_frames = ids.shape[-2]
    if not self.is_delayed:
      return ids.reshape(*ids.shape[:-2], -1, 1)
    positions = np.arange(self.num_positions(num_frames))
    frames, quantizers = self.places(positions)
    is_token = (frames >= 0) & (frames < num_frames)
    return ids[..., frames.clip(0, num_frames - 1), quantizers] * is_token

  def read(
      self, prefix: Int[Array, 'b i'], targets: Int[AnyArray, 'b t']
  ) -> Int[Array, 'b positions width']:
    """Returns what each position reads: the ids at the one before.

    Args:
      prefix: [batch, length] ids, one per position.
      targets: [batch, length] ids of whole frames, quantizers innermost.
    """
    beside = [(0, 0), (0, 0), (0, self.width - 1)]
    frames = targets.reshape(len(targets), -1, self.num_quantizers)
    laid_out = self.to_positions(frames)[:, :-1]
    ids = [jnp.pad(prefix[..., None], beside), laid_out]
    return jnp.pad(jnp.concatenate(ids, axis=1), [(0, 0), (1, 0), (0, 0)])

  def to_frames(
      self, values: Shaped[AnyArray, 'b positions width *each']
  ) -> Shaped[AnyArray, 'b frames quantizers *each']:
    """Collects the values of the tokens of complete frames from positions."""
    batch, num_positions, _, *each = values.shape
    num_frames = self.num_frames(num_positions)
    if not self.is_delayed:
      return values.reshape(batch, num_frames, self.num_quantizers, *each)
    numpy = np if isinstance(values, np.ndarray) else jnp
    columns = [
        values[:, q : q + num_frames, q] for q in range(self.num_quantizers)
    ]
    return numpy.stack(columns, axis=2)


def of_stage(stage: streams.Stage) -> Pattern:
  """Returns the layout of a stage's targets."""
  return Pattern(stage.targets.num_quantizers, stage.pattern == 'delay')


def add_up(
    embed: Callable[[jax.Array], jax.Array], ids: Int[Array, '*b width']
) -> Float[Array, '*b d']:
  """Returns the sum of the embeddings of each position's ids, scaled.

  Args:
    embed: Maps ids to embeddings.
    ids: [..., width] ids. All but the first may be 0, for no token.
  """
  width = ids.shape[-1]
  if width == 1:
    return embed(ids[..., 0])
  is_token = (ids != 0) | (np.arange(width) == 0)
  summed = jnp.sum(jnp.where(is_token[..., None], embed(ids), 0), axis=-2)
  return summed * width**-0.5  # On the scale of a single token.
