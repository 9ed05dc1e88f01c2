"""Lists and reads files of scores: folders, zips, music21's corpus, an index.

Errors name the file they are in, and files that are too large for a score are
not read.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import pathlib
from typing import Any
import zipfile

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import facts

MIDI_SUFFIXES = ('.mid', '.midi', '.rmi', '.kar')
XML_SUFFIXES = ('.xml', '.mxl', '.musicxml')
SUFFIXES = (*MIDI_SUFFIXES, *XML_SUFFIXES)
INDEX_NAMES = ('index.csv', 'index.jsonl')
MUSIC21 = 'music21:'
MAX_BYTES = 2**25  # Largest file that is read: an opera in MusicXML.
_MAX_MEMBERS = 1_000_000  # Most files in a zip file.
_ROOTS = (b'<score-partwise', b'<score-timewise')
_HEAD = 2**16  # Bytes in which a MusicXML file must name its root.


@dataclasses.dataclass(frozen=True)
class ScoreFile:
  """A file and its description in the index.

  Attributes:
    path: Path of the file, or of the zip file that holds it.
    name: Path of the file in its folder or zip, or in music21's corpus.
    work: Name of the work; the scores of a work share a split.
    source: Origin of the file.
    license: License of the file; empty if unknown.
    metadata: Facts for its captions.
  """

  path: str
  name: str
  work: str
  source: str = ''
  license: str = ''
  metadata: facts.Metadata = facts.Metadata()


@contextlib.contextmanager
def naming(file: ScoreFile) -> Iterator[None]:
  """Adds the name of a file to errors that lack it."""
  try:
    yield
  except errors.UserError as e:
    if file.name in str(e):
      raise
    raise errors.UserError(f'{file.name}: {e}') from e


def gather_scores(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[list[ScoreFile], list[tuple[str, str]]]:
  """Lists the scores of one or several sources; see `find_scores`."""
  sources = [source] if isinstance(source, (str, os.PathLike)) else source
  files: dict[tuple[str, str], ScoreFile] = {}
  left_out = []
  for each in sources:
    with progress.telling('listing the scores'):
      found, others = find_scores(each)
    left_out += others
    for file in found:
      if files.setdefault((file.work, file.name), file) is not file:
        raise errors.UserError(
            f'sources must differ in their names, but {file.work} is in two of'
            f' {[os.fspath(s) for s in sources]}. Rename one.'
        )
  return list(files.values()), left_out


def find_scores(
    source: str | os.PathLike[str],
) -> tuple[list[ScoreFile], list[tuple[str, str]]]:
  """Lists the scores of a source; see `rendered_scores.build_scores`.

  Returns:
    The scores, and the (name, reason) of every other file that is not hidden.

  Raises:
    NotFoundError: If the source or the index is missing.
    UserError: If it holds no scores, or the index is invalid.
  """
  if os.fspath(source).startswith(MUSIC21):
    label, paths = 'music21', _music21_paths(os.fspath(source))
  else:
    label = pathlib.Path(source).stem or pathlib.Path(source).resolve().stem
    paths = list_files(source)
  rows = _read_index(paths)
  left_out = []
  found: dict[str, str] = {}
  stems = set()  # Clips are named after them.
  for name, path in sorted(paths.items()):
    stem = os.path.splitext(name)[0]
    if label != 'music21' and not is_score(path, name):
      if name not in INDEX_NAMES:
        left_out.append((name, 'no score'))
    elif rows is not None and name not in rows:
      left_out.append((name, 'not in the index'))
    elif stem in stems:
      left_out.append((name, 'named like another score'))
    else:
      found[name] = path
      stems.add(stem)
  missing = sorted(set(rows or ()) - set(found))
  if missing:
    raise errors.UserError(
        f'the index must name files of {source}, but {len(missing)} are not'
        f' there, e.g. {missing[0]}. Correct its column "file".'
    )
  if not found:
    raise errors.UserError(
        f'{source} must hold MIDI or MusicXML files, but holds none that end'
        f' in {", ".join(SUFFIXES)}.'
    )
  files = [
      _score_file(path, name, label, (rows or {}).get(name, {}))
      for name, path in found.items()
  ]
  return files, left_out


def list_files(source: str | os.PathLike[str]) -> dict[str, str]:
  """Returns the path of each file in a folder or zip, by its name there.

  Links are followed. Hidden files and folders, and those that macOS adds to a
  zip, are left out.

  Raises:
    NotFoundError: If the source is neither.
    UserError: If the zip file is damaged.
  """
  source = caching.local(source)
  if source.is_dir():
    return dict(_walk(source))
  if source.suffix.lower() != '.zip' or not source.is_file():
    raise errors.NotFoundError(
        f'{source} must be a folder or a .zip of scores.'
    )
  with errors.reading(source, 'a zip file'), zipfile.ZipFile(source) as archive:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
      raise ValueError(f'it has over {_MAX_MEMBERS} files')
    return {
        member.filename: str(source)
        for member in members
        if not member.is_dir() and not _is_hidden(member.filename)
    }


def _is_hidden(name: str) -> bool:
  parts = pathlib.PurePosixPath(name).parts
  return any(
      part == '__MACOSX' or (part.startswith('.') and part != '..')
      for part in parts
  )


def _walk(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
  """Yields the (name, path) of each file, also of folders that are links."""
  seen = set()

  def refuse(error: OSError) -> None:
    raise error

  for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
    here = os.path.realpath(root)
    if here in seen:  # A link to a folder above.
      folders.clear()
      continue
    seen.add(here)
    folders[:] = sorted(f for f in folders if not _is_hidden(f))
    for name in sorted(names):
      path = pathlib.Path(root, name)
      # A broken link becomes an error when it is read.
      if not _is_hidden(name) and (path.is_file() or not path.exists()):
        yield path.relative_to(folder).as_posix(), str(path)


def is_score(path: str, name: str) -> bool:
  """Returns whether a file is a score, by its name and its XML root.

  Args:
    path: Path of the file, or of the zip file that holds it.
    name: Name of the file.
  """
  suffix = pathlib.PurePosixPath(name).suffix.lower()
  if suffix != '.xml' or path.lower().endswith('.zip'):
    return suffix in SUFFIXES
  try:
    head = read_bytes(path, name, _HEAD)
  except errors.UserError:
    return True  # It becomes an error when it is read.
  # In UTF-16, every other byte is zero.
  return not head or any(root in head.replace(b'\0', b'') for root in _ROOTS)


def _music21_paths(source: str) -> dict[str, str]:
  """Returns the scores of music21's corpus whose paths contain `source`."""
  from music21 import corpus  # Slow to import, and rarely needed.

  core = corpus.corpora.CoreCorpus()
  part = source.removeprefix(MUSIC21)
  root = pathlib.Path(corpus.__file__).parent
  names = {p.relative_to(root).as_posix(): str(p) for p in core.getPaths()}
  return {name: path for name, path in names.items() if part in name}


