"""Writes a trained part to a model directory, for inference."""

from collections.abc import Iterator, Sequence
import os
import pathlib

from musiclm_jax import files
from musiclm_jax import progress
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.training import checkpoints
from musiclm_jax.training import gin_flags
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import run_files
import numpy as np

MAX_CLIPS = 1000  # That quantizers are fitted to.


def read_audio(
    data_dir: str | os.PathLike[str], max_clips: int, seed: int = 0
) -> Iterator[np.ndarray]:
  """Yields [samples] float32 audio, 24 kHz, of random clips to train on."""
  dataset = datasets.open_dataset('music', data_dir, 'train')
  order = np.random.default_rng(seed).permutation(len(dataset))
  for index in order[:max_clips]:
    yield clips.to_float(dataset[int(index)]['audio'])


def export(
    model: model_lib.TrainableModel,
    model_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    dtype: str = 'float32',
) -> str:
  """Writes the part that a run trained.

  Args:
    model: What was trained.
    model_dir: Of the run.
    data_dir: Of the datasets; quantizers are fitted to its music.
    output: Model directory.
    dtype: Of the stored matrices, see `models.parts.save`.

  Returns:
    The sha256 of the stored variables.

  Raises:
    NotFoundError: If the run has no checkpoint.
    WriteError: If the folder can't be written to.
  """
  pathlib.Path(output).mkdir(parents=True, exist_ok=True)
  files.check_writable(pathlib.Path(output) / f'{model.name}.safetensors')
  with progress.telling('reading the last checkpoint'):
    variables = checkpoints.restore_variables(model_dir)
  clips_to_fit = read_audio(data_dir, MAX_CLIPS)
  lineage = model.lineage(data_dir)
  with progress.telling(f'fitting and writing the part {model.name!r}'):
    return model.export(variables, output, clips_to_fit, lineage, dtype)


def export_main(argv: Sequence[str], output: str, dtype: str) -> str:
  """Exports what the gin flags of a `musiclm train` command trained."""
  run_files.check_local('--output', output)
  gin_flags.parse(argv)
  model, model_dir, data_dir = map(
      gin_flags.value_of, ('MODEL', 'MODEL_DIR', 'DATA_DIR')
  )
  return export(model, model_dir, data_dir, output, dtype)
