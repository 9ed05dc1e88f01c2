"""Samples the streams of a cascade of stages, each after those it reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any
import zlib

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import coverage
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.stages import base as stages
import numpy as np

_OVERLAP = 0.5  # Least seconds of sound that a new section continues.
# Each stage draws its own noise, by a number: for the paper's stages, their
# place in the cascade; for any other, a checksum of its name.
_NUMBERS = {'semantic': 0, 'coarse': 1, 'fine': 2}

Progress = Callable[[int], Any]


class Sampler:
  """Samples every stream of pieces of any length, in bounded memory.

  Attributes:
    prompts: Stream of the prompts.
    conditions: Other streams that stages read and no stage writes, by name.
    sampled: Streams that stages write, in the order of the cascade.
    acoustic: Names of those that the codec turns into audio.
  """

  def __init__(
      self,
      decoders: Mapping[str, decode.StageDecoder],
      prompts: streams.Stream,
      codec: Sequence[streams.Stream],
  ):
    """Makes a cascade.

    Args:
      decoders: A decoder of each stage, by the name of the stream it writes.
      prompts: Stream of the prompts.
      codec: Streams of the codec; stages may write only the first ones.

    Raises:
      NotFoundError: If no stage writes a stream that is needed.
      UserError: If stages read each other, or targets have no frame rate.
    """
    order = stages.order({name: d.stage for name, d in decoders.items()})
    self._decoders = {name: decoders[name] for name in order}
    self._windows = {
        name: coverage.Windows(decoder.stage)
        for name, decoder in self._decoders.items()
    }
    read = {s.name: s for d in decoders.values() for s in d.stage.inputs}
    self.prompts = prompts
    self.conditions = {
        name: stream
        for name, stream in read.items()
        if name not in decoders and name != prompts.name
    }
    self.sampled = tuple(self._decoders[n].stage.targets for n in order)
    self.acoustic = tuple(s.name for s in codec if s.name in decoders)
    self._check_writers([s.name for s in codec])

  def _check_writers(self, codec: Sequence[str]) -> None:
    """Raises NotFoundError unless stages write all that is read."""
    written = list(self._decoders)
    first = codec[: max(1, len(self.acoustic))]
    missing = set(first) - set(written)
    missing |= {n for n, s in self.conditions.items() if not s.is_conditioning}
    if missing:
      raise errors.NotFoundError(
          f'stages of a model must write {sorted(missing)}, which other stages'
          f' or the codec read, but write {written}. Export the stages that do.'
      )
    if untimed := [s.name for s in self.sampled if not s.frame_rate]:
      raise errors.UserError(
          f'stages must write streams with a frame rate, but {untimed} have'
          ' none.'
      )

  def check(
      self, config: choosing.GenerationConfig, has_negative_prompt: bool
  ) -> None:
    """Raises UserError unless the stages support a config."""
    unknown = set(config) - {choosing.OTHERS, *self._decoders}
    if unknown:
      raise errors.UserError(
          f'config must name stages of the model, {list(self._decoders)}, but'
          f' names {sorted(unknown)}.'
      )
    for name, decoder in self._decoders.items():
      stage, scale = decoder.stage, config.of(decoder.stage).scale
      is_led_away = has_negative_prompt and self._reads_prompts(stage)
      if (
          stage.guiding
          and scale != 1
          and not (decoder.knows_absence or is_led_away)
      ):
        raise errors.UserError(
            f'guidance_scale must be 1 without a negative prompt, but is'
            f" {scale}: stage '{name}' of this model was trained without"
            ' conditioning_dropout. Give 1, or say what the music should not be'
            ' like.'
        )

  def _reads_prompts(self, stage: streams.Stage) -> bool:
    return any(s.name == self.prompts.name for s in stage.inputs)

  def empty(self, seconds: float) -> streams.Tokens:
    """Returns ABSENT tokens for a piece, to be sampled.

    As windows are whole, very short pieces get more than is heard.
    """
    frames = self._num_frames(seconds)
    return {
        s.name: np.full(
            (1, frames[s.name], s.num_quantizers), streams.ABSENT, np.int32
        )
        for s in self.sampled
    }

  def _num_frames(self, seconds: float) -> dict[str, int]:
    """Returns the number of frames of each stream that a piece needs."""
    frames: dict[str, int] = {}
    for name, cover in reversed(self._windows.items()):
      needed = [seconds]
      for reader, count in frames.items():
        if name in (s.name for s in self._windows[reader].stage.inputs):
          of_reader = self._windows[reader]
          needed.append(of_reader.whole(of_reader.seconds(count)))
      # The thousandth of a frame keeps rounding errors from adding one.
      count = int(np.ceil(max(needed) * cover.rate - 1e-3))
      least = cover.length if cover.stage.is_independent else 0
      frames[name] = max(count, least)
    # The streams of the codec must end together.
    ends = {self._windows[n].seconds(frames[n]) for n in self.acoustic}
    return frames if len(ends) == 1 else self._num_frames(max(ends))

  def start(
      self,
      takes: Sequence[take_lib.Take],
      progress: Progress = lambda _: None,
  ) -> 'Run':
    """Returns a run that samples takes of the same layout, step by step.

    Args:
      takes: Takes with tokens yet to be sampled.
      progress: Called with the number of new tokens.
    """
    return Run(self._decoders, self._windows, takes, progress)


class Run:
  """The sampling of some takes, each from only its own seeds and tokens.

  A stage samples no further than later stages need, so that the first audio can
  be heard long before the last semantic token is there.

  Attributes:
    tokens: [batch, frames, quantizers] of each stream; ABSENT where they are
      yet to be sampled.
  """

  def __init__(
      self,
      decoders: Mapping[str, decode.StageDecoder],
      cover: Mapping[str, coverage.Windows],
      takes: Sequence[take_lib.Take],
      progress: Progress,
  ):
    """See `Sampler.start`."""
    self._decoders, self._windows = decoders, cover
    self._takes, self._progress = takes, progress
    self._first = first = takes[0]  # All are alike but for tokens and seeds.
    self._seeds = np.array([take.seeds for take in takes])
    negatives = [t.negative for t in takes if t.negative is not None]
    self._negative = np.concatenate(negatives) if negatives else None
    read = [s for decoder in decoders.values() for s in decoder.stage.inputs]
    self.tokens = {
        s.name: np.zeros((len(takes), 0, s.num_quantizers), np.int32)
        for s in read
    }
    for name in first.tokens:
      self.tokens[name] = np.concatenate([t.tokens[name] for t in takes])
    self._pieces = {name: self._continue(name) for name in decoders}
    # The first stage compiles as it starts; the others do so meanwhile.
    for name in list(decoders)[1:]:
      if not decoders[name].stage.is_independent and any(self._unknown(name)):
        self._prepare(name, len(takes))

  @property
  def num_tokens(self) -> int:
    """Number of tokens that are yet to be sampled."""
    return sum(
        int(np.sum(self.tokens[name] == streams.ABSENT))
        for name in self._decoders
    )

  def finish(self) -> list[take_lib.Take]:
    """Samples all that is left, and returns the takes."""
    for name, decoder in self._decoders.items():
      if not decoder.stage.is_independent:
        continue
      unknown = self._unknown(name)
      windows = self._windows[name].independent(unknown, len(unknown))
      if windows:
        rows = len(windows) * len(self._takes)
        config = self._first.config.of(decoder.stage)
        self._prepare(name, decoder.rows_at_once(rows, config))
    # Stage by stage, so that batches have equal sizes, each compiled once.
    for name in self._decoders:
      self.advance(name, self.tokens[name].shape[1])
    return [
        dataclasses.replace(
            take, tokens={k: self.tokens[k][[row]] for k in take.tokens}
        )
        for row, take in enumerate(self._takes)
    ]

  def _prepare(self, name: str, rows: int) -> None:
    """Compiles a stage for a number of rows, in the background."""
    decoder, seeds = self._decoders[name], self._own_seeds(name)
    seeds = np.resize(seeds, (rows, seeds.shape[1]))
    decoder.prepare(seeds, self._first.config.of(decoder.stage))

  def advance(self, name: str, until: int) -> None:
    """Samples a stream up to frame `until`, and all that it depends on."""
    if self._decoders[name].stage.is_independent:
      self._fill(name, until)
      return
    while np.any(self._unknown(name)[:until]):
      next(self._pieces[name])

  def _unknown(self, name: str) -> np.ndarray:
    """Returns which frames of a stream are yet to be sampled."""
    return self.tokens[name][0, :, 0] == streams.ABSENT

  def _continue(self, name: str) -> Iterator[None]:
    """Samples a stream in windows that continue each other; yields often."""
    first, decoder = self._first, self._decoders[name]
    cover, written = self._windows[name], self.tokens[name]
    # Even where a new section starts, sound continues without a break.
    least = _OVERLAP if name in first.acoustic else 0
    context = max(first.context_seconds, least)
    for window in cover.continued(self._unknown(name), first.sections, context):
      position = window.first
      inputs, negative = self._inputs(name, window)
      for piece in decoder.stream(
          inputs,
          written[:, window.start : position],
          window.end - window.start,
          self._own_seeds(name),
          np.full(len(written), window.start),
          first.config.of(decoder.stage),
          negative,
      ):
        self._progress(piece.size)
        written[:, position : position + piece.shape[1]] = piece
        position += piece.shape[1]
        yield

  def _fill(self, name: str, until: int) -> None:
    """Samples frames before `until` in parallel windows.

    They depend only on the inputs at their own time.
    """
    written, decoder = self.tokens[name], self._decoders[name]
    cover = self._windows[name]
    todo = cover.independent(self._unknown(name), until)
    if not todo:
      return
    inputs, negatives = zip(*[self._inputs(name, window) for window in todo])
    sampled = decoder.sample(
        _join(inputs),
        np.zeros((len(written) * len(todo), 0, written.shape[2]), np.int32),
        cover.length,
        np.tile(self._own_seeds(name), (len(todo), 1)),
        np.repeat([window.start for window in todo], len(written)),
        self._first.config.of(decoder.stage),
        None if negatives[0] is None else _join(negatives),
        self._progress,
    )
    for window, frames in zip(todo, np.split(sampled, len(todo)), strict=True):
      new = slice(window.first, window.end)
      frames = frames[
          :, window.first - window.start : window.end - window.start
      ]
      unknown = written[:, new] == streams.ABSENT
      written[:, new] = np.where(unknown, frames, written[:, new])

  def _own_seeds(self, name: str) -> np.ndarray:
    """Returns the [batch, numbers] seeds of a stage."""
    number = _NUMBERS.get(name, zlib.crc32(name.encode()))
    return np.insert(self._seeds, 0, number, axis=1)

  def _inputs(
      self, name: str, window: coverage.Window
  ) -> tuple[streams.Tokens, streams.Tokens | None]:
    """Returns the inputs of a window, after sampling them.

    Also returns those that guidance leads away from; None without a negative
    prompt.
    """
    cover, prompts = self._windows[name], self._first.prompts
    for stream in cover.stage.inputs:
      if stream.name in self._decoders:
        first = round(cover.seconds(window.start) * (stream.frame_rate or 0))
        self.advance(stream.name, first + cover.frames(stream))
    # The section at that time; a frame on a border belongs to the later one.
    second = cover.seconds(window.first) + 1e-3
    section = np.searchsorted(self._first.sections, second, side='right') - 1
    own = {**self.tokens, prompts: self.tokens[prompts][:, [section]]}
    inputs = cover.inputs(own, window.start)
    if self._negative is None or prompts not in inputs:
      return inputs, None
    return inputs, {**inputs, prompts: self._negative[:, [section]]}


def _join(windows: Sequence[streams.Tokens]) -> streams.Tokens:
  """Joins the tokens of windows along the batch axis."""
  return {k: np.concatenate([x[k] for x in windows]) for k in windows[0]}
