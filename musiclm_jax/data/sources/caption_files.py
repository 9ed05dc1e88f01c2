"""Reads captions from tables, JSON lines and text files beside the audio.

Captions that are empty or evidently garbled are refused, with file and line.
"""

from collections.abc import Iterator, Sequence
import codecs
import csv
import io
import json
import os
import pathlib
import re
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.audio import io as audio_io

MAX_BYTES = 1 << 28  # A million captions.
MAX_SIDECAR_BYTES = 1 << 20

_FILE = ('file', 'path', 'file_name', 'filename')
_CAPTION = ('caption', 'captions')
_REST = ('work', 'title', 'source', 'license')
_COLUMNS = (*_FILE, *_CAPTION, *_REST, 'weight')
_BOMS = {
    codecs.BOM_UTF32_LE: 'utf-32',
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}
_SEPARATORS = ',;\t|'
_SUFFIXES = '|'.join(map(re.escape, audio_io.READABLE))
# Texts that programs write for missing values.
_NOTHING = ('nan', 'null', 'none', 'n/a', 'na', '#n/a', '<na>', 'undefined')


def says_something(text: str) -> bool:
  """Returns whether a text is more than a sign of a missing value."""
  text = text.strip().casefold()
  return text not in _NOTHING and any(map(str.isalnum, text))


def read_text(path: pathlib.Path, kind: str, max_bytes: int) -> str:
  """Reads a text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

  Args:
    path: Path of the file.
    kind: Description of the file, for messages.
    max_bytes: Largest size of the file.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If it is not a file, too large, or not such a text.
  """
  if not os.path.exists(path):
    raise errors.NotFoundError(f'{path} must be {kind}: it is not there.')
  if not path.is_file():
    what = 'a folder' if path.is_dir() else 'a pipe, a socket or a device'
    raise errors.UserError(f'{path} must be {kind}, but is {what}.')
  size = path.stat().st_size
  if size > max_bytes:
    raise errors.UserError(
        f'{path} must be {kind} of at most {max_bytes} bytes, but has {size}.'
    )
  with errors.reading(path, kind):
    data = path.read_bytes()
  encoding = next((e for b, e in _BOMS.items() if data.startswith(b)), 'utf-8')
  try:
    text = data.decode(encoding)
  except UnicodeDecodeError as e:
    line = data.count(b'\n', 0, e.start) + 1
    raise errors.UserError(
        f'{path} line {line} must be {encoding.upper()} text, but has the byte'
        f' 0x{data[e.start]:02X}. Save it as UTF-8 (in Excel: CSV UTF-8).'
    ) from e
  zero = text.find('\0')
  if zero >= 0:
    raise errors.UserError(
        f'{path} line {text.count(chr(10), 0, zero) + 1} must be text, but has'
        ' a zero byte. Save it as UTF-8 (in Excel: CSV UTF-8).'
    )
  return text


def read_sidecar(path: pathlib.Path) -> list[str]:
  """Reads the captions in a text file beside an audio file, one to a line.

  Raises:
    UserError: If there are none, or one is empty.
  """
  text = read_text(path, 'a text of captions', MAX_SIDECAR_BYTES)
  lines = [(i, s.strip()) for i, s in enumerate(text.splitlines(), 1)]
  captions = [line for line in lines if line[1]]
  if not captions:
    raise errors.UserError(
        f'{path} must hold captions, one to a line, but is empty. Write one or'
        ' remove the file.'
    )
  for number, caption in captions:
    _check_caption(f'{path} line {number}', caption)
  return list(dict.fromkeys(caption for _, caption in captions))


def _check_caption(where: str, caption: str) -> None:
  if not says_something(caption):
    raise errors.UserError(
        f'{where} must have a caption that says something, but has'
        f' {caption!r:.60}. Write one or remove it.'
    )


