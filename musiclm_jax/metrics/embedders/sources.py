"""Finds the weights of an embedder: in a folder, or in the hub's cache."""

from collections.abc import Iterator
import contextlib
import hashlib
import os
import pathlib
from typing import Any

from musiclm_jax import errors

# The second is read by an unpickler that makes tensors and runs no code.
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')


def sha256(path: str | os.PathLike[str]) -> str:
  """Returns the hash of a file."""
  with errors.reading(path, 'a file of weights'), open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def find_file(
    source: str, suffixes: tuple[str, ...], kind: str
) -> pathlib.Path:
  """Returns the file that a user named.

  Args:
    source: Its path.
    suffixes: How it may end.
    kind: Name of the embedder, for messages.

  Raises:
    NotFoundError: If it is not there.
    UserError: If it ends in another way.
  """
  path = pathlib.Path(source)
  if not source or path.suffix not in suffixes:
    raise errors.UserError(
        f"'{kind}' must be followed by a file that ends in"
        f' {" or ".join(suffixes)}, but comes with {source!r:.100}. Write'
        f" '{kind}:PATH'."
    )
  if not path.is_file():
    raise errors.NotFoundError(f"'{path}' must be a file, but is not there.")
  return path


def find_folder(source: str) -> pathlib.Path:
  """Returns the folder of a model of transformers; nothing is downloaded.

  Args:
    source: A folder, or the id 'owner/name' of a model in the hub's cache.

  Raises:
    NotFoundError: If there is neither.
  """
  folder = pathlib.Path(source)
  return folder if folder.is_dir() else _find_cached(source)


def find_weights(folder: pathlib.Path) -> pathlib.Path:
  """Returns the file of weights of a model of transformers.

  Raises:
    NotFoundError: If the folder has none.
  """
  for name in WEIGHTS:
    if (folder / name).is_file():
      return folder / name
  raise errors.NotFoundError(
      f"'{folder}' must hold {' or '.join(WEIGHTS)}, but holds neither."
      ' Download the model again, whole.'
  )


def _find_cached(name: str) -> pathlib.Path:
  import huggingface_hub  # Slow to import, and seldom needed.

  try:
    return pathlib.Path(
        huggingface_hub.snapshot_download(name, local_files_only=True)
    )
  except Exception as e:  # The client raises many kinds.
    raise errors.NotFoundError(
        f"'{name}' must be a folder, or be in the cache of the Hugging Face"
        f' hub, but is neither. Get it with `hf download {name}`.'
    ) from e


@contextlib.contextmanager
def using_transformers(folder: pathlib.Path) -> Iterator[Any]:
  """Yields the package transformers, quiet, to load a folder with.

  Raises:
    NotFoundError: If it is not installed, with torch.
    UserError: If the body raises any error.
  """
  try:
    import torch  # pylint: disable=g-import-not-at-top,unused-import  # noqa: F401
    import transformers  # pylint: disable=g-import-not-at-top
  except ImportError as e:
    raise errors.NotFoundError(
        f"'{folder}' must be read with transformers and torch, which are not"
        " installed. Get them with `pip install 'musiclm_jax[clap]'`."
    ) from e
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  with errors.reading(folder, 'a model of transformers', 'Download it again.'):
    yield transformers


def check_complete(folder: pathlib.Path, info: dict[str, Any]) -> None:
  """Raises UserError if weights are missing, which would be random."""
  lacking = sorted(info['missing_keys']) + sorted(
      map(str, info['mismatched_keys'])
  )
  if lacking:
    raise errors.UserError(
        f"'{folder}' must hold all weights of its network, but lacks"
        f' {len(lacking)}, such as {lacking[0]}. Download it again.'
    )
