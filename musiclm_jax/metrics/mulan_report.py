"""Measures embeddings of texts and audio: retrieval, zero-shot tagging."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.data.scores import facts as facts_lib
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import mulan as mulan_metrics
from musiclm_jax.metrics import mulan_tags
from musiclm_jax.metrics import report
from musiclm_jax.models import mulan as mulan_model
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np

CUTOFFS = (1, 5, 10)

Embeddings = Float[np.ndarray, 'clips embed']


def _row(
    metric: str,
    value: float,
    chance: float,
    choices: int,
    num_clips: int,
    majority: float | None = None,
) -> report.Row:
  return {
      'metric': metric,
      'value': value,
      'chance': chance,
      'majority': majority,
      'choices': choices,
      'clips': num_clips,
  }


def _embed(
    data_dir: str | os.PathLike[str],
    embedder: base.TextEmbedder,
    split: str,
    max_clips: int,
) -> tuple[list[Mapping[str, Any]], Embeddings]:
  """Returns evenly spread clips, and the average of the windows of each."""
  records: list[Mapping[str, Any]] = []
  embeddings = []
  for record, audio in held_out.read_audio(
      data_dir, split, max_clips, embedder.sample_rate, 'embed'
  ):
    windows = embedder.embed_audio(audio[np.newaxis])
    embeddings.append(mulan_model.pool_windows(windows)[0])
    records.append(record)
  return records, np.stack(embeddings)


def retrieval_rows(
    captions: Sequence[Sequence[str]],
    audio: Embeddings,
    embedder: base.TextEmbedder,
) -> list[report.Row]:
  """Finds the clip of a caption, and the caption of a clip.

  Args:
    captions: Captions of each clip. In each of several rounds, one of each is
      used; the results are the averages of all rounds.
    audio: [clips, embed] of length 1.
    embedder: Embeds the captions.

  Returns:
    Recalls at 1, 5 and 10 and the median rank, in both directions. A clip whose
    caption happens to be that of another counts as wrong nonetheless.
  """
  pool = len(captions)
  directions: dict[str, list[dict[str, float]]] = {}
  for i in range(max(map(len, captions))):
    text = embedder.embed_text([texts[i % len(texts)] for texts in captions])
    for name, pair in (
        ('caption to clip', (text, audio)),
        ('clip to caption', (audio, text)),
    ):
      found = mulan_metrics.retrieval(*pair, np.arange(pool), CUTOFFS)
      directions.setdefault(name, []).append(found)
  rows = []
  for name, rounds in directions.items():
    mean = {key: float(np.mean([r[key] for r in rounds])) for key in rounds[0]}
    for k in CUTOFFS:
      chance = mean[f'chance@{k}']
      value = mean[f'recall@{k}']
      rows.append(_row(f'{name} recall@{k}', value, chance, pool, pool))
    rank, chance = mean['median_rank'], (pool + 1) / 2
    rows.append(_row(f'{name} median rank', rank, chance, pool, pool))
  return rows


def _score(
    classes: Sequence[Sequence[str]],
    audio: Embeddings,
    embedder: base.TextEmbedder,
) -> Float[np.ndarray, 'clips classes']:
  """Returns the similarity of clips to the average prompt of each class."""
  text = [
      mulan_model.pool_windows(embedder.embed_text(prompts))
      for prompts in classes
  ]
  return audio @ np.stack(text).T


def tag_rows(
    tag: mulan_tags.Tag,
    facts: Sequence[facts_lib.Facts],
    audio: Embeddings,
    embedder: base.TextEmbedder,
) -> list[report.Row]:
  """Measures how often the class of a clip is the one of the nearest prompts.

  Args:
    tag: The question.
    facts: The truth about each clip.
    audio: [clips, embed] of length 1.
    embedder: Embeds the prompts.

  Returns:
    The accuracy, over clips and over classes; no rows if all clips of a known
    class are of the same.
  """
  labels = {i: tag.label(f) for i, f in enumerate(facts)}
  labels = {i: label for i, label in labels.items() if label}
  if len(set(labels.values())) < 2:
    return []
  known, classes = list(labels), tag.find_classes(labels.values())
  prompts = [tag.prompts(name) for name in classes]
  scores = _score(prompts, audio[known], embedder)
  indices = np.array([classes.index(label) for label in labels.values()])
  found = mulan_metrics.classification(scores, indices)
  sizes = len(classes), len(known)
  return [
      _row(
          f'zero-shot {tag.name} accuracy',
          found['accuracy'],
          found['chance'],
          *sizes,
          found['majority'],
      ),
      _row(
          f'zero-shot {tag.name} balanced accuracy',
          found['balanced_accuracy'],
          found['chance'],
          *sizes,
      ),
  ]


def instrument_rows(
    facts: Sequence[facts_lib.Facts],
    audio: Embeddings,
    embedder: base.TextEmbedder,
) -> list[report.Row]:
  """Measures how surely the clips of an instrument are told from the others.

  Args:
    facts: The truth about each clip.
    audio: [clips, embed] of length 1.
    embedder: Embeds the prompts.

  Returns:
    The averages, over the instruments that some clips have and some lack, of
    the precision and of the area under the ROC; no rows if there are none.
  """
  names = sorted({name for f in facts for name in f.instruments})
  truth = np.array([[name in f.instruments for name in names] for f in facts])
  kept = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
  if not len(kept):
    return []
  prompts = [mulan_tags.instrument_prompts(names[i]) for i in kept]
  columns = list(zip(_score(prompts, audio, embedder).T, truth[:, kept].T))
  precision = np.mean([mulan_metrics.average_precision(*c) for c in columns])
  area = np.mean([mulan_metrics.roc_auc(*c) for c in columns])
  prevalence, sizes = float(truth[:, kept].mean()), (len(kept), len(facts))
  return [
      _row(
          'zero-shot instruments mean average precision',
          float(precision),
          prevalence,
          *sizes,
      ),
      _row('zero-shot instruments ROC AUC', float(area), 0.5, *sizes),
  ]


def evaluate(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'test',
    max_clips: int = held_out.MAX_CLIPS,
) -> list[report.Row]:
  """Measures the part that compares texts with audio.

  Args:
    data_dir: Folder of the dataset `music`.
    model_dir: Directory of the model; None for the one in the package.
    split: Split to measure on; 'test' has works that no part was trained on.
    max_clips: Most clips, evenly spread over the split.

  Returns:
    Rows with 'metric' and 'value'; 'chance', the value of guessing; 'majority',
    that of naming the most frequent class; 'choices', the pool or the classes;
    and 'clips', those of which the truth is known. Tags that the dataset has no
    `facts` about are left out.

  Raises:
    NotFoundError: If the dataset is missing, or the model embeds no texts.
  """
  directory = parts.embedded_model() if model_dir is None else model_dir
  embedders = table.Tokenizers(directory).of_kind(base.TextEmbedder)
  if not embedders:
    raise errors.NotFoundError(
        f"model '{directory}' must hold a part that embeds texts, but holds"
        ' none. Train and export one first.'
    )
  embedder = next(iter(embedders.values()))
  records, audio = _embed(data_dir, embedder, split, max_clips)
  rows = retrieval_rows([r['captions'] for r in records], audio, embedder)
  # Datasets of recordings, and those of before, know no facts.
  facts = [mulan_tags.read_facts(r.get('facts', '')) for r in records]
  known = [i for i, f in enumerate(facts) if f is not None]
  described = [f for f in facts if f is not None]
  if described:
    rows += instrument_rows(described, audio[known], embedder)
    for tag in mulan_tags.TAGS:
      rows += tag_rows(tag, described, audio[known], embedder)
  return rows
