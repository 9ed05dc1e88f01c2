"""An index of training clips to find those that are like an output.

It is written once, into a folder beside the dataset, for each network that
embeds audio, and made anew if the dataset has changed.
"""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import json
import os
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float, Int
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.audio import dsp
from musiclm_jax.audio import fingerprints
from musiclm_jax.audio import io
from musiclm_jax.data import building
from musiclm_jax.data import checksums
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import token_dataset
from musiclm_jax.models import mulan
from musiclm_jax.tokenizers import base
import numpy as np
from safetensors import numpy as safetensors
import tqdm

FOLDER = 'music_index'
CHROMA_RATE = 4  # Frames of pitch classes per second.
_CHROMA_WINDOW = 4096  # Samples: half a second, to tell low notes apart.
_LOWEST, _HIGHEST = 60.0, 2000.0  # Hz, of the pitches that are told apart.
_FORMAT = 1
_KIND = 'an index of clips'
_KEPT = ('id', 'title', 'work', 'source', 'license')


@dataclasses.dataclass(frozen=True)
class Index:
  """What is known of each clip; arrays of frames are joined.

  Attributes:
    clips: Its id, title, work, source, license, and its start in the work.
    embeddings: [clips, embed] of length 1.
    chroma: [frames, 12] pitch classes, see `chroma_of`.
    chroma_ends: [clips] where the frames of each clip end.
    hashes: [n] hashes of the fingerprints, in order of their value.
    frames: [n] frame of each hash.
    owners: [n] clip of each hash.
  """

  clips: Sequence[dict[str, Any]]
  embeddings: Float[np.ndarray, 'clips embed']
  chroma: Float[np.ndarray, 'frames 12']
  chroma_ends: Int[np.ndarray, ' clips']
  hashes: Int[np.ndarray, ' n']
  frames: Int[np.ndarray, ' n']
  owners: Int[np.ndarray, ' n']


