"""MIDI files from the LilyPond sources of the Mutopia project.

Mutopia (mutopiaproject.org) publishes scores whose headers name the composer,
the style and the licence. LilyPond sources are programs: compile only those
you trust.
"""

from collections.abc import Iterator
import concurrent.futures
import csv
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import zipfile

import mido
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import machine
from musiclm_jax import paths
from musiclm_jax import progress
import tqdm

# Without their versions.
PUBLIC_LICENSES = ('Public Domain', 'Creative Commons Attribution')
COLUMNS = (
    'file',
    'work',
    'title',
    'composer',
    'genre',
    'key',
    'license',
    'source',
    'lilypond',
)
_TIMEOUT_SECONDS = 120
# Computes the MIDI output of each score and skips typesetting.
_MIDI_ONLY = r"""
#(define midi-count 0)
#(define (write-midi score)
   (for-each
    (lambda (def)
      (if (eq? (ly:output-def-lookup def 'output-def-kind) 'midi)
          (begin
            (ly:performance-write
             (ly:format-output
              (ly:run-translator (ly:score-music score) def))
             (format #f "score-~a.midi" midi-count) "")
            (set! midi-count (1+ midi-count)))))
    (ly:score-output-defs score)))
#(define (write-book book)
   (for-each (lambda (score) (if (ly:score? score) (write-midi score)))
             (reverse (ly:book-scores book)))
   (for-each write-book (reverse (ly:book-book-parts book))))
#(define toplevel-score-handler write-midi)
#(define toplevel-book-handler write-book)
#(define toplevel-bookpart-handler write-book)
"""


@dataclasses.dataclass(frozen=True)
class Piece:
  """A LilyPond file and its header.

  Attributes:
    path: Path of the file below the folder of sources.
    header: The quoted fields of its header block, by their names.
  """

  path: pathlib.Path
  header: dict[str, str]

  @property
  def license(self) -> str:
    return self.header.get('license') or self.header.get('copyright', '')

  @property
  def work(self) -> str:
    """Composer and opus; editions and movements are one work."""
    return '/'.join(self.path.parts[:2])

  def row(self, file: str, key: str) -> dict[str, str]:
    """Returns the line of the index for one MIDI file of the piece."""
    # 'BachJS' and 'Mendelssohn-BartholdyF' become surnames.
    name = self.header.get('mutopiacomposer', '')
    surname = re.match(r'[A-Z][^\WA-Z\d_]+(-[A-Z][^\WA-Z\d_]+)*', name)
    composer = surname[0] if surname else ''
    if composer in ('Traditional', 'Anonymous'):
      composer = ''
    title = self.header.get('mutopiatitle') or self.header.get('title', '')
    maintainer = self.header.get('maintainer', 'unknown')
    return {
        'file': file,
        'work': self.work,
        'title': title,
        'composer': composer,
        'genre': self.header.get('style', '').lower(),
        'key': key,
        'license': self.license,
        'source': f'Mutopia, typeset by {maintainer}',
        'lilypond': self.path.as_posix(),
    }


def prepare_mutopia(
    source: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    limit: int | None = None,
) -> pathlib.Path:
  """Compiles Mutopia's pieces to MIDI files with an index of their metadata.

  Pieces that `output_dir` already holds are kept, so that an interrupted job
  can continue. Only those under one of PUBLIC_LICENSES are compiled.

  Args:
    source: Folder or zip of LilyPond sources.
    output_dir: Folder for the MIDI files, `index.csv`, and `failed.txt`, which
      lists the pieces that did not compile.
    limit: Most pieces to compile, one of each composer before a second one.

  Returns:
    The path of the index.

  Raises:
    NotFoundError: If LilyPond is not installed, or `source` is missing.
    UserError: If no piece has one of PUBLIC_LICENSES.
  """
  for program in ('lilypond', 'convert-ly'):
    if shutil.which(program) is None:
      raise errors.NotFoundError(
          f"the program '{program}' must be on PATH, but is not; install it"
          " with 'apt install lilypond'."
      )
  paths.check_local(output_dir, '--output')
  output_dir = pathlib.Path(output_dir)
  with (
      files.lock(output_dir, 'musiclm data mutopia'),
      tempfile.TemporaryDirectory() as scratch,
  ):
    root = _unpack(caching.local(source), pathlib.Path(scratch))
    pieces = _select(read_pieces(root))[:limit]
    if not pieces:
      raise errors.UserError(
          f'{source} must hold LilyPond files with a licence among'
          f' {list(PUBLIC_LICENSES)}, but holds none.'
      )
    known = _known(output_dir)
    todo = [p for p in pieces if p.path.as_posix() not in known]
    settings = pathlib.Path(scratch) / 'midi-only.ly'
    settings.write_text(_MIDI_ONLY)
    pool = concurrent.futures.ThreadPoolExecutor(machine.num_cpus())
    try:
      jobs = [
          pool.submit(_compile, piece, root, settings, output_dir)
          for piece in todo
      ]
      for job in tqdm.tqdm(jobs, unit='piece'):
        _record(output_dir, *job.result())
    finally:  # An interrupt does not wait for pieces that have not begun.
      pool.shutdown(wait=False, cancel_futures=True)
  _say_failed(output_dir)
  return output_dir / 'index.csv'


def _say_failed(output_dir: pathlib.Path) -> None:
  failed = output_dir / 'failed.txt'
  if failed.exists():
    names = failed.read_text(encoding='utf-8').splitlines()
    progress.say(
        f'left out {len(names)} that did not compile, e.g. {names[0]}: see'
        f' {failed}'
    )


