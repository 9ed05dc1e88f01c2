"""Lists the audio files of a folder, and the files left out with reasons."""

import collections
from collections.abc import Iterator
import difflib
import os
import pathlib
import unicodedata

from musiclm_jax import errors
from musiclm_jax.audio import containers
from musiclm_jax.audio import io

HIDDEN = 'hidden'
NOT_AUDIO = 'not audio'

_ALREADY = 'another name of a file or folder that is listed'
_NOWHERE = 'a link to nothing'
_NO_FILE = 'a pipe, a socket or a device'
_CLOSED = 'not readable by this user'
_OTHER_NAME = 'audio by content, but not by name (rename it)'
# Suffixes of scores and instruments, and of formats that cannot be read.
_SOUNDS = (
    *('.aa', '.aax', '.als', '.dff', '.flp', '.gsm', '.it', '.kar', '.m4p'),
    *('.mid', '.midi', '.mod', '.ogv', '.pcm', '.ra', '.raw', '.rm', '.rmi'),
    *('.rx2', '.s3m', '.sd2', '.sf2', '.sfz', '.vob', '.wmv', '.xm'),
)


def walk(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, pathlib.Path], list[tuple[str, str]]]:
  """Lists the audio files in a folder and its subfolders.

  Links are followed, but no file is listed twice.

  Args:
    folder: The folder.

  Returns:
    Paths by name, which is the path in the folder with slashes, in order of
    names; and the (name, kind of reason) of all files left out.

  Raises:
    NotFoundError: If there is no such folder.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise errors.NotFoundError(f'audio_dir {folder} must be a folder.')
  found: dict[str, pathlib.Path] = {}
  left_out: list[tuple[str, str]] = []
  # Files themselves come before links to them.
  pending = collections.deque([(folder, '')])
  seen: set[tuple[int, int]] = set()
  linked: collections.deque[tuple[pathlib.Path, str]] = collections.deque()
  while pending or linked:
    path, name = pending.popleft() if pending else linked.popleft()
    try:
      status = path.stat()
      identity = (status.st_dev, status.st_ino)
      if identity in seen and identity[1]:
        left_out.append((name, _ALREADY))
        continue
      if not path.is_dir():
        kind = _judge(path)
        if kind:
          left_out.append((name, kind))
          continue
        found[name] = path
      else:
        for entry in sorted(path.iterdir()):
          below = f'{name}/{entry.name}' if name else entry.name
          if entry.name.startswith('.'):
            left_out.append((below, HIDDEN))
          else:
            (linked if entry.is_symlink() else pending).append((entry, below))
      seen.add(identity)
    except FileNotFoundError:
      left_out.append((name, _NOWHERE))
    except OSError:  # Also links that lead to themselves.
      left_out.append((name, _CLOSED))
  return dict(sorted(found.items())), sorted(left_out)


def _judge(path: pathlib.Path) -> str:
  """Returns the reason to leave a file out; '' for an audio file."""
  if not path.is_file():
    return _NO_FILE
  suffix = path.suffix.lower()
  if suffix in io.READABLE:
    return '' if os.access(path, os.R_OK) else _CLOSED
  if suffix in _SOUNDS:
    return f'in a format that cannot be read ({suffix})'
  with path.open('rb') as file:
    head = file.read(64)
  sounds = containers.find_kind(head) not in ('', 'mp3')
  return _OTHER_NAME if sounds or head[:3] == b'ID3' else NOT_AUDIO


def _key(name: str) -> str:
  """Returns a key that is equal for names that look the same."""
  return unicodedata.normalize('NFC', name).casefold()


class Finder:
  """Finds the file for a name in a caption file.

  Other systems write names with backslashes, from the root, in another case, or
  with accents in another form (macOS).
  """

  def __init__(
      self, folder: str | os.PathLike[str], paths: dict[str, pathlib.Path]
  ):
    """Takes the `paths` of a folder by name, and adds files it finds."""
    self._folder = pathlib.Path(folder)
    self._paths = paths
    self._keys = collections.defaultdict(list)
    self._real: dict[str, str] = {}
    for name, path in paths.items():
      self._keys[_key(name)].append(name)
      self._real[os.path.realpath(path)] = name

  def find(self, name: str) -> str | None:
    """Returns the name of a file; None if it is not there.

    A hidden file is found, too, if it is asked for.
    """
    for known in self._spellings(name):
      if known in self._paths:
        return known
      names = self._keys.get(_key(known), [])
      if len(names) == 1:
        return names[0]
      path = self._folder / known
      if not known.startswith('..') and path.is_file():
        real = os.path.realpath(path)
        if real not in self._real:
          self._paths[known] = path
          self._real[real] = known
        return self._real[real]
    return None

  def _spellings(self, name: str) -> Iterator[str]:
    for spelled in (name, name.replace('\\', '/')):
      if os.path.isabs(spelled):
        for root in (self._folder.absolute(), self._folder.resolve()):
          yield os.path.relpath(spelled, root).replace(os.sep, '/')
      else:
        yield os.path.normpath(spelled).replace(os.sep, '/')

  def near(self, name: str) -> str | None:
    """Returns the name of a file with nearly this spelling, or None."""
    stems = {os.path.splitext(_key(other))[0]: other for other in self._paths}
    # The name may have no suffix, or that of another format.
    for stem in (os.path.splitext(_key(name))[0], _key(name)):
      for close in difflib.get_close_matches(stem, stems, 1, cutoff=0.8):
        return stems[close]
    return None
