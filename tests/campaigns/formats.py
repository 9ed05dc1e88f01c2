"""Every format that we write: how its files are made, and how they are read."""

from collections.abc import Callable
import dataclasses
import json
import os
import pathlib
from typing import Any

from musiclm_jax import recipe_steps
from musiclm_jax.models import parts
from musiclm_jax.models import wordpiece
from musiclm_jax.sampling import batch
from musiclm_jax.sampling import prompt_list
from musiclm_jax.sampling import take as take_lib
import numpy as np
from tests import random_model
from tests.sampling import batch_test
from tests.sampling import take_test

Loaded = Any  # What can be pickled.


@dataclasses.dataclass(frozen=True)
class Format:
  """Files that we write, and how the product reads them.

  Attributes:
    make: Writes them to a folder.
    load: Reads them; returns all that they say.
    pattern: Of the files that may be damaged.
  """

  make: Callable[[pathlib.Path], Any]
  load: Callable[[pathlib.Path], Loaded]
  pattern: str = '**/*'


def _load_part(folder: pathlib.Path) -> Loaded:
  names = sorted(path.stem for path in folder.glob('*.json'))
  return [dataclasses.asdict(parts.load(folder, name)) for name in names]


def _make_takes(folder: pathlib.Path) -> None:
  rng = np.random.default_rng(0)
  audio = rng.uniform(-1, 1, 500).astype(np.float32)
  take_test.make_take(audio=audio, change=(7, 90)).save(folder / 'take.json')


def _load_take(folder: pathlib.Path) -> Loaded:
  return dataclasses.asdict(take_lib.load(folder / 'take.json'))


def _vocab_path(folder: pathlib.Path) -> pathlib.Path:
  return folder / 'vocab.txt'


def _run_batch(folder: pathlib.Path) -> Loaded:
  """Makes what is missing; returns what is there then."""
  prompts = folder.parent / 'prompts.jsonl'
  rows = [{'prompt': prompt} for prompt in ('a waltz', 'poison', 'a march')]
  prompts.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  lines = prompt_list.read(prompts, {'seconds': 0.1, 'seed': 0})
  for suffix in batch.FORMATS:
    shard = batch.Shard(lines, folder / suffix[1:], {}, 2, suffix)
    shard.run(batch_test.FakeModel, progress=False)
  return {
      os.path.relpath(p, folder): p.read_bytes()
      for p in sorted(folder.rglob('*'))
      if p.is_file()
  }


def _make_run(folder: pathlib.Path) -> None:
  from musiclm_jax.training import checkpoints
  from musiclm_jax.training import run_files

  run_files.write_config(folder, 'TRAIN_STEPS = 3\n')
  run_files.write_metrics(folder, [{'step': 3, 'split': 'train', 'loss': 0.5}])
  saved = checkpoints.Checkpoints(folder)
  kernel = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
  saved.save(3, {'params': {'kernel': kernel}}, {'mu': kernel}, {'step': 3})
  saved.close()


def _load_run(folder: pathlib.Path) -> Loaded:
  import jax
  from musiclm_jax.training import checkpoints
  from musiclm_jax.training import run_files

  run_files.check_config(folder)
  metrics = run_files.read_metrics(folder)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  kernel = jax.ShapeDtypeStruct((8, 8), np.float32, sharding=device)
  saved = checkpoints.Checkpoints(folder)
  try:
    restored = saved.restore(3, {'params': {'kernel': kernel}}, {'mu': kernel})
  finally:
    saved.close()
  exported = checkpoints.restore_variables(folder)
  return [metrics, *jax.tree.map(np.asarray, restored[:2]), exported]


def _make_dataset(folder: pathlib.Path) -> None:
  from musiclm_jax.data import datasets
  from tests.data import datasets_test

  splits = {'train': datasets_test.examples(range(5))}
  mean = {'mean': np.arange(8, dtype=np.float32)}
  datasets.write_dataset(
      'pairs', folder, splits, datasets_test.FEATURES, {'rate': 25}, mean
  )


def _load_dataset(folder: pathlib.Path) -> Loaded:
  from musiclm_jax.data import datasets

  train = datasets.open_dataset('pairs', folder, 'train')
  metadata = datasets.read_metadata('pairs', folder)
  mean = datasets.read_array('pairs', folder, 'mean')
  return [[train[i] for i in range(len(train))], metadata, mean]


FORMATS = {
    'part': Format(random_model.write_random_model, _load_part),
    'take': Format(_make_takes, _load_take),
    'vocab': Format(
        lambda folder: wordpiece.WordPiece(random_model.VOCAB).to_file(
            _vocab_path(folder)
        ),
        lambda folder: wordpiece.WordPiece.from_file(_vocab_path(folder)).vocab,
    ),
    'batch': Format(_run_batch, _run_batch),
    'recipe': Format(
        lambda folder: recipe_steps.write_record(
            folder / 'corpus.json', {'seconds': 3.5, 'clips': [1, 2, 3]}
        ),
        lambda folder: recipe_steps.read_record(folder / 'corpus.json'),
    ),
    'run': Format(_make_run, _load_run),
    'dataset': Format(_make_dataset, _load_dataset),
}