def read_pieces(root: pathlib.Path) -> Iterator[Piece]:
  """Yields each file below `root` with a header and MIDI output, by path."""
  for path in sorted(root.rglob('*.ly')):
    text = path.read_text(errors='replace')
    text = re.sub(r'%\{.*?%\}', '', text, flags=re.DOTALL)
    fields = re.findall(
        r'^\s*([a-zA-Z]+)\s*=\s*"([^"\n]*)"', text, flags=re.MULTILINE
    )
    # Many pieces have two layouts, for A4 and for letter paper.
    if fields and r'\midi' in text and not path.stem.endswith('-let'):
      yield Piece(path.relative_to(root), dict(reversed(fields)))


def _unpack(source: pathlib.Path, scratch: pathlib.Path) -> pathlib.Path:
  """Returns the folder of the sources, one folder for each composer."""
  if source.is_file():
    with (
        progress.telling(f'unpacking {source}'),
        errors.reading(source, 'a zip file of LilyPond sources'),
        zipfile.ZipFile(source) as archive,
    ):
      archive.extractall(scratch / 'sources')
    source = scratch / 'sources'
  elif not source.is_dir():
    raise errors.NotFoundError(f'{source} must be a folder or a zip file.')
  # Mutopia's repository holds the pieces in `ftp`, and copies elsewhere.
  return source / 'ftp' if (source / 'ftp').is_dir() else source


def _select(pieces: Iterator[Piece]) -> list[Piece]:
  """Keeps the pieces under PUBLIC_LICENSES, in turn from every composer."""
  # 'Creative Commons Attribution-ShareAlike 4.0' does not match.
  pattern = '|'.join(re.escape(name) for name in PUBLIC_LICENSES)
  pattern = rf'({pattern})( \d(\.\d)?)?( International)?'
  counts: dict[str, int] = {}
  ranked = []
  for piece in pieces:
    if re.fullmatch(pattern, piece.license.strip()):
      composer = piece.path.parts[0]
      counts[composer] = counts.get(composer, 0) + 1
      ranked.append((counts[composer], piece))
  return [p for _, p in sorted(ranked, key=lambda r: (r[0], r[1].path))]


def _known(output_dir: pathlib.Path) -> set[str]:
  """Returns the LilyPond files that were compiled, or failed, before."""
  known: set[str] = set()
  if (output_dir / 'index.csv').exists():
    index = output_dir / 'index.csv'
    with errors.reading(index, 'the index of a run before'):
      with open(index, newline='', encoding='utf-8') as file:
        known.update(row['lilypond'] for row in csv.DictReader(file))
  if (output_dir / 'failed.txt').exists():
    text = (output_dir / 'failed.txt').read_text(encoding='utf-8')
    known.update(text.splitlines())
  return known


def _compile(
    piece: Piece,
    root: pathlib.Path,
    settings: pathlib.Path,
    output_dir: pathlib.Path,
) -> tuple[Piece, list[dict[str, str]]]:
  """Compiles `piece`; returns it with the lines of its MIDI files."""
  source = root / piece.path
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch) / 'piece'
    # Pieces include files beside them, and convert-ly edits in place.
    shutil.copytree(source.parent, folder)
    sources = [str(p) for p in folder.iterdir() if p.suffix in ('.ly', '.ily')]
    _run(['convert-ly', '-e', *sources], folder)
    _run(
        [
            'lilypond',
            f'-dinclude-settings={settings}',
            f'-I{source.parent.parent}',
            str(folder / source.name),
        ],
        folder,
    )
    rows = []
    for midi in sorted(folder.glob('score-*.midi')):
      name = '-'.join((*piece.path.with_suffix('').parts, midi.stem)) + '.mid'
      key = _midi_key(midi)
      if key is not None:
        shutil.copy(midi, output_dir / name)
        rows.append(piece.row(name, key))
    return piece, rows


def _run(command: list[str], folder: pathlib.Path) -> None:
  """Runs `command`; if it fails, its output files are missing."""
  try:
    subprocess.run(
        [*tied(), *command],
        cwd=folder,
        timeout=_TIMEOUT_SECONDS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
  except subprocess.TimeoutExpired:
    progress.say(f'{command[-1]} took over {_TIMEOUT_SECONDS} s')


def tied() -> list[str]:
  """Returns a command prefix that ends a program with its parent process."""
  # Otherwise it would outlive a killed command. Only Linux has `setpriv`.
  return ['setpriv', '--pdeathsig', 'KILL'] if shutil.which('setpriv') else []


def _midi_key(path: pathlib.Path) -> str | None:
  """Returns the one key signature of a MIDI file; None if it has no notes."""
  try:
    with errors.reading(path, 'a MIDI file'):
      messages = list(mido.MidiFile(path))
  except errors.UserError:
    return None
  if not any(m.type == 'note_on' for m in messages):
    return None
  keys = {m.key for m in messages if m.type == 'key_signature'}
  if len(keys) != 1:
    return ''
  key = keys.pop()
  return f'{key.rstrip("m")} {"minor" if key.endswith("m") else "major"}'


def _record(
    output_dir: pathlib.Path, piece: Piece, rows: list[dict[str, str]]
) -> None:
  """Adds the lines of a piece to the index, or its path to the failures."""
  if not rows:
    with open(output_dir / 'failed.txt', 'a', encoding='utf-8') as file:
      file.write(f'{piece.path.as_posix()}\n')
    return
  index = output_dir / 'index.csv'
  new = not index.exists()
  with open(index, 'a', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, COLUMNS)
    if new:
      writer.writeheader()
    writer.writerows(rows)
