"""Sets of embedded clips, kept in files that say where they come from."""

from collections.abc import Iterable
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
from typing import Any

from jaxtyping import Float, Int
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.audio import io
from musiclm_jax.metrics.embedders import base
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

FORMAT = 1
_KIND = 'a set of embedded clips'
_SUFFIX = '.embedded.safetensors'
_KEY = 'musiclm_jax'  # Of the description, in the header of the file.
_MAX_BYTES = 1 << 34
_CLIPS_PER_CALL = 16


@dataclasses.dataclass(frozen=True)
class EmbeddedSet:
  """Embeddings of the windows of some clips.

  Attributes:
    embeddings: [windows, width] float32, clip after clip.
    counts: [clips] number of windows of each; none is 0.
    identity: The embedder.
    source: Where the clips are from, for people.
  """

  embeddings: Float[np.ndarray, 'windows width']
  counts: Int[np.ndarray, ' clips']
  identity: base.Identity
  source: str

  def __len__(self) -> int:
    """Returns the number of clips."""
    return len(self.counts)

  @functools.cached_property
  def sha256(self) -> str:
    """Hash of the embeddings and of how many belong to each clip."""
    both = self.embeddings.tobytes() + self.counts.tobytes()
    return hashlib.sha256(both).hexdigest()

  @property
  def starts(self) -> Int[np.ndarray, ' clips']:
    """Index of the first window of each clip."""
    return np.cumsum(self.counts) - self.counts

  @property
  def per_clip(self) -> Float[np.ndarray, 'clips width']:
    """The mean of the windows of each clip, scaled to length 1."""
    sums = np.add.reduceat(self.embeddings.astype(np.float64), self.starts)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / np.maximum(norms, 1e-12)

  def hashes(self) -> list[str]:
    """Returns a hash of the windows of each clip."""
    clips = np.split(self.embeddings, self.starts[1:])
    return [hashlib.sha256(x.tobytes()).hexdigest() for x in clips]

  def take(self, clips: Int[np.ndarray, ' some']) -> 'EmbeddedSet':
    """Returns the set of some clips, by their indices."""
    rows = [
        np.arange(self.starts[i], self.starts[i] + self.counts[i])
        for i in clips
    ]
    return dataclasses.replace(
        self,
        embeddings=self.embeddings[np.concatenate(rows)],
        counts=self.counts[clips],
    )

  def halves(self, seed: int = 0) -> tuple['EmbeddedSet', 'EmbeddedSet']:
    """Returns two sets of equally many clips, none in both.

    Raises:
      UserError: If there is only one clip.
    """
    half = len(self) // 2
    if not half:
      raise errors.UserError('a set must have two clips to be halved.')
    order = np.random.default_rng(seed).permutation(len(self))
    return self.take(order[:half]), self.take(order[half : 2 * half])

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the set into a safetensors file.

    Args:
      path: Path of the file; see `path_in`.

    Raises:
      WriteError: If the system refuses.
    """
    description = {
        'format': FORMAT,
        'identity': dataclasses.asdict(self.identity),
        'source': self.source,
        'clips': len(self),
        'sha256': self.sha256,
    }
    data = safetensors_numpy.save(
        {'embeddings': self.embeddings, 'counts': self.counts},
        {_KEY: json.dumps(files.sealed(description))},
    )
    with files.replacing(path) as unfinished:
      unfinished.write_bytes(data)


def path_in(
    folder: str | os.PathLike[str], identity: base.Identity
) -> pathlib.Path:
  """Returns the path of the set of an embedder in a folder of sets."""
  return pathlib.Path(folder, f'{identity.sha256[:16]}{_SUFFIX}')


def are_in(folder: str | os.PathLike[str]) -> bool:
  """Returns whether a folder holds sets."""
  return any(pathlib.Path(folder).glob(f'*{_SUFFIX}'))


def make(
    embeddings: Iterable[np.ndarray], identity: base.Identity, source: str
) -> EmbeddedSet:
  """Makes a set from the [windows, width] embeddings of each clip.

  Raises:
    UserError: If there is no clip, or a value is not finite.
  """
  found = list(embeddings)
  if not found:
    raise errors.UserError(f"'{source}' must hold clips, but holds none.")
  for i, windows in enumerate(found):
    if not len(windows) or not np.isfinite(windows).all():
      raise errors.UserError(
          f"embeddings of '{source}' must be finite, but those of clip {i} are"
          ' not. Leave it out, or repair the weights of'
          f" '{identity.name}'."
      )
  counts = np.array([len(windows) for windows in found], np.int32)
  embedded = np.concatenate(found).astype(np.float32)
  return EmbeddedSet(embedded, counts, identity, source)


def embed(
    embedder: base.Embedder,
    clips: Iterable[tuple[np.ndarray, int]],
    source: str,
) -> EmbeddedSet:
  """Embeds clips.

  Args:
    embedder: What embeds them.
    clips: [samples] audio of each in [-1, 1], and its sample rate in Hz.
    source: Where they are from, for people.

  Raises:
    UserError: If there is none, or its audio is not that.
  """
  rate = embedder.sample_rate
  heard = (io.resample(audio, hz, rate) for audio, hz in clips)
  embeddings: list[np.ndarray] = []
  while some := list(itertools.islice(heard, _CLIPS_PER_CALL)):
    embeddings += embedder.embed_clips(some)
  return make(embeddings, embedder.identity, source)


def read(path: str | os.PathLike[str]) -> EmbeddedSet:
  """Reads a set that `EmbeddedSet.save` wrote.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If it is damaged, or of another format.
  """
  path = pathlib.Path(path)
  files.check_plain(path, _KIND, _MAX_BYTES)
  with errors.reading(path, _KIND, 'Make it again.'):
    with safetensors.safe_open(path, 'np') as file:
      text = (file.metadata() or {}).get(_KEY, '')
      tensors = {name: file.get_tensor(name) for name in file.keys()}
    return _from_parts(json.loads(text), tensors)


def _from_parts(
    description: dict[str, Any], tensors: dict[str, np.ndarray]
) -> EmbeddedSet:
  """Makes a set of what a file holds; ValueError if it does not fit."""
  seal = description.pop(files.SEAL, None)
  if seal != files.json_sha256(description):
    raise ValueError('its description was edited')
  if description['format'] != FORMAT:
    raise ValueError(f"it has format {description['format']}, not {FORMAT}")
  found = EmbeddedSet(
      tensors['embeddings'],
      tensors['counts'],
      base.Identity(**description['identity']),
      description['source'],
  )
  if found.sha256 != description['sha256']:
    raise ValueError('its embeddings are not those that it describes')
  return found
