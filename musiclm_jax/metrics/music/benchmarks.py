"""Benchmarks by name: which prompts they have, and what a user must download.

A new one is a function and a line in `TABLE`.
"""

import collections
from collections.abc import Callable, Iterable, Sequence
import dataclasses
import hashlib
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.data.sources import audio_files
from musiclm_jax.data.sources import musiccaps
from musiclm_jax.data.sources import song_describer
from musiclm_jax.data.sources import tracks
from musiclm_jax.metrics import obedience
from musiclm_jax.metrics.music import prompts as prompts_lib
from musiclm_jax.metrics.music import sounds

AUDIO = 'audio'  # Folder of true audio, in that of a benchmark.
_MUSICCAPS = 'musiccaps-public.csv'
_MUSICCAPS_SHA256 = (
    'bce5500709e6b129e070cbffc28caefe6b3d6977b2073493ee9b48806096c034'
)
_SONG_DESCRIBER = 'song_describer.csv'
_ATTM = ('prompts.jsonl', 'prompts.txt')
_MAX_TABLE = 1 << 26


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A list of prompts that others are measured with, too.

  Attributes:
    name: Its name.
    count: Prompts that it has.
    needs: What its folder must hold, and where that is from; '' if it needs
      no folder.
    read: Returns its prompts, and true audio by their ids, from its folder.
  """

  name: str
  count: int
  needs: str
  read: Callable[
      [pathlib.Path],
      tuple[list[prompts_lib.Prompt], dict[str, sounds.Sound]],
  ]


def _musiccaps(
    folder: pathlib.Path, chosen: Callable[[musiccaps.Row], bool]
) -> tuple[list[prompts_lib.Prompt], dict[str, sounds.Sound]]:
  table = folder / _MUSICCAPS
  rows = [row for row in musiccaps.read_table(table) if chosen(row)]
  _check_sha256(table, _MUSICCAPS_SHA256)
  found = [
      prompts_lib.of_text(row.ytid, i, row.captions[0])
      for i, row in enumerate(rows, start=1)
  ]
  paths: dict[str, str] = {}
  if (folder / AUDIO).is_dir():
    paths, _ = musiccaps.survey(folder / AUDIO)
  paired: dict[str, sounds.Sound] = {
      row.ytid: sounds.Video(dataclasses.replace(row, path=paths[row.ytid]))
      for row in rows
      if row.ytid in paths
  }
  return found, paired


def _check_sha256(path: pathlib.Path, expected: str) -> None:
  found = hashlib.sha256(files.read_bytes(path, path.name, _MAX_TABLE))
  if found.hexdigest() != expected:
    raise errors.UserError(
        f"'{path}' must be the table as it was published, with sha256"
        f' {expected}, but has {found.hexdigest()}. Download it again, or use'
        ' another list with --prompts.'
    )


def _song_describer(
    folder: pathlib.Path,
) -> tuple[list[prompts_lib.Prompt], dict[str, sounds.Sound]]:
  captions = song_describer.read_captions(folder / _SONG_DESCRIBER)
  paths: dict[int | None, pathlib.Path] = {}
  if (folder / AUDIO).is_dir():
    walked, _ = audio_files.walk(folder / AUDIO)
    for name, path in walked.items():
      paths.setdefault(tracks.number_of(name, song_describer.AUDIO), path)
  found: list[prompts_lib.Prompt] = []
  paired: dict[str, sounds.Sound] = {}
  counts: collections.Counter[int] = collections.Counter()
  for i, (track, text) in enumerate(captions, start=1):
    prompt = prompts_lib.of_text(f'{track}-{counts[track]}', i, text)
    counts[track] += 1
    found.append(prompt)
    if track in paths:
      paired[prompt.id] = sounds.File(str(paths[track]))
  return found, paired


def _attm(
    folder: pathlib.Path,
) -> tuple[list[prompts_lib.Prompt], dict[str, sounds.Sound]]:
  lists = [folder / name for name in _ATTM if (folder / name).exists()]
  if not lists:
    raise errors.NotFoundError(
        f"'{folder}' must hold one of {_ATTM}, but holds neither. Write the"
        " challenge's prompts into it, one on each line."
    )
  found = list(prompts_lib.of_file(lists[0]).prompts)
  if not (folder / AUDIO).is_dir():
    return found, {}
  return found, {**sounds.list_folder(folder / AUDIO)}


def _obedience(
    folder: pathlib.Path,
) -> tuple[list[prompts_lib.Prompt], dict[str, sounds.Sound]]:
  del folder  # The plans are in the package.
  return list(prompts_lib.of_file(obedience.PLANS).prompts), {}


_MUSICCAPS_NEEDS = (
    f'{_MUSICCAPS} (kaggle.com/datasets/googleai/musiccaps), and {AUDIO}/ with'
    ' <ytid>.wav or the like of each clip'
)
TABLE = (
    Benchmark(
        'musiccaps',
        5521,
        _MUSICCAPS_NEEDS,
        lambda folder: _musiccaps(folder, lambda row: True),
    ),
    Benchmark(
        'musiccaps-eval',
        2858,
        _MUSICCAPS_NEEDS,
        lambda folder: _musiccaps(folder, lambda row: row.is_eval),
    ),
    Benchmark(
        'musiccaps-balanced',
        1000,
        _MUSICCAPS_NEEDS,
        lambda folder: _musiccaps(folder, lambda row: row.is_balanced),
    ),
    Benchmark(
        'songdescriber',
        1106,
        f'{_SONG_DESCRIBER} (doi.org/10.5281/zenodo.10072001), and {AUDIO}/'
        ' with NN/<number>.2min.mp3 of each of 706 tracks',
        _song_describer,
    ),
    Benchmark(
        'attm',
        100,
        f'{" or ".join(_ATTM)} with the 100 prompts of the ICME 2026 Academic'
        f' Text-to-Music challenge (arXiv 2605.21538), and {AUDIO}/ with true'
        " audio: the organizers' own is not public",
        _attm,
    ),
    Benchmark('obedience', 200, '', _obedience),
)


def names() -> list[str]:
  """Returns the names of the benchmarks."""
  return [benchmark.name for benchmark in TABLE]


def read(
    name: str, folder: str | os.PathLike[str] | None
) -> prompts_lib.Prompts:
  """Reads a benchmark, and counts what is missing of it.

  Args:
    name: Its name.
    folder: Folder of what a user must download for it.

  Raises:
    NotFoundError: If there is no such benchmark, or it lacks its prompts.
    UserError: If a file of it is damaged.
  """
  found = {benchmark.name: benchmark for benchmark in TABLE}
  if name not in found:
    raise errors.NotFoundError(
        f'benchmark must be one of {names()}, but is {name!r:.100}.'
    )
  benchmark = found[name]
  if folder is None and benchmark.needs:
    raise errors.UserError(
        f"--data must be the folder of '{name}', but is not given. It must hold"
        f' {benchmark.needs}.'
    )
  directory = pathlib.Path(folder or '.')
  if not directory.is_dir():
    raise errors.NotFoundError(
        f"--data must be a folder, but '{directory}' is none. It must hold"
        f' {benchmark.needs}.'
    )
  prompts, audio = benchmark.read(directory)
  return _counted(benchmark, directory, prompts, audio)


def _counted(
    benchmark: Benchmark,
    folder: pathlib.Path,
    prompts: Sequence[prompts_lib.Prompt],
    audio: dict[str, sounds.Sound],
) -> prompts_lib.Prompts:
  """Returns the prompts, with what is missing in words."""
  ids = {prompt.id for prompt in prompts}
  paired = {id_: sound for id_, sound in audio.items() if id_ in ids}
  missing = []
  if len(prompts) != benchmark.count:
    missing.append(f'it has {len(prompts)} of {benchmark.count} prompts')
  if benchmark.needs and len(paired) < len(prompts):
    missing.append(f'true audio of {len(prompts) - len(paired)} prompts')
  reference = None
  if audio:
    clips = _each_once(paired.values() or audio.values())
    reference = prompts_lib.Reference(str(folder / AUDIO), clips, paired)
  return prompts_lib.Prompts(
      f"the benchmark '{benchmark.name}'",
      prompts,
      reference,
      benchmark.name,
      benchmark.count,
      missing,
  )


def _each_once(clips: Iterable[sounds.Sound]) -> list[sounds.Sound]:
  """Leaves out further mentions of a clip that several prompts share."""
  return [*{clip.name: clip for clip in clips}.values()]
