"""A take: all that a piece was made of, to play, vary and continue it."""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import sampler
from musiclm_jax.tokenizers import base
import numpy as np

_FORMAT = 'musiclm_jax take 1'


@dataclasses.dataclass(frozen=True, eq=False)
class Take:
  """The tokens of one piece, sampled or yet to be, and where they are from.

  Attributes:
    description: What was asked for, to be read by people.
    sample_rate: Of the audio, in Hz.
    num_samples: Its length.
    sections: Seconds at which the MuLan tokens of each section start.
    context_seconds: How much of the section before each follows from.
    seeds: Of the noise.
    config: How tokens were chosen.
    hashes: The sha256 of each part of the model.
    tokens: Of one piece, [1, frames, quantizers]; 'mulan' has a frame for each
      section. ABSENT where they are yet to be sampled.
    negative: MuLan tokens of the negative prompt, like those of `tokens`.
    loop: Whether the end leads back into the start.
    audio: [samples] that stay as they are, but for `change`.
    change: (start, end) in samples of what is not from `audio`.
  """

  description: dict[str, Any]
  sample_rate: int
  num_samples: int
  sections: tuple[float, ...]
  context_seconds: float
  seeds: tuple[int, ...]
  config: sampler.GenerationConfig
  hashes: dict[str, str]
  tokens: base.Tokens
  negative: np.ndarray | None = None
  loop: bool = False
  audio: np.ndarray | None = None
  change: tuple[int, int] | None = None

  @property
  def layout(self) -> tuple[Any, ...]:
    """What pieces have to share in order to be sampled side by side."""
    unknown = [
        (self.tokens[name][0, :, 0] == base.ABSENT).tobytes()
        for name in sampler.STAGES
    ]
    shapes = [(name, x.shape) for name, x in sorted(self.tokens.items())]
    no_negative = self.negative is None
    rules = self.sections, self.context_seconds, self.config
    return (*rules, no_negative, *shapes, *unknown)

  def renumbered(self, number: int) -> 'Take':
    """Returns one of several takes of the same piece, each of other noise."""
    return dataclasses.replace(self, seeds=(*self.seeds[:-1], number))

  def check_part(self, part: str, hashes: Mapping[str, str]) -> None:
    """Raises ValueError unless the take was made with a part of a model.

    Args:
      part: Its name.
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
    """Returns a take of the same piece with tokens yet to be sampled.

    Args:
      seed: Of the new tokens.
      from_second: All before it is kept.
      keep_semantic: Whether only acoustic tokens are to be sampled: the same
        melody and rhythm with another sound.

    Raises:
      ValueError: If the piece ends before `from_second`.
    """
    tokens = {name: x.copy() for name, x in self.tokens.items()}
    for stream in (base.SEMANTIC, base.COARSE, base.FINE):
      if stream is base.SEMANTIC and keep_semantic:
        continue
      first = stream.num_frames(from_second)
      if not 0 <= first < tokens[stream.name].shape[1]:
        raise errors.UserError(
            'the second to start again from must be within the piece, but is'
            f' {from_second}.'
        )
      tokens[stream.name][:, first:] = base.ABSENT
    change = self.change
    if change is not None:
      start = round(from_second * self.sample_rate)
      change = min(change[0], start), self.num_samples
    return dataclasses.replace(
        self, tokens=tokens, seeds=(seed, *self.seeds[1:]), change=change
    )

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the take to a JSON file."""
    value = dataclasses.asdict(self)
    value['tokens'] = {name: x[0].tolist() for name, x in self.tokens.items()}
    if self.negative is not None:
      value['negative'] = self.negative[0].tolist()
    if self.audio is not None:
      samples = self.audio.astype('<f4').tobytes()
      value['audio'] = base64.b64encode(samples).decode()
    pathlib.Path(path).write_text(json.dumps({'format': _FORMAT, **value}))


def load(path: str | os.PathLike[str]) -> Take:
  """Reads a take that `Take.save` wrote.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it is no take, or a damaged one.
  """
  try:
    value = json.loads(pathlib.Path(path).read_text())
    if value.pop('format') != _FORMAT:
      raise KeyError('format')
    return _from_json(value)
  except (UnicodeDecodeError, KeyError, TypeError, AttributeError) as e:
    raise _damaged(path, e) from e
  except ValueError as e:  # Of json, base64 and the checks of fields.
    raise _damaged(path, e) from e


def _damaged(path, error) -> ValueError:
  return ValueError(
      f"'{os.fspath(path)}' must be a file that --save_take wrote, in the"
      f" format '{_FORMAT}', but is not: {type(error).__name__}: {error}."
  )


def _from_json(value: dict[str, Any]) -> Take:
  value['tokens'] = {
      name: _tokens(rows) for name, rows in value['tokens'].items()
  }
  if value['negative'] is not None:
    value['negative'] = _tokens(value['negative'])
  if value['audio'] is not None:
    samples = base64.b64decode(value['audio'])
    value['audio'] = np.frombuffer(samples, '<f4').astype(np.float32)
    value['change'] = tuple(value['change'])
  value['sections'] = tuple(value['sections'])
  value['seeds'] = tuple(value['seeds'])
  value['config'] = sampler.GenerationConfig(
      **{k: choosing.SamplingConfig(**v) for k, v in value['config'].items()}
  )
  return Take(**value)


def _tokens(rows: Sequence[Sequence[int]]) -> np.ndarray:
  tokens = np.asarray([rows], np.int32)
  if tokens.ndim != 3:
    raise errors.UserError(
        f'tokens must be rows of numbers, but are {tokens.shape}'
    )
  return tokens
