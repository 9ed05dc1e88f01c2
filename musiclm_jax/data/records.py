"""Tokenizes a corpus: the dataset `music` becomes `music_tokens`."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
from typing import Any
import zlib

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data.scores import humming
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import melody
from musiclm_jax.tokenizers import mulan
from musiclm_jax.tokenizers import soundstream
from musiclm_jax.tokenizers import w2v_bert
import numpy as np
import tensorflow_datasets as tfds
import tqdm

NAME = 'music_tokens'
HUM = 'melody_hum'
SPLITS = ('train', 'validation', 'test')
MAX_WAITING = 64  # Clips held back until others of their length come.
# Reading and resampling for some groups while an accelerator works on others.
_NUM_THREADS = 4

Record = Mapping[str, Any]
Examples = Iterator[tuple[str, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Tokenizers:
  """What makes the streams of a corpus.

  Attributes:
    soundstream: Writes coarse and fine tokens.
    w2v_bert: Writes semantic tokens.
    mulan: Embeds windows of audio, and captions.
    melody: Writes melody tokens; None for a model that follows no melodies.
  """

  soundstream: Any
  w2v_bert: Any
  mulan: Any
  melody: Any = None

  @property
  def lineage(self) -> dict[str, str]:
    """The sha256 of each."""
    parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return {name: part.sha256 for name, part in parts.items() if part}


@functools.cache
def load_tokenizers(model_dir: str) -> Tokenizers:
  """Loads the tokenizers of a model, once in a process.

  Raises:
    NotFoundError: If the model lacks one of them.
  """
  with progress.telling('loading the tokenizers'):
    return Tokenizers(
        soundstream.SoundStream.from_dir(model_dir),
        w2v_bert.W2vBert.from_dir(model_dir),
        mulan.MuLan.from_dir(model_dir),
        melody.Melody.from_dir(model_dir)
        if (pathlib.Path(model_dir) / 'melody.json').exists()
        else None,
    )


def features(embed_dim: int) -> dict[str, Any]:
  """Returns the tfds features of the dataset.

  Args:
    embed_dim: Of MuLan.

  Returns:
    Tokens of each stream, [frames, quantizers] int32: semantic at 25 Hz, coarse
    and fine at 50 Hz, of exactly the same time; melody, a window per second, or
    none if the model follows no melodies, and `melody_hum`, the same of a voice
    that hums what the score says (ours), or none. `mulan` is [windows, embed]
    of the audio, a window per second, and `mulan_text` [captions, embed].
  """

  def array(width, dtype):
    # As bytes: the int64 varints of a plain feature take ten times the time.
    return tfds.features.Tensor(
        shape=(None, width), dtype=dtype, encoding='bytes'
    )

  streams = (base.SEMANTIC, base.COARSE, base.FINE, base.MELODY)
  return {
      **{s.name: array(s.num_quantizers, np.int32) for s in streams},
      HUM: array(base.MELODY.num_quantizers, np.int32),
      'mulan': array(embed_dim, np.float32),
      'mulan_text': array(embed_dim, np.float32),
      'captions': tfds.features.Sequence(tfds.features.Text()),
      'caption_weights': tfds.features.Tensor(
          shape=(None,), dtype=np.float32, encoding='bytes'
      ),
      'id': tfds.features.Text(),
      'work': tfds.features.Text(),
  }


def _align(tokens: streams.Tokens) -> streams.Tokens:
  """Cuts all streams to the time that every one of them covers."""
  per_second = {
      s.name: s.num_frames(1.0) for s in (base.SEMANTIC, base.COARSE, base.FINE)
  }
  slowest = min(per_second.values())
  num_frames = min(
      tokens[name].shape[1] * slowest // rate
      for name, rate in per_second.items()
  )
  return {
      name: tokens[name][:, : num_frames * rate // slowest]
      for name, rate in per_second.items()
  }


def tokenize_clips(
    records: Sequence[Record], tokenizers: Tokenizers
) -> list[dict[str, Any]]:
  """Tokenizes clips of one length.

  Args:
    records: Examples of the dataset `music`.
    tokenizers: Of one model.

  Returns:
    Their examples of the dataset `music_tokens`.
  """
  audio = clips.to_float(np.stack([r['audio'] for r in records]))

  @functools.cache
  def at(sample_rate):
    return io.resample(audio, clips.SAMPLE_RATE, sample_rate)

  soundstream, w2v_bert = tokenizers.soundstream, tokenizers.w2v_bert
  mulan = tokenizers.mulan
  tokens = _align(
      {
          **soundstream.tokenize(at(soundstream.sample_rate)),
          **w2v_bert.tokenize(at(w2v_bert.sample_rate)),
      }
  )
  none = np.zeros((len(records), 0, base.MELODY.num_quantizers), np.int32)
  tokens |= {base.MELODY.name: none}
  hummed = list(none)
  if tokenizers.melody is not None:
    tokens |= tokenizers.melody.tokenize(at(tokenizers.melody.sample_rate))
    hummed = [_tokenize_hum(r, tokenizers.melody) for r in records]
  windows = mulan.embed_audio(at(mulan.sample_rate))
  texts = mulan.embed_text([text for r in records for text in r['captions']])
  ends = np.cumsum([len(r['captions']) for r in records])
  return [
      {
          **{name: t[i].astype(np.int32) for name, t in tokens.items()},
          HUM: hummed[i].astype(np.int32),
          'mulan': np.asarray(windows[i], np.float32),
          'mulan_text': np.asarray(text, np.float32),
          'caption_weights': clips.caption_weights(record),
          **{name: record[name] for name in ('captions', 'id', 'work')},
      }
      for i, (record, text) in enumerate(
          zip(records, np.split(texts, ends[:-1]), strict=True)
      )
  ]


def _tokenize_hum(record: Record, tokenizer: Any) -> np.ndarray:
  """Returns the melody tokens of someone who hums the melody of a clip."""
  rng = np.random.default_rng(zlib.crc32(record['id'].encode()))
  seconds = len(record['audio']) / clips.SAMPLE_RATE
  num_samples = round(seconds * humming.SAMPLE_RATE)
  audio = humming.hum_frames(record['melody'], rng, num_samples)
  if audio is None:
    return np.zeros((0, base.MELODY.num_quantizers), np.int32)
  audio = io.resample(audio, humming.SAMPLE_RATE, tokenizer.sample_rate)
  return tokenizer.tokenize(audio[np.newaxis])[base.MELODY.name][0]


def equal_lengths(
    records: Iterator[Record], batch_size: int, max_waiting: int = MAX_WAITING
) -> Iterator[list[Record]]:
  """Groups clips by their length, so that no token depends on padding.

  Args:
    records: Examples of the dataset `music`.
    batch_size: Of most groups.
    max_waiting: Clips held back until others of their length come.

  Yields:
    Each record once, in groups of `batch_size` or, of a length that few clips
    have, alone: networks are compiled for each size of a group.
  """
  waiting: dict[int, list[Record]] = {}
  for record in records:
    group = waiting.setdefault(len(record['audio']), [])
    group.append(record)
    if len(group) == batch_size:
      yield waiting.pop(len(record['audio']))
    elif sum(map(len, waiting.values())) > max_waiting:
      yield from ([r] for r in waiting.pop(next(iter(waiting))))
  for group in waiting.values():
    yield from ([record] for record in group)


def _tokenize_range(
    indices: range, data_dir: str, model_dir: str, split: str, batch_size: int
) -> Examples:
  """Yields the keys and examples of some clips of a split."""
  source = datasets.open_dataset('music', data_dir, split)
  records = (source[i] for i in indices)
  tokenize = functools.partial(
      tokenize_clips, tokenizers=load_tokenizers(model_dir)
  )
  pool = futures.ThreadPoolExecutor(_NUM_THREADS)
  pending: deque[futures.Future[list[dict[str, Any]]]] = deque()
  try:
    for group in equal_lengths(records, batch_size):
      pending.append(pool.submit(tokenize, group))
      if len(pending) > _NUM_THREADS:
        yield from _keyed(pending.popleft().result())
    for future in pending:
      yield from _keyed(future.result())
  finally:
    # An interrupt does not wait for networks that are being compiled.
    pool.shutdown(wait=False, cancel_futures=True)


def _keyed(examples: Sequence[dict[str, Any]]) -> Examples:
  return ((example['id'], example) for example in examples)


def _with_progress(
    examples: Examples,
    split: str,
    num_clips: int,
    stack: contextlib.ExitStack,
) -> Examples:
  """Yields the same, beside a bar that begins once there is a first one."""
  with progress.telling(
      f"compiling the tokenizers and tokenizing the first clips of '{split}'"
  ):
    first = list(itertools.islice(examples, 1))
  examples = itertools.chain(first, examples)
  yield from stack.enter_context(
      tqdm.tqdm(examples, split, num_clips, unit='clip')
  )


def _in_beam(
    num_clips: int, tokenize: functools.partial, batch_size: int
) -> Any:
  """Returns a PTransform that makes the examples of a split."""
  # Only this path needs Beam, which is slow to import.
  import apache_beam as beam  # pylint: disable=g-import-not-at-top

  size = 16 * batch_size
  ranges = [
      range(start, min(start + size, num_clips))
      for start in range(0, num_clips, size)
  ]
  return beam.Create(ranges) | beam.Reshuffle() | beam.FlatMap(tokenize)


def tokenize_corpus(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str],
    runner: str | None = None,
    pipeline_options: Sequence[str] = (),
    batch_size: int = 8,
    splits: Sequence[str] = SPLITS,
    overwrite: bool = False,
) -> bool:
  """Writes the dataset `music_tokens` of the dataset `music`.

  Args:
    data_dir: Folder of both datasets.
    model_dir: Model with the parts soundstream, w2v_bert and mulan.
    runner: Beam runner, e.g. 'DataflowRunner', whose workers must see both
      folders; this process by default.
    pipeline_options: Flags of the Beam pipeline.
    batch_size: Clips tokenized at once.
    splits: Which ones to tokenize.
    overwrite: Whether to tokenize again what has been tokenized.

  Returns:
    Whether it was written: False if these tokenizers already did.

  Raises:
    NotFoundError: If the corpus or a part of the model is missing.
    UserError: If the dataset exists and other tokenizers wrote it.
  """
  data_dir, model_dir = os.fspath(data_dir), os.fspath(model_dir)
  sizes = {
      split: len(datasets.open_dataset('music', data_dir, split))
      for split in splits
  }
  load_tokenizers.cache_clear()  # The folder may hold another model by now.
  tokenizers = load_tokenizers(model_dir)
  if datasets.dataset_exists(NAME, data_dir) and not overwrite:
    # What this model has not, is not to be there either.
    absent = dict.fromkeys(lineage(data_dir))
    check_lineage(data_dir, {**absent, **tokenizers.lineage})
  stack = contextlib.ExitStack()

  def examples(split, num_clips):
    tokenize = functools.partial(
        _tokenize_range,
        data_dir=data_dir,
        model_dir=model_dir,
        split=split,
        batch_size=batch_size,
    )
    if runner is not None:
      return _in_beam(num_clips, tokenize, batch_size)
    return _with_progress(tokenize(range(num_clips)), split, num_clips, stack)

  with stack:
    return datasets.write_dataset(
        NAME,
        data_dir,
        {split: examples(split, size) for split, size in sizes.items()},
        features(tokenizers.mulan.codebooks.shape[-1]),
        metadata={
            'lineage': tokenizers.lineage,
            'mulan_window_seconds': tokenizers.mulan.window_seconds,
        },
        arrays={'mulan_codebooks': tokenizers.mulan.codebooks},
        runner=runner,
        pipeline_options=pipeline_options,
        overwrite=overwrite,
        verb='tokenize',
    )


def lineage(data_dir: str | os.PathLike[str]) -> dict[str, str]:
  """Returns the sha256 of each tokenizer that wrote the tokens."""
  return datasets.read_metadata(NAME, data_dir)['lineage']


def check_lineage(
    data_dir: str | os.PathLike[str], expected: Mapping[str, str | None]
) -> None:
  """Raises UserError unless the tokens are of the expected tokenizers.

  Args:
    data_dir: Folder of the dataset.
    expected: The sha256 of each tokenizer, None for one that must have written
      none; the others are not asked for.
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