def read_caption_file(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads a caption file.

  Args:
    path: A .csv (or .tsv) with a header, a .jsonl of one object per line, or a
      .json list of objects, of: file (or path, file_name), caption (or
      captions, in JSON a list), and if known weight, work, title, source and
      license. A file may have several rows; the weight, 1 by default, says how
      often a caption of a row is drawn in training, relative to the others of
      the file. Columns of a table are separated by commas, semicolons, tabs or
      '|'.

  Returns:
    A dict of 'file', 'captions' (a list), 'weight' (a float), 'line' and the
    rest for each row.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If a row has no file or no caption, or cannot be parsed.
  """
  path = caching.local(path)
  text = read_text(path, 'a caption file', MAX_BYTES)
  if path.suffix.lower() in ('.csv', '.tsv'):
    rows = _parse_table(path, text)
  elif path.suffix.lower() == '.jsonl':
    rows = _parse_lines(path, text)
  elif path.suffix.lower() == '.json':
    rows = _parse_list(path, text)
  else:
    raise errors.UserError(
        f'{path} must end in .csv or .jsonl, or in .json or .tsv.'
    )
  found: dict[str, dict[str, Any]] = {}
  unused: dict[str, None] = {}
  repeated = 0
  unit = 'item' if path.suffix.lower() == '.json' else 'line'
  for line, row in rows:
    unused |= dict.fromkeys(key for key in row if key not in _COLUMNS)
    normal = _normalize(f'{path} {unit} {line}', row)
    repeated += repr(normal) in found
    found.setdefault(repr(normal), {**normal, 'line': line})
  if unused:
    progress.say(f'{path}: its columns {", ".join(unused)} are not used')
  if repeated:
    progress.say(
        f'{path}: {repeated} of its rows are repeated; they count once'
    )
  return list(found.values())


def _sniff(path: pathlib.Path, lines: Sequence[str]) -> tuple[int, str]:
  """Returns the index of the header line, and the separator of columns."""
  start = next((i for i, line in enumerate(lines) if line.strip()), None)
  if start is None:
    raise errors.UserError(f'{path} must hold captions, but is empty.')
  separators = _SEPARATORS
  told = re.fullmatch(r'sep=(.)\s*', lines[start])  # Written by Excel.
  if told and start + 1 < len(lines):
    separators, start = told[1], start + 1
  for separator in separators:
    names = _split_header(lines[start], separator)
    if set(_FILE) & set(names) and set(_CAPTION) & set(names):
      return start, separator
  raise errors.UserError(
      f"{path} line {start + 1} must be a header, of 'file' and 'caption' at"
      f' least, with commas between, but is {lines[start].strip()!r:.100}.'
  )


def _split_header(line: str, separator: str) -> list[str]:
  return [
      x.strip().strip('"').strip().casefold() for x in line.split(separator)
  ]


def _parse_table(
    path: pathlib.Path, text: str
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields the line number and the columns of each row."""
  lines = io.StringIO(text, newline='').readlines()
  start, separator = _sniff(path, lines)
  names = _split_header(lines[start], separator)
  for key in set(names) - {*_CAPTION, ''}:
    if names.count(key) > 1:
      raise errors.UserError(
          f'{path} line {start + 1} must name each column once, but names'
          f" '{key}' {names.count(key)} times."
      )
  reader = csv.reader(
      lines[start + 1 :],
      delimiter=separator,
      skipinitialspace=True,
      strict=True,
  )
  line = start + 2
  while True:
    try:
      fields = next(reader)
    except StopIteration:
      return
    except csv.Error as e:
      raise errors.UserError(
          f'{path} line {line} must be a row of a table, but is not: {e}. Put'
          ' texts with quotes in quotes, and double those within.'
      ) from e
    where = f'{path} line {line}'
    if any(field.strip() for field in fields):
      yield line, _name_fields(where, names, fields, separator)
    line = start + 2 + reader.line_num


def _name_fields(
    where: str, names: Sequence[str], fields: list[str], separator: str
) -> dict[str, Any]:
  """Returns the fields of a row by column, captions in a list."""
  while len(fields) > len(names) and not fields[-1].strip():
    fields = fields[:-1]
  if len(fields) > len(names):
    if len(names) != 2 or names[1] not in _CAPTION:
      raise errors.UserError(
          f'{where} must have {len(names)} columns, but has {len(fields)}. Put'
          f" texts that contain '{separator}' in quotes."
      )
    fields = [fields[0], f'{separator} '.join(map(str.strip, fields[1:]))]
  row: dict[str, Any] = {}
  for name, field in zip(names, fields, strict=False):
    mark = re.escape(separator)
    swallowed = rf'\n[^\n{mark}]*({_SUFFIXES})"?{mark}'
    if re.search(swallowed, field, re.IGNORECASE):
      raise errors.UserError(
          f'{where} must end where its quotes end, but they take in the next'
          ' row. Close them.'
      )
    if name in _CAPTION:
      row.setdefault('captions', []).extend([field] if field.strip() else [])
    elif name and field.strip():
      row[name] = field.strip()
  return row


def _parse_list(
    path: pathlib.Path, text: str
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields the number and the object of each item."""
  try:
    rows = json.loads(text)
  except (ValueError, RecursionError) as e:
    raise errors.UserError(f'{path} must be JSON: {e}.') from e
  if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
    raise errors.UserError(
        f'{path} must be a JSON list of objects, but is {text!r:.100}.'
    )
  yield from enumerate(rows, 1)


def _parse_lines(
    path: pathlib.Path, text: str
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields the line number and the object of each line."""

  def unique(pairs):
    if len(dict(pairs)) < len(pairs):
      raise ValueError(f'a key is repeated in {[key for key, _ in pairs]}')
    return dict(pairs)

  for number, line in enumerate(text.split('\n'), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line, object_pairs_hook=unique)
    except (ValueError, RecursionError) as e:
      raise errors.UserError(f'{path} line {number} must be JSON: {e}.') from e
    if not isinstance(row, dict):
      raise errors.UserError(
          f'{path} line {number} must be a JSON object: {line!r:.100}.'
      )
    yield number, row


def _normalize(where: str, row: dict[str, Any]) -> dict[str, Any]:
  """Checks a row and returns it with uniform keys."""
  file = next((row[key] for key in _FILE if row.get(key)), None)
  captions = []
  for key in _CAPTION:
    value = row.get(key)
    captions += value if isinstance(value, list) else [value] if value else []
  if not file or not captions:
    raise errors.UserError(
        f"{where} must have 'file' and 'caption', but has"
        f' {({k: v for k, v in row.items() if v})}.'
    )
  for text in (file, *captions):
    if not isinstance(text, str):
      raise errors.UserError(
          f'{where} must have texts for file and caption, but has {text!r:.60}.'
      )
  for text in captions:
    _check_caption(where, text)
  rest = {}
  for key in _REST:
    value = '' if row.get(key) is None else row[key]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
      raise errors.UserError(
          f'{where} must have a text for {key}, but has {value!r:.60}.'
      )
    rest[key] = str(value).strip()
  return {
      'file': file.strip(),
      'captions': list(dict.fromkeys(text.strip() for text in captions)),
      'weight': _parse_weight(where, row.get('weight')),
      **rest,
  }


def _parse_weight(where: str, value: Any) -> float:
  """Returns the weight of a row; 1 if it has none."""
  if value in (None, ''):
    return 1.0
  try:
    weight = float('nan') if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    weight = float('nan')
  if not 0 <= weight < float('inf'):
    raise errors.UserError(
        f'{where} must have a weight of at least 0, but has {value!r:.60}.'
        ' Leave it empty for 1.'
    )
  return weight
