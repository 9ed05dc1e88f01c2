"""Measures melody embeddings: is a melody found whoever plays or hums it?"""

from collections.abc import Iterable, Mapping
import itertools
import os
from typing import Any

from jaxtyping import Float
from musiclm_jax.data import renditions
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import mulan as mulan_metrics
from musiclm_jax.metrics import report
from musiclm_jax.models import layers
from musiclm_jax.models import parts
from musiclm_jax.models import quantizer
from musiclm_jax.tokenizers import melody
import numpy as np

CUTOFFS = (1, 5, 10)

Embeddings = Float[np.ndarray, 'phrases embed']


def embed_kinds(
    records: Iterable[Mapping[str, Any]], tokenizer: melody.Melody
) -> dict[str, Embeddings]:
  """Embeds the middle of every phrase, in each kind of rendition.

  Args:
    records: Records of the dataset `melody_pairs`, with the same kinds each.
    tokenizer: Embeds windows of audio.

  Returns:
    [phrases, embed] of length 1, by the kind; of several renditions of a kind,
    the first.
  """
  length = round(tokenizer.window_seconds * tokenizer.sample_rate)
  found: dict[str, list[np.ndarray]] = {}
  for record in records:
    kinds = list(dict.fromkeys(record['kinds']))
    middle = renditions.middle(record)
    pieces = [
        renditions.crop(record, record['kinds'].index(kind), middle, length)
        for kind in kinds
    ]
    embeddings = tokenizer.embed_audio(np.stack(pieces))[:, 0]
    for kind, embedding in zip(kinds, embeddings, strict=True):
      found.setdefault(kind, []).append(embedding)
  return {kind: np.stack(rows) for kind, rows in found.items()}


def retrieval_rows(
    embeddings: Mapping[str, Embeddings], source: str
) -> list[report.Row]:
  """Finds phrases in one kind of rendition by those in another.

  Args:
    embeddings: What `embed_kinds` returns.
    source: Name of the embeddings in the rows.

  Returns:
    A row for each two kinds. The other phrases of a work are in the pool too,
    and count as errors even where they repeat the melody.
  """
  rows = []
  for pool, query in itertools.combinations(embeddings, 2):
    num_phrases = len(embeddings[query])
    found = mulan_metrics.retrieval(
        embeddings[query], embeddings[pool], np.arange(num_phrases), CUTOFFS
    )
    row: report.Row = {'query': query, 'pool': pool, 'of': source}
    for k in CUTOFFS:
      row[f'recall@{k}'] = found[f'recall@{k}']
      row[f'chance@{k}'] = found[f'chance@{k}']
    row['median rank'] = found['median_rank']
    rows.append({**row, 'phrases': num_phrases})
  return rows


def quantize(embeddings: Embeddings, tokenizer: melody.Melody) -> Embeddings:
  """Returns the embeddings that tokens stand for, scaled to length 1."""
  tokens = tokenizer.quantize(embeddings[:, np.newaxis])[:, 0]
  restored = quantizer.dequantize(tokens, tokenizer.codebooks)
  return np.asarray(layers.normalize(restored))


def evaluate(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'test',
    max_clips: int = held_out.MAX_CLIPS,
) -> list[report.Row]:
  """Measures the part 'melody' on a split of the dataset `melody_pairs`.

  Args:
    data_dir: Folder of the dataset.
    model_dir: Directory of the model; None for the one in the package.
    split: Split to measure on; 'test' has works that it was not trained on.
    max_clips: Most phrases, evenly spread over the split.

  Returns:
    Rows of `retrieval_rows` for embeddings, then for their tokens.

  Raises:
    NotFoundError: If the dataset or the part is missing.
  """
  directory = parts.embedded_model() if model_dir is None else model_dir
  tokenizer = melody.Melody.from_dir(directory)
  phrases = held_out.read(
      data_dir, split, max_clips, 'embed', name=renditions.NAME
  )
  embeddings = embed_kinds(phrases, tokenizer)
  quantized = {k: quantize(e, tokenizer) for k, e in embeddings.items()}
  return [
      *retrieval_rows(embeddings, 'embeddings'),
      *retrieval_rows(quantized, 'tokens'),
  ]
