"""Sizes and hashes of the files of a dataset, in a file beside them."""

import contextlib
import hashlib
import json
import os
import re
from typing import Any

from etils import epath
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths

NAME = 'checksums.json'
_KIND = "a file of a dataset that is as 'musiclm' wrote it"
_ADVICE = 'Copy it again, or make the dataset anew with --overwrite.'
# Records and audio have hashes that are checked on every read; hashing large
# files first would take minutes.
_RECORDS = re.compile(r'.*\.(array_record|audio)-\d{5}-of-\d{5}')


def reading(
    path: str | os.PathLike[str],
) -> contextlib.AbstractContextManager[None]:
  """Returns a context whose errors name a dataset file that is damaged."""
  return errors.reading(path, _KIND, _ADVICE)


def _size(path: epath.Path) -> int:
  if paths.is_remote(path):
    return paths.size(path)
  # `stat` looks up the owner's name, which may fail in containers.
  return os.path.getsize(path)


def _describe(path: epath.Path) -> dict[str, Any]:
  if _RECORDS.fullmatch(path.name):
    return {'bytes': _size(path)}
  content = path.read_bytes()
  return {
      'bytes': len(content),
      'sha256': hashlib.sha256(content).hexdigest(),
  }


def write(folder: epath.Path) -> None:
  """Writes the sizes and hashes of the files of a folder."""
  described = {path.name: _describe(path) for path in sorted(folder.iterdir())}
  text = json.dumps(files.sealed({'files': described}), indent=1)
  (folder / NAME).write_text(text)


def read(folder: epath.Path) -> dict[str, Any]:
  """Returns the size and hash of each file of a folder, by its name.

  Returns:
    An empty dict for a folder that was written before there were checksums.

  Raises:
    UserError: If the checksums are damaged.
  """
  path = folder / NAME
  if not path.exists():
    return {}
  with reading(path):
    value = json.loads(path.read_text())
    seal = value.pop(files.SEAL, None)
    if seal != files.json_sha256(value):
      raise ValueError('it is damaged or was edited')
    return value['files']


def check(folder: epath.Path) -> None:
  """Raises UserError, naming the file, unless all are as they were written.

  Files of records are only checked for their size: reading checks the rest.
  """
  described = read(folder)
  sizes = paths.sizes(paths.to_path(folder)) if described else {}
  for name, expected in described.items():
    path = folder / name
    with reading(path):
      if name not in sizes:
        raise FileNotFoundError(os.fspath(path))
      size = sizes[name]
      if size != expected['bytes']:
        raise ValueError(f'it has {size} bytes instead of {expected["bytes"]}')
      if not _RECORDS.fullmatch(name) and _describe(path) != expected:
        raise ValueError('its content has changed')
