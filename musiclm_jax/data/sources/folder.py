"""A corpus from a folder of audio files, with or without captions."""

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import functools
import os
import pathlib
import re
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.audio import io
from musiclm_jax.audio import mixing
from musiclm_jax.data.sources import audio_files
from musiclm_jax.data.sources import caption_files
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import listening
import numpy as np

CAPTION_FILES = ('captions.csv', 'captions.jsonl')  # Names in the folder.
_NUM_NAMED = 3  # Most files that an error names.


@dataclasses.dataclass(frozen=True)
class AudioFile:
  """A file of the folder, and its description in the caption file.

  Attributes:
    path: Path of the file.
    name: Its path in the folder, with slashes.
    work: Name of its work; by default its own without suffix.
    captions: Its captions; empty if there are none.
    weights: Weight of each caption, see `clips.Clip`; empty if all are equal.
    title: Its title; empty to take it from the tags, or else from the name.
    source: Its origin.
    license: Its license; empty to take it from the tags.
    sidecar: Name of the text file with its captions; empty if there is none.
  """

  path: str
  name: str
  work: str
  captions: tuple[str, ...] = ()
  weights: tuple[float, ...] = ()
  title: str = ''
  source: str = ''
  license: str = ''
  sidecar: str = ''


def _find_caption_file(audio_dir: pathlib.Path) -> pathlib.Path | None:
  found = [p for p in map(audio_dir.joinpath, CAPTION_FILES) if p.exists()]
  if len(found) > 1:
    raise errors.UserError(
        f'audio_dir {audio_dir} must hold at most one of {CAPTION_FILES}, but'
        ' holds both. Name the one to use with --captions.'
    )
  return found[0] if found else None


def survey(
    audio_dir: str | os.PathLike[str],
    captions: str | os.PathLike[str] | None = None,
) -> tuple[list[AudioFile], list[tuple[str, str]]]:
  """Lists the audio files in a folder and its subfolders, and other files.

  Args:
    audio_dir: The folder. Links in it are followed.
    captions: The caption file, with paths relative to the folder. By default
      the folder's `captions.csv` or `captions.jsonl`, if there is one.

  Returns:
    The audio files in order of their names, and the (name, kind of reason) of
    files left out. A file that is not in the caption file has the captions of a
    text file beside it, one to a line, or none.

  Raises:
    NotFoundError: If there is no such folder.
    UserError: If it has no audio files, or lacks one that has captions.
  """
  audio_dir = pathlib.Path(audio_dir)
  paths, left_out = audio_files.walk(audio_dir)
  captions = captions or _find_caption_file(audio_dir)
  rows = _rows_by_file(audio_dir, captions, paths) if captions else {}
  if not paths:
    raise errors.UserError(
        f'audio_dir {audio_dir} must hold {", ".join(io.SUFFIXES)} files, or'
        f' others of sound, but holds none{_count(left_out)}.'
    )
  if captions and len(rows) < len(paths):
    progress.say(
        f'{len(paths) - len(rows)} of {len(paths)} files are not in {captions}:'
        ' their captions come from text files beside them, tags and names'
    )
  files = [
      _describe_file(audio_dir, name, path, rows.get(name, []))
      for name, path in sorted(paths.items())
  ]
  used = {*paths, *(file.sidecar for file in files)}
  if captions:
    # Compared by path, as it may be outside the folder.
    used.add(os.path.relpath(captions, audio_dir).replace(os.sep, '/'))
  return files, [item for item in left_out if item[0] not in used]


def _count(left_out: Sequence[tuple[str, str]]) -> str:
  counts = collections.Counter(kind for _, kind in left_out)
  words = ', '.join(f'{count} {kind}' for kind, count in counts.items())
  return f' ({words})' if words else ''


def _rows_by_file(
    audio_dir: pathlib.Path,
    captions: str | os.PathLike[str],
    paths: dict[str, pathlib.Path],
) -> dict[str, list[dict[str, Any]]]:
  """Returns the rows of a caption file by the name of their file."""
  finder = audio_files.Finder(audio_dir, paths)
  rows: dict[str, list[dict[str, Any]]] = {}
  missing: dict[str, int] = {}
  for row in caption_files.read_caption_file(captions):
    name = finder.find(row['file'])
    if name is None:
      missing.setdefault(row['file'], row['line'])
    else:
      rows.setdefault(name, []).append(row)
  if missing:
    few = list(missing)[:_NUM_NAMED]
    near = [(name, finder.near(name)) for name in few]
    hints = [
        f" Is '{name}' (line {missing[name]}) '{n}'?" for name, n in near if n
    ]
    raise errors.UserError(
        f'{captions} must name files of {audio_dir}, but {len(missing)} of'
        f' {len(missing) + len(rows)} are not there, e.g. {few}. Add them or'
        f' remove their rows.{"".join(hints)}'
    )
  return rows


