"""The folders of checkpoints: which are complete, and which were cut off.

<model_dir>/checkpoints/<step>/ holds the files of orbax, and `checksums.json`.
That is written last, once every file is on disk or in the bucket: a folder
without it was cut off, and is no checkpoint. All other files belong to the
user.
"""

from collections.abc import Iterator
import hashlib
import json
import os
import re

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress

CHECKSUMS = 'checksums.json'
_BLOCK = 1 << 24  # Bytes that are hashed at once.
ITEMS = ('variables', 'optimizer', 'data')
# Files that orbax writes beside the items.
_TRACE = '_CHECKPOINT_METADATA'
_OTHERS = (_TRACE, 'commit_success.txt')
_STEP = re.compile(r'0|[1-9][0-9]*')
_UNFINISHED = re.compile(r'(?:0|[1-9][0-9]*)\.orbax-checkpoint-tmp.*')


def directory(model_dir: str | os.PathLike[str]) -> paths.Path:
  """Returns the folder of the checkpoints of a run."""
  return paths.absolute(model_dir) / 'checkpoints'


def complete_steps(model_dir: str | os.PathLike[str]) -> list[int]:
  """Returns the steps of all complete checkpoints, in order."""
  found = directory(model_dir).glob(f'*/{CHECKSUMS}')
  names = [path.parent.name for path in found]
  return sorted(int(name) for name in names if _STEP.fullmatch(name))


def _sha256(path: paths.Path) -> str:
  digest = hashlib.sha256()
  with path.open('rb') as f:
    while block := f.read(_BLOCK):
      digest.update(block)
  return digest.hexdigest()


def _names(folder: paths.Path) -> list[str]:
  """Returns the paths of the files in a folder, except the checksums."""
  return [
      path.relative_to(folder).as_posix()
      for path in paths.files_in(folder)
      if path != folder / CHECKSUMS
  ]


def seal(folder: paths.Path) -> None:
  """Completes a checkpoint by writing the hash of each of its files."""
  checksums = {name: _sha256(folder / name) for name in _names(folder)}
  text = json.dumps(files.sealed({'files': checksums}), indent=2)
  files.write_text(folder / CHECKSUMS, text)


def _read_checksums(folder: paths.Path) -> dict[str, str]:
  kind = 'the checksums of a checkpoint'
  value = files.read_json(folder / CHECKSUMS, kind, needs_seal=False)
  # Older versions wrote only the hashes.
  checksums = value['files'] if list(value) == ['files'] else value
  if not isinstance(checksums, dict) or not all(
      isinstance(x, str) and re.fullmatch('[0-9a-f]{64}', x)
      for x in checksums.values()
  ):
    raise errors.UserError(
        f"'{folder / CHECKSUMS}' must be {kind}, but is not."
    )
  return checksums


def check(model_dir: str | os.PathLike[str], step: int) -> None:
  """Raises UserError if a file of a checkpoint is missing or damaged."""
  folder = directory(model_dir) / str(step)
  try:
    checksums = _read_checksums(folder)
  except errors.UserError as e:
    raise errors.UserError(f'{e} {advice(model_dir, step)}') from e
  for name, expected in checksums.items():
    path = folder / name
    came = _sha256(path) if path.is_file() else 'nothing'
    if came != expected:
      raise errors.UserError(
          f'{path} must have sha256 {expected[:12]}, but has {came[:12]}: the'
          f' checkpoint is damaged. {advice(model_dir, step)}'
      )


def advice(model_dir: str | os.PathLike[str], step: int) -> str:
  """Returns advice about a checkpoint that can't be read."""
  others = [s for s in complete_steps(model_dir) if s != step]
  from_where = f'step {others[-1]}' if others else 'the start'
  return (
      f'Delete {directory(model_dir) / str(step)} to go on from {from_where}.'
  )


def foreign_steps(model_dir: str | os.PathLike[str]) -> list[int]:
  """Returns the steps whose folder names are taken by other files."""
  found = []
  for path in _entries(directory(model_dir)):
    is_whole = (path / CHECKSUMS).exists()
    if _STEP.fullmatch(path.name) and not is_whole and not _is_cut_off(path):
      found.append(int(path.name))
  return sorted(found)


def _entries(folder: paths.Path) -> Iterator[paths.Path]:
  return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())


def _is_real_folder(path: paths.Path) -> bool:
  return path.is_dir() and not os.path.islink(path)


def _is_cut_off(path: paths.Path) -> bool:
  """Returns whether `path` was left by a run killed before it was complete."""
  if not _is_real_folder(path) or (path / CHECKSUMS).exists():
    return False
  if _UNFINISHED.fullmatch(path.name):
    return True
  names = {
      entry.name
      for entry in path.iterdir()
      if not files.is_leftover(entry, of=CHECKSUMS)
  }
  # A temporary file of an older version.
  names -= {f'{CHECKSUMS}.tmp'}
  return (
      _STEP.fullmatch(path.name) is not None
      and _TRACE in names
      and names <= {*ITEMS, *_OTHERS}
  )


def remove_unfinished(model_dir: str | os.PathLike[str]) -> None:
  """Removes unfinished checkpoints of killed runs, and nothing else."""
  for path in _entries(directory(model_dir)):
    if _is_cut_off(path):
      paths.remove_tree(path)


def remove_old(
    model_dir: str | os.PathLike[str], num_kept: int, best: int | None = None
) -> None:
  """Removes all but the last checkpoints, except those with other files.

  Args:
    model_dir: Folder of the run.
    num_kept: How many to keep.
    best: Step of another one to keep, if any.
  """
  for step in complete_steps(model_dir)[:-num_kept]:
    if step == best:
      continue
    folder = directory(model_dir) / str(step)
    try:
      is_ours = _is_real_folder(folder) and set(_names(folder)) <= set(
          _read_checksums(folder)
      )
    except errors.UserError:
      is_ours = False
    if not is_ours:
      continue
    # Without its checksums it is no checkpoint, even if this is cut off.
    (folder / CHECKSUMS).unlink()
    paths.remove_tree(folder)


def say_what_is_left_alone(model_dir: str | os.PathLike[str]) -> None:
  """Reports which step folders are taken by something else."""
  for step in foreign_steps(model_dir):
    progress.say(
        f'{directory(model_dir) / str(step)} is no checkpoint of this program,'
        ' and is left alone'
    )
