"""Reads lists of prompts: JSON lines, or text with a prompt on each line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import os
import re
from typing import Any

from jaxtyping import Float
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax.audio import io
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import plan
from musiclm_jax.sampling import timeline
import numpy as np

SUFFIXES = ('.jsonl', '.txt')

# Options in which the rows of a batch may differ.
_OF_ROWS = ('melody', 'plan', 'seed')

_MAX_BYTES, _MAX_LINES = 1 << 28, 1_000_000

# File names are safe on any system; ids of YouTube videos may start with '-'.
_RESERVED = re.compile(r'(con|prn|aux|nul|(com|lpt)\d)(\..*)?', re.IGNORECASE)
_ID = re.compile(r'[\w-]([\w.-]{0,126}[\w-])?', re.ASCII)


@dataclasses.dataclass(frozen=True)
class Request:
  """The request of a line: everything that decides a piece of music.

  Attributes:
    prompt: Text that describes the music.
    options: Other arguments of `MusicLM.generate`: sorted (name, value) pairs;
      a plan as JSON, and a melody as that of its file and the hash of this.
  """

  prompt: str
  options: tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a list.

  Attributes:
    number: Number of the line, from 1.
    id: Name of its file; the number, in six digits, if the line has none.
    request: The piece it asks for; None if the line is invalid.
    error: Why the line is invalid; '' if it is not.
  """

  number: int
  id: str
  request: Request | None
  error: str = ''


def _prompt(value: Any) -> str:
  if not isinstance(value, str) or not value.strip():
    raise errors.UserError(
        f'prompt must be a text that describes music, but is {value!r:.100}.'
    )
  timeline.check_text(value)
  return value


def _seconds(value: Any) -> float:
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not is_number or not 0 < value <= io.MAX_SECONDS:
    raise errors.UserError(
        f'seconds must be greater than 0 and at most {io.MAX_SECONDS}, but are'
        f' {value!r:.100}.'
    )
  return float(value)


def _seed(value: Any) -> int:
  is_int = isinstance(value, int) and not isinstance(value, bool)
  if not is_int or not 0 <= value < 2**32:
    raise errors.UserError(
        'seed must be a whole number in [0, 2**32), but is' f' {value!r:.100}.'
    )
  return value


def _negative_prompt(value: Any) -> str:
  try:
    return _prompt(value)
  except errors.UserError as e:
    raise errors.UserError(f'negative_{e}') from e


def _flag(name: str, value: Any) -> bool:
  if not isinstance(value, bool):
    raise errors.UserError(
        f'{name} must be true or false, but is {value!r:.100}.'
    )
  return value


def _plan(value: Any) -> str:
  """Returns the JSON of a plan: equal for equal plans."""
  return json.dumps(plan.Plan.from_json(value).to_json(), sort_keys=True)


def _melody(value: Any) -> str:
  """Returns the JSON of a file's name and hash: equal for equal melodies."""
  if not isinstance(value, str):
    raise errors.UserError(
        f'melody must be the name of an audio file, but is {value!r:.100}.'
    )
  path = caching.local(value)
  with errors.reading(path, 'an audio file'), path.open('rb') as file:
    sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
  return json.dumps({'file': value, 'sha256': sha256})


def read_melody(
    text: str | None, sample_rate: int
) -> Float[np.ndarray, ' samples'] | None:
  """Reads the melody of a request; None if it has none.

  Args:
    text: The option 'melody' of the request.
    sample_rate: Sample rate of the audio, in Hz.

  Raises:
    NotFoundError: If its file is not there any more.
    UserError: If it can't be read.
  """
  if text is None:
    return None
  return io.read_audio(json.loads(text)['file'], sample_rate)


def _best_of(value: Any) -> int:
  if not isinstance(value, int) or isinstance(value, bool) or value < 1:
    raise errors.UserError(
        f'best_of must be at least 1, but is {value!r:.100}.'
    )
  return value


def _choice(name: str, value: Any) -> int | float:
  """Checks a field of `SamplingConfig`."""
  kind = int if name == 'top_k' else float
  is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
  if not is_number or abs(value) > 1e9:
    raise errors.UserError(f'{name} must be a number, but is {value!r:.100}.')
  fields: dict[str, Any] = {name: kind(value)}
  choosing.SamplingConfig(**fields)
  return fields[name]


# Options that a line may set, and the function that checks each.
OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    'seconds': _seconds,
    'seed': _seed,
    'negative_prompt': _negative_prompt,
    'loop': functools.partial(_flag, 'loop'),
    'plan': _plan,
    'melody': _melody,
    'prompt_only': functools.partial(_flag, 'prompt_only'),
    'best_of': _best_of,
    **{name: functools.partial(_choice, name) for name in choosing.FIELDS},
}


