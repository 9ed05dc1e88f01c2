"""The Song Describer Dataset, from its tables and a folder of its audio.

Song Describer (Manco et al., 2023, arXiv:2311.10057) is 1,106 captions that
people wrote for 2 min of each of 706 tracks. It is for evaluation: all of it is
in the split 'test'. Its tracks are those of the test part of split 0 of
MTG-Jamendo.
"""

import os
from typing import Any

from musiclm_jax.data import builder
from musiclm_jax.data.sources import caption_files
from musiclm_jax.data.sources import jamendo
from musiclm_jax.data.sources import tables
from musiclm_jax.data.sources import tracks

CARD = builder.Card(
    description='Captions that people wrote for tracks of Jamendo (Song'
    ' Describer).',
    homepage='https://doi.org/10.5281/zenodo.10072001',
    citation='Manco et al. (2023). The Song Describer Dataset: a Corpus of'
    ' Audio Captions for Music-and-Language Evaluation. ML for Audio Workshop,'
    ' NeurIPS. arXiv:2311.10057.',
    license='Captions: CC BY-SA 4.0. Audio: a Creative Commons license for each'
    ' track, see `license` of the examples.',
)
_TABLE = tables.Kind(
    'song_describer.csv',
    ('track_id', 'caption', 'is_valid_subset', 'artist_id'),
)
AUDIO = r'(\.2min)?'  # Between the number of a track and the suffix.


def _parse(row: dict[str, Any]) -> tuple[int, str, str, bool]:
  """Returns the track, the artist, the caption, and whether it is valid."""
  if not caption_files.says_something(row['caption']):
    raise ValueError('it must have a caption that says something')
  is_valid = row['is_valid_subset'] == 'True'
  return int(row['track_id']), row['artist_id'], row['caption'], is_valid


def read_captions(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
  """Returns the track and the text of each caption of song_describer.csv.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If a row is malformed.
  """
  rows = tables.read(path, _TABLE, _parse)
  return [(number, caption) for number, _, caption, _ in rows]


def read_tracks(
    path: str | os.PathLike[str],
    licenses: str | os.PathLike[str] | None = None,
    valid_only: bool = False,
) -> list[tracks.Track]:
  """Reads song_describer.csv.

  Args:
    path: song_describer.csv.
    licenses: audio_licenses.txt; by default that in a folder above.
    valid_only: Whether to leave out captions that were not found to be valid.

  Raises:
    NotFoundError: If a file is not there.
    UserError: If a row is malformed, or no track is licensed.
  """
  attributions = (
      jamendo.read_licenses(licenses)
      if licenses
      else jamendo.find_licenses(path)
  )
  captions: dict[tuple[int, str], list[str]] = {}
  for number, artist, caption, is_valid in tables.read(path, _TABLE, _parse):
    if is_valid or not valid_only:
      captions.setdefault((number, artist), []).append(caption)
  found = [
      tracks.Track(number, artist, captions=tuple(texts), split='test')
      for (number, artist), texts in captions.items()
  ]
  return jamendo.licensed(found, attributions)


def build_song_describer(
    table: str | os.PathLike[str],
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    licenses: str | os.PathLike[str] | None = None,
    valid_only: bool = False,
    **options: Any,
) -> bool:
  """Writes the split 'test' of the dataset `music` from Song Describer.

  Args:
    table: song_describer.csv.
    audio_dir: Folder of NN/<number>.2min.mp3.
    data_dir: Folder of the datasets.
    licenses: See `read_tracks`.
    valid_only: See `read_tracks`.
    **options: Options of `tracks.build`, except suffix and card.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    NotFoundError: If a file or folder is not there.
    UserError: If there is no audio, or some is bad.
  """
  found = read_tracks(table, licenses, valid_only)
  return tracks.build(found, audio_dir, data_dir, CARD, suffix=AUDIO, **options)