def read_bytes(path: str, name: str, head: int | None = None) -> bytes:
  """Returns the bytes of a file.

  Args:
    path: Path of the file, or of the zip file that holds it.
    name: Name of the file.
    head: Most bytes to read; all by default.

  Raises:
    UserError: If it cannot be read, or is too large for a score.
  """
  with errors.reading(name, 'an undamaged file'):
    if not path.lower().endswith('.zip'):
      with open(path, 'rb') as file:
        data = file.read(MAX_BYTES + 1 if head is None else head)
    else:
      with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        # Limited, as the file may unpack to gigabytes.
        data = file.read(MAX_BYTES + 1 if head is None else head)
    if len(data) > MAX_BYTES:
      raise ValueError(f'it has over {MAX_BYTES} bytes')
  return data


def _read_index(paths: Mapping[str, str]) -> dict[str, dict[str, Any]] | None:
  """Returns the rows of the index by their files; None if there is none."""
  found = [name for name in INDEX_NAMES if name in paths]
  if not found:
    return None
  if len(found) > 1:
    raise errors.UserError(
        f'a source must hold at most one of {INDEX_NAMES}, but holds both.'
        ' Remove one.'
    )
  index = found[0]
  data = read_bytes(paths[index], index)
  with errors.reading(index, 'an index in UTF-8', 'Correct it.'):
    text = data.decode('utf-8-sig')
    if '\0' in text:
      raise ValueError('it has a zero byte')
    parse = _parse_csv if index.endswith('.csv') else _parse_jsonl
    rows = parse(index, text)
  if not rows:
    raise errors.UserError(
        f'{index} must have a row for each file to use, but has none. Remove it'
        ' to use every file.'
    )
  return _by_file(index, rows)


