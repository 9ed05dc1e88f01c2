"""MTG-Jamendo, from its tables and a folder of its audio.

MTG-Jamendo (Bogdanov et al., 2019) is 55,701 tracks with tags. Its instrumental
subset, with captions, is the material of the ICME 2026 Grand Challenge on
Academic Text-to-Music Generation (arXiv:2605.21538).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import re
from typing import Any, NamedTuple

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.data import builder
from musiclm_jax.data.sources import caption_files
from musiclm_jax.data.sources import tables
from musiclm_jax.data.sources import tracks

LICENSES = 'audio_licenses.txt'
CARD = builder.Card(
    description='Tracks of Jamendo, with tags of genre, instrument and mood as'
    ' captions, or captions that were made for them (MTG-Jamendo).',
    homepage='https://mtg.github.io/mtg-jamendo-dataset',
    citation='Bogdanov et al. (2019). The MTG-Jamendo Dataset for Automatic'
    ' Music Tagging. ML4MD Workshop, ICML.',
    license='Metadata: CC BY-NC-SA 4.0. Audio: a Creative Commons license for'
    ' each track, see `license` of the examples.',
)
_TABLE = tables.Kind(
    'a table of MTG-Jamendo',
    ('TRACK_ID', 'ARTIST_ID', 'PATH', 'TAGS'),
    separator='\t',
    has_rest=True,
)
_SPLIT = re.compile(r'.*-(train|validation|test)\.tsv')
# Files are NN/<number>.mp3, or .low.mp3 of fewer bits; where voices were
# removed for the challenge, NN/<number>_instrumental.mp3.
_AUDIO = r'(\.low)?'
_INSTRUMENTAL = '_instrumental'


class Attribution(NamedTuple):
  """Whom a track is by, and what may be done with it.

  Attributes:
    title: Its title and artist.
    source: Its page.
    license: Its license, with a link.
  """

  title: str
  source: str
  license: str


def read_licenses(path: str | os.PathLike[str]) -> dict[int, Attribution]:
  """Reads audio_licenses.txt, of MTG-Jamendo or of Song Describer.

  Returns:
    The attribution of each track, by its number.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If it names the license of no track.
  """
  path = caching.local(path)
  text = caption_files.read_text(path, LICENSES, caption_files.MAX_BYTES)
  # A file, 'TITLE by ARTIST from Jamendo: PAGE', and the license.
  blocks = re.findall(
      r'^\S*?(\d+)\.mp3\n(.+)\n(.+)$',
      text.replace('\r\n', '\n'),
      re.MULTILINE,
  )
  if not blocks:
    raise errors.UserError(
        f'{path} must have three lines for each track, its file, whom it is by'
        ' and its license, but has none. Download it again.'
    )
  return {int(number): _parse_license(*rest) for number, *rest in blocks}


def _parse_license(line: str, license_line: str) -> Attribution:
  title, _, page = line.rpartition(' from Jamendo: ')
  terms = re.sub('^Available under an? ', '', license_line.strip())
  return Attribution(title or page, page.strip(), terms)


def find_licenses(
    table: str | os.PathLike[str],
) -> dict[int, Attribution]:
  """Reads the audio_licenses.txt of a folder that a table is in.

  Raises:
    NotFoundError: If there is none.
  """
  above = list(paths.absolute(table).parents)
  if paths.is_remote(table):
    above = above[:-2]  # The last are no folders, but 'gs://' and '/'.
  for parent in above:
    if (parent / LICENSES).exists():
      return read_licenses(parent / LICENSES)
  raise errors.NotFoundError(
      f'{table} must have {LICENSES} beside it, or in a folder above, but has'
      ' none. Copy it there, from where the table comes, or name it with'
      ' --licenses.'
  )


def describe(tags: Sequence[str]) -> str:
  """Makes a caption of tags: 'sad jazz with piano' of three.

  Args:
    tags: E.g. 'genre---jazz', 'instrument---piano' and 'mood/theme---sad'.
  """
  words: dict[str, list[str]] = {}
  for tag in tags:
    category, _, word = tag.partition('---')
    words.setdefault(category, []).append(word)
  moods = ', '.join(words.get('mood/theme', ()))
  genres = ', '.join(words.get('genre', ())) or 'music'
  caption = f'{moods} {genres}'.strip()
  if 'instrument' in words:
    caption += f' with {", ".join(words["instrument"])}'
  return caption


def _number(track_id: str) -> int:
  found = re.fullmatch(r'track_(\d+)', track_id)
  if not found:
    raise ValueError(f"TRACK_ID must be like 'track_0000214': {track_id!r:.40}")
  return int(found[1])


def _parse(row: dict[str, Any]) -> tuple[int, str, str]:
  """Returns the number, the artist and the caption of a row."""
  return _number(row['TRACK_ID']), row['ARTIST_ID'], describe(row['TAGS'])


def read_captions(
    path: str | os.PathLike[str],
) -> dict[int, dict[str, Any]]:
  """Reads a caption file whose paths are those of tracks.

  Returns:
    The captions and weights of each `tracks.Track`, by its number.

  Raises:
    UserError: If a row names no track.
  """
  found: dict[int, list[tuple[str, float]]] = {}
  for row in caption_files.read_caption_file(path):
    number = tracks.number_of(row['file'], f'({_AUDIO}|{_INSTRUMENTAL})')
    if number is None:
      raise errors.UserError(
          f"{path} must name files of tracks, e.g. '14/214.mp3', but names"
          f" '{row['file']}'."
      )
    pairs = ((caption, row['weight']) for caption in row['captions'])
    found.setdefault(number, []).extend(pairs)
  return {
      number: dict(zip(('captions', 'weights'), zip(*pairs)))
      for number, pairs in found.items()
  }


def licensed(
    found: Sequence[tracks.Track], licenses: Mapping[int, Attribution]
) -> list[tracks.Track]:
  """Returns tracks with their attributions; leaves out those without, and says.

  Raises:
    UserError: If none has one.
  """
  kept = [
      dataclasses.replace(track, **licenses[track.number]._asdict())
      for track in found
      if track.number in licenses
  ]
  missing = len(found) - len(kept)
  if missing:
    progress.say(
        f'left out {missing} of {len(found)} tracks, whose licenses {LICENSES}'
        ' does not say'
    )
  if found and not kept:
    raise errors.UserError(
        f'{LICENSES} must say the licenses of the tracks of the table, but says'
        ' none of them. Take both files from one place.'
    )
  return kept


def read_tracks(
    table: Sequence[str | os.PathLike[str]],
    licenses: str | os.PathLike[str] | None = None,
) -> list[tracks.Track]:
  """Reads the tracks of tables.

  Args:
    table: Tables of MTG-Jamendo, e.g. raw_30s.tsv. Those of a split, as in its
      data/splits, end in -train.tsv, -validation.tsv or -test.tsv.
    licenses: Its audio_licenses.txt; by default that in a folder above.

  Raises:
    NotFoundError: If a file is not there.
    UserError: If a row is malformed, a track is named twice, or no track is
      licensed.
  """
  attributions = (
      read_licenses(licenses) if licenses else find_licenses(table[0])
  )
  found: dict[int, tracks.Track] = {}
  for path in table:
    match = _SPLIT.fullmatch(os.fspath(path))
    for number, artist, caption in tables.read(path, _TABLE, _parse):
      if number in found:
        raise errors.UserError(
            f'tables must name each track once, but {path} names {number}'
            ' again. Give one table, or those of the parts of one split.'
        )
      found[number] = tracks.Track(
          number=number,
          artist=artist,
          captions=(caption,),
          split=match[1] if match else '',
      )
  if len({bool(track.split) for track in found.values()}) > 1:
    raise errors.UserError(
        'tables must all be of one split, ending in -train.tsv, -validation.tsv'
        f' or -test.tsv, or none of them, but are {list(map(str, table))}.'
    )
  return licensed(list(found.values()), attributions)


def _with_captions(
    found: Sequence[tracks.Track], path: str | os.PathLike[str]
) -> list[tracks.Track]:
  known = read_captions(path)
  kept = [
      dataclasses.replace(track, **known[track.number])
      for track in found
      if track.number in known
  ]
  progress.say(f'{len(kept)} of {len(found)} tracks have captions in {path}')
  return kept


def build_jamendo(
    table: Sequence[str | os.PathLike[str]],
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    licenses: str | os.PathLike[str] | None = None,
    captions: str | os.PathLike[str] | None = None,
    instrumental: bool = False,
    **options: Any,
) -> bool:
  """Writes the dataset `music` from MTG-Jamendo.

  Args:
    table: See `read_tracks`.
    audio_dir: Folder of NN/<number>.mp3 or NN/<number>.low.mp3.
    data_dir: Folder of the datasets.
    licenses: See `read_tracks`.
    captions: Caption file, see `read_captions`, e.g. of the challenge. Tracks
      that it does not name are left out. By default, captions are of tags.
    instrumental: Whether to take NN/<number>_instrumental.mp3, which the
      challenge makes by removing voices.
    **options: Options of `tracks.build`, except suffix and card.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    NotFoundError: If a file or folder is not there.
    UserError: If there is too little audio for each split, or some is bad.
  """
  found = read_tracks(table, licenses)
  if captions:
    found = _with_captions(found, captions)
  return tracks.build(
      found,
      audio_dir,
      data_dir,
      CARD,
      suffix=_INSTRUMENTAL if instrumental else _AUDIO,
      **options,
  )