def _describe_file(
    audio_dir: pathlib.Path,
    name: str,
    path: pathlib.Path,
    rows: Sequence[dict[str, Any]],
) -> AudioFile:
  """Joins the rows of a file to its description."""
  captions = [text for row in rows for text in row['captions']]
  weights = [row['weight'] for row in rows for _ in row['captions']]
  sidecar = ''
  beside = path.with_suffix('.txt')
  if not captions and beside.is_file():
    captions = caption_files.read_sidecar(beside)
    sidecar = os.path.splitext(name)[0] + '.txt'

  def only(key, default=''):
    values = list(dict.fromkeys(row[key] for row in rows if row[key]))
    if len(values) > 1:
      lines = [row['line'] for row in rows if row[key]]
      raise errors.UserError(
          f"rows of one file must have one {key}, but those of '{name}' (lines"
          f' {lines}) have {values[:_NUM_NAMED]}.'
      )
    return values[0] if values else default

  return AudioFile(
      path=str(path),
      name=name,
      work=only('work', os.path.splitext(name)[0]),
      captions=tuple(captions),
      weights=tuple(weights),
      title=only('title'),
      source=only('source', audio_dir.resolve().name),
      license=only('license'),
      sidecar=sidecar,
  )


def _words(name: str) -> str:
  """Makes a title from a file name: 'blue moon' from '03_blue-moon'."""
  words = re.sub(r'[\s_\-]+', ' ', name).strip()
  return re.sub(r'^\d+[ .]+(?=\D)', '', words)


def describe(file: AudioFile, tags: dict[str, str]) -> tuple[str, str]:
  """Returns the title of a file, and a caption from its name and tags."""
  tags = {
      key: value
      for key, value in tags.items()
      if caption_files.says_something(value)
  }
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


def read_clips(
    file: AudioFile,
    clip_seconds: float,
    sample_rate: int,
    listen: bool = False,
) -> Iterator[clips.Clip | clips.LeftOut]:
  """Yields the clips of a file, and those left out because they are silent.

  Args:
    file: The file.
    clip_seconds: Length of a clip; the last one is shorter.
    sample_rate: Sample rate of the clips.
    listen: Whether to estimate beats, chords and key.

  Raises:
    UserError: If the file is damaged, silent or shorter than a second.
  """
  audio = io.read_audio(file.path, sample_rate)
  if len(audio) < clips.MIN_SECONDS * sample_rate:
    raise errors.UserError(
        f'{file.path} must last at least {clips.MIN_SECONDS:g} s, but lasts'
        f' {len(audio) / sample_rate:.2f} s.'
    )
  tags = io.read_tags(file.path)
  title, caption = describe(file, tags)
  if not file.captions and not caption_files.says_something(caption):
    raise errors.UserError(
        f'{file.path} must have a caption, but has none, and its name and tags'
        f' say nothing: {caption!r:.60}. Write one to'
        f" '{os.path.splitext(file.name)[0]}.txt'."
    )
  split = clips.split_audio(audio, sample_rate, clip_seconds)
  for i, (start, clip_audio) in enumerate(split):
    if mixing.is_silent(clip_audio):
      yield clips.LeftOut(f'{file.name} at {start:g} s', clips.SILENT)
      continue
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
        **(_hear(clip_audio, sample_rate) if listen else {}),
    )
  tail = len(audio) % round(clip_seconds * sample_rate)
  if 0 < tail < clips.MIN_SECONDS * sample_rate:
    start = (len(audio) - tail) / sample_rate
    yield clips.LeftOut(f'{file.name} at {start:g} s', clips.SHORT)


def _hear(audio: np.ndarray, sample_rate: int) -> dict[str, Any]:
  """Returns what is heard in a clip, as fields of it."""
  heard = io.resample(audio[np.newaxis], sample_rate, listening.SAMPLE_RATE)
  return vars(listening.listen(heard[0]))


def _work_name(file: AudioFile) -> str:
  return file.work


def check_clip_seconds(clip_seconds: float) -> None:
  """Raises UserError unless clips may have this length."""
  if not clips.MIN_SECONDS <= clip_seconds <= clips.MAX_SECONDS:
    raise errors.UserError(
        f'clip_seconds must be from {clips.MIN_SECONDS:g} to'
        f' {clips.MAX_SECONDS:g}, but is {clip_seconds:g}.'
    )


def build_folder(
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    captions: str | os.PathLike[str] | None = None,
    clip_seconds: float = clips.MAX_SECONDS,
    sample_rate: int = clips.SAMPLE_RATE,
    listen: bool = False,
    **options: Any,
) -> bool:
  """Writes the dataset `music` from a folder of audio.

  Args:
    audio_dir: The folder, with its subfolders.
    data_dir: Folder of the datasets.
    captions: Caption file; see `survey`. Without one, captions come from text
      files beside the audio, from tags and from names.
    clip_seconds: Length of a clip, 1 to 30.
    sample_rate: Sample rate of the clips.
    listen: Whether to estimate the beats, chords and key of each clip, so that
      models can be told them; needs librosa.
    **options: Options of `corpora.build_corpus`, except left_out.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    NotFoundError: If the folder or the caption file is not there.
    UserError: If the folder, the caption file or an audio file is invalid.
  """
  check_clip_seconds(clip_seconds)
  if listen:
    listening.check()
  with progress.telling('listing the files'):
    found, left_out = survey(
        caching.local(audio_dir), captions and caching.local(captions)
    )
  return corpora.build_corpus(
      found,
      functools.partial(
          read_clips,
          clip_seconds=clip_seconds,
          sample_rate=sample_rate,
          listen=listen,
      ),
      _work_name,
      data_dir,
      left_out=left_out,
      sample_rate=sample_rate,
      **options,
  )
