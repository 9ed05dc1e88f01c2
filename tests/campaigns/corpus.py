"""Makes the corpus of rendered scores that models are trained on, or 1% of it.

  apt install fluidsynth fluid-soundfont-gm lilypond
  apt install musescore-general-soundfont-small
  python -m tests.campaigns.corpus SOURCES OUTPUT --share 0.01
  expect: 1.9 h and 280 MB in a minute or two, 62 times as fast as it plays per
    core; beside it 12 pieces of LilyPond, 3.5 s of a core each

Without --share, it is about 120 h (POP909 38, Groove 9, Mutopia 75) and 18 GB,
which takes two cores an hour, and LilyPond half of one before. As each score is
played in five variations, by other instruments in four of them, each family of
instruments leads often; of Groove, a third is enough drums alone.

SOURCES is a folder with pop909.zip (MIT), groove.zip (CC-BY 4.0) and
mutopia.zip, of which the pieces in the public domain and under CC-BY are used.
All are rendered by FluidR3 GM (MIT) and MuseScore General Lite (MIT) in turn;
what a model makes of the sounds of others, e.g. TimGM6mb, can then be tested.
Beside the dataset `music`, OUTPUT gets `SOURCES.csv` with every work and its
licence.
"""

import argparse
from collections.abc import Sequence
import csv
import pathlib
import time
from typing import Any
import zipfile

from musiclm_jax.data import datasets
from musiclm_jax.data.sources import mutopia
from musiclm_jax.data.sources import rendered_scores
from musiclm_jax.data.sources import score_files

FONTS = (
    '/usr/share/sounds/sf2/FluidR3_GM.sf2',
    '/usr/share/sounds/sf3/MuseScore_General_Lite.sf3',
)
VARIATIONS = 5
MAX_SECONDS = 30.0  # Of each variation: many works rather than long ones.
COLUMNS = ('file', 'work', 'title', 'genre', 'tempo', 'metre', 'license')
_MUTOPIA_PIECES = 1221  # Those under the licences that are used.
_SHARES = {'pop909': 1.0, 'groove': 1 / 3, 'mutopia': 0.5}  # Of each source.


def unpack(archive: pathlib.Path, folder: pathlib.Path, share: float) -> None:
  """Unpacks a share of the MIDI files of a zip, spread over all of them."""
  with zipfile.ZipFile(archive) as file:
    names = sorted(n for n in file.namelist() if n.endswith('.mid'))
    names = names[:: max(1, round(1 / share))]
    others = [n for n in file.namelist() if n.endswith('info.csv')]
    file.extractall(folder, names + others)


def write_index(folder: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  """Writes the index of a folder, of the files that are there."""
  with open(folder / 'index.csv', 'w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, (*COLUMNS, 'source'))
    writer.writeheader()
    writer.writerows(r for r in rows if (folder / r['file']).exists())


def index_pop909(folder: pathlib.Path) -> None:
  # Its files count quarters as bars, so that their metre is not the song's.
  write_index(
      folder,
      [
          {
              'file': path.relative_to(folder).as_posix(),
              'work': path.stem,
              'genre': 'pop',
              'metre': 'unknown',
              'license': 'MIT',
              'source': 'POP909',
          }
          for path in folder.rglob('*.mid')
      ],
  )


def index_groove(folder: pathlib.Path) -> None:
  """Indexes the performances; those of a session are one work."""
  (info,) = folder.rglob('info.csv')
  with open(info, newline='', encoding='utf-8') as file:
    rows = [
        {
            'file': f'groove/{row["midi_filename"]}',
            'work': row['session'],
            'genre': row['style'].split('/')[0],
            'tempo': row['bpm'],
            'metre': row['time_signature'].replace('-', '/'),
            'license': 'CC-BY 4.0',
            'source': 'Groove MIDI Dataset (Google)',
        }
        for row in csv.DictReader(file)
    ]
  write_index(folder, rows)


def prepare(
    sources: pathlib.Path,
    output: pathlib.Path,
    share: float,
    names: Sequence[str] = tuple(_SHARES),
) -> list[pathlib.Path]:
  """Returns the folders of MIDI files with an index."""
  for name, index in (('pop909', index_pop909), ('groove', index_groove)):
    if name in names and not (output / name / 'index.csv').exists():
      part = share * _SHARES[name]
      unpack(sources / f'{name}.zip', output / name, part)
      index(output / name)
  if 'mutopia' in names:
    limit = max(1, round(share * _SHARES['mutopia'] * _MUTOPIA_PIECES))
    mutopia.prepare_mutopia(
        sources / 'mutopia.zip', output / 'mutopia', limit=limit
    )
  return [output / name for name in names]


def write_sources(folders: list[pathlib.Path], path: pathlib.Path) -> None:
  """Writes a line for each work, with its titles, source and licence."""
  works = {
      (f.work, f.metadata.title, f.source, f.license)
      for f in score_files.gather_scores(folders)[0]
  }
  with open(path, 'w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(('work', 'title', 'source', 'license'))
    writer.writerows(sorted(works))


def report(output: pathlib.Path, seconds: float) -> None:
  """Prints the hours of each source, the disk they take and the time."""
  hours: dict[str, float] = {}
  for split in ('train', 'validation', 'test'):
    for clip in datasets.open_dataset('music', output, split):
      length = len(clip['audio']) / datasets.sample_rate(output)
      source = clip['license']
      hours[source] = hours.get(source, 0.0) + length / 3600
  total = sum(hours.values())
  size = sum(p.stat().st_size for p in (output / 'music').rglob('*'))
  for source, value in sorted(hours.items()):
    print(f'{source}: {value:.2f} h')
  print(
      f'all: {total:.2f} h, {size / 1e6:.0f} MB, in {seconds:.0f} s:'
      f' {3600 * total / seconds:.0f} times as fast as it plays'
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
  parser.add_argument('sources', type=pathlib.Path)
  parser.add_argument('output', type=pathlib.Path)
  parser.add_argument('--share', type=float, default=1.0)
  parser.add_argument(
      '--only', nargs='+', choices=list(_SHARES), default=list(_SHARES)
  )
  args = parser.parse_args()
  folders = prepare(args.sources, args.output, args.share, args.only)
  write_sources(folders, args.output / 'SOURCES.csv')
  start = time.monotonic()
  rendered_scores.build_scores(
      folders,
      args.output,
      FONTS,
      variations=VARIATIONS,
      max_seconds_per_score=MAX_SECONDS,
      skip_bad=True,
  )
  report(args.output, time.monotonic() - start)


if __name__ == '__main__':
  main()
