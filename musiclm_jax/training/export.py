"""Writes a trained part to a model directory."""

from collections.abc import Iterator, Sequence
import os
import pathlib
from typing import Any

from musiclm_jax import caching
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import ledger
from musiclm_jax.data import mixtures
from musiclm_jax.data import tally
from musiclm_jax.data import token_dataset
from musiclm_jax.models import ledgers
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import table
from musiclm_jax.training import checkpoints
from musiclm_jax.training import fine_tuning
from musiclm_jax.training import gin_flags
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import run_files
from musiclm_jax.training import stopping
from musiclm_jax.training import t5x_checkpoints
import numpy as np

MAX_CLIPS = 1000  # Clips that quantizers are fitted to.


def read_audio(
    data_dir: str | os.PathLike[str], sample_rate: int
) -> Iterator[np.ndarray]:
  """Yields the [samples] float32 audio of random training clips.

  Args:
    data_dir: Folder of the dataset `music`.
    sample_rate: Rate of the audio, in Hz.
  """
  dataset = datasets.open_dataset('music', data_dir, 'train')
  rate = datasets.sample_rate(data_dir)
  order = np.random.default_rng(0).permutation(len(dataset))
  for index in order[:MAX_CLIPS]:
    audio = clips.to_float(dataset[int(index)]['audio'])
    yield io.resample(audio, rate, sample_rate)


def restore_variables(
    model_dir: str | os.PathLike[str], best: bool = False
) -> dict[str, Any]:
  """Reads a checkpoint of a run.

  Args:
    model_dir: Folder of the run, of `musiclm train` or of t5x.
    best: Whether to take the checkpoint with the lowest held-out loss, and not
      the last one, as of t5x.
  """
  if not checkpoints.complete_steps(model_dir):
    if t5x_checkpoints.complete_steps(model_dir):
      return t5x_checkpoints.restore_variables(model_dir)
  step = None
  if best:
    step, loss = stopping.best_step(model_dir)
    print(f'{model_dir}: takes step {step}, the best, held-out loss {loss:.4g}')
  with progress.telling(f'reading the {"best" if best else "last"} checkpoint'):
    return checkpoints.restore_variables(model_dir, step)


def export(
    model: model_lib.TrainableModel,
    model_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    dtype: str,
    release: bool = False,
    initial_model: str | os.PathLike[str] | None = None,
    task: str | None = None,
    best: bool = False,
) -> str:
  """Writes the part that a run trained, with the sources of its music.

  Args:
    model: The model that was trained.
    model_dir: Folder of the run, of `musiclm train` or of t5x.
    data_dir: Folder of the datasets; quantizers are fitted to its music.
    output: Model directory.
    dtype: Type of the stored matrices, see `models.parts.save`.
    release: Whether the weights are to be given to others, which licences of
      the music can forbid.
    initial_model: Directory of the model that the run began from, or of a run
      of t5x.
    task: Task or mixture that it was trained on, if of other datasets, too.
    best: See `restore_variables`.

  Returns:
    The sha256 of the stored variables.

  Raises:
    NotFoundError: If the run has no checkpoint.
    UserError: If a licence forbids the release.
    WriteError: If the folder can't be written to.
  """
  sources = sources_of(model, data_dir, initial_model, task)
  if release:
    ledger.check_release(model.name, sources)
  folder = paths.to_path(output, '--output')
  if isinstance(folder, pathlib.Path):
    folder.mkdir(parents=True, exist_ok=True)
  files.check_writable(folder / f'{model.name}.safetensors')
  variables = restore_variables(model_dir, best)
  rate = model.sample_rate
  clips_to_fit = read_audio(data_dir, rate) if rate else iter(())
  lineage = model.lineage(data_dir)
  if model.decoder_only and initial_model is not None:
    begun = caching.local(initial_model)
    variables = fine_tuning.keep(
        model, variables, parts.load(begun, model.name)
    )
    lineage[model.name] = parts.tokens_of(begun, model.name)
  with progress.telling(f'fitting and writing the part {model.name!r}'):
    sha256 = model.export(variables, output, clips_to_fit, lineage, dtype)
    if sources is not None:
      ledgers.add(output, model.name, sources)
    return sha256


def sources_of(
    model: model_lib.TrainableModel,
    data_dir: str | os.PathLike[str],
    initial_model: str | os.PathLike[str] | None = None,
    task: str | None = None,
) -> list[tally.Row] | None:
  """Returns the ledger of a training; None if part of it is not known.

  Args:
    model: The model that was trained.
    data_dir: Folder of the datasets.
    initial_model: Directory of the model that it began from, or of a run of
      t5x, which has no ledger.
    task: Task or mixture, whose corpora may be in other folders, too.
  """
  if model.sample_rate is None:
    names = [token_dataset.NAME]
  else:
    own = [kind.dataset for kind in table.PARTS if kind.name == model.name]
    names = ['music', *filter(None, own)]
  further = mixtures.folders(task) if task is not None else set()
  if further is None:
    return None
  of_each = [ledger.of_training(names, x) for x in (data_dir, *further)]
  if initial_model is not None:
    is_of_t5x = t5x_checkpoints.complete_steps(initial_model)
    of_each.append(
        None if is_of_t5x else ledgers.read(initial_model, model.name)
    )
  known = [rows for rows in of_each if rows is not None]
  return ledgers.merge(*known) if len(known) == len(of_each) else None


def export_main(
    argv: Sequence[str],
    output: str,
    dtype: str,
    release: bool = False,
    to_t5x: bool = False,
) -> str:
  """Exports the run of the gin flags of a `musiclm train` command.

  Args:
    argv: Gin flags.
    output: Model directory; with `to_t5x`, a folder for a checkpoint.
    dtype: Type of the stored matrices, see `models.parts.save`.
    release: See `export`.
    to_t5x: Whether to write a checkpoint for t5x, not a part.

  Returns:
    The sha256 of the stored variables, or the folder of the checkpoint.
  """
  run_files.check_place('--output', output)
  gin_flags.parse(argv)
  model, model_dir, data_dir, initial_model, patience, task, module = map(
      gin_flags.value_of,
      (
          'MODEL',
          'MODEL_DIR',
          'DATA_DIR',
          'INITIAL_MODEL',
          'PATIENCE',
          'MIXTURE_OR_TASK_NAME',
          'MIXTURE_OR_TASK_MODULE',
      ),
  )
  mixtures.import_module(module)
  best = patience is not None
  if to_t5x:
    if release:
      sources = sources_of(model, data_dir, initial_model, task)
      ledger.check_release(model.name, sources)
    return os.fspath(
        t5x_checkpoints.write(output, restore_variables(model_dir, best))
    )
  return export(
      model,
      model_dir,
      data_dir,
      output,
      dtype,
      release,
      initial_model,
      task,
      best,
  )
