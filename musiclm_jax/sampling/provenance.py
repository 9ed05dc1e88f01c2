"""A file's origin, kept in the file itself: both are there, or neither.

The tag 'comment' is a JSON object. What decides the samples stands in it by
name, with a hash of all of that; 'manifest' says what the model is, and of what
music; and the last hash is that of the file.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import tempfile
from typing import Any

from jaxtyping import Float
from musiclm_jax import __version__
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax.audio import io
from musiclm_jax.audio import ogg
from musiclm_jax.models import ledgers
from musiclm_jax.models import parts
from musiclm_jax.sampling import prompt_list
from musiclm_jax.sampling import take as take_lib
import numpy as np

MANIFEST = 'manifest'
# Characters that are kept of a value: of a request, a take, and a manifest.
_OF_REQUEST, _OF_TAKE, _OF_MANIFEST = 100, 1000, 5000
_OGG = b'OggS'
_SEAL, _BLANK = 'file_sha256', '0' * 64
_SEALED = re.compile(rb'("file_sha256": ")([0-9a-f]{64})(?=")')


def _excerpt(value: Any, most: int) -> Any:
  """Returns a value, or the start of its JSON if that is long."""
  text = json.dumps(value)
  return value if len(text) <= most else f'{text[: most - 3]}...'


def _names(directory: str | os.PathLike[str]) -> list[str]:
  return sorted(x.stem for x in pathlib.Path(directory).glob('*.safetensors'))


def model_sha256(directory: str | os.PathLike[str]) -> str:
  """Returns a hash of all parts of a model: their weights and configs."""
  names = _names(directory)
  descriptions = [parts.read_description(directory, name) for name in names]
  for description in descriptions:
    description.pop(parts.LEDGER, None)  # It changes no sample.
  text = json.dumps([names, descriptions], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def manifest(directory: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns the origin that all outputs of a model share, as JSON values.

  Args:
    directory: Directory of the model.

  Returns:
    'software'; 'parts', the sha256 of each; and 'music' that they were trained
    on, see `ledgers.summarize`.
  """
  names = _names(directory)
  described = {name: parts.read_description(directory, name) for name in names}
  return {
      'software': f'musiclm_jax {__version__}',
      'parts': {name: x['sha256'] for name, x in described.items()},
      'music': ledgers.summarize(
          {name: x.get(parts.LEDGER) for name, x in described.items()}
      ),
  }


def comment(
    request: prompt_list.Request,
    settings: Mapping[str, Any],
    model: Mapping[str, Any] | None = None,
) -> str:
  """Returns the text of the tag 'comment' of a file that answers a request.

  Args:
    request: Request that the file answers.
    settings: All else that decides its samples; JSON values.
    model: The `manifest` of the model.

  Returns:
    A JSON object: an excerpt of every value, the sha256 of all values, and room
    for that of the file, see `seal`.
  """
  values = {'prompt': request.prompt, **dict(request.options), **settings}
  return _text(values, _OF_REQUEST, model)


def take_comment(take: take_lib.Take, model: Mapping[str, Any]) -> str:
  """Returns the text of the tag 'comment' of a file of a take.

  Args:
    take: The take that is played.
    model: The `manifest` of the model that made it.
  """
  values = {
      **take.description,
      'seeds': list(take.seeds),
      'config': {k: dataclasses.asdict(x) for k, x in take.config.items()},
      'model': take.hashes,
  }
  return _text(values, _OF_TAKE, model)


def write_take(
    path: str | os.PathLike[str],
    take: take_lib.Take,
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    model: Mapping[str, Any],
) -> None:
  """Writes the audio of a take, with its origin.

  Args:
    path: Where to write it; the suffix says the format.
    take: The take that is played.
    audio: [samples] its audio.
    sample_rate: Sample rate, in Hz.
    model: The `manifest` of the model that made it.
  """
  io.write_audio(path, audio, sample_rate, take_comment(take, model), seal)


def _text(
    values: Mapping[str, Any], most: int, model: Mapping[str, Any] | None
) -> str:
  whole = json.dumps(values, sort_keys=True).encode()
  excerpts = {name: _excerpt(value, most) for name, value in values.items()}
  shared = {}
  if model is not None:
    short = {key: _excerpt(value, _OF_MANIFEST) for key, value in model.items()}
    shared[MANIFEST] = short
  hashes = {'sha256': hashlib.sha256(whole).hexdigest(), _SEAL: _BLANK}
  return json.dumps(excerpts | shared | hashes)


def write_json(path: str | os.PathLike[str], origin: Mapping[str, Any]) -> None:
  """Writes what a file says of its origin, or is to say, to a JSON file."""
  found = {key: value for key, value in origin.items() if key != _SEAL}
  files.write_text(path, json.dumps(found, indent=2))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bool]:
  """Returns what a file says of its origin, and whether it is unchanged.

  Raises:
    UserError: If it is no audio, or says nothing of its origin.
  """
  with _here(path) as file:
    found = _read(file)
    is_whole = found is not None and _SEAL in found and _is_whole(file)
  if found is None:
    raise errors.UserError(
        f"'{path}' must be a file that `musiclm generate` or `musiclm batch`"
        ' wrote, but its comment does not say how it was made.'
    )
  found.pop(_SEAL, None)
  unknown = {'software': 'unknown', 'parts': {}, 'music': 'unknown'}
  return {**found, MANIFEST: found.get(MANIFEST, unknown)}, is_whole


def _read(path: str | os.PathLike[str]) -> dict[str, Any] | None:
  try:
    found = json.loads(io.read_tags(path).get('comment', ''))
  except json.JSONDecodeError:
    return None
  return found if isinstance(found, dict) and 'sha256' in found else None


def seal(data: bytes) -> bytes:
  """Returns a file that holds a `comment`, with the file's own hash in it.

  An ogg file stays as it is: each of its pages has a checksum.
  """
  if data.startswith(_OGG):
    return data
  return _with_seal(data, hashlib.sha256(data).hexdigest())


def _with_seal(data: bytes, sha256: str) -> bytes:
  return _SEALED.sub(rb'\g<1>' + sha256.encode(), data, count=1)


def _is_whole(path: pathlib.Path) -> bool:
  """Returns whether a file is bit for bit as it was written."""
  data = path.read_bytes()
  if data.startswith(_OGG):
    try:
      ogg.find_links(path, data)
      return True
    except errors.UserError:
      return False
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
  with _here(path) as file:
    return _difference(file, expected)


@contextlib.contextmanager
def _here(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Yields a file, or a copy of it if it is in a bucket."""
  there = paths.to_path(path)
  if isinstance(there, pathlib.Path):
    yield there
    return
  with tempfile.TemporaryDirectory(prefix='musiclm-') as folder:
    here = pathlib.Path(folder) / there.name
    with errors.reading(path, 'an audio file'):
      here.write_bytes(there.read_bytes())
    yield here


def _difference(path: pathlib.Path, expected: str) -> str | None:
  try:
    found = _read(path)
  except errors.UserError:
    found = None
  if found is None:
    return 'is damaged, or was not made from a list'
  wanted = json.loads(expected)
  # Files of older versions lack this hash.
  if _SEAL in found and not _is_whole(path):
    return 'is damaged: its content is not what it says'
  for value in (found, wanted):
    value.pop(_SEAL, None)
    value.pop(MANIFEST, None)  # Another version can make the same samples.
  # The hash comes last: it tells of what excerpts leave out.
  for name in sorted(wanted | found, key='sha256'.__eq__):
    if found.get(name) != wanted.get(name):
      return f'was made with {name} {found.get(name)}, not {wanted.get(name)}'
  return None
