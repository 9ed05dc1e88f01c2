"""Keeps the origin of a file in the file itself, so both exist or neither."""

from collections.abc import Mapping
import hashlib
import json
import os
import pathlib
import re
from typing import Any

from musiclm_jax.audio import io
from musiclm_jax.models import parts
from musiclm_jax.sampling import prompt_list

_SEAL, _BLANK = 'file_sha256', '0' * 64
_SEALED = re.compile(rb'("file_sha256": ")([0-9a-f]{64})(?=")')


def _excerpt(value: Any) -> Any:
  """Returns a value, or the start of its JSON if that is long."""
  text = json.dumps(value)
  return value if len(text) <= 100 else f'{text[:97]}...'


def model_sha256(directory: str | os.PathLike[str]) -> str:
  """Returns a hash of all parts of a model: their weights and configs."""
  names = sorted(x.stem for x in pathlib.Path(directory).glob('*.safetensors'))
  descriptions = [parts.read_description(directory, name) for name in names]
  text = json.dumps([names, descriptions], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def comment(request: prompt_list.Request, settings: Mapping[str, Any]) -> str:
  """Returns the text of a file's 'comment' tag.

  Args:
    request: Request that the file answers.
    settings: Everything else that decides its samples; JSON values.

  Returns:
    A JSON object: an excerpt of every value, the sha256 of all values, and room
    for that of the file, see `seal`.
  """
  values = {'prompt': request.prompt, **dict(request.options), **settings}
  whole = json.dumps(values, sort_keys=True).encode()
  excerpts = {name: _excerpt(value) for name, value in values.items()}
  hashes = {'sha256': hashlib.sha256(whole).hexdigest(), _SEAL: _BLANK}
  return json.dumps(excerpts | hashes)


def seal(data: bytes) -> bytes:
  """Fills the hash of a file into the `comment` that it contains."""
  return _with_seal(data, hashlib.sha256(data).hexdigest())


def _with_seal(data: bytes, sha256: str) -> bytes:
  return _SEALED.sub(rb'\g<1>' + sha256.encode(), data, count=1)


def _is_whole(path: str | os.PathLike[str]) -> bool:
  """Returns whether a file is bit for bit as it was written."""
  data = pathlib.Path(path).read_bytes()
  found = _SEALED.search(data)
  if not found:
    return False
  blank = _with_seal(data, _BLANK)
  return found[2].decode() == hashlib.sha256(blank).hexdigest()


def difference(path: str | os.PathLike[str], expected: str) -> str | None:
  """Describes how a file's origin differs from the expected one; None if equal.

  Args:
    path: Path of an audio file.
    expected: The `comment` that it should have.
  """
  try:
    found = json.loads(io.read_tags(path).get('comment', ''))
  except ValueError:
    found = None
  if not isinstance(found, dict) or 'sha256' not in found:
    return 'is damaged, or was not made from a list'
  wanted = json.loads(expected)
  # Files of older versions lack this hash.
  if _SEAL in found and not _is_whole(path):
    return 'is damaged: its content is not what it says'
  found.pop(_SEAL, None)
  wanted.pop(_SEAL)
  # The hash comes last: it covers differences that excerpts do not show.
  for name in sorted(wanted | found, key='sha256'.__eq__):
    if found.get(name) != wanted.get(name):
      return f'was made with {name} {found.get(name)}, not {wanted.get(name)}'
  return None
