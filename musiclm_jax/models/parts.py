"""Reads and writes the trained parts of a model: safetensors beside JSON.

A model is a folder. Each of its parts, e.g. `soundstream` or `semantic`, is two
files: `<part>.safetensors` holds its variables; `<part>.json` holds its config,
the sha256 of its variables, the hashes of the parts it was trained on (its
lineage) and, except in older versions, the sources of the music it was trained
on (its ledger) and a hash of all that.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

from flax import traverse_util
import ml_dtypes
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

FORMAT = 1
DTYPES = ('float32', 'bfloat16', 'int8')

_ARITHMETIC = ('float32', 'bfloat16')  # Data types of the arithmetic.
_KEYS = ('format', 'config', 'lineage', 'sha256')
LEDGER = 'ledger'  # A key that older versions do not write.
MAX_BYTES = 1 << 34  # Largest file of variables that is read.
# Limits on numbers in a config, with which memory and time grow: not all of
# them show in the shapes of variables.
_MAX_SIZE, _MAX_MELS, _MAX_SECONDS = 1 << 20, 1024, 300

Number = int | float


def embedded_model() -> pathlib.Path:
  """Returns the directory of the model that ships in the package."""
  return pathlib.Path(__file__).parents[1] / 'pretrained' / 'laptop'


@dataclasses.dataclass(frozen=True)
class Part:
  """A trained part of a model.

  Attributes:
    name: Name of the part.
    config: Keyword arguments of the part's config class.
    variables: The linen collections, e.g. {'params': …}, of float32 arrays.
    lineage: The sha256 of each part that this one was trained on.
    sha256: The sha256 of the stored variables.
  """

  name: str
  config: Mapping[str, Any]
  variables: Mapping[str, Any]
  lineage: Mapping[str, str]
  sha256: str


def _pack(array: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
  """Returns the tensors that hold `array`, by suffix of their names."""
  if dtype == 'float32' or array.ndim < 2 or array.dtype != np.float32:
    half = array.astype(ml_dtypes.bfloat16)
    # Values that bfloat16 holds exactly need not take twice the space.
    is_exact = np.array_equal(half.astype(array.dtype), array)
    return {'': half if array.dtype == np.float32 and is_exact else array}
  if dtype == 'bfloat16':
    return {'': array.astype(ml_dtypes.bfloat16)}
  # One scale per output channel; the largest weight of each becomes ±127.
  axes = tuple(range(array.ndim - 1))
  scale = np.max(np.abs(array), axis=axes, keepdims=True) / 127
  scale = np.where(scale == 0, 1, scale).astype(np.float32)
  return {'': np.round(array / scale).astype(np.int8), ':scale': scale}


def _unpack(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  def restore(name, array):
    if f'{name}:scale' in tensors:
      return array.astype(np.float32) * tensors[f'{name}:scale']
    if array.dtype == ml_dtypes.bfloat16:
      return array.astype(np.float32)
    return array

  return {
      name: restore(name, array)
      for name, array in tensors.items()
      if not name.endswith(':scale')
  }


def as_stored(params: Mapping[str, Any], dtype: str) -> Mapping[str, Any]:
  """Returns 'params' as they will be once saved and loaded.

  Codebooks must be fitted to the outputs of the weights that will be used.

  Args:
    params: Tree of float32 arrays.
    dtype: Storage type of the matrices; see `save`.
  """

  def restore(array):
    tensors = _pack(np.asarray(array), dtype)
    return _unpack({f'x{suffix}': x for suffix, x in tensors.items()})['x']

  flat = traverse_util.flatten_dict(params)
  return traverse_util.unflatten_dict({k: restore(x) for k, x in flat.items()})


def _read(data: bytes) -> dict[str, np.ndarray]:
  """Returns the tensors of a safetensors file, of the types `save` writes."""
  # safetensors.numpy writes bfloat16, but cannot read it.
  dtypes = {
      'F32': np.float32,
      'BF16': ml_dtypes.bfloat16,
      'I8': np.int8,
      'I32': np.int32,
      'BOOL': np.bool_,
  }
  return {
      name: np.frombuffer(tensor['data'], dtypes[tensor['dtype']]).reshape(
          tensor['shape']
      )
      for name, tensor in safetensors.deserialize(data)
  }


def save(
    directory: str | os.PathLike[str],
    name: str,
    config: Mapping[str, Any],
    variables: Mapping[str, Any],
    lineage: Mapping[str, str] | None = None,
    dtype: str = 'float32',
) -> str:
  """Writes a part.

  Args:
    directory: Folder of the model; made if missing.
    name: Name of the part.
    config: Keyword arguments of the part's config class; JSON values.
    variables: Linen collections of arrays.
    lineage: The sha256 of each part that this one was trained on.
    dtype: Storage type of the matrices in 'params': 'float32', 'bfloat16', or
      'int8' with a float32 scale per output channel.

  Returns:
    The sha256 of the stored variables.
  """
  if dtype not in DTYPES:
    raise errors.UserError(f"dtype must be one of {DTYPES}, but is '{dtype}'.")
  directory = paths.to_path(directory)
  tensors = {}
  for key, value in traverse_util.flatten_dict(variables, sep='/').items():
    array = np.ascontiguousarray(value)
    # Codebooks and statistics stay exact, since tokens depend on every bit.
    stored = dtype if key.startswith('params/') else 'float32'
    for suffix, tensor in _pack(array.reshape(np.shape(value)), stored).items():
      tensors[key + suffix] = tensor
  data = safetensors_numpy.save(tensors)
  sha256 = hashlib.sha256(data).hexdigest()
  description = {
      'format': FORMAT,
      'config': dict(config),
      'lineage': dict(lineage or {}),
      'sha256': sha256,
  }
  with files.replacing(directory / f'{name}.safetensors') as unfinished:
    unfinished.write_bytes(data)
  text = json.dumps(files.sealed(description), indent=2)
  files.write_text(directory / f'{name}.json', text)
  return sha256


def read_description(
    directory: str | os.PathLike[str], name: str
) -> dict[str, Any]:
  """Returns the JSON of a part: format, config, lineage, sha256 and ledger.

  Raises:
    NotFoundError: If the model has no such part.
    UserError: If the file is damaged, or of another format.
  """
  path = paths.to_path(directory) / f'{name}.json'
  if not path.exists():
    raise errors.NotFoundError(
        f"model '{directory}' must hold {name}.json and {name}.safetensors, but"
        f' holds {sorted(p.name for p in path.parent.glob("*.json"))}. Train'
        f" and export the part '{name}' first."
    )
  description = files.read_json(
      path, 'the description of a part', needs_seal=False
  )
  if description.get('format') != FORMAT:
    raise errors.UserError(
        f'{path} must have format {FORMAT}, but has'
        f" {description.get('format')!r}. Export it again with this version."
    )
  if not (
      set(description) - {LEDGER} == set(_KEYS)
      and isinstance(description.get(LEDGER, []), list)
      and isinstance(description['config'], dict)
      and isinstance(description['lineage'], dict)
      and all(map(_is_text, description['lineage'].values()))
      and _is_text(description['sha256'])
  ):
    raise errors.UserError(
        f'{path} must hold {_KEYS}: a config, and the hashes of parts, but'
        f' holds {sorted(description)}. Copy it or export it again.'
    )
  return description


def tokens_of(directory: str | os.PathLike[str], name: str) -> str:
  """Returns the sha256 of the part whose tokens a part of a model writes.

  That is its own or, of a codec whose decoder alone was trained further, that
  of the codec it began from.

  Args:
    directory: Folder of the model.
    name: Name of the part.
  """
  description = read_description(directory, name)
  return description['lineage'].get(name, description['sha256'])


def load(directory: str | os.PathLike[str], name: str) -> Part:
  """Reads a part, and checks it against its hash.

  Args:
    directory: Folder of the model.
    name: Name of the part.

  Raises:
    NotFoundError: If the model has no such part.
    UserError: If the variables are not those that the JSON describes.
  """
  description = read_description(directory, name)
  path = paths.to_path(directory) / f'{name}.safetensors'
  if not path.exists():
    raise errors.NotFoundError(f'{path} must exist beside {name}.json.')
  data = files.read_bytes(path, 'the variables of a part', MAX_BYTES)
  sha256 = hashlib.sha256(data).hexdigest()
  if sha256 != description['sha256']:
    raise errors.UserError(
        f"{path} must have sha256 {description['sha256']}, but has {sha256}:"
        ' the file is damaged or belongs to another export. Copy it again.'
    )
  with errors.reading(path, 'a safetensors file', 'Export it again.'):
    tensors = _read(data)
    variables = traverse_util.unflatten_dict(_unpack(tensors), sep='/')
  with building(directory, name):
    check_config(description['config'], len(tensors))
  return Part(
      name=name,
      config=description['config'],
      variables=variables,
      lineage=description['lineage'],
      sha256=sha256,
  )


@contextlib.contextmanager
def building(directory: str | os.PathLike[str], name: str) -> Iterator[None]:
  """Turns any error of the body into one about the config of a part.

  Args:
    directory: Folder of the model.
    name: Name of the part whose network the body builds.

  Raises:
    UserError: If the body raises any error.
  """
  path = paths.to_path(directory) / f'{name}.json'
  try:
    with errors.reading(path, 'the description of a part', 'Export it again.'):
      yield
  except errors.NotFoundError:
    raise
  except errors.UserError as e:
    if str(path.with_suffix('')) in str(e):
      raise
    raise errors.UserError(f'{path}: {e}') from e


def check_config(value: Any, num_tensors: int, name: str = 'config') -> None:
  """Raises UserError if numbers in a config are out of range.

  Call it before building a network, whose time and memory grow with them.

  Args:
    value: JSON values.
    num_tensors: Number of tensors of the part.
    name: Name of the value, for the message.
  """
  if isinstance(value, dict):
    for key, item in value.items():
      check_config(item, num_tensors, key)
  elif isinstance(value, list):
    is_counted = len(value) if not all(map(_is_text, value)) else 0
    _check_number('the length of ' + name, is_counted, 0, num_tensors)
    for item in value:
      check_config(item, num_tensors, name)
  elif name == 'dtype' and value not in _ARITHMETIC:
    raise errors.UserError(
        f'dtype must be one of {_ARITHMETIC}, but is {value!r:.40}.'
    )
  elif isinstance(value, (int, float)) and not isinstance(value, bool):
    _check_number(name, value, *_bounds(name, value, num_tensors))


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _bounds(
    name: str, value: Number, num_tensors: int
) -> tuple[Number, Number]:
  """Returns the minimum and the maximum of a number in a config."""
  if name.endswith('layers') or name == 'stage_sizes':
    return 0, num_tensors
  if name.endswith('seconds'):
    return 1e-3, _MAX_SECONDS
  if name == 'num_mels':
    return 1, _MAX_MELS
  if name.endswith('std'):
    return 1e-6, _MAX_SIZE
  if name.endswith(('mask', 'masks')):
    return 0, _MAX_SIZE
  return (1 if isinstance(value, int) else -_MAX_SIZE), _MAX_SIZE


def _check_number(
    name: str, value: Number, least: Number, most: Number
) -> None:
  if not least <= value <= most:
    raise errors.UserError(
        f'{name} must be in [{least:g}, {most:g}], but is {value}. Export the'
        ' part again.'
    )


def check_lineage(
    part: str, lineage: Mapping[str, str], hashes: Mapping[str, str]
) -> None:
  """Raises UserError unless `part` was trained on the parts of `hashes`.

  Args:
    part: Name of the part, for the message.
    lineage: The sha256 of each part that `part` was trained on.
    hashes: The sha256 of each part that it is used with.
  """
  for name, expected in lineage.items():
    if name in hashes and hashes[name] != expected:
      raise errors.UserError(
          f"'{part}' must be used with the {name} it was trained on, sha256"
          f' {expected[:12]}, but was given {hashes[name][:12]}. Use the'
          f" {name} of the same model, or train '{part}' on tokens of this one."
      )


def check_variables(
    name: str, variables: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
  """Raises UserError unless shapes are as expected and all values finite.

  Args:
    name: Name of the part, for the message.
    variables: Linen collections of arrays.
    expected: The same collections of objects with a shape, e.g. from
      `jax.eval_shape(module.init, …)`.
  """
  flat = traverse_util.flatten_dict(variables, sep='/')
  for key, value in traverse_util.flatten_dict(expected, sep='/').items():
    if key not in flat or flat[key].shape != value.shape:
      came = flat[key].shape if key in flat else 'nothing'
      raise errors.UserError(
          f"'{name}' must hold {key} of shape {value.shape}, but holds {came}."
          ' Export it again from the config it was trained with.'
      )
    if flat[key].dtype.kind == 'f' and not np.isfinite(flat[key]).all():
      raise errors.UserError(
          f"'{name}' must be finite, but {key} has NaN or inf."
      )
