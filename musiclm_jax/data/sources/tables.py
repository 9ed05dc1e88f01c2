"""Reads the tables that corpora come with, and names what is wrong in them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import csv
import io
import os
import pathlib
from typing import Any, NamedTuple

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax.data.sources import caption_files

_MAX_BYTES = 1 << 30  # The tracks.csv of FMA has a quarter of it.


class Kind(NamedTuple):
  """How a table is written.

  Attributes:
    name: Its name where it is published, for messages.
    columns: Columns that it must have.
    separator: What stands between columns.
    header_lines: Lines of names above the rows. The name of a column under
      several is theirs, joined by spaces.
    has_rest: Whether a row may go on after the last column, whose value is then
      the list of what follows.
  """

  name: str
  columns: tuple[str, ...]
  separator: str = ','
  header_lines: int = 1
  has_rest: bool = False


def _where(path: pathlib.Path, line: int) -> str:
  return f'{path} line {line}'


def _lines(
    path: pathlib.Path, kind: Kind
) -> Iterator[tuple[int, Sequence[str]]]:
  """Yields the number of the line on which each row begins, and its fields."""
  text = caption_files.read_text(path, kind.name, _MAX_BYTES)
  csv.field_size_limit(_MAX_BYTES)  # Of biographies, in tracks.csv of FMA.
  # In tables with tabs, quotes are part of titles.
  reader = csv.reader(
      io.StringIO(text, newline=''),
      delimiter=kind.separator,
      quoting=csv.QUOTE_NONE if kind.separator == '\t' else csv.QUOTE_MINIMAL,
      strict=True,
  )
  line = 1
  try:
    for fields in reader:
      if fields:
        yield line, fields
      line = reader.line_num + 1
  except csv.Error as e:
    raise errors.UserError(
        f'{_where(path, line)} must be a row of a table, but is none: {e}.'
        ' Download it again.'
    ) from e


def _check_columns(path: pathlib.Path, kind: Kind, names: list[str]) -> None:
  missing = set(kind.columns) - set(names)
  if missing:
    raise errors.UserError(
        f'{path} must have the columns of {kind.name}, but lacks'
        f' {sorted(missing)}.'
    )


def read(
    path: str | os.PathLike[str],
    kind: Kind,
    parse: Callable[[dict[str, Any]], Any],
) -> list[Any]:
  """Reads a table.

  Args:
    path: Path of the file.
    kind: How it is written.
    parse: Makes what is returned of a row, given its fields by column; raises
      ValueError, TypeError or SyntaxError if it can't.

  Returns:
    What `parse` makes of each row.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If it lacks a column, or a row is malformed.
  """
  path = caching.local(path)
  lines = _lines(path, kind)
  header = [fields for _, (_, fields) in zip(range(kind.header_lines), lines)]
  names = [' '.join(filter(None, parts)) for parts in zip(*header)]
  _check_columns(path, kind, names)
  rows = []
  for line, fields in lines:
    try:
      rows.append(parse(_by_column(kind, names, fields)))
    except (ValueError, TypeError, SyntaxError, RecursionError) as e:
      raise errors.UserError(
          f'{_where(path, line)} must be a row of {kind.name}, but is not:'
          f' {errors.one_line(e)}. Download it again.'
      ) from e
  return rows


def _by_column(
    kind: Kind, names: Sequence[str], fields: Sequence[str]
) -> dict[str, Any]:
  enough = len(fields) >= len(names) if kind.has_rest else False
  if len(fields) != len(names) and not enough:
    raise ValueError('it has not as many columns as the header')
  row: dict[str, Any] = dict(zip(names, fields))
  if kind.has_rest:
    row[names[-1]] = list(fields[len(names) - 1 :])
  return row


def write_missing(
    path: paths.Path, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
  """Writes a table of the clips without audio."""
  table = io.StringIO(newline='')
  writer = csv.writer(table)
  writer.writerow(header)
  writer.writerows(rows)
  files.write_text(path, table.getvalue())
