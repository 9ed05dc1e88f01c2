"""Measures what semantic tokens know of harmony, and what they ignore.

Linear probes read key and chords from them, beside tokens that k-means of the
same size makes of the log-mel spectrogram itself: w2v-BERT is of use where its
tokens do better.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import os
from typing import Any

from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import clips as clips_lib
from musiclm_jax.data import datasets
from musiclm_jax.metrics import probes
from musiclm_jax.metrics import report
from musiclm_jax.metrics import semantic
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import w2v_bert
import numpy as np
import tqdm

_Quantizer = Callable[[np.ndarray], semantic.Tokens]
# From the fold that is tested to what probes read of all examples.
_Features = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Clip:
  """What is computed of a clip; all arrays of frames are at 25 Hz.

  Attributes:
    record: Of the dataset, without the audio.
    tokens: [frames] semantic tokens.
    embeddings: [frames, embed] that they are of.
    log_mel: [frames, mels].
    changed_tokens: Of the audio in each of the ways of `semantic.change_phase`.
    changed_log_mel: Likewise.
  """

  record: Mapping[str, Any]
  tokens: np.ndarray
  embeddings: np.ndarray
  log_mel: np.ndarray
  changed_tokens: Mapping[str, np.ndarray]
  changed_log_mel: Mapping[str, np.ndarray]


def _read_clip(record: dict[str, Any], tokenizer: w2v_bert.W2vBert) -> _Clip:
  audio = clips_lib.to_float(record.pop('audio'))
  audio = io.resample(audio, clips_lib.SAMPLE_RATE, tokenizer.sample_rate)
  changed = semantic.change_phase(audio)
  # All at one level, at which none exceeds full scale.
  gain = min(1.0, *(1 / max(np.abs(x).max(), 1e-6) for x in changed.values()))
  audio, changed = gain * audio, {k: gain * x for k, x in changed.items()}

  def tokenize(audio):
    return tokenizer.tokenize(audio[np.newaxis])[base.SEMANTIC.name][0, :, 0]

  tokens = tokenize(audio)
  num_frames = len(tokens)
  return _Clip(
      record=record,
      tokens=tokens,
      embeddings=tokenizer.embed(audio[np.newaxis])[0],
      log_mel=semantic.log_mel_frames(audio, num_frames),
      changed_tokens={k: tokenize(x) for k, x in changed.items()},
      changed_log_mel={
          k: semantic.log_mel_frames(x, num_frames) for k, x in changed.items()
      },
  )


def _features(
    clips: Sequence[_Clip],
    examples: semantic.Examples,
    log_mel_tokens: Sequence[Sequence[semantic.Tokens]],
) -> dict[str, _Features]:
  """Returns what probes read; `log_mel_tokens` are of each fold and clip."""
  tokens = semantic.token_features([clip.tokens for clip in clips], examples)
  embeddings = semantic.frame_features(
      [clip.embeddings for clip in clips], examples
  )
  log_mel = [
      semantic.token_features(of_fold, examples) for of_fold in log_mel_tokens
  ]
  return {
      'semantic': lambda fold: tokens,
      'log-mel': lambda fold: log_mel[fold],
      'embeddings': lambda fold: embeddings,
  }


def _row(metric: str, **values: float | int | None) -> report.Row:
  columns = ('semantic', 'log-mel', 'embeddings', 'majority')
  counts = ('choices', 'examples')
  return {'metric': metric, **{k: values.get(k) for k in columns + counts}}


def _probe_rows(
    name: str,
    examples: semantic.Examples,
    features: Mapping[str, _Features],
    folds: np.ndarray,
    halves: np.ndarray,
) -> list[report.Row]:
  """Returns a row, and one of instruments that probes were not trained on."""
  classes, sizes = np.unique(examples.labels, return_counts=True)
  tested = {'': None, ', other instruments': halves[examples.clips]}
  return [
      _row(
          f'{name} accuracy{suffix}',
          majority=float(sizes.max() / sizes.sum()),
          choices=len(classes),
          examples=int(sizes.sum()),
          **{
              column: probes.accuracy(
                  of_fold, examples.labels, folds[examples.clips], split
              )
              for column, of_fold in features.items()
          },
      )
      for suffix, split in tested.items()
  ]


def _all_probe_rows(
    clips: Sequence[_Clip],
    folds: np.ndarray,
    quantizers: Sequence[_Quantizer],
) -> list[report.Row]:
  """Returns the rows of chords and keys; none of what is not known."""
  facts = [json.loads(clip.record['facts'] or '{}') for clip in clips]
  halves = probes.assign_halves(
      [(f.get('instruments') or [''])[0] for f in facts]
  )
  lengths = [len(clip.tokens) for clip in clips]
  frames = np.concatenate([clip.log_mel for clip in clips])
  log_mel_tokens = [
      np.split(quantize(frames), np.cumsum(lengths)[:-1])
      for quantize in quantizers
  ]
  chords = [clip.record['chords'] for clip in clips]
  keys = [f.get('key') for f in facts]
  rows = []
  for name, examples in (
      ('chord', semantic.chord_examples(chords, lengths)),
      ('key', semantic.key_examples(keys, lengths)),
  ):
    if len(set(examples.labels)) > 1:
      features = _features(clips, examples, log_mel_tokens)
      rows += _probe_rows(name, examples, features, folds, halves)
  return rows


def _agreement_rows(
    clips: Sequence[_Clip], quantize: _Quantizer
) -> list[report.Row]:
  """Returns how many tokens are the same whatever the phase."""
  tokens = np.concatenate([clip.tokens for clip in clips])
  log_mel_tokens = quantize(np.concatenate([clip.log_mel for clip in clips]))
  rows = []
  for name in clips[0].changed_tokens:
    changed = np.concatenate([clip.changed_tokens[name] for clip in clips])
    changed_log_mel = quantize(
        np.concatenate([clip.changed_log_mel[name] for clip in clips])
    )
    values = {
        'semantic': float(np.mean(tokens == changed)),
        'log-mel': float(np.mean(log_mel_tokens == changed_log_mel)),
    }
    rows.append(
        _row(f'tokens that stay, {name}', **values, examples=len(tokens))
    )
  return rows


def evaluate(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'test',
    max_clips: int = report.MAX_CLIPS,
) -> list[report.Row]:
  """Measures semantic tokens on a split of the dataset `music`.

  Every probe is tested on works that neither it nor the k-means of log-mel
  frames has seen. 'other instruments' means that the loudest instrument of a
  clip is none of those the probe was trained on, too.

  Args:
    data_dir: Folder of the dataset, of rendered scores: `chords` and `facts` of
      its clips are the truth.
    model_dir: With the part w2v_bert; None for the model in the package.
    split: 'test' has works that no part was trained on.
    max_clips: Evenly spread over the split.

  Returns:
    Rows with 'metric'; what probes reach that read 'semantic' tokens, 'log-mel'
    tokens (k-means of as many codes) and the 'embeddings' that semantic tokens
    are made of; 'majority', what always naming the most frequent class would
    reach; 'choices', the number of classes; and 'examples'.

  Raises:
    NotFoundError: If the dataset or the part is missing.
    UserError: If the clips are of too few works, or nothing is known of them.
  """
  if model_dir is None:
    model_dir = parts.embedded_model()
  tokenizer = w2v_bert.W2vBert.from_dir(model_dir)
  dataset = datasets.open_dataset('music', data_dir, split)
  indices = report.spread(len(dataset), max_clips).tolist()
  folds = probes.assign_folds([dataset[i]['work'] for i in indices])
  clips = [
      _read_clip(dataset[i], tokenizer)
      for i in tqdm.tqdm(indices, 'tokenize', unit='clip')
  ]
  quantizers = [
      semantic.log_mel_quantizer(
          [clip.log_mel for clip, f in zip(clips, folds) if f != fold]
      )
      for fold in range(probes.NUM_FOLDS)
  ]
  rows = _all_probe_rows(clips, folds, quantizers)
  if not rows:
    raise errors.UserError(
        f"split '{split}' must hold clips of at least two chords or keys that"
        ' are known, but does not. Build it with `musiclm data scores`.'
    )
  return rows + _agreement_rows(clips, quantizers[0])
