"""The cascade of stages: MuLan tokens -> semantic -> coarse -> fine."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from jaxtyping import Int
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import windows
from musiclm_jax.tokenizers import base
import numpy as np

STAGES = ('semantic', 'coarse', 'fine')

ACOUSTIC_RATE = base.FINE.num_frames(1.0)  # Frames per second.

Progress = Callable[[int], Any]


@dataclasses.dataclass(frozen=True)
class Temperatures:
  """How far each stage strays from its likeliest tokens (MusicLM 4.1).

  Raises:
    ValueError: If one is negative or not finite.
  """

  semantic: float = 1.0
  coarse: float = 0.95
  fine: float = 0.4

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if not 0 <= value < float('inf'):
        raise ValueError(
            f'the temperature of {name} must be at least 0, which takes the'
            f' likeliest tokens, but is {value}.'
        )


class Sampler:
  """Samples every stream of pieces of any length, in bounded memory.

  Semantic and coarse tokens are written by windows that start half a window
  apart; each continues the tokens of the one before. Fine tokens depend on the
  coarse ones of their own time alone, so all windows are sampled at once.
  """

  def __init__(self, decoders: Mapping[str, decode.StageDecoder]):
    """Makes a sampler of the decoders of `STAGES`, by name."""
    self._decoders = decoders
    self._windows = {
        name: windows.Windows(decoders[name].stage) for name in STAGES
    }

  @property
  def reads_melody(self) -> bool:
    """Whether a stage follows a melody."""
    return any(base.MELODY in d.stage.inputs for d in self._decoders.values())

  def num_frames(self, seconds: float) -> dict[str, int]:
    """Returns the frames of each stream that are sampled for some audio.

    A stage reads whole windows, so the one before it may have to go on for a
    little longer than is heard.
    """
    fine_window = self._windows['fine'].frames(base.FINE)
    # Less a thousandth of a frame, lest rounding errors add a frame.
    heard = int(np.ceil(seconds * ACOUSTIC_RATE - 1e-3))
    acoustic = max(heard, fine_window)
    semantic = self._windows['coarse'].input_frames(acoustic, base.SEMANTIC)
    return {'semantic': semantic, 'coarse': acoustic, 'fine': acoustic}

  def num_tokens(self, seconds: float) -> int:
    """Returns the tokens that are sampled for a piece: the work to do."""
    frames = self.num_frames(seconds)
    fine = self._windows['fine']
    starts = fine.independent_starts(frames['fine'])
    frames['fine'] = len(starts) * fine.frames(base.FINE)
    return sum(
        frames[name] * self._decoders[name].stage.targets.num_quantizers
        for name in STAGES
    )

  def sample(
      self,
      tokens: base.Tokens,
      seconds: float,
      seeds: Int[np.ndarray, 'batch numbers'],
      temperatures: Temperatures,
      progress: Progress = lambda _: None,
  ) -> base.Tokens:
    """Samples pieces, each from its own seeds and conditioning alone.

    Args:
      tokens: MuLan tokens, [batch, 1, quantizers]; and if pieces shall follow
        a melody, those of it, [batch, windows, quantizers].
      seconds: Of audio that the tokens are for.
      seeds: [batch, numbers] of 32 bits, which decide the noise of a piece.
      temperatures: Of the stages.
      progress: Is told how many more tokens are sampled.

    Returns:
      `tokens`, and those of the stages; all cover at least `seconds`.
    """
    shape = (len(seeds), 0, base.MELODY.num_quantizers)
    tokens = {base.MELODY.name: np.zeros(shape, np.int32), **tokens}
    frames = self.num_frames(seconds)
    for i, name in enumerate(STAGES):
      sample = self._sample_fine if name == 'fine' else self._sample_continued
      tokens[name] = sample(
          name,
          tokens,
          frames[name],
          np.insert(seeds, 0, i, axis=1),
          getattr(temperatures, name),
          progress,
      )
    return tokens

  def _sample_continued(
      self, name, tokens, num_frames, seeds, temperature, progress
  ) -> Int[np.ndarray, 'batch frames quantizers']:
    cover, decoder = self._windows[name], self._decoders[name]
    target = decoder.stage.targets
    batch = len(tokens[base.MULAN.name])
    known = np.zeros((batch, 0, target.num_quantizers), np.int32)
    for window in range(cover.count(num_frames)):
      start = window * cover.stride(target)
      written = decoder.sample(
          cover.continued_inputs(tokens, window),
          known[:, start:],
          min(cover.frames(target), num_frames - start),
          seeds,
          np.full(batch, start),
          temperature,
          progress,
      )
      known = np.concatenate([known[:, :start], written], axis=1)
    return known

  def _sample_fine(
      self, name, tokens, num_frames, seeds, temperature, progress
  ) -> Int[np.ndarray, 'batch frames quantizers']:
    cover, decoder = self._windows[name], self._decoders[name]
    target = decoder.stage.targets
    length = cover.frames(target)
    starts = cover.independent_starts(num_frames)
    batch = len(tokens[base.MULAN.name])
    rows = batch * len(starts)
    written = decoder.sample(
        cover.independent_inputs(tokens, starts),
        np.zeros((rows, 0, target.num_quantizers), np.int32),
        length,
        np.repeat(seeds, len(starts), axis=0),
        np.tile(starts, batch),
        temperature,
        progress,
    )
    written = written.reshape(batch, len(starts), length, -1)
    result = np.zeros((batch, num_frames, target.num_quantizers), np.int32)
    # Backwards: of two windows that overlap, the earlier one has had the more
    # context by then.
    for i in reversed(range(len(starts))):
      result[:, starts[i] : starts[i] + length] = written[:, i]
    return result