@functools.cache
def _pitch_classes() -> Float[np.ndarray, 'bins 12']:
  """Returns which bins of a spectrum belong to each pitch class, from A on."""
  bins = np.arange(_CHROMA_WINDOW // 2 + 1)
  hz = np.maximum(bins, 1) * fingerprints.SAMPLE_RATE / _CHROMA_WINDOW
  classes = np.round(12 * np.log2(hz / 440)).astype(int) % 12
  is_heard = (hz >= _LOWEST) & (hz <= _HIGHEST)
  return np.eye(12)[classes] * is_heard[:, np.newaxis]


def chroma_of(
    audio: Float[np.ndarray, ' samples'],
) -> Float[np.ndarray, 'frames 12']:
  """Returns which pitch classes stand out in each frame, of length 1 or 0.

  Args:
    audio: [samples] at `fingerprints.SAMPLE_RATE`.
  """
  hop_length = fingerprints.SAMPLE_RATE // CHROMA_RATE
  batch = jnp.asarray(audio[np.newaxis])
  spectrum = np.asarray(dsp.stft(batch, _CHROMA_WINDOW, hop_length))[0]
  # Roots, lest the loudest note be all that counts.
  chroma = np.sqrt(np.abs(spectrum)) @ _pitch_classes()
  chroma = chroma - chroma.mean(axis=1, keepdims=True)
  norm = np.linalg.norm(chroma, axis=1, keepdims=True)
  return (chroma / np.maximum(norm, 1e-6)).astype(np.float32)


def embed(
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    embedder: base.TextEmbedder,
) -> Float[np.ndarray, ' embed']:
  """Returns the mean embedding of the windows of audio, of length 1."""
  heard = io.resample(audio[np.newaxis], sample_rate, embedder.sample_rate)
  return mulan.pool_windows(embedder.embed_audio(heard))[0]


def _known_embeddings(
    data_dir: str | os.PathLike[str], embedder: base.TextEmbedder
) -> dict[str, np.ndarray]:
  """Returns the embedding of each clip, by its id, if tokens have them."""
  name = token_dataset.NAME
  if (
      not datasets.dataset_exists(name, data_dir)
      or embedder.sha256 not in token_dataset.lineage(data_dir).values()
  ):
    return {}
  stream = embedder.streams[0].name
  return {
      record['id']: mulan.pool_windows(record[stream])
      for record in datasets.open_dataset(name, data_dir, 'train')
  }


def build(
    data_dir: str | os.PathLike[str], embedder: base.TextEmbedder
) -> Index:
  """Makes the index of the clips that models are trained on.

  Embeddings that the same network has made for tokens are taken from there.

  Args:
    data_dir: Folder of the dataset `music`.
    embedder: What embeds audio.
  """
  dataset = datasets.open_dataset('music', data_dir, 'train')
  rate = datasets.sample_rate(data_dir)
  known = _known_embeddings(data_dir, embedder)
  described, embeddings, chroma, prints = [], [], [], []
  for record in tqdm.tqdm(dataset, 'index', unit='clip'):
    audio = clips.to_float(record['audio'])
    low = io.resample(audio, rate, fingerprints.SAMPLE_RATE)
    start = float(record.get('start', 0))
    kept = {key: record.get(key, '') for key in _KEPT}
    described.append({**kept, 'start': start})
    embedding = known.get(record['id'])
    if embedding is None:
      embedding = embed(audio, rate, embedder)
    embeddings.append(embedding)
    chroma.append(chroma_of(low))
    prints.append(fingerprints.fingerprint(low))
  hashes = np.concatenate([x.hashes for x in prints])
  order = np.argsort(hashes, kind='stable')
  owners = np.repeat(np.arange(len(prints)), [len(x.hashes) for x in prints])
  return Index(
      described,
      np.stack(embeddings).astype(np.float32),
      np.concatenate(chroma),
      np.cumsum([len(x) for x in chroma]).astype(np.int32),
      hashes[order],
      np.concatenate([x.frames for x in prints])[order],
      owners[order].astype(np.int32),
  )


def _lineage(
    data_dir: str | os.PathLike[str], embedder: base.TextEmbedder
) -> dict[str, Any]:
  """Returns what an index depends on."""
  folder = datasets.dataset_dir('music', data_dir)
  path = folder / checksums.NAME
  if not path.exists():  # Of older datasets.
    path = folder / building.INFO
  music = hashlib.sha256(path.read_bytes()).hexdigest()
  return {'format': _FORMAT, 'music': music, 'embedder': embedder.sha256}


def _path(
    data_dir: str | os.PathLike[str], embedder: base.TextEmbedder
) -> paths.Path:
  return paths.to_path(data_dir) / FOLDER / embedder.sha256[:12]


def save(
    index: Index,
    data_dir: str | os.PathLike[str],
    embedder: base.TextEmbedder,
) -> paths.Path:
  """Writes an index beside its dataset; returns the path of its arrays."""
  path = _path(data_dir, embedder)
  names = [field.name for field in dataclasses.fields(Index)][1:]
  data = safetensors.save({name: getattr(index, name) for name in names})
  described = {
      **_lineage(data_dir, embedder),
      'clips': list(index.clips),
      'sha256': hashlib.sha256(data).hexdigest(),
  }
  arrays = path.with_suffix('.safetensors')
  with files.replacing(arrays) as unfinished:
    unfinished.write_bytes(data)
  text = json.dumps(files.sealed(described))
  files.write_text(path.with_suffix('.json'), text)
  return arrays


def load(
    data_dir: str | os.PathLike[str], embedder: base.TextEmbedder
) -> Index | None:
  """Reads the index of a dataset; None if there is none, or it is stale.

  Raises:
    UserError: If it is damaged.
  """
  path = _path(data_dir, embedder)
  if not path.with_suffix('.json').exists():
    return None
  described = files.read_json(path.with_suffix('.json'), _KIND, most=1 << 32)
  lineage = _lineage(data_dir, embedder)
  if any(described.get(key) != value for key, value in lineage.items()):
    progress.say(f'{path}.json is of other music: the index is made anew')
    return None
  arrays = path.with_suffix('.safetensors')
  with errors.reading(arrays, _KIND, 'Remove it to have it made anew.'):
    data = arrays.read_bytes()
    if hashlib.sha256(data).hexdigest() != described['sha256']:
      raise ValueError('its content has changed')
    return Index(described['clips'], **safetensors.load(data))


def ensure(
    data_dir: str | os.PathLike[str], embedder: base.TextEmbedder
) -> Index:
  """Reads the index of a dataset, or makes and writes it.

  Args:
    data_dir: Folder of the dataset `music`.
    embedder: What embeds audio.

  Raises:
    NotFoundError: If there is no such dataset.
    UserError: If the dataset or the index is damaged.
  """
  datasets.read_metadata('music', data_dir)  # Raises if it is not there.
  found = load(data_dir, embedder)
  if found is None:
    found = build(data_dir, embedder)
    save(found, data_dir, embedder)
  return found
