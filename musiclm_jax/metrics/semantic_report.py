"""Measures how semantic tokens tell harmony, and whether they ignore phases.

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
from musiclm_jax import streams
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import probes
from musiclm_jax.metrics import report
from musiclm_jax.metrics import semantic
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import w2v_bert
import numpy as np

_Quantizer = Callable[[np.ndarray], semantic.Tokens]
# From the fold that is tested to the features of all examples.
_Features = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Clip:
  """Features of a clip; all arrays of frames are at the rate of the tokens.

  Attributes:
    record: Record of the dataset, without the audio.
    tokens: [frames] semantic tokens.
    embeddings: [frames, embed] embeddings that the tokens were made of.
    log_mel: [frames, mels] log-mel spectrogram.
    changed_tokens: Tokens after each change of `semantic.change_phase`.
    changed_log_mel: Log-mel spectrograms after each change.
  """

  record: Mapping[str, Any]
  tokens: np.ndarray
  embeddings: np.ndarray
  log_mel: np.ndarray
  changed_tokens: Mapping[str, np.ndarray]
  changed_log_mel: Mapping[str, np.ndarray]


def _make_clip(
    record: Mapping[str, Any], audio: np.ndarray, tokenizer: w2v_bert.W2vBert
) -> _Clip:
  [stream] = tokenizer.streams
  changed = semantic.change_phase(audio)
  # All at one level, at which none exceeds full scale.
  gain = min(1.0, *(1 / max(np.abs(x).max(), 1e-6) for x in changed.values()))
  audio, changed = gain * audio, {k: gain * x for k, x in changed.items()}

  def tokenize(audio):
    return tokenizer.tokenize(audio[np.newaxis])[stream.name][0, :, 0]

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
    num_codes: int,
) -> dict[str, _Features]:
  """Returns features; `log_mel_tokens` are those of each fold and clip."""
  tokens = semantic.token_features(
      [clip.tokens for clip in clips], examples, num_codes
  )
  embeddings = semantic.frame_features(
      [clip.embeddings for clip in clips], examples
  )
  log_mel = [
      semantic.token_features(of_fold, examples, num_codes)
      for of_fold in log_mel_tokens
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
  """Returns a row, and one for instruments that probes were not trained on."""
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
    stream: streams.Stream,
) -> list[report.Row]:
  """Returns the rows of chords and of keys, if they are known."""
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
      ('chord', semantic.chord_examples(chords, lengths, stream)),
      ('key', semantic.key_examples(keys, lengths)),
  ):
    if len(set(examples.labels)) > 1:
      features = _features(
          clips, examples, log_mel_tokens, stream.codebook_size
      )
      rows += _probe_rows(name, examples, features, folds, halves)
  return rows


def _agreement_rows(
    clips: Sequence[_Clip], quantize: _Quantizer
) -> list[report.Row]:
  """Returns the share of tokens that stay the same when phases change."""
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
    max_clips: int = held_out.MAX_CLIPS,
) -> list[report.Row]:
  """Measures semantic tokens on a split of the dataset `music`.

  Every probe is tested on works that neither it nor the k-means of log-mel
  frames has seen. 'other instruments' means that the loudest instrument of a
  clip is none of those the probe was trained on, too.

  Args:
    data_dir: Folder of the dataset, made of rendered scores: `chords` and
      `facts` of its clips are the truth.
    model_dir: Directory of the model; None for the one in the package.
    split: Split to measure on; 'test' has works that no part was trained on.
    max_clips: Most clips, evenly spread over the split.

  Returns:
    Rows with 'metric'; the accuracy of probes of 'semantic' tokens, of
    'log-mel' tokens (k-means of as many codes) and of the 'embeddings' that
    semantic tokens are made of; 'majority', that of always naming the most
    frequent class; 'choices', the number of classes; and 'examples'.

  Raises:
    NotFoundError: If the dataset or the part is missing.
    UserError: If the clips are of too few works, or have no known harmony.
  """
  directory = parts.embedded_model() if model_dir is None else model_dir
  tokenizer = w2v_bert.W2vBert.from_dir(directory)
  [stream] = tokenizer.streams
  works = [r['work'] for r in held_out.read(data_dir, split, max_clips)]
  folds = probes.assign_folds(works)
  clips = [
      _make_clip(record, audio, tokenizer)
      for record, audio in held_out.read_audio(
          data_dir, split, max_clips, tokenizer.sample_rate, 'tokenize'
      )
  ]
  quantizers = [
      semantic.log_mel_quantizer(
          [clip.log_mel for clip, f in zip(clips, folds) if f != fold],
          stream.codebook_size,
      )
      for fold in range(probes.NUM_FOLDS)
  ]
  rows = _all_probe_rows(clips, folds, quantizers, stream)
  if not rows:
    raise errors.UserError(
        f"split '{split}' must hold clips of at least two chords or keys that"
        ' are known, but does not. Build it with `musiclm data scores`.'
    )
  return rows + _agreement_rows(clips, quantizers[0])
