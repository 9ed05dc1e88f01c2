"""The dataset `music_tokens`: its streams, and the tokenizers behind it."""

from collections.abc import Container, Iterable, Mapping
import os
from typing import Any

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.data import datasets
from musiclm_jax.tokenizers import base
import numpy as np
import tensorflow_datasets as tfds

NAME = 'music_tokens'
SPLITS = ('train', 'validation', 'test')


def features(
    written: Iterable[streams.Stream],
    embed_dims: Mapping[str, int],
    hummed: Container[str] = (),
) -> dict[str, Any]:
  """Returns the tfds features of the dataset.

  Args:
    written: The streams of all tokenizers.
    embed_dims: Width of the embeddings of each stream that is stored as such.
    hummed: Names of the streams that are also made from hummed melodies.

  Returns:
    Tokens of each stream, [frames, quantizers] int32; those that stand in
    sequences cover exactly the same time. `<stream>_hum` has those of a voice
    that hums the score's melody (ours), or none. For a stream of a
    `base.TextEmbedder`, `<stream>` is instead [windows, embed] of the audio,
    one window per second, and `<stream>_text` is [captions, embed].
  """

  def array(width, dtype):
    # As bytes: the int64 varints of a plain feature take ten times the time.
    return tfds.features.Tensor(
        shape=(None, width), dtype=dtype, encoding='bytes'
    )

  found: dict[str, Any] = {}
  for stream in written:
    if stream.name in embed_dims:
      embeddings = array(embed_dims[stream.name], np.float32)
      found |= {stream.name: embeddings, text_of(stream.name): embeddings}
    else:
      found[stream.name] = array(stream.num_quantizers, np.int32)
    if stream.name in hummed:
      found[hum_of(stream.name)] = array(stream.num_quantizers, np.int32)
  return {
      **found,
      'captions': tfds.features.Sequence(tfds.features.Text()),
      'caption_weights': tfds.features.Tensor(
          shape=(None,), dtype=np.float32, encoding='bytes'
      ),
      'id': tfds.features.Text(),
      'work': tfds.features.Text(),
  }


def text_of(stream: str) -> str:
  """Returns the name of the feature with the embeddings of captions."""
  return f'{stream}_text'


def hum_of(stream: str) -> str:
  """Returns the name of the feature with the tokens of a hummed melody."""
  return f'{stream}_hum'


def known_streams(
    data_dir: str | os.PathLike[str] | None,
) -> dict[str, streams.Stream] | None:
  """Returns the streams of the tokens, by name; None if there are none yet.

  Args:
    data_dir: Folder of the datasets.
  """
  if data_dir is None or not datasets.dataset_exists(NAME, data_dir):
    return None
  metadata = datasets.read_metadata(NAME, data_dir)
  if 'streams' not in metadata:  # Older datasets have those of the paper.
    return {
        s.name: s
        for part, written in base.PAPER_PARTS.items()
        if part in (metadata.get('lineage') or base.PAPER_PARTS)
        for s in written
    }
  found = [streams.Stream.from_json(s) for s in metadata['streams']]
  return {s.name: s for s in found}


def hummed(data_dir: str | os.PathLike[str]) -> list[str]:
  """Returns the names of the streams that were also made from hums."""
  metadata = datasets.read_metadata(NAME, data_dir)
  return metadata.get('hummed', [base.MELODY.name])


def lineage(data_dir: str | os.PathLike[str]) -> dict[str, str]:
  """Returns the sha256 of each tokenizer that wrote the tokens."""
  return datasets.read_metadata(NAME, data_dir)['lineage']


def check_lineage(
    data_dir: str | os.PathLike[str], expected: Mapping[str, str | None]
) -> None:
  """Raises UserError unless the expected tokenizers wrote the tokens.

  Args:
    data_dir: Folder of the dataset.
    expected: The sha256 of each tokenizer, None for one that must not have
      written any; others are ignored.
  """
  found = lineage(data_dir)
  for name, sha256 in expected.items():
    if found.get(name) != sha256:
      path = datasets.dataset_dir(NAME, data_dir).parent
      raise errors.UserError(
          f'{path} must be tokens of the {name} of this model,'
          f' {_short(sha256)}, but is of {_short(found.get(name))}. Use the'
          ' model that wrote it, or make it anew with `musiclm tokenize'
          ' --overwrite`.'
      )


def _short(sha256: str | None) -> str:
  return f'sha256 {sha256[:12]}' if sha256 else 'which there is none'
