"""The cascade of stages: MuLan tokens -> semantic -> coarse -> fine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from jaxtyping import Int
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import windows
from musiclm_jax.tokenizers import base
import numpy as np

STAGES = ('semantic', 'coarse', 'fine')

ACOUSTIC_RATE = base.FINE.num_frames(1.0)  # Frames per second.

_OVERLAP = 0.5  # Seconds of sound that a section at least follows from.

Progress = Callable[[int], Any]


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
  """How each stage chooses tokens; temperatures of MusicLM 4.1."""

  semantic: choosing.SamplingConfig = choosing.SamplingConfig(1.0)
  coarse: choosing.SamplingConfig = choosing.SamplingConfig(0.95)
  fine: choosing.SamplingConfig = choosing.SamplingConfig(0.4)

  def changed(
      self, temperature: float = 1.0, **changes: float | int
  ) -> 'GenerationConfig':
    """Returns a config with the same changes for every stage.

    Args:
      temperature: Times that of each stage.
      **changes: Other fields of `SamplingConfig`.
    """
    configs = {}
    for name in STAGES:
      config = getattr(self, name)
      configs[name] = dataclasses.replace(
          config, temperature=temperature * config.temperature, **changes
      )
    return GenerationConfig(**configs)


@dataclasses.dataclass(frozen=True)
class Job:
  """Pieces to sample, alike in all that is not tokens.

  Attributes:
    tokens: 'mulan' [batch, sections, quantizers]; 'melody' [batch, windows,
      quantizers] if pieces are to follow one; and those of the stages, [batch,
      frames, quantizers], ABSENT where they are to be sampled: in the same
      frames of each piece. They are written there.
    seeds: [batch, numbers] of 32 bits, which decide the noise of a piece.
    config: How tokens are chosen.
    sections: Seconds at which each section, and its MuLan tokens, start.
    context_seconds: How much of the section before semantic tokens follow from.
    negative: MuLan tokens like those of `tokens`, to be led away from; None to
      be led away from no conditioning.
  """

  tokens: streams.Tokens
  seeds: Int[np.ndarray, 'batch numbers']
  config: GenerationConfig = GenerationConfig()
  sections: Sequence[float] = (0.0,)
  context_seconds: float = 0.0
  negative: Int[np.ndarray, 'batch sections quantizers'] | None = None


class Sampler:
  """Samples every stream of pieces of any length, in bounded memory."""

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

  def check_guidance(
      self, config: GenerationConfig, has_negative_prompt: bool
  ) -> None:
    """Raises UserError if a stage has nothing to be led away from."""
    for name in ('semantic', 'coarse'):
      scale = getattr(config, name).guidance_scale
      knows = has_negative_prompt or self._decoders[name].knows_absence
      if scale != 1 and not knows:
        raise errors.UserError(
            f'guidance_scale must be 1 without a negative prompt, but is'
            f" {scale}: stage '{name}' of this model was trained without"
            ' conditioning_dropout. Say what the music should not be like.'
        )

  def empty(self, batch: int, seconds: float) -> streams.Tokens:
    """Returns room for the tokens of some audio, all ABSENT.

    Windows are whole, so very short pieces take more than is heard.
    """
    # Less a thousandth of a frame, lest rounding errors add a frame.
    heard = int(np.ceil(seconds * ACOUSTIC_RATE - 1e-3))
    acoustic = max(heard, self._windows['fine'].frames(base.FINE))
    seconds = self._windows['coarse'].whole(acoustic / ACOUSTIC_RATE)
    semantic = int(np.ceil(base.SEMANTIC.num_frames(1.0) * seconds - 1e-3))
    frames = {'semantic': semantic, 'coarse': acoustic, 'fine': acoustic}
    return {
        name: np.full(
            (batch, frames[name], decoder.stage.targets.num_quantizers),
            streams.ABSENT,
            np.int32,
        )
        for name, decoder in self._decoders.items()
    }

  def start(self, job: Job, progress: Progress = lambda _: None) -> 'Run':
    """Returns what samples the tokens of `job` as they are asked for.

    Args:
      job: What to sample.
      progress: Is told how many more tokens are sampled.
    """
    return Run(self._decoders, self._windows, job, progress)


class Run:
  """The sampling of some pieces, each from its own seeds and tokens alone.

  A stage samples no further than those after it need, so that the first audio
  can be heard long before the last semantic token is there.

  Attributes:
    tokens: Of all streams; ABSENT where they are not sampled yet.
  """

  def __init__(
      self,
      decoders: Mapping[str, decode.StageDecoder],
      cover: Mapping[str, windows.Windows],
      job: Job,
      progress: Progress,
  ):
    """Use `Sampler.start`."""
    none = np.zeros((len(job.seeds), 0, base.MELODY.num_quantizers), np.int32)
    self.tokens = {base.MELODY.name: none, **job.tokens}
    self._decoders, self._windows = decoders, cover
    self._job, self._progress = job, progress
    self._pieces = {
        name: self._continue(name) for name in ('semantic', 'coarse')
    }

  @property
  def num_tokens(self) -> int:
    """How many tokens are still to be sampled."""
    return sum(
        int(np.sum(self.tokens[name] == streams.ABSENT)) for name in STAGES
    )

  def finish(self) -> streams.Tokens:
    """Samples all there is to sample, and returns `tokens`."""
    # One stage after the other: pieces of equal size are compiled once.
    for name in ('semantic', 'coarse', 'fine'):
      self.advance(name, self.tokens[name].shape[1])
    return self.tokens

  def advance(self, name: str, until: int) -> None:
    """Samples the frames of a stream before `until`, and all they depend on."""
    if name == 'fine':
      self._fill_fine(until)
      return
    while np.any(self._unknown(name)[:until]):
      next(self._pieces[name])

  def _unknown(self, name: str) -> np.ndarray:
    """Returns which frames of a stream are to be sampled."""
    return self.tokens[name][0, :, 0] == streams.ABSENT

  def _continue(self, name: str) -> Iterator[None]:
    """Samples a stream by windows that continue each other, bit by bit."""
    job, decoder = self._job, self._decoders[name]
    cover, written = self._windows[name], self.tokens[name]
    # Whatever the music does, its sound goes on without a break.
    context = max(job.context_seconds, 0 if name == 'semantic' else _OVERLAP)
    for window in cover.continued(self._unknown(name), job.sections, context):
      position = window.first
      section = self._section(cover.seconds(position))
      inputs = self._inputs(name, window.start, section)
      for piece in decoder.stream(
          inputs,
          written[:, window.start : position],
          window.end - window.start,
          self._seeds(name),
          np.full(len(written), window.start),
          getattr(job.config, name),
          self._negative(inputs, section),
      ):
        self._progress(piece.size)
        written[:, position : position + piece.shape[1]] = piece
        position += piece.shape[1]
        yield

  def _fill_fine(self, until: int) -> None:
    """Samples fine tokens before `until`, all windows at once.

    They depend on the coarse ones of their own time alone.
    """
    name, written = 'fine', self.tokens['fine']
    cover = self._windows[name]
    todo = cover.independent(self._unknown(name), until)
    if not todo:
      return
    batch, starts = len(written), [window.start for window in todo]
    per_window = [self._inputs(name, start, 0) for start in starts]
    rows = batch * len(todo)
    sampled = self._decoders[name].sample(
        {k: np.concatenate([x[k] for x in per_window]) for k in per_window[0]},
        np.zeros((rows, 0, written.shape[2]), np.int32),
        cover.frames(base.FINE),
        np.tile(self._seeds(name), (len(todo), 1)),
        np.repeat(starts, batch),
        self._job.config.fine,
        None,
        self._progress,
    )
    for window, frames in zip(todo, np.split(sampled, len(todo)), strict=True):
      new = slice(window.first, window.end)
      unknown = written[:, new] == streams.ABSENT
      written[:, new] = np.where(
          unknown, frames[:, window.first - window.start :], written[:, new]
      )

  def _section(self, seconds: float) -> int:
    """Returns the section of a time; a frame at its border is its first."""
    starts = np.asarray(self._job.sections)
    return int(np.searchsorted(starts, seconds + 1e-3, side='right')) - 1

  def _seeds(self, name: str) -> np.ndarray:
    return np.insert(self._job.seeds, 0, STAGES.index(name), axis=1)

  def _inputs(self, name: str, start: int, section: int) -> streams.Tokens:
    """Returns the inputs of a window, once they are sampled."""
    cover = self._windows[name]
    for stream in cover.stage.inputs:
      if stream.name in STAGES:
        first = round(cover.seconds(start) * stream.num_frames(1.0))
        self.advance(stream.name, first + cover.frames(stream))
    mulan = self.tokens[base.MULAN.name][:, [section]]
    return cover.inputs({**self.tokens, base.MULAN.name: mulan}, start)

  def _negative(
      self, inputs: streams.Tokens, section: int
  ) -> streams.Tokens | None:
    if self._job.negative is None:
      return None
    return {**inputs, base.MULAN.name: self._job.negative[:, [section]]}
