"""Runs the recipe of the README from end to end, on few pieces of music.

  python -m tests.campaigns.recipes --command=ENVIRONMENT/bin/musiclm

The command is best of a wheel in an environment of its own. Prints what each
step of each recipe took, and what is said that is not a line of ours. With
--bucket, all but the music is in an emulated bucket. Flags that are not known
are the recipe's; without any, it is of size tiny.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

from etils import epath
from musiclm_jax.audio import io
import numpy as np
from tests import bucket

RATE = 24000
SECONDS = 15
INSTRUMENTS = {'organ': (1, 0.5, 0.3), 'flute': (1, 0.1), 'buzz': (1, 1, 1, 1)}
# A line of a progress bar, of a report, of a step, of a table, or of a result.
_OURS = re.compile(
    r'\S*: +\d+%|musiclm: |step \d+/|warning: |\S+: (done|…)|part  '
    r'|[\w/]+ +\w|[a-z0-9_]+: |.*: [\d.]+ s$|$'
    r'|["{}\[\]\d]|null|true|false'  # Of the JSON of `musiclm show`.
)


def piece(index: int) -> tuple[np.ndarray, str]:
  """Returns [samples] of a tune, and its caption."""
  rng = np.random.default_rng(index)
  names = list(INSTRUMENTS)
  name, beat = names[index % len(names)], (0.6, 0.3)[index // 3 % 2]
  time_axis = np.arange(SECONDS * RATE) / RATE
  steps = np.cumsum(rng.integers(-2, 3, 64)) % 12
  pitch = 220 * 2 ** (steps[(time_axis / beat).astype(int) % 64] / 12)
  phase = 2 * np.pi * np.cumsum(pitch) / RATE
  partials = INSTRUMENTS[name]
  audio = sum(a * np.sin((i + 1) * phase) for i, a in enumerate(partials))
  audio *= np.exp(-2 * (time_axis % beat) / beat) * 0.4 / sum(partials)
  audio += rng.normal(0, 1e-3, len(audio))
  pace = 'slow' if beat > 0.5 else 'fast'
  return audio.astype(np.float32), f'a {pace} tune on a {name}'


def write_music(folder: pathlib.Path, count: int) -> None:
  rows = ['path,caption']
  for i in range(count):
    audio, caption = piece(i)
    io.write_audio(folder / f'{i:02d}.wav', audio, RATE)
    rows.append(f'{i:02d}.wav,{caption}')
  (folder / 'captions.csv').write_text('\n'.join(rows) + '\n')


def run(
    command: str,
    count: int,
    flags: list[str],
    folder: pathlib.Path,
    there: epath.Path,
) -> int:
  """Runs a recipe and uses the model.

  Args:
    command: That is run.
    count: Pieces of music.
    flags: Of the recipe.
    folder: Of the music.
    there: Of all that is written; maybe in a bucket.

  Returns:
    How many commands failed.
  """
  music, output = folder / 'my_music', there / 'out'
  music.mkdir()
  write_music(music, count)
  prompts = folder / 'prompts.txt'
  prompts.write_text('a slow tune on a flute\na fast tune\n')
  steps = (
      ['recipe', *flags, '--data', music, '--output', output],
      ['generate', 'a slow tune on an organ', '--seconds=5', '--model',
       output / 'model', '--output', there / 'tune.wav'],
      ['show', there / 'tune.wav'],
      ['batch', prompts, '--seconds=3', '--model', output / 'model',
       '--output_dir', there / 'made'],
      ['evaluate', '--data', output / 'data', '--model', output / 'model'],
      ['doctor', output],
  )  # fmt: skip
  failed = sum(_step([command, *map(str, x)], count, folder) for x in steps)
  return failed + _report(output)


def _step(argv: list[str], count: int, folder: pathlib.Path) -> int:
  """Runs a command and prints what is strange; returns 1 if it failed."""
  start = time.monotonic()
  done = subprocess.run(
      argv, capture_output=True, text=True, cwd=folder, errors='replace'
  )
  said = re.split(r'[\r\n]', done.stdout + done.stderr)
  foreign = [line for line in said if not _OURS.match(line.strip())]
  seconds = time.monotonic() - start
  print(
      f'{count:3} pieces  {argv[1]:9} status {done.returncode} '
      f' {seconds:5.0f} s  {len(foreign)} lines not known as ours',
      flush=True,
  )
  for line in [*foreign[:5], *(said[-5:] if done.returncode else [])]:
    print(f'    | {line:.160}', flush=True)
  return int(bool(done.returncode))


def _report(output: epath.Path) -> int:
  """Prints what each step of a recipe took; returns 1 if none ended."""
  records = sorted(
      (output / 'steps').glob('*.json'), key=lambda path: path.stat().mtime
  )
  for path in records:
    seconds = json.loads(path.read_text()).get('seconds')
    print(f'            {path.stem:12} {seconds or 0:6.0f} s', flush=True)
  return int(not records)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--command', default='musiclm')
  parser.add_argument('--counts', type=int, nargs='+', default=[8, 12, 25])
  parser.add_argument('--bucket', action='store_true')
  args, flags = parser.parse_known_args()
  flags = flags or ['--gin_file=sizes/tiny.gin']
  case, failed = unittest.TestCase(), 0
  place = epath.Path(bucket.start(case)) if args.bucket else None
  try:
    for count in args.counts:
      with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        there = place / str(count) if place else epath.Path(name)
        failed += run(args.command, count, flags, folder, there)
  finally:
    case.doCleanups()  # Stops the server.
  return failed


if __name__ == '__main__':
  sys.exit(main())
