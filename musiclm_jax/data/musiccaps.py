"""The MusicCaps corpus, from its table and the clips that the user has.

MusicCaps (MusicLM section 5.1) is 5,521 captions of 10 s of YouTube videos.
Its audio cannot be had as a whole: what is missing is written to missing.csv.
"""

import ast
from collections.abc import Iterator
import csv
import dataclasses
import os
import pathlib
import re
from typing import Any

from absl import logging
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import corpora

_COLUMNS = (
    'ytid',
    'start_s',
    'end_s',
    'is_audioset_eval',
    'aspect_list',
    'caption',
)


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the table.

  Attributes:
    ytid: Name of the video.
    start: Of the clip in the video, in seconds.
    end: Of the clip in the video, in seconds.
    is_eval: Whether it is of the AudioSet eval split.
    captions: Its caption, and its list of aspects.
    path: Of its audio; empty if missing.
  """

  ytid: str
  start: float
  end: float
  is_eval: bool
  captions: tuple[str, ...]
  path: str = ''


def read_table(path: str | os.PathLike[str]) -> list[Row]:
  """Reads musiccaps-public.csv.

  Raises:
    ValueError: If it lacks a column.
  """
  with open(path, encoding='utf-8-sig', newline='') as file:
    reader = csv.DictReader(file)
    missing = set(_COLUMNS) - set(reader.fieldnames or ())
    if missing:
      raise errors.UserError(
          f'{path} must have the columns of musiccaps-public.csv, but lacks'
          f' {sorted(missing)}.'
      )
    return [_parse_row(row) for row in reader]


def _parse_row(row: dict[str, str]) -> Row:
  aspects = ', '.join(ast.literal_eval(row['aspect_list']))
  return Row(
      ytid=row['ytid'],
      start=float(row['start_s']),
      end=float(row['end_s']),
      is_eval=row['is_audioset_eval'] == 'True',
      captions=tuple(text for text in (row['caption'], aspects) if text),
  )


def find_audio(audio_dir: str | os.PathLike[str]) -> dict[str, str]:
  """Returns the path of each video of which there is audio.

  Args:
    audio_dir: Holds `<ytid>.<suffix>` or `[<ytid>]-[<start>-<end>].<suffix>`,
      in any folder below.

  Raises:
    FileNotFoundError: If there is no such folder.
  """
  audio_dir = pathlib.Path(audio_dir)
  if not audio_dir.is_dir():
    raise errors.NotFoundError(f'audio_dir {audio_dir} must be a folder.')
  paths = {}
  for path in sorted(audio_dir.rglob('*')):
    if path.suffix.lower() in io.SUFFIXES:
      match = re.fullmatch(r'\[(.+)\]-\[\d+-\d+\]', path.stem)
      paths[match[1] if match else path.stem] = str(path)
  return paths


def read_clips(row: Row) -> Iterator[clips.Clip]:
  """Yields the clip of a row.

  Raises:
    ValueError: If its file is damaged or too short.
  """
  audio = io.read_audio(row.path, clips.SAMPLE_RATE)
  # A file that is longer than the clip is taken for the whole video.
  if len(audio) > (row.end - row.start + 1) * clips.SAMPLE_RATE:
    start, end = (round(t * clips.SAMPLE_RATE) for t in (row.start, row.end))
    audio = audio[start:end]
  if len(audio) < clips.MIN_SECONDS * clips.SAMPLE_RATE:
    raise errors.UserError(
        f'{row.path} must hold seconds {row.start:g} to {row.end:g} of'
        f' {row.ytid}, but holds {len(audio) / clips.SAMPLE_RATE:.2f} s of'
        ' them. Download it again.'
    )
  yield clips.Clip(
      audio=audio,
      captions=row.captions,
      id=f'{row.ytid}/0',
      work=row.ytid,
      title=row.ytid,
      source='MusicCaps',
      start=row.start,
  )


def _ytid(row: Row) -> str:
  return row.ytid


def _write_missing(path: pathlib.Path, rows: list[Row]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['ytid', 'start_s', 'end_s'])
    writer.writerows(
        (row.ytid, f'{row.start:g}', f'{row.end:g}') for row in rows
    )


def build_musiccaps(
    table: str | os.PathLike[str],
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    **options: Any,
) -> bool:
  """Writes the dataset `music` from MusicCaps; its eval split is 'test'.

  Args:
    table: musiccaps-public.csv.
    audio_dir: The clips at hand; see `find_audio`. Those that are missing are
      listed in data_dir/missing.csv.
    data_dir: Folder of the datasets.
    **options: Of `corpora.write_corpus`: runner, pipeline_options,
      num_workers, skip_bad, overwrite.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    FileNotFoundError: If the table or the folder is not there.
    ValueError: If there is too little audio for each split, or some is bad.
  """
  rows = read_table(table)
  paths = find_audio(audio_dir)
  found = [
      dataclasses.replace(row, path=paths[row.ytid])
      for row in rows
      if row.ytid in paths
  ]
  missing = [row for row in rows if row.ytid not in paths]
  path = pathlib.Path(data_dir) / 'missing.csv'
  _write_missing(path, missing)
  logging.warning(
      '%d of %d clips have audio; %s lists the rest.',
      len(found),
      len(rows),
      path,
  )
  test = [row for row in found if row.is_eval]
  if not test:
    raise errors.UserError(
        f'{audio_dir} must hold clips of the eval split of MusicCaps, to test'
        f' on, but holds {len(found)} clips and none of those.'
    )
  others = [row for row in found if not row.is_eval]
  held_out = {'validation': corpora.HELD_OUT['validation']}
  splits = corpora.split_works(others, _ytid, held_out)
  return corpora.write_corpus(
      {**splits, 'test': test}, read_clips, data_dir, **options
  )