def _fields(text: bytes, is_json: bool) -> dict[str, Any]:
  """Returns the fields of a line, unchecked."""
  try:
    decoded = text.decode()
    fields: Any = {'prompt': decoded.strip()}
    if is_json:
      fields = json.loads(decoded, object_pairs_hook=files.once)
  except (ValueError, RecursionError) as e:
    raise errors.UserError(
        f'line must be JSON in UTF-8, but is not: {e}'
    ) from e
  if not isinstance(fields, dict):
    raise errors.UserError(
        'line must be an object such as {"prompt": "a waltz"}, but is'
        f' {fields!r:.100}.'
    )
  return fields


def _request(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> Request:
  names = ('prompt', 'id', *OPTIONS)
  for name in fields:
    if name not in names:
      raise errors.UserError(
          f'fields must be some of {names}, but one is {name!r:.100}.'
      )
  options = {
      name: check(fields[name])
      for name, check in OPTIONS.items()
      if name in fields
  }
  prompt, options = _prompt(fields.get('prompt')), {**defaults, **options}
  total = options.get('best_of', 1) * options.get('seconds', 0)
  if total > io.MAX_SECONDS:
    raise errors.UserError(
        f'best_of must be less: the takes of a piece last {total:g} s in all,'
        f' but must last at most {io.MAX_SECONDS} s.'
    )
  return Request(prompt, tuple(sorted(options.items())))


def _id(value: Any) -> str:
  if isinstance(value, int) and not isinstance(value, bool):
    value = str(value)
  if (
      not isinstance(value, str)
      or not _ID.fullmatch(value)
      or _RESERVED.fullmatch(value)
  ):
    raise errors.UserError(
        f'id must be a safe file name, but is {value!r:.100}. Use up to 128'
        ' letters without accents, digits and _ - . (no dot first or last).'
    )
  return value


def _line(
    text: bytes, number: int, is_json: bool, defaults: Mapping[str, Any]
) -> Line:
  """Parses a line, which may be invalid."""
  id_ = f'{number:06d}'
  try:
    fields = _fields(text, is_json)
    if 'id' in fields:
      id_ = _id(fields['id'])
    return Line(number, id_, _request(fields, defaults))
  except errors.UserError as e:
    return Line(number, id_, None, str(e))


def _with_own_ids(lines: Sequence[Line]) -> Iterator[Line]:
  """Yields the lines, all but the first of each id marked as invalid."""
  numbers: dict[str, int] = {}
  for line in lines:
    # Some file systems do not distinguish upper and lower case.
    first = numbers.setdefault(line.id.lower(), line.number)
    if first == line.number:
      yield line
      continue
    error = (
        f"ids must differ, but line {first} has '{line.id}' already (capitals"
        ' count as small letters). Rename this one.'
    )
    yield dataclasses.replace(line, request=None, error=line.error or error)


def read(
    path: str | os.PathLike[str], defaults: Mapping[str, Any]
) -> list[Line]:
  """Reads a list of prompts, without blank lines.

  Args:
    path: A .jsonl file, whose lines are objects with 'prompt' and optionally
      'id' and OPTIONS; or a .txt file, with a prompt on each line.
    defaults: Values of OPTIONS, for lines that do not set them.

  Returns:
    All lines, including those that are invalid, be it in themselves or because
    an earlier line has the same id.

  Raises:
    UserError: If the list as a whole is invalid: it can't be read, has another
      suffix, no prompts or too many, or a default is invalid.
  """
  path = paths.to_path(path, 'list of prompts')
  if path.suffix.lower() not in SUFFIXES:
    raise errors.UserError(
        f"list of prompts must end in one of {SUFFIXES}, but is '{path}'."
    )
  defaults = {name: OPTIONS[name](value) for name, value in defaults.items()}
  # Only b'\n' ends a line: JSON may contain other line separators.
  data = files.read_bytes(path, 'a list of prompts', _MAX_BYTES)
  if data.count(b'\n') > _MAX_LINES:
    raise errors.UserError(
        f"'{path}' must have at most {_MAX_LINES} lines, but has"
        f' more. Split it.'
    )
  texts = data.removeprefix(b'\xef\xbb\xbf').split(b'\n')
  is_json = path.suffix.lower() == '.jsonl'
  lines = [
      _line(text, number, is_json, defaults)
      for number, text in enumerate(texts, start=1)
      if text.strip()
  ]
  if not lines:
    raise errors.UserError(
        f"'{path}' must hold at least one prompt, but is empty."
    )
  return list(_with_own_ids(lines))


def batches(lines: Sequence[Line], size: int) -> list[list[Request]]:
  """Cuts a list into batches of requests that can be made in one call.

  Args:
    lines: Lines of the list; invalid ones are left out.
    size: Most requests in a batch.

  Returns:
    Requests that differ only in prompt, plan, melody and seed. Equal requests
    appear once, as they make the same music.
  """
  groups: dict[Any, dict[Request, None]] = {}
  for line in lines:
    if line.request:
      alike = tuple(x for x in line.request.options if x[0] not in _OF_ROWS)
      groups.setdefault(alike, {})[line.request] = None
  return [
      list(group)[i : i + size]
      for group in groups.values()
      for i in range(0, len(group), size)
  ]
