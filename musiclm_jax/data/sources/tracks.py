"""Corpora of tracks: their tables say what the files of a folder are.

Tracks have numbers, which are the names of their files. Those of an artist
share a split, unless the corpus has splits of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import os
import pathlib
import re
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.data import builder
from musiclm_jax.data.sources import audio_files
from musiclm_jax.data.sources import folder
from musiclm_jax.data.sources import tables
from musiclm_jax.data import clips
from musiclm_jax.data import corpora


@dataclasses.dataclass(frozen=True)
class Track:
  """A track of a corpus.

  Attributes:
    number: Its number in the corpus.
    artist: Whatever tells its artist from others.
    title: Its title and artist, as they are to be attributed; it and the next
      two are empty if they are unknown.
    source: The page or the collection that it comes from.
    license: Its license.
    captions: Its captions.
    split: Split that the corpus puts it in; empty if it does not say.
    weights: Weight of each caption, see `clips.Clip`; empty if all are equal.
    file: Its audio; None until that is found.
  """

  number: int
  artist: str
  title: str = ''
  source: str = ''
  license: str = ''
  captions: tuple[str, ...] = ()
  split: str = ''
  weights: tuple[float, ...] = ()
  file: folder.AudioFile | None = None

  @property
  def name(self) -> str:
    """Name of the track in messages."""
    return self.file.name if self.file else f'track {self.number}'


def number_of(name: str, suffix: str = '') -> int | None:
  """Returns the number of the track that a file is of, None if of none.

  Args:
    name: Path of the file, e.g. '14/214.mp3'.
    suffix: Regular expression of what stands between number and extension.
  """
  found = re.fullmatch(rf'0*(\d+){suffix}', pathlib.PurePath(name).stem)
  return int(found[1]) if found else None


def _find(
    audio_dir: str | os.PathLike[str], suffix: str
) -> tuple[dict[int, tuple[str, str]], list[tuple[str, str]]]:
  """Returns (name, path) of audio by number, and the files left out."""
  paths, left_out = audio_files.walk(audio_dir)
  found: dict[int, tuple[str, str]] = {}
  for name, path in paths.items():
    number = number_of(name, suffix)
    if number is None:
      left_out.append((name, 'not named as a track'))
    elif number in found:
      left_out.append((name, 'a second file of a track'))
    else:
      found[number] = name, str(path)
  return found, left_out


def _with_file(track: Track, name: str, path: str) -> Track:
  file = folder.AudioFile(
      path=path,
      name=name,
      work=os.path.splitext(name)[0],
      captions=track.captions,
      weights=track.weights,
      title=track.title,
      source=track.source,
      license=track.license,
  )
  return dataclasses.replace(track, file=file)


def read_clips(
    track: Track, clip_seconds: float, sample_rate: int
) -> Iterator[clips.Clip | clips.LeftOut]:
  """Yields the clips of a track; see `folder.read_clips`."""
  assert track.file is not None  # Only tracks with audio are works.
  yield from folder.read_clips(track.file, clip_seconds, sample_rate)


def _artist(track: Track) -> str:
  return track.artist


def _present(
    tracks: Iterable[Track],
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    suffix: str,
) -> tuple[list[Track], list[tuple[str, str]]]:
  """Returns the tracks with audio, and files left out; lists the missing."""
  tracks = list(tracks)
  with progress.telling('listing the files'):
    found, left_out = _find(caching.local(audio_dir), suffix)
  present = [
      _with_file(t, *found[t.number]) for t in tracks if t.number in found
  ]
  path = paths.to_path(data_dir) / 'missing.csv'
  missing = [(t.number, t.title) for t in tracks if t.number not in found]
  tables.write_missing(path, ('track', 'title'), missing)
  progress.say(
      f'{len(present)} of {len(tracks)} tracks have audio;'
      f' {path} lists the rest'
  )
  known = {track.number for track in tracks}
  left_out += [
      (name, 'not in the table')
      for number, (name, _) in found.items()
      if number not in known
  ]
  if not present:
    raise errors.UserError(
        f'{audio_dir} must hold audio of the {len(tracks)} tracks, named by'
        f' their numbers, but holds none. {path} lists them.'
    )
  return present, left_out


def build(
    tracks: Iterable[Track],
    audio_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    card: builder.Card,
    suffix: str = '',
    clip_seconds: float = clips.MAX_SECONDS,
    sample_rate: int = clips.SAMPLE_RATE,
    **options: Any,
) -> bool:
  """Writes the dataset `music` from tracks.

  Args:
    tracks: The tracks; those without audio are listed in data_dir/missing.csv.
    audio_dir: Folder of their audio.
    data_dir: Folder of the datasets.
    card: Description of the dataset.
    suffix: See `number_of`.
    clip_seconds: Length of a clip, 1 to 30.
    sample_rate: Sample rate of the clips.
    **options: Options of `corpora.write_works`, except left_out and metadata.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    NotFoundError: If the folder is not there.
    UserError: If there is too little audio for each split, or some is bad.
  """
  folder.check_clip_seconds(clip_seconds)
  present, left_out = _present(tracks, audio_dir, data_dir, suffix)
  read = functools.partial(
      read_clips, clip_seconds=clip_seconds, sample_rate=sample_rate
  )
  options |= {'card': card, 'left_out': left_out, 'sample_rate': sample_rate}
  if any(track.split for track in present):
    return corpora.write_corpus(_by_split(present), read, data_dir, **options)
  return corpora.build_corpus(present, read, _artist, data_dir, **options)


def _by_split(tracks: Sequence[Track]) -> Mapping[str, list[Track]]:
  splits: dict[str, list[Track]] = {}
  for track in tracks:
    splits.setdefault(track.split, []).append(track)
  return splits
