"""Finds and loads the parts of a model to sample from."""

import functools
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.models import parts
from musiclm_jax.sampling import conditioner
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import sampler
from musiclm_jax.tokenizers import melody as melody_lib
from musiclm_jax.tokenizers import mulan as mulan_lib
from musiclm_jax.tokenizers import soundstream
from musiclm_jax.tokenizers import w2v_bert


def find(name_or_dir: str | os.PathLike[str] | None) -> pathlib.Path:
  """Returns the directory of a model, downloading it if need be.

  Raises:
    NotFoundError: If there is no such model.
  """
  if name_or_dir is None:
    return parts.embedded_model()
  if pathlib.Path(name_or_dir).is_dir():
    return pathlib.Path(name_or_dir)
  name = os.fspath(name_or_dir)
  if len(name.split('/')) != 2 or name[0] in './~':
    raise errors.NotFoundError(
        "model must be a directory or the id 'owner/name' of one on the"
        f" Hugging Face hub, but there is no directory '{name}'."
    )
  import huggingface_hub  # Slow to import, and seldom needed.

  progress.say(f"looking for '{name}' on the Hugging Face hub …")
  huggingface_hub.utils.disable_progress_bars()
  try:
    with progress.telling(f"downloading '{name}'"):
      path = huggingface_hub.snapshot_download(
          name, allow_patterns=['*.json', '*.safetensors']
      )
  except Exception as e:  # Of many kinds, from the client and below it.
    raise errors.NotFoundError(
        f"model '{name}' must be a directory, or be on the Hugging Face hub and"
        f' the hub within reach, but: {errors.one_line(e):.300} Check the name'
        ' and the network, or pass the path of a model directory.'
    ) from e
  return pathlib.Path(path)


def sample_rate(directory: pathlib.Path) -> int:
  """Returns the sample rate of a model's audio, without loading the model.

  Raises:
    NotFoundError: If the model has no codec.
    UserError: If its description is damaged.
  """
  rate = parts.read_description(directory, 'soundstream')['config'].get(
      'sample_rate'
  )
  if not isinstance(rate, int) or not 1000 <= rate <= 768_000:
    raise errors.UserError(
        f"the codec of model '{directory}' must have a sample_rate in [1000,"
        f' 768000], but has {rate!r:.40}. Export it again.'
    )
  return rate


def load(directory: pathlib.Path, dtype: str) -> conditioner.Conditioner:
  """Loads all parts of a model that sampling needs at once.

  Args:
    directory: Of the model.
    dtype: Of the weights of the stages.

  Raises:
    NotFoundError: If the model lacks a part.
    UserError: If a part is damaged, or was trained with other tokenizers.
  """
  mulan = mulan_lib.MuLan.from_dir(directory)
  codec = soundstream.SoundStream.from_dir(directory)
  hashes = {'mulan': mulan.sha256, 'soundstream': codec.sha256}
  load_semantic = melody = None
  if (directory / 'w2v_bert.json').exists():
    hashes['w2v_bert'] = parts.read_description(directory, 'w2v_bert')['sha256']
    load_semantic = functools.cache(
        functools.partial(w2v_bert.W2vBert.from_dir, directory)
    )
  if (directory / 'melody.json').exists():
    melody = melody_lib.Melody.from_dir(directory)
    hashes['melody'] = melody.sha256
  decoders = {}
  for name in sampler.STAGES:
    decoders[name] = decode.StageDecoder.from_dir(directory, name, dtype)
    parts.check_lineage(name, decoders[name].lineage, hashes)
  hashes |= {
      name: parts.read_description(directory, name)['sha256']
      for name in sampler.STAGES
  }
  return conditioner.Conditioner(
      mulan=mulan,
      codec=codec,
      sampler=sampler.Sampler(decoders),
      hashes=hashes,
      load_semantic=load_semantic,
      melody=melody,
  )
