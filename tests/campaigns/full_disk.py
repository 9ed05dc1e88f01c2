"""Fills the disk under every command that writes, and looks at what is left.

  python -m tests.campaigns.full_disk

A small tmpfs stands for the disk (this takes root). Each command is run with
room for nothing, for some, and for nearly all of what it writes. It must end in
one line that gives the words of the system, and must leave nothing that looks
whole and is not.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import datasets
from musiclm_jax.models import parts
from musiclm_jax.training import checkpoints
import numpy as np
from tests import random_model

DISK_MB = 256
ROOM_KB = (0, 64, 512, 4096)  # That is left on the disk.
WORDS = ('No space left on device', 'disk', 'space')
TRAIN = [
    '--gin_file=models/soundstream.gin', '--gin_file=sizes/tiny.gin',
    '--gin.TRAIN_STEPS=6', '--gin.BATCH_SIZE=2', '--gin.CHECKPOINT_PERIOD=2',
    '--gin.EVAL_PERIOD=6', '--gin.LOG_PERIOD=2', '--gin.TENSORBOARD=False',
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Command:
  """A command, and what must hold of the disk afterwards.

  Attributes:
    name: In the table.
    argv: Arguments of `musiclm`; '{disk}' and '{ready}' are replaced.
    check: Raises an error if something false was left.
  """

  name: str
  argv: Sequence[str]
  check: Callable[[pathlib.Path], None]


def _no_half_audio(disk: pathlib.Path) -> None:
  for path in disk.rglob('*.wav'):
    if len(io.read_audio(path, 24000)) != 24000:
      raise AssertionError(f'{path} is cut off')
  for path in disk.rglob('failed-*.jsonl'):
    raise AssertionError(f'{path} blames {path.read_text()}')


def _no_half_dataset(disk: pathlib.Path) -> None:
  for name in ('music', 'music_tokens'):
    if datasets.dataset_exists(name, disk / 'data'):
      for split in ('train', 'validation', 'test'):
        list(datasets.open_dataset(name, disk / 'data', split))


def _whole_checkpoints(disk: pathlib.Path) -> None:
  for step in checkpoints.complete_steps(disk / 'run'):
    checkpoints.check(disk / 'run', step)


def _whole_part(disk: pathlib.Path) -> None:
  with contextlib.suppress(errors.NotFoundError):
    parts.load(disk / 'model', 'soundstream')


COMMANDS = (
    Command(
        'generate',
        ['generate', 'slow piano', '--seconds=1', '--model={ready}/model',
         '--output={disk}/a.wav', '--save_take={disk}/take.json'],
        _no_half_audio,
    ),
    Command(
        'batch',
        ['batch', '{ready}/prompts.txt', '--seconds=1', '--batch_size=2',
         '--model={ready}/model', '--output_dir={disk}/out'],
        _no_half_audio,
    ),
    Command(
        'data',
        ['data', 'folder', '{ready}/music', '--output={disk}/data'],
        _no_half_dataset,
    ),
    Command(
        'tokenize',
        ['tokenize', '--data={disk}/data', '--model={ready}/model'],
        _no_half_dataset,
    ),
    Command(
        'train',
        ['train', *TRAIN, "--gin.MODEL_DIR='{disk}/run'",
         "--gin.DATA_DIR='{ready}/data'"],
        _whole_checkpoints,
    ),
    Command(
        'export',
        ['export', *TRAIN, "--gin.MODEL_DIR='{ready}/run'",
         "--gin.DATA_DIR='{ready}/data'", '--output={disk}/model'],
        _whole_part,
    ),
)  # fmt: skip


def run(argv: Sequence[str]) -> tuple[int, str]:
  """Returns the exit status of a command, and its stderr."""
  done = subprocess.run(
      [sys.executable, '-m', 'musiclm_jax.cli', *argv],
      stderr=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      text=True,
  )
  return done.returncode, done.stderr


def prepare(ready: pathlib.Path) -> None:
  """Makes music, a corpus, a model, and a run to export."""
  (ready / 'music').mkdir()
  rng = np.random.default_rng(0)
  time_axis = np.arange(3 * 24000) / 24000
  for i in range(6):
    tone = 0.5 * np.sin(2 * np.pi * 200 * (i + 1) * time_axis)
    audio = tone + rng.normal(0, 0.01, len(tone))
    io.write_audio(ready / f'music/{i}.wav', audio.astype(np.float32), 24000)
  (ready / 'prompts.txt').write_text('slow piano\npiano waltz\nslow waltz\n')
  random_model.write_random_model(ready / 'model')
  for argv in (
      ['data', 'folder', f'{ready}/music', f'--output={ready}/data'],
      ['train', *TRAIN, f"--gin.MODEL_DIR='{ready}/run'",
       f"--gin.DATA_DIR='{ready}/data'"],
  ):  # fmt: skip
    status, stderr = run(argv)
    if status:
      raise RuntimeError(stderr)


@contextlib.contextmanager
def disk_with(room_kb: int, ready: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a disk that holds a corpus, and has little room for more."""
  with tempfile.TemporaryDirectory() as folder:
    disk = pathlib.Path(folder)
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={DISK_MB}m', 'tmpfs', folder]
    subprocess.run(mount, check=True)
    try:
      shutil.copytree(ready / 'data', disk / 'data')
      free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
      with open(disk / 'ballast', 'wb') as file:
        file.write(bytes(free - room_kb * 1024))
      yield disk
    finally:
      subprocess.run(['umount', folder], check=True)


def judge(command: Command, status: int, stderr: str, disk: pathlib.Path):
  """Returns what is wrong; '' if nothing is."""
  last = stderr.strip().splitlines()[-1] if stderr.strip() else ''
  if 'Traceback' in stderr:
    return 'traceback'
  if status and not any(word in last for word in WORDS):
    return f'no word of the disk: {last!r:.200}'
  left = [path.name for path in disk.rglob('.musiclm-*')]
  if left:
    return f'leftovers {left}'
  try:
    command.check(disk)
  except (errors.UserError, AssertionError) as e:
    return f'something false: {errors.one_line(e)}'
  return ''


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--only', help='name of one command')
  only = parser.parse_args().only
  wrong = 0
  with tempfile.TemporaryDirectory() as folder:
    ready = pathlib.Path(folder)
    prepare(ready)
    for command in COMMANDS:
      for room in ROOM_KB if only in (None, command.name) else ():
        with disk_with(room, ready) as disk:
          if command.name == 'data':
            shutil.rmtree(disk / 'data')
            with open(disk / 'ballast', 'ab') as file:
              free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
              file.write(bytes(max(0, free - room * 1024)))
          start = time.monotonic()
          names = {'disk': disk, 'ready': ready}
          status, stderr = run([a.format(**names) for a in command.argv])
          problem = judge(command, status, stderr, disk)
          wrong += bool(problem)
          last = stderr.strip().splitlines()[-1:] or ['']
          print(
              f'{command.name:9} {room:5} kB  status {status:3} '
              f' {time.monotonic() - start:4.0f} s  {problem or "right"}'
              f'  | {last[0]:.160}',
              flush=True,
          )
  print(f'{wrong} wrong')
  return wrong


if __name__ == '__main__':
  sys.exit(main())
