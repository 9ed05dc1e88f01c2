"""A corpus from a folder of audio files, with captions or without."""

from collections.abc import Iterator, Sequence
import csv
import dataclasses
import functools
import json
import os
import pathlib
import re
from typing import Any

from absl import logging
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import corpora

CAPTION_FILES = ('captions.csv', 'captions.jsonl')  # Found by themselves.
_NUM_NAMED = 3  # Of the files that an error names.


@dataclasses.dataclass(frozen=True)
class AudioFile:
  """A file of the folder, and what the caption file says of it.

  Attributes:
    path: Of the file.
    name: Its path in the folder, with slashes.
    work: Name of the work it is; the name without suffix by default.
    captions: Texts; empty if there are none for it.
    weights: Of each caption, see `clips.Clip`; empty if all alike.
    title: Empty to take it from the tags, or else from the name.
    source: Where it is from.
    license: Empty to take it from the tags.
  """

  path: str
  name: str
  work: str
  captions: tuple[str, ...] = ()
  weights: tuple[float, ...] = ()
  title: str = ''
  source: str = ''
  license: str = ''


def read_caption_file(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads a caption file.

  Args:
    path: A .csv with a header, or a .jsonl of one object per line, of: file
      (or path), caption (or captions, in JSON a list), and if known weight,
      work, title, source and license. A file may have several rows; the weight,
      1 by default, says how often a caption of a row is drawn in training,
      relative to the others of the file.

  Returns:
    A dict of 'file', 'captions' (a list), 'weight' (a float) and the rest for
    each row.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If a row has no file or no caption, or a weight that is none,
      or cannot be parsed.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.NotFoundError(
        f'{path} must be a caption file: it is not there.'
    )
  if path.suffix.lower() not in ('.csv', '.jsonl'):
    raise errors.UserError(f'{path} must end in .csv or .jsonl.')
  with path.open(encoding='utf-8-sig', newline='') as file:
    if path.suffix.lower() == '.csv':
      rows = list(csv.DictReader(file))
    else:
      rows = [_parse_json(path, i, line) for i, line in enumerate(file, 1)]
  return [_normalize(path, i, row) for i, row in enumerate(rows, 1)]


def _parse_json(path: pathlib.Path, number: int, line: str) -> dict[str, Any]:
  try:
    row = json.loads(line)
  except json.JSONDecodeError as e:
    raise errors.UserError(f'{path} line {number} must be JSON: {e}.') from e
  if not isinstance(row, dict):
    raise errors.UserError(
        f'{path} line {number} must be a JSON object: {line!r}.'
    )
  return row


def _normalize(
    path: pathlib.Path, number: int, row: dict[str, Any]
) -> dict[str, Any]:
  """Returns a row with one spelling of its keys."""
  file = row.get('file') or row.get('path')
  captions = row.get('captions') or row.get('caption') or []
  if isinstance(captions, str):
    captions = [captions]
  captions = [str(text).strip() for text in captions if str(text).strip()]
  if not file or not captions:
    raise errors.UserError(
        f"{path} row {number} must have 'file' and 'caption', but has"
        f' {({k: v for k, v in row.items() if v})}.'
    )
  rest = {
      key: str(row.get(key) or '')
      for key in ('work', 'title', 'source', 'license')
  }
  weight = _parse_weight(path, number, row.get('weight'))
  return {'file': str(file), 'captions': captions, 'weight': weight, **rest}


def _parse_weight(path: pathlib.Path, number: int, value: Any) -> float:
  """Returns the weight of a row; 1 if it gives none."""
  if value in (None, ''):
    return 1.0
  try:
    weight = float(value)
  except (TypeError, ValueError):
    weight = float('nan')
  if not 0 <= weight < float('inf'):
    raise errors.UserError(
        f'{path} row {number} must have a weight of at least 0, but has'
        f' {value!r}. Leave it empty for 1.'
    )
  return weight


def _find_caption_file(audio_dir: pathlib.Path) -> pathlib.Path | None:
  found = [p for p in map(audio_dir.joinpath, CAPTION_FILES) if p.is_file()]
  if len(found) > 1:
    raise errors.UserError(
        f'audio_dir {audio_dir} must hold at most one of {CAPTION_FILES}, but'
        ' holds both. Name the one to use with --captions.'
    )
  return found[0] if found else None


def find_files(
    audio_dir: str | os.PathLike[str],
    captions: str | os.PathLike[str] | None = None,
) -> list[AudioFile]:
  """Lists the audio files of a folder and the folders in it.

  Args:
    audio_dir: The folder.
    captions: The caption file; its files are relative to the folder. By default
      the folder's `captions.csv` or `captions.jsonl`, if there is one.

  Returns:
    The files by name. Those the caption file does not name have the captions
    of a text file beside them, one to a line, or none.

  Raises:
    FileNotFoundError: If there is no such folder.
    ValueError: If it has no audio files, or not all that captions are for.
  """
  audio_dir = pathlib.Path(audio_dir)
  if not audio_dir.is_dir():
    raise errors.NotFoundError(f'audio_dir {audio_dir} must be a folder.')
  captions = captions or _find_caption_file(audio_dir)
  paths = {
      path.relative_to(audio_dir).as_posix(): path
      for path in sorted(audio_dir.rglob('[!.]*'))
      if path.suffix.lower() in io.SUFFIXES and path.is_file()
  }
  if not paths:
    raise errors.UserError(
        f'audio_dir {audio_dir} must hold {", ".join(io.SUFFIXES)} files, but'
        ' holds none.'
    )
  rows: dict[str, list[dict[str, Any]]] = {}
  for row in read_caption_file(captions) if captions else []:
    rows.setdefault(pathlib.PurePath(row['file']).as_posix(), []).append(row)
  missing = [name for name in rows if name not in paths]
  if missing:
    raise errors.UserError(
        f'{captions} must name files of {audio_dir}, but {len(missing)} of'
        f' {len(rows)} are not there, e.g. {missing[:_NUM_NAMED]}. Add them or'
        ' remove their rows.'
    )
  if rows and len(rows) < len(paths):
    logging.warning(
        '%d of %d files are not in %s: their captions come from text files'
        ' beside them, tags and names.',
        len(paths) - len(rows),
        len(paths),
        captions,
    )
  return [
      _describe_file(audio_dir, name, path, rows.get(name, []))
      for name, path in paths.items()
  ]


def _describe_file(
    audio_dir: pathlib.Path,
    name: str,
    path: pathlib.Path,
    rows: Sequence[dict[str, Any]],
) -> AudioFile:
  """Puts together what the rows of a file say of it."""
  captions = [text for row in rows for text in row['captions']]
  weights = [row['weight'] for row in rows for _ in row['captions']]
  sidecar = path.with_suffix('.txt')
  if not captions and sidecar.is_file():
    lines = sidecar.read_text(encoding='utf-8-sig').splitlines()
    captions = [line.strip() for line in lines if line.strip()]

  def first(key, default=''):
    return next((row[key] for row in rows if row[key]), default)

  return AudioFile(
      path=str(path),
      name=name,
      work=first('work', os.path.splitext(name)[0]),
      captions=tuple(captions),
      weights=tuple(weights),
      title=first('title'),
      source=first('source', audio_dir.resolve().name),
      license=first('license'),
  )


def _words(name: str) -> str:
  """Makes a title of a file name: '03_blue-moon' is 'blue moon'."""
  words = re.sub(r'[\s_\-]+', ' ', name).strip()
  return re.sub(r'^\d+[ .]+(?=\D)', '', words)


def describe(file: AudioFile, tags: dict[str, str]) -> tuple[str, str]:
  """Returns the title of a file, and a caption of no more than is known."""
  folder, _, stem = os.path.splitext(file.name)[0].rpartition('/')
  title = file.title or tags.get('title') or _words(stem)
  caption = title
  if 'artist' in tags:
    caption += f' by {tags["artist"]}'
  if 'genre' in tags:
    caption += f', {tags["genre"]}'
  collection = tags.get('album') or _words(folder.rpartition('/')[-1])
  if collection:
    caption += f', from {collection}'
  return title, caption


def read_clips(file: AudioFile, clip_seconds: float) -> Iterator[clips.Clip]:
  """Yields the clips of a file.

  Args:
    file: To read.
    clip_seconds: Length of a clip; the last one is shorter.

  Raises:
    ValueError: If the file is damaged or shorter than a second.
  """
  audio = io.read_audio(file.path, clips.SAMPLE_RATE)
  if len(audio) < clips.MIN_SECONDS * clips.SAMPLE_RATE:
    raise errors.UserError(
        f'{file.path} must last at least {clips.MIN_SECONDS:g} s, but lasts'
        f' {len(audio) / clips.SAMPLE_RATE:.2f} s.'
    )
  tags = io.read_tags(file.path)
  title, caption = describe(file, tags)
  split = clips.split_audio(audio, clip_seconds)
  for i, (start, clip_audio) in enumerate(split):
    yield clips.Clip(
        audio=clip_audio,
        captions=file.captions or (caption,),
        caption_weights=file.weights,
        id=f'{file.name}/{i}',
        work=file.work,
        title=title,
        source=file.source,
        license=file.license or tags.get('license', ''),
        start=start,
    )


def _work_name(file: AudioFile) -> str:
  return file.work


def build_folder(
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    captions: str | os.PathLike[str] | None = None,
    clip_seconds: float = clips.MAX_SECONDS,
    **options: Any,
) -> bool:
  """Writes the dataset `music` from a folder of audio.

  Args:
    audio_dir: The folder; folders in it are searched too.
    data_dir: Folder of the datasets.
    captions: Caption file; see `find_files`. Without one, captions come from
      text files beside the audio, tags, and names.
    clip_seconds: Length of a clip, 1 to 30.
    **options: Of `corpora.write_corpus`: runner, pipeline_options,
      num_workers, skip_bad, overwrite.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    FileNotFoundError: If the folder or the caption file is not there.
    ValueError: If the folder, the caption file or an audio file is bad.
  """
  if not clips.MIN_SECONDS <= clip_seconds <= clips.MAX_SECONDS:
    raise errors.UserError(
        f'clip_seconds must be from {clips.MIN_SECONDS:g} to'
        f' {clips.MAX_SECONDS:g}, but is {clip_seconds:g}.'
    )
  return corpora.build_corpus(
      find_files(audio_dir, captions),
      functools.partial(read_clips, clip_seconds=clip_seconds),
      _work_name,
      data_dir,
      **options,
  )
