"""Clips that can be read at any rate, and which of a list each file is."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
import re
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import clips as clips_lib
from musiclm_jax.data import datasets
from musiclm_jax.data.sources import audio_files
from musiclm_jax.data.sources import musiccaps
import numpy as np

_NUM_NAMED = 3


@runtime_checkable
class Sound(Protocol):
  """Audio that is read when it is needed; other processes can read it, too."""

  @property
  def name(self) -> str:
    """What it is called in messages."""

  def read(self, sample_rate: int) -> Float[np.ndarray, ' samples']:
    """Returns [samples] mono audio in [-1, 1]; UserError if it is no audio."""


@dataclasses.dataclass(frozen=True)
class File:
  """A file of audio.

  Attributes:
    path: Its path.
  """

  path: str

  @property
  def name(self) -> str:
    return self.path

  def read(self, sample_rate: int) -> Float[np.ndarray, ' samples']:
    return io.read_audio(self.path, sample_rate)


@dataclasses.dataclass(frozen=True)
class Video:
  """The clip of a row of MusicCaps.

  Attributes:
    row: The row, with the path of its audio.
  """

  row: musiccaps.Row

  @property
  def name(self) -> str:
    return self.row.path

  def read(self, sample_rate: int) -> Float[np.ndarray, ' samples']:
    clip = next(musiccaps.read_clips(self.row, sample_rate))
    if isinstance(clip, clips_lib.LeftOut):
      raise errors.UserError(f'{clip.name} must be heard, but is {clip.kind}.')
    return clip.audio


@dataclasses.dataclass(frozen=True)
class Example:
  """A clip of the dataset `music`.

  Attributes:
    data_dir: Folder of the datasets.
    split: Split of the dataset.
    index: Number of the clip in the split.
  """

  data_dir: str
  split: str
  index: int

  @property
  def name(self) -> str:
    return f'clip {self.index} of {self.split} in {self.data_dir}'

  def read(self, sample_rate: int) -> Float[np.ndarray, ' samples']:
    record = record_of(self)
    rate = datasets.sample_rate(self.data_dir)
    return io.resample(clips_lib.to_float(record['audio']), rate, sample_rate)


def record_of(example: Example) -> dict[str, Any]:
  """Returns the record of a clip of a dataset."""
  return _dataset(example.data_dir, example.split)[example.index]


@functools.cache
def _dataset(data_dir: str, split: str) -> Sequence[dict[str, Any]]:
  return datasets.open_dataset('music', data_dir, split)


def read_first(
    sound: Sound, seconds: float, sample_rate: int
) -> Float[np.ndarray, ' samples']:
  """Reads the first `seconds` of a clip, or all of it."""
  return sound.read(sample_rate)[: round(seconds * sample_rate)]


def list_folder(folder: str | os.PathLike[str]) -> dict[str, File]:
  """Returns the audio files of a folder by their names, without suffixes.

  Raises:
    NotFoundError: If there is no such folder.
    UserError: If it holds no audio, or two files of one name.
  """
  found, _ = audio_files.walk(folder)
  files: dict[str, File] = {}
  for name, path in found.items():
    stem = os.path.splitext(name)[0]
    if stem in files:
      raise errors.UserError(
          f"files in '{folder}' must differ in more than their suffixes, but"
          f" two are named '{stem}'. Remove one."
      )
    files[stem] = File(str(path))
  if not files:
    raise errors.UserError(f"'{folder}' must hold audio, but holds none.")
  return files


def match(
    folder: str | os.PathLike[str], ids: Sequence[str]
) -> dict[str, File]:
  """Tells which clip of a list each file of a folder is.

  Files are matched by name; if no name is that of a clip, and there are as many
  files as clips, in the order of their names and of the numbers in these.

  Args:
    folder: Folder of files named by ids; others are ignored.
    ids: Ids of the clips, in the order of the list.

  Returns:
    Files by id, in the order of the list. Some may be missing.

  Raises:
    NotFoundError: If there is no such folder.
    UserError: If the files can't be matched.
  """
  files = list_folder(folder)
  are_as_many = len(files) == len(ids)
  found = {id_: files[id_] for id_ in ids if id_ in files}
  if not found and are_as_many:
    return dict(zip(ids, [files[name] for name in sorted(files, key=_order)]))
  if are_as_many and len(found) < len(ids):
    others = [name for name in files if name not in found]
    raise errors.UserError(
        f"files in '{folder}' must all be named by the ids of the prompts, as"
        f' in {_some(ids)}, or none of them, but {_some(others)} are not.'
        ' Rename them.'
    )
  if not found:
    raise errors.UserError(
        f"files in '{folder}' must be named by the ids of the prompts, as in"
        f' {_some(ids)}, or be as many as there are prompts, to be matched in'
        f' order; but they are named {_some(sorted(files))}, and are'
        f' {len(files)} for {len(ids)} prompts. Rename them, or give another'
        ' list.'
    )
  return found


def _order(name: str) -> list[tuple[int, str]]:
  """Returns what sorts names as people do: 'a2' before 'a10'."""
  return [
      (int(part), '') if part.isdecimal() else (-1, part)
      for part in re.split(r'(\d+)', name)
  ]


def _some(names: Sequence[str]) -> str:
  more = ', …' if len(names) > _NUM_NAMED else ''
  return ', '.join(f"'{name:.60}'" for name in names[:_NUM_NAMED]) + more


def common(systems: Mapping[str, Mapping[str, Sound]]) -> list[str]:
  """Returns the ids of which every system has a clip, in their order."""
  first, *others = systems.values()
  return [id_ for id_ in first if all(id_ in clips for clips in others)]
