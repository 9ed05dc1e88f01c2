"""Types of the weights for sampling from stages."""

import os
import pathlib

import jax
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.models import parts
import safetensors

AUTO = 'auto'  # See `resolve`.
DTYPES = (AUTO, *parts.DTYPES)


def check(dtype: str) -> None:
  """Raises UserError unless `dtype` is one of DTYPES."""
  if dtype not in DTYPES:
    raise errors.UserError(f"dtype must be one of {DTYPES}, but is '{dtype}'.")


def resolve(dtype: str, directory: str | os.PathLike[str], name: str) -> str:
  """Returns the type of a stage's weights on this machine.

  AUTO is bfloat16 on accelerators; on CPUs it is int8 if the weights are stored
  as that, otherwise float32.

  Args:
    dtype: One of DTYPES.
    directory: Directory of the model.
    name: Name of the part that is the stage.

  Raises:
    UserError: If there is no such type, or the part cannot be read.
  """
  check(dtype)
  if dtype != AUTO:
    return dtype
  if jax.default_backend() != 'cpu':
    return 'bfloat16'
  path = pathlib.Path(directory) / f'{name}.safetensors'
  files.check_plain(path, 'the variables of a part', parts.MAX_BYTES)
  with errors.reading(path, 'a safetensors file', 'Export it again.'):
    with safetensors.safe_open(path, 'numpy') as file:
      is_int8 = any(key.endswith(':scale') for key in file.keys())
  return 'int8' if is_int8 else 'float32'
