"""Measures MuLan on held-out works: retrieval, and zero-shot tagging."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from jaxtyping import Float
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data.scores import facts as facts_lib
from musiclm_jax.metrics import mulan as mulan_metrics
from musiclm_jax.metrics import mulan_tags
from musiclm_jax.metrics import report
from musiclm_jax.models import mulan as mulan_model
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import mulan
import numpy as np
import tqdm

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
    tokenizer: mulan.MuLan,
    split: str,
    max_clips: int,
) -> tuple[list[Mapping[str, Any]], Embeddings]:
  """Returns evenly spread clips, and the average of the windows of each."""
  dataset = datasets.open_dataset('music', data_dir, split)
  indices = report.spread(len(dataset), max_clips)
  records: list[Mapping[str, Any]] = []
  embeddings = []
  for index in tqdm.tqdm(indices, 'embed', unit='clip'):
    record = dataset[int(index)]
    audio = clips.to_float(record.pop('audio'))
    audio = io.resample(audio, clips.SAMPLE_RATE, tokenizer.sample_rate)
    windows = tokenizer.embed_audio(audio[np.newaxis])
    embeddings.append(mulan_model.pool_windows(windows)[0])
    records.append(record)
  return records, np.stack(embeddings)


def retrieval_rows(
    captions: Sequence[Sequence[str]], audio: Embeddings, tokenizer: mulan.MuLan
) -> list[report.Row]:
  """Finds the clip of a caption, and the caption of a clip.

  Args:
    captions: Of each clip. In each of several rounds, one of each is used; the
      results are the averages of all rounds.
    audio: [clips, embed] of length 1.
    tokenizer: That embeds the captions.

  Returns:
    Recalls at 1, 5 and 10 and the median rank, in both directions. A clip whose
    caption happens to be that of another counts as wrong nonetheless.
  """
  pool = len(captions)
  directions: dict[str, list[dict[str, float]]] = {}
  for i in range(max(map(len, captions))):
    text = tokenizer.embed_text([texts[i % len(texts)] for texts in captions])
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
    classes: Sequence[Sequence[str]], audio: Embeddings, tokenizer: mulan.MuLan
) -> Float[np.ndarray, 'clips classes']:
  """Returns the similarity of clips to the average prompt of each class."""
  text = [
      mulan_model.pool_windows(tokenizer.embed_text(prompts))
      for prompts in classes
  ]
  return audio @ np.stack(text).T


def tag_rows(
    tag: mulan_tags.Tag,
    facts: Sequence[facts_lib.Facts],
    audio: Embeddings,
    tokenizer: mulan.MuLan,
) -> list[report.Row]:
  """Asks for the class of each clip of which it is known.

  Args:
    tag: What is asked.
    facts: Of each clip.
    audio: [clips, embed] of length 1.
    tokenizer: That embeds the prompts.

  Returns:
    The accuracy, over clips and over classes; no rows if the clips that are
    known are all of one class.
  """
  labels = {i: tag.label(f) for i, f in enumerate(facts)}
  labels = {i: label for i, label in labels.items() if label}
  if len(set(labels.values())) < 2:
    return []
  known, classes = list(labels), tag.find_classes(labels.values())
  prompts = [tag.prompts(name) for name in classes]
  scores = _score(prompts, audio[known], tokenizer)
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
    tokenizer: mulan.MuLan,
) -> list[report.Row]:
  """Asks of each instrument which clips it is heard in.

  Args:
    facts: Of each clip.
    audio: [clips, embed] of length 1.
    tokenizer: That embeds the prompts.

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
  columns = list(zip(_score(prompts, audio, tokenizer).T, truth[:, kept].T))
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
    max_clips: int = report.MAX_CLIPS,
) -> list[report.Row]:
  """Measures the MuLan of a model on a split of the dataset `music`.

  Args:
    data_dir: Folder of the dataset.
    model_dir: With the part 'mulan'; None for the model in the package.
    split: 'test' has works that no part was trained on.
    max_clips: Evenly spread over the split.

  Returns:
    Rows with 'metric' and 'value'; 'chance', what guessing would give;
    'majority', what naming the most frequent class would; 'choices', the pool
    or the classes; and 'clips', of which the truth is known. What the dataset
    has no `facts` of is left out.

  Raises:
    NotFoundError: If the dataset or the part is missing.
  """
  tokenizer = mulan.MuLan.from_dir(model_dir or parts.embedded_model())
  records, audio = _embed(data_dir, tokenizer, split, max_clips)
  rows = retrieval_rows([r['captions'] for r in records], audio, tokenizer)
  # Datasets of recordings, and those of before, know no facts.
  facts = [mulan_tags.read_facts(r.get('facts', '')) for r in records]
  known = [i for i, f in enumerate(facts) if f is not None]
  described = [f for f in facts if f is not None]
  if described:
    rows += instrument_rows(described, audio[known], tokenizer)
    for tag in mulan_tags.TAGS:
      rows += tag_rows(tag, described, audio[known], tokenizer)
  return rows
