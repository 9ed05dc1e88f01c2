"""Readable files of a run: metrics.jsonl and config.gin.

Both carry checksums, so that damaged records are not taken for true ones.
"""

from collections.abc import Iterable, Mapping
import contextlib
import hashlib
import json
import os
import pathlib
import re
from typing import Any
import zlib

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress

METRICS = 'metrics.jsonl'
CONFIG = 'config.gin'
_CRC = re.compile(r'(\{.*), "crc": "([0-9a-f]{8})"\}')
_CONFIG_END = re.compile(r'(.*)# sha256 of the above: ([0-9a-f]{64})\n', re.S)

Record = Mapping[str, Any]


def _line(record: Record) -> str:
  text = json.dumps(dict(record))
  return f'{text[:-1]}, "crc": "{zlib.crc32(text.encode()):08x}"}}\n'


def _parse(line: str) -> dict[str, Any]:
  """Returns a record; raises ValueError if it is damaged."""
  if found := _CRC.fullmatch(line):
    line = found[1] + '}'
    if zlib.crc32(line.encode()) != int(found[2], 16):
      raise ValueError('checksum')
  record = json.loads(line)
  # Older versions wrote no checksums.
  numbers = [v for k, v in record.items() if k != 'split']
  if (
      record.get('split') not in ('train', 'eval')
      or not isinstance(record.get('step'), int)
      or not all(type(x) in (int, float) for x in numbers)
  ):
    raise ValueError('no record')
  return record


def read_metrics(model_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Returns the records of a run: 'step', 'split' and a float per metric.

  Damaged lines, such as a line cut off by a kill, are left out and reported.

  Raises:
    UserError: If the file can't be read.
  """
  path = paths.to_path(model_dir) / METRICS
  if not path.exists():
    return []
  with errors.reading(path, 'the metrics of a run'):
    text = path.read_bytes().decode(errors='replace')
  records, damaged = [], []
  lines = text.removesuffix('\n').split('\n') if text else []
  for number, line in enumerate(lines, start=1):
    try:
      records.append(_parse(line))
    except (ValueError, AttributeError, RecursionError):
      damaged.append(str(number))
  if damaged:
    told = f'{", ".join(damaged[:5])}{" …" if len(damaged) > 5 else ""}'
    progress.say(f'{path} is damaged or cut off in line {told}: left out')
  return records


def write_metrics(
    model_dir: str | os.PathLike[str], records: Iterable[Record]
) -> None:
  """Rewrites the file with the given records."""
  text = ''.join(_line(record) for record in records)
  files.write_text(paths.to_path(model_dir) / METRICS, text)


def append_metrics(model_dir: str | os.PathLike[str], record: Record) -> None:
  """Adds a record, or raises OSError and leaves the file as it was."""
  path = pathlib.Path(model_dir) / METRICS
  with open(path, 'ab', buffering=0) as f:
    size = f.tell()
    line = _line(record).encode()
    try:
      if f.write(line) < len(line):
        raise errors.WriteError(f"'{path}' has no room for another line.")
    except OSError:
      with contextlib.suppress(OSError):
        f.truncate(size)
      raise


def write_config(model_dir: str | os.PathLike[str], config: str) -> None:
  """Writes config.gin."""
  config = config if config.endswith('\n') else f'{config}\n'
  sha256 = hashlib.sha256(config.encode()).hexdigest()
  text = f'{config}# sha256 of the above: {sha256}\n'
  files.write_text(paths.to_path(model_dir) / CONFIG, text)


def _is_whole(text: str) -> bool:
  found = _CONFIG_END.fullmatch(text)
  return found is not None and found[2] == (
      hashlib.sha256(found[1].encode()).hexdigest()
  )


def check_config(model_dir: str | os.PathLike[str]) -> None:
  """Raises UserError unless config.gin is as `write_config` wrote it."""
  path = paths.absolute(model_dir) / CONFIG
  if not path.exists():
    raise errors.NotFoundError(
        f'{path} must exist to rebuild the model of the run, but does not.'
        ' `musiclm train` writes it.'
    )
  with errors.reading(path, 'the config of a run'):
    is_whole = _is_whole(files.read_bytes(path, 'the config').decode())
  if not is_whole:
    raise errors.UserError(
        f'{path} must be as `musiclm train` wrote it, but is damaged, edited or'
        ' of an older version. Run the same `musiclm train` again to write it.'
    )


def check_unused(model_dir: str | os.PathLike[str]) -> None:
  """Raises UserError if a new run would replace files that are not a run's."""
  path = paths.to_path(model_dir) / METRICS
  if paths.is_there(path):
    if path.is_file() and (read_metrics(model_dir) or not paths.size(path)):
      return  # Left by a run that ended before its first checkpoint.
  else:
    path = paths.to_path(model_dir) / CONFIG
    if not paths.is_there(path):
      return
    with errors.reading(path, 'a plain file'):
      if _is_whole(files.read_bytes(path, 'the config').decode()):
        return
  raise errors.UserError(
      f'{path} must be free for what the run writes, but exists, and no run'
      ' wrote it. Move it, or choose another MODEL_DIR.'
  )


def check_place(name: str, path: str | os.PathLike[str]) -> None:
  """Raises UserError unless a path is that of a folder or of a bucket.

  Args:
    name: Name of the setting, for the message.
    path: Its value, e.g. 'gs://bucket/run'.
  """
  if not os.fspath(path):
    raise errors.UserError(
        f'{name} must be the name of a folder, but is empty.'
    )
  paths.check(path, name)


def final_metrics(model_dir: str | os.PathLike[str]) -> dict[str, float]:
  """Returns the last value of each metric, e.g. {'eval/loss': 3.1}."""
  return {
      f"{record['split']}/{name}": value
      for record in read_metrics(model_dir)
      for name, value in record.items()
      if name not in ('step', 'split')
  }
