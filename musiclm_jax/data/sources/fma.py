"""The Free Music Archive, from its tables and a folder of its audio.

FMA (Defferrard et al., 2017, arXiv:1612.01840) is 106,574 tracks with genres
and tags, in subsets of which each is part of the next, and in three splits.
"""

import ast
from collections.abc import Mapping
import functools
import os
from typing import Any

from musiclm_jax import errors
from musiclm_jax.data import builder
from musiclm_jax.data.sources import tables
from musiclm_jax.data.sources import tracks

SUBSETS = ('small', 'medium', 'large')
CARD = builder.Card(
    description='Tracks of the Free Music Archive, with genres and tags as'
    ' captions (FMA).',
    homepage='https://github.com/mdeff/fma',
    citation='Defferrard et al. (2017). FMA: A Dataset for Music Analysis.'
    ' ISMIR. arXiv:1612.01840.',
    license='Metadata: CC BY 4.0. Audio: as the artist of each track chose, see'
    ' `license` of the examples.',
)
_SPLITS = {'training': 'train', 'validation': 'validation', 'test': 'test'}
_TRACKS = tables.Kind(
    'tracks.csv of FMA',
    (
        'track_id',
        'album title',
        'artist id',
        'artist name',
        'set split',
        'set subset',
        'track genres',
        'track license',
        'track tags',
        'track title',
    ),
    header_lines=3,
)
_GENRES = tables.Kind('genres.csv of FMA', ('genre_id', 'title'))


def _parse_genre(row: dict[str, Any]) -> tuple[int, str]:
  return int(row['genre_id']), row['title']


def read_genres(path: str | os.PathLike[str]) -> dict[int, str]:
  """Reads genres.csv; returns the title of each genre by its number.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If a row is malformed.
  """
  return dict(tables.read(path, _GENRES, _parse_genre))


def _parse_track(
    row: dict[str, Any], genres: Mapping[int, str]
) -> tuple[str, tracks.Track]:
  """Returns the subset and the track of a row."""
  genre_ids = ast.literal_eval(row['track genres'])
  tags = ast.literal_eval(row['track tags'])
  unknown = [i for i in genre_ids if i not in genres]
  if unknown:
    raise ValueError(f'genres.csv has no genres {unknown}')
  if row['set split'] not in _SPLITS:
    raise ValueError(
        f"set split is one of {', '.join(_SPLITS)}, not '{row['set split']}'"
    )
  words = [*(genres[i] for i in genre_ids), *tags]
  title = ' by '.join(filter(None, (row['track title'], row['artist name'])))
  return row['set subset'], tracks.Track(
      number=int(row['track_id']),
      artist=row['artist id'],
      title=title,
      source=f'Free Music Archive, {row["album title"]}'.rstrip(', '),
      license=row['track license'],
      captions=(', '.join(words),) if words else (),
      split=_SPLITS[row['set split']],
  )


def read_tracks(
    path: str | os.PathLike[str],
    genres: str | os.PathLike[str],
    subset: str | None = None,
) -> list[tracks.Track]:
  """Reads tracks.csv.

  Args:
    path: tracks.csv.
    genres: genres.csv.
    subset: One of `SUBSETS`; by default all tracks.

  Raises:
    NotFoundError: If a file is not there.
    UserError: If a row is malformed.
  """
  parse = functools.partial(_parse_track, genres=read_genres(genres))
  rows = tables.read(path, _TRACKS, parse)
  if subset is None:
    return [track for _, track in rows]
  if subset not in SUBSETS:
    raise errors.UserError(
        f"subset must be one of {SUBSETS}, but is '{subset}'."
    )
  within = SUBSETS[: SUBSETS.index(subset) + 1]
  return [track for found, track in rows if found in within]


def build_fma(
    table: str | os.PathLike[str],
    genres: str | os.PathLike[str],
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    subset: str | None = None,
    **options: Any,
) -> bool:
  """Writes the dataset `music` from FMA, in its own splits.

  Args:
    table: tracks.csv.
    genres: genres.csv.
    audio_dir: Folder of NNN/NNNNNN.mp3.
    data_dir: Folder of the datasets.
    subset: See `read_tracks`.
    **options: Options of `tracks.build`, except card.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    NotFoundError: If a file or folder is not there.
    UserError: If there is too little audio for each split, or some is bad.
  """
  found = read_tracks(table, genres, subset)
  return tracks.build(found, audio_dir, data_dir, CARD, **options)
