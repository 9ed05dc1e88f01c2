"""Tells whether a folder holds recordings, scores, or datasets."""

from collections.abc import Mapping, Sequence
import dataclasses
import enum
import hashlib
import os
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data.sources import audio_files
from musiclm_jax.data import datasets
from musiclm_jax.data.sources import score_files

_MAX_STRAY = 1 / 3  # Largest share of the other kind; above, it is a mixture.
_NUM_NAMED = 3  # Most files that a message names.


class Kind(enum.Enum):
  """Kind of a source; the value is its name in messages."""

  AUDIO = 'recordings'
  SCORES = 'scores'
  DATASET = 'a data directory'


@dataclasses.dataclass(frozen=True)
class Source:
  """The files of a source.

  Attributes:
    kind: Kind of most files.
    names: Names of the files of that kind.
    strays: Names of the files of the other kind.
    sha256: Hash of the names and sizes of all these; empty for a data
      directory.
  """

  kind: Kind
  names: Sequence[str] = ()
  strays: Sequence[str] = ()
  sha256: str = ''

  def __str__(self) -> str:
    if self.kind == Kind.DATASET:
      return self.kind.value
    told = f'{len(self.names)} {self.kind.value}'
    if self.strays:
      other = Kind.SCORES if self.kind == Kind.AUDIO else Kind.AUDIO
      told += f'; left out: {len(self.strays)} {other.value}, e.g.'
      told += f' {", ".join(self.strays[:_NUM_NAMED])}'
    return told


def survey(path: str | os.PathLike[str]) -> Source:
  """Surveys a source of music; its kind is that of most of its files.

  Args:
    path: A folder of audio or of scores, a .zip of scores, or a folder of
      datasets. Hidden files are ignored, and links are followed.

  Raises:
    NotFoundError: If it does not exist.
    UserError: If it is none of these, or a mixture.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise errors.NotFoundError(
        f"--data must be a folder that exists, but is '{path}'."
    )
  if datasets.dataset_exists('music', path):
    return Source(Kind.DATASET)
  if not path.is_dir() and path.suffix.lower() != '.zip':
    raise errors.UserError(
        f"--data must be a folder, but '{path}' is a file. Give the folder that"
        ' it is in.'
    )
  files = score_files.list_files(path)
  recordings = audio_files.walk(path)[0] if path.is_dir() else {}
  audio = list(recordings)
  scores = [n for n, file in files.items() if score_files.is_score(file, n)]
  _check(path, len(files), audio, scores)
  pair = (Kind.AUDIO, audio, scores), (Kind.SCORES, scores, audio)
  kind, names, strays = pair[len(scores) > len(audio)]
  digest = _hash({**files, **recordings}, [*names, *strays])
  return Source(kind, names, strays, digest)


def _check(
    path: pathlib.Path,
    num_files: int,
    audio: Sequence[str],
    scores: Sequence[str],
) -> None:
  """Raises UserError unless most files are of one kind."""
  if not audio and not scores:
    holds = f'{num_files} files, none of them such' if num_files else 'nothing'
    raise errors.UserError(
        f"--data must hold audio ({', '.join(io.SUFFIXES)}) or scores"
        f" ({', '.join(score_files.SUFFIXES)}), but '{path}' holds {holds}."
        ' Unpack what is packed, or give another folder.'
    )
  few, many = sorted((len(audio), len(scores)))
  if few > _MAX_STRAY * many:
    raise errors.UserError(
        f"--data must be recordings or scores, but '{path}' holds"
        f' {len(audio)} recordings (e.g. {audio[0]}) and {len(scores)} scores'
        f' (e.g. {scores[0]}). Put each kind into a folder of its own.'
    )


def _hash(files: Mapping[str, Any], names: Sequence[str]) -> str:
  digest = hashlib.sha256()
  for name in sorted(names):
    path = files[name]
    size = os.path.getsize(path) if os.path.exists(path) else -1
    digest.update(f'{name}\0{size}\n'.encode(errors='surrogateescape'))
  return digest.hexdigest()
