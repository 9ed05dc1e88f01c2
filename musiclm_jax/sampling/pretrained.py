"""Finds and loads the parts of a model to sample from."""

import contextlib
import os
import pathlib

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.models import parts
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import dtypes
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table


def find(name_or_dir: str | os.PathLike[str] | None) -> pathlib.Path:
  """Returns the directory of a model, downloading it if need be.

  Raises:
    NotFoundError: If there is no such model.
  """
  if name_or_dir is None:
    return parts.embedded_model()
  paths.check(name_or_dir, 'model')
  if paths.is_remote(name_or_dir):
    return caching.local(name_or_dir)
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
  except Exception as e:  # The client and its dependencies raise many types.
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
  codec = table.codec_in(directory).name
  config = parts.read_description(directory, codec)['config']
  rate = config.get('sample_rate')
  if not isinstance(rate, int) or not 1000 <= rate <= 768_000:
    raise errors.UserError(
        f"the codec of model '{directory}' must have a sample_rate in [1000,"
        f' 768000], but has {rate!r:.40}. Export it again.'
    )
  return rate


def _stages(directory: pathlib.Path) -> list[str]:
  """Returns the names of the stages: parts that are not in the table."""
  names = {path.stem for path in directory.glob('*.safetensors')}
  # A description without variables counts, so that they are found missing.
  for name in {path.stem for path in directory.glob('*.json')} - names:
    with contextlib.suppress(errors.UserError):
      parts.read_description(directory, name)
      names.add(name)
  return sorted(names - {kind.name for kind in table.PARTS})


def dtype_in_words(directory: pathlib.Path, dtype: str) -> str:
  """Describes the types of the stages' weights on this machine.

  Args:
    directory: Directory of the model.
    dtype: One of `dtypes.DTYPES`.

  Raises:
    UserError: If it is none of them.
  """
  found = {dtypes.resolve(dtype, directory, n) for n in _stages(directory)}
  return ' and '.join(sorted(found))


def load(
    directory: pathlib.Path, dtype: str
) -> tuple[table.Tokenizers, dict[str, decode.StageDecoder], dict[str, str]]:
  """Loads the parts of a model that sampling needs from the start.

  Args:
    directory: Directory of the model.
    dtype: One of `dtypes.DTYPES`.

  Returns:
    The tokenizers, of which those that only existing audio needs are loaded
    later; the stages, by the streams they write; and the sha256 of each part.

  Raises:
    NotFoundError: If the model lacks a part.
    UserError: If a part is damaged, or was trained with other tokenizers.
  """
  dtypes.check(dtype)
  tokenizers = table.Tokenizers(directory)
  loaded = tokenizers.of_kind(base.Codec) | tokenizers.of_kind(base.Embedder)
  hashes = {name: tokenizer.sha256 for name, tokenizer in loaded.items()}
  for name in tokenizers.keys() - loaded.keys():
    hashes[name] = parts.read_description(directory, name)['sha256']
  written = hashes | {name: t.tokens_sha256 for name, t in loaded.items()}
  decoders = {}
  for name in _stages(directory):
    decoder = decode.StageDecoder.from_dir(directory, name, dtype)
    parts.check_lineage(name, decoder.lineage, written)
    if decoder.stage.targets.name != name:
      raise errors.UserError(
          f"part '{name}' must be named after the stream that its stage writes,"
          f" '{decoder.stage.targets.name}'. Rename its files."
      )
    decoders[name] = decoder
  for name, decoder in decoders.items():
    hashes[name] = decoder.sha256
  return tokenizers, decoders, hashes
