"""The MusicCaps corpus, from its table and the clips that the user has.

MusicCaps (MusicLM section 5.1) is 5,521 captions of 10 s of YouTube videos. Not
all of its audio is still available: missing clips are listed in missing.csv.
"""

import ast
from collections.abc import Iterator
import dataclasses
import functools
import os
import re
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.audio import io as audio_io
from musiclm_jax.audio import mixing
from musiclm_jax.data import builder
from musiclm_jax.data.sources import audio_files
from musiclm_jax.data.sources import caption_files
from musiclm_jax.data.sources import tables
from musiclm_jax.data import clips
from musiclm_jax.data import corpora

_TABLE = tables.Kind(
    'musiccaps-public.csv',
    (
        'ytid',
        'start_s',
        'end_s',
        'is_audioset_eval',
        'aspect_list',
        'caption',
    ),
)
CARD = builder.Card(
    description='Clips of music, each described by a musician in a caption and'
    ' a list of aspects (MusicCaps).',
    homepage='https://www.kaggle.com/datasets/googleai/musiccaps',
    citation='Agostinelli et al. (2023). MusicLM: Generating Music From Text.'
    ' arXiv:2301.11325.',
    license='Captions: CC BY-SA 4.0. Audio: as its owners on YouTube say.',
)


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the table.

  Attributes:
    ytid: Name of the video.
    start: Start of the clip in the video, in seconds.
    end: End of the clip in the video, in seconds.
    is_eval: Whether it is in the AudioSet eval split.
    captions: Its caption, and its list of aspects.
    path: Path of its audio; empty if missing.
    is_balanced: Whether it is one of 1,000 that balance genres.
  """

  ytid: str
  start: float
  end: float
  is_eval: bool
  captions: tuple[str, ...]
  path: str = ''
  is_balanced: bool = False

  @property
  def name(self) -> str:
    """Name of the clip in messages."""
    return self.ytid


def read_table(path: str | os.PathLike[str]) -> list[Row]:
  """Reads musiccaps-public.csv.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If it lacks a column, or a row is malformed.
  """
  return tables.read(path, _TABLE, _parse_row)


def _parse_row(row: dict[str, Any]) -> Row:
  aspects = ast.literal_eval(row['aspect_list'])
  if not all(isinstance(text, str) for text in aspects):
    raise ValueError('its aspects must be texts')
  parsed = Row(
      ytid=row['ytid'],
      start=float(row['start_s']),
      end=float(row['end_s']),
      is_eval=row['is_audioset_eval'] == 'True',
      captions=tuple(
          text
          for text in (row['caption'], ', '.join(aspects))
          if caption_files.says_something(text)
      ),
      is_balanced=row.get('is_balanced_subset') == 'True',
  )
  if not 0 <= parsed.start < parsed.end < float('inf'):
    raise ValueError('it must begin before it ends')
  if not parsed.ytid or not parsed.captions:
    raise ValueError('it must have a ytid and a caption that says something')
  return parsed


def survey(
    audio_dir: str | os.PathLike[str],
) -> tuple[dict[str, str], list[tuple[str, str]]]:
  """Finds the audio of videos in a folder, and other files.

  Args:
    audio_dir: Folder of `<ytid>.<suffix>` or
      `[<ytid>]-[<start>-<end>].<suffix>`, also in subfolders.

  Returns:
    Paths by ytid, and the (name, kind of reason) of files left out.

  Raises:
    NotFoundError: If there is no such folder.
  """
  found, left_out = audio_files.walk(audio_dir)
  paths: dict[str, str] = {}
  for name, path in found.items():
    match = re.fullmatch(r'\[(.+)\]-\[\d+-\d+\]', path.stem)
    ytid = match[1] if match else path.stem
    if ytid in paths:
      left_out.append((name, 'a second file of a clip'))
    paths.setdefault(ytid, str(path))
  return paths, left_out


def read_clips(
    row: Row, sample_rate: int
) -> Iterator[clips.Clip | clips.LeftOut]:
  """Yields the clip of a row.

  Raises:
    UserError: If its file is damaged, silent or too short.
  """
  audio = audio_io.read_audio(row.path, sample_rate)
  # A file that is longer than the clip must be the whole video.
  if len(audio) > (row.end - row.start + 1) * sample_rate:
    start, end = (round(t * sample_rate) for t in (row.start, row.end))
    audio = audio[start:end]
  if len(audio) < clips.MIN_SECONDS * sample_rate:
    raise errors.UserError(
        f'{row.path} must hold seconds {row.start:g} to {row.end:g} of'
        f' {row.ytid}, but holds {len(audio) / sample_rate:.2f} s of'
        ' them. Download it again.'
    )
  if mixing.is_silent(audio):
    yield clips.LeftOut(f'{row.path} at {row.start:g} s', clips.SILENT)
    return
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


def build_musiccaps(
    table: str | os.PathLike[str],
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    sample_rate: int = clips.SAMPLE_RATE,
    **options: Any,
) -> bool:
  """Writes the dataset `music` from MusicCaps; its eval split is 'test'.

  Args:
    table: musiccaps-public.csv.
    audio_dir: Folder of the clips; see `survey`. Missing ones are listed in
      data_dir/missing.csv.
    data_dir: Folder of the datasets.
    sample_rate: Sample rate of the clips.
    **options: Options of `corpora.write_corpus`, except left_out.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    NotFoundError: If the table or the folder is not there.
    UserError: If there is too little audio for each split, or some is bad.
  """
  rows = read_table(caching.local(table))
  with progress.telling('listing the files'):
    recordings, left_out = survey(caching.local(audio_dir))
  found = [
      dataclasses.replace(row, path=recordings[row.ytid])
      for row in rows
      if row.ytid in recordings
  ]
  missing = [row for row in rows if row.ytid not in recordings]
  path = paths.to_path(data_dir) / 'missing.csv'
  tables.write_missing(
      path,
      ('ytid', 'start_s', 'end_s'),
      [(row.ytid, f'{row.start:g}', f'{row.end:g}') for row in missing],
  )
  progress.say(
      f'{len(found)} of {len(rows)} clips have audio; {path} lists the rest'
  )
  known = {row.ytid for row in rows}
  left_out += [
      (path, 'not in the table')
      for ytid, path in recordings.items()
      if ytid not in known
  ]
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
      {**splits, 'test': test},
      functools.partial(read_clips, sample_rate=sample_rate),
      data_dir,
      left_out=left_out,
      sample_rate=sample_rate,
      card=CARD,
      **options,
  )