def _by_file(
    index: str, rows: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
  found: dict[str, dict[str, Any]] = {}
  for number, row in enumerate(rows, 1):
    file = row.get('file')
    if not file or not isinstance(file, str):
      raise errors.UserError(
          f"{index} must have a 'file' in each row, but row {number} has the"
          f' columns {list(row)}. Separate columns by commas.'
      )
    file = pathlib.PurePosixPath(file).as_posix()
    if file in found:
      raise errors.UserError(
          f'{index} must name each file once, but names {file} again in row'
          f' {number}. Remove one of the rows.'
      )
    found[file] = row
  return found


def _parse_csv(index: str, text: str) -> list[dict[str, Any]]:
  reader = csv.DictReader(io.StringIO(text, newline=''), strict=True)
  rows = []
  for number, row in enumerate(reader, 1):
    # Columns beyond the header have the name None.
    if None in row or any(v is None or '\n' in v for v in row.values()):
      raise errors.UserError(
          f'{index} must have as many columns in row {number} as in its header,'
          f' each in one line, but they are {list(row.values())}. Put quotes'
          ' around values with commas.'
      )
    rows.append(dict(row))
  return rows


def _parse_jsonl(index: str, text: str) -> list[dict[str, Any]]:
  rows = []
  for number, line in enumerate(text.split('\n'), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except ValueError as e:
      raise errors.UserError(f'{index} line {number} must be JSON: {e}.') from e
    if not isinstance(row, dict):
      raise errors.UserError(
          f'{index} line {number} must be a JSON object, but is {line:.60}.'
      )
    rows.append(row)
  return rows


def _score_file(
    path: str, name: str, label: str, row: Mapping[str, Any]
) -> ScoreFile:
  """Returns a score with the description in its row of the index."""
  names = [field.name for field in dataclasses.fields(facts.Metadata)]
  known: dict[str, Any] = {}
  try:
    for key in (*names, 'work', 'source', 'license'):
      if row.get(key) not in (None, ''):
        parse = _tempo if key == 'tempo' else _text
        known[key] = parse(key, row[key])
    if 'key' in known:
      analysis.transpose_key(known['key'], 0)
  except errors.UserError as e:
    raise errors.UserError(f'the index has a bad row for {name}: {e}') from e
  work = known.get('work') or pathlib.PurePosixPath(name).with_suffix('')
  return ScoreFile(
      path=path,
      name=name,
      # Works of two sources may have one name.
      work=f'{label}/{work}',
      source=known.get('source') or label,
      license=known.get('license', ''),
      metadata=facts.Metadata(**{k: v for k, v in known.items() if k in names}),
  )


def _text(key: str, value: Any) -> str:
  if isinstance(value, (dict, list, bool)):
    raise errors.UserError(
        f"'{key}' must be a text, but is {value!r}. Correct it."
    )
  return str(value).strip()


def _tempo(key: str, value: Any) -> float:
  try:
    tempo = float(value)
  except (TypeError, ValueError):
    tempo = math.nan
  if not 1 <= tempo <= 1000:
    raise errors.UserError(
        f"'{key}' must be a number of beats per minute, but is '{value}'."
        ' Correct it, or leave it empty.'
    )
  return tempo
