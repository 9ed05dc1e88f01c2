"""`musiclm data folder` of works that take a minute each, to be ended."""

import os
import pathlib
import sys
import time

from musiclm_jax import cli
from musiclm_jax.data import corpora
from musiclm_jax.data.sources import folder

NUM_WORKERS = 2


def read(work):
  """Leaves the id of its process, and reads for longer than a test lasts."""
  pathlib.Path(work).write_text(str(os.getpid()))
  time.sleep(60)
  yield from ()


def name(work):
  return work


def build(audio_dir, data_dir, **options):
  works = [os.path.join(audio_dir, f'{i}.pid') for i in range(8)]
  options = {'num_workers': NUM_WORKERS}
  return corpora.build_corpus(works, read, name, data_dir, **options)


if __name__ == '__main__':
  # Workers import this file under another name.
  sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
  folder.build_folder = build
  cli.script()
