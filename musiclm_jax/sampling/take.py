"""Takes: all that a piece is made of, to sample, play, vary and continue."""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import streams
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import timeline
from musiclm_jax.tokenizers import base
import numpy as np

# Enough for six hours of tokens, or half an hour of kept audio.
MAX_BYTES = 1 << 28

_FORMAT = 'musiclm_jax take 1'
_MAX_SAMPLES = timeline.MAX_SECONDS * 768_000
_ROLES = ('given', 'sampled')  # Fields that hold streams.


def _paper(*names: str) -> tuple[streams.Stream, ...]:
  return tuple(s for name in names for s in base.PAPER if s.name == name)


@dataclasses.dataclass(frozen=True, eq=False)
class Take:
  """The tokens of one piece, sampled or yet to be, and how to sample them.

  Attributes:
    description: The piece that was asked for, for people to read.
    sample_rate: Sample rate of the audio, in Hz.
    num_samples: Length of the audio.
    sections: Start of each section in seconds; each has its own prompt.
    context_seconds: Length of the music before a section that it continues.
    seeds: 32-bit numbers that decide the noise.
    config: How tokens are chosen.
    hashes: The sha256 of each part of the model.
    tokens: [1, frames, quantizers] of each stream; ABSENT where they are yet
      to be sampled. Those of the prompts have a frame for each section.
    negative: Tokens of the negative prompt, like those of the prompts.
    loop: Whether the end leads back into the start.
    audio: [samples] to keep, except in `change`.
    change: (start, end) in samples of the music that is not kept from `audio`.
    given: Streams that no stage writes, the prompts' first. Saved takes without
      this field, or one of the next two, have the streams of the paper.
    sampled: Streams that stages write, in the order of the cascade.
    acoustic: Names of those that the codec turns into audio.
  """

  description: dict[str, Any]
  sample_rate: int
  num_samples: int
  sections: tuple[float, ...]
  context_seconds: float
  seeds: tuple[int, ...]
  config: choosing.GenerationConfig
  hashes: dict[str, str]
  tokens: streams.Tokens
  negative: np.ndarray | None = None
  loop: bool = False
  audio: np.ndarray | None = None
  change: tuple[int, int] | None = None
  given: tuple[streams.Stream, ...] = _paper('mulan', 'melody')
  sampled: tuple[streams.Stream, ...] = _paper('semantic', 'coarse', 'fine')
  acoustic: tuple[str, ...] = ('coarse', 'fine')

  @property
  def prompts(self) -> str:
    """The name of the stream of the prompts."""
    return self.given[0].name

  @property
  def layout(self) -> tuple[Any, ...]:
    """All that takes must share to be sampled side by side."""
    unknown = [
        (self.tokens[s.name][0, :, 0] == streams.ABSENT).tobytes()
        for s in self.sampled
    ]
    shapes = [(name, x.shape) for name, x in sorted(self.tokens.items())]
    no_negative = self.negative is None
    rules = self.sections, self.context_seconds, self.config
    return (*rules, no_negative, *shapes, *unknown)

  def renumbered(self, number: int) -> 'Take':
    """Returns the same take with other noise, chosen by a number."""
    return dataclasses.replace(self, seeds=(*self.seeds[:-1], number))

  def check_part(self, part: str, hashes: Mapping[str, str]) -> None:
    """Raises UserError unless the take was made with the same part.

    Args:
      part: Name of the part.
      hashes: The sha256 of each part of the model.
    """
    own, there = self.hashes.get(part), hashes.get(part)
    if own != there:
      raise errors.UserError(
          f"the take must be used with the part '{part}' it was made with,"
          f' sha256 {own}, but that of this model is {there}. Pass the model'
          ' that it was made with.'
      )

  def erase(
      self,
      seed: int,
      from_second: float = 0.0,
      keep_semantic: bool = False,
  ) -> 'Take':
    """Returns the take with some tokens erased, to be sampled anew.

    Args:
      seed: Seed of the new tokens.
      from_second: Second before which everything is kept.
      keep_semantic: Whether to erase only acoustic tokens, which keeps melody
        and rhythm but changes the sound.

    Raises:
      UserError: If the piece ends before `from_second`.
    """
    if not 0 <= from_second <= timeline.MAX_SECONDS:
      raise _outside(from_second)
    tokens = {name: x.copy() for name, x in self.tokens.items()}
    for stream in self.sampled:
      if keep_semantic and stream.name not in self.acoustic:
        continue
      first = stream.num_frames(from_second)
      if not 0 <= first < tokens[stream.name].shape[1]:
        raise _outside(from_second)
      tokens[stream.name][:, first:] = streams.ABSENT
    change = self.change
    if change is not None:
      start = round(from_second * self.sample_rate)
      change = min(change[0], start), self.num_samples
    return dataclasses.replace(
        self, tokens=tokens, seeds=(seed, *self.seeds[1:]), change=change
    )

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the take to a JSON file, with a hash of its contents.

    Raises:
      UserError: If it is too large to be read back.
      WriteError: If the file can't be written.
    """
    value = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    value['config'] = {k: dataclasses.asdict(c) for k, c in self.config.items()}
    value['tokens'] = {name: x[0].tolist() for name, x in self.tokens.items()}
    for role in _ROLES:
      value[role] = [stream.to_json() for stream in value[role]]
    if self.negative is not None:
      value['negative'] = self.negative[0].tolist()
    if self.audio is not None:
      samples = self.audio.astype('<f4').tobytes()
      value['audio'] = base64.b64encode(samples).decode()
    text = json.dumps(files.sealed({'format': _FORMAT, **value}))
    if len(text) > MAX_BYTES:
      raise errors.UserError(
          f"a take must have at most {MAX_BYTES} bytes to be kept, but '{path}'"
          f' would have {len(text)}. Go on with less audio.'
      )
    files.write_text(path, text)


def _outside(second: float) -> errors.UserError:
  return errors.UserError(
      'the second to start again from must be within the piece, but is'
      f' {second}.'
  )


def check_size(num_samples: int) -> None:
  """Raises UserError if a take that keeps so much audio could not be saved."""
  if num_samples * 16 / 3 > 0.9 * MAX_BYTES:  # Base64 of four bytes each.
    raise errors.UserError(
        f'a take must be of at most {MAX_BYTES} bytes to be saved, but one with'
        f' {num_samples} samples of audio is larger. Do without --save_take.'
    )


def load(path: str | os.PathLike[str]) -> Take:
  """Reads a take that `Take.save` wrote.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If it is not a take, or is damaged.
  """
  kind = f"a file that --save_take wrote, in the format '{_FORMAT}'"
  value = files.read_json(path, kind, MAX_BYTES, needs_seal=False)
  with errors.reading(path, kind, 'Copy or make it again.'):
    if value.pop('format') != _FORMAT:
      raise KeyError('format')
    take = _from_json(value)
    _check(take)
    return take


def _from_json(value: dict[str, Any]) -> Take:
  value['tokens'] = {
      name: _tokens(rows) for name, rows in value['tokens'].items()
  }
  if value['negative'] is not None:
    value['negative'] = _tokens(value['negative'])
  if value['audio'] is not None:
    samples = base64.b64decode(value['audio'], validate=True)
    value['audio'] = np.frombuffer(samples, '<f4').astype(np.float32)
    value['change'] = tuple(value['change'])
  value['config'] = choosing.GenerationConfig(
      **{k: choosing.SamplingConfig(**v) for k, v in value['config'].items()}
  )
  for role in set(_ROLES).intersection(value):
    value[role] = map(streams.Stream.from_json, value[role])
  for name in {'sections', 'seeds', 'acoustic', *_ROLES}.intersection(value):
    value[name] = tuple(value[name])
  return Take(**value)


def _tokens(rows: Sequence[Sequence[int]]) -> np.ndarray:
  tokens = np.asarray([rows], np.int32)
  if tokens.ndim != 3:
    raise ValueError(f'tokens are no rows of numbers, but {tokens.shape}')
  return tokens


def _check(take: Take) -> None:
  """Raises ValueError unless the fields of a take are consistent."""
  given = [s for s in take.given if s.name in take.tokens]
  for stream in (*given, *take.sampled):
    _check_tokens(stream, take.tokens[stream.name])
  if take.negative is not None:
    _check_tokens(take.given[0], take.negative)
  sections = take.tokens[take.prompts].shape[1]
  # The length of every acoustic stream: they must not differ.
  [(frames, rate)] = {
      (take.tokens[s.name].shape[1], s.frame_rate)
      for s in take.sampled
      if s.name in take.acoustic
  }
  starts, last = take.sections, take.num_samples
  change, audio = take.change or (0, last), take.audio
  if not (
      0 < last <= frames / rate * take.sample_rate + 1 < _MAX_SAMPLES
      and sections == len(starts)
      and starts[0] == 0
      and all(a < b for a, b in zip(starts, starts[1:]))
      and (take.negative is None or take.negative.shape[1] == sections)
      and all(0 <= seed < 2**32 for seed in take.seeds)
      and 0 <= change[0] <= change[1] <= last
      and (audio is None or bool(np.isfinite(audio).all()))
  ):
    raise ValueError('its fields do not fit each other')


def _check_tokens(stream: streams.Stream, tokens: np.ndarray) -> None:
  if not (
      tokens.shape[2] == stream.num_quantizers
      and tokens.min(initial=0) >= streams.ABSENT
      and tokens.max(initial=0) < stream.codebook_size
  ):
    raise ValueError(f"its tokens of '{stream.name}' are none")
