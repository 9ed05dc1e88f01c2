"""Runs the recipe of the README from end to end, on few pieces of music.

  python -m tests.campaigns.recipes --command=ENVIRONMENT/bin/musiclm

The command is best of a wheel in an environment of its own. Prints what each
step of each recipe took, and what is said that is not a line of ours.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from musiclm_jax.audio import io
import numpy as np

RATE = 24000
SECONDS = 15
INSTRUMENTS = {'organ': (1, 0.5, 0.3), 'flute': (1, 0.1), 'buzz': (1, 1, 1, 1)}
# A line of a progress bar, of a report, of a step, of a table, or of a result.
_OURS = re.compile(
    r'\S*: +\d+%|musiclm: |step \d+/|warning: |\S+: (done|…)|part  '
    r'|[\w/]+ +\w|[a-z0-9_]+: |.*: [\d.]+ s$|$'
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


def run(command: str, count: int, folder: pathlib.Path) -> int:
  """Runs a recipe and uses the model; returns how many commands failed."""
  music, output = folder / 'my_music', folder / 'out'
  music.mkdir()
  write_music(music, count)
  (folder / 'prompts.txt').write_text('a slow tune on a flute\na fast tune\n')
  steps = (
      ['recipe', '--gin_file=sizes/tiny.gin', '--data', music, '--output',
       output],
      ['generate', 'a slow tune on an organ', '--seconds=5', '--model',
       output / 'model', '--output', folder / 'tune.wav'],
      ['batch', folder / 'prompts.txt', '--seconds=3', '--model',
       output / 'model', '--output_dir', folder / 'made'],
      ['evaluate', '--data', output / 'data', '--model', output / 'model'],
      ['doctor', output],
  )  # fmt: skip
  failed = 0
  for argv in steps:
    start = time.monotonic()
    done = subprocess.run(
        [command, *map(str, argv)],
        capture_output=True,
        text=True,
        cwd=folder,
        errors='replace',
    )
    failed += bool(done.returncode)
    said = re.split(r'[\r\n]', done.stdout + done.stderr)
    foreign = [line for line in said if not _OURS.match(line.strip())]
    seconds = time.monotonic() - start
    print(
        f'{count:3} pieces  {argv[0]:9} status {done.returncode} '
        f' {seconds:5.0f} s  {len(foreign)} lines not known as ours',
        flush=True,
    )
    for line in [*foreign[:5], *(said[-5:] if done.returncode else [])]:
      print(f'    | {line:.160}', flush=True)
    if argv[0] == 'recipe':
      for path in sorted(
          (output / 'steps').glob('*.json'), key=lambda p: p.stat().st_mtime
      ):
        took = json.loads(path.read_text()).get('seconds')
        if took is not None:
          print(f'            {path.stem:12} {took:6.0f} s', flush=True)
  return failed


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--command', default='musiclm')
  parser.add_argument('--counts', type=int, nargs='+', default=[8, 12, 25])
  args = parser.parse_args()
  failed = 0
  for count in args.counts:
    with tempfile.TemporaryDirectory() as folder:
      failed += run(args.command, count, pathlib.Path(folder))
  return failed


if __name__ == '__main__':
  sys.exit(main())
