"""Tokenizes a corpus: the dataset `music` becomes `music_tokens`."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
import contextlib
import functools
import itertools
import os
from typing import Any
import zlib

from musiclm_jax import caching
from musiclm_jax import progress
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import ledger
from musiclm_jax.data import tally
from musiclm_jax.data import token_dataset
from musiclm_jax.data.scores import humming
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np
import tqdm

MAX_WAITING = 64  # Clips held back until others of the same length come.
# Some read and resample groups while an accelerator works on others.
_NUM_THREADS = 4

Record = base.Record
Tokenizers = Mapping[str, base.Tokenizer]
Examples = Iterator[tuple[str, dict[str, Any]]]


@functools.cache
def load_tokenizers(model_dir: str) -> table.Tokenizers:
  """Loads the tokenizers of a model, once per process.

  Raises:
    NotFoundError: If the model lacks a part that every model needs.
  """
  with progress.telling('loading the tokenizers'):
    tokenizers = table.whole(caching.local(model_dir))
    _ = [*tokenizers.values()]  # Loads all, before threads ask for them.
    return tokenizers


def lineage_of(tokenizers: Tokenizers) -> dict[str, str]:
  """Returns the sha256 of the part whose tokens each tokenizer writes."""
  return {name: t.tokens_sha256 for name, t in tokenizers.items()}


def _features_of(tokenizers: Tokenizers) -> dict[str, Any]:
  each = tokenizers.values()
  return token_dataset.features(
      [s for tokenizer in each for s in tokenizer.streams],
      {
          stream: embedder.codebooks.shape[-1]
          for stream, embedder in _embedders(tokenizers).items()
      },
      _hummed(tokenizers),
  )


def _hummed(tokenizers: Tokenizers) -> list[str]:
  return [
      s.name for t in tokenizers.values() if t.hears_hums for s in t.streams
  ]


def _align(
    tokens: streams.Tokens, written: Sequence[streams.Stream]
) -> streams.Tokens:
  """Cuts streams of sequences to the time that all of them cover."""
  rates = {
      s.name: s.frame_rate
      for s in written
      if s.frame_rate and not s.is_conditioning
  }
  slowest = min(rates.values())
  # The thousandth of a frame keeps rounding errors from losing one.
  num_frames = min(
      int(tokens[name].shape[1] * slowest / rate + 1e-3)
      for name, rate in rates.items()
  )
  cut = {
      name: tokens[name][:, : int(num_frames * rate / slowest + 1e-3)]
      for name, rate in rates.items()
  }
  return {**tokens, **cut}


def tokenize_clips(
    records: Sequence[Record], tokenizers: Tokenizers, sample_rate: int
) -> list[dict[str, Any]]:
  """Tokenizes clips of equal length.

  Args:
    records: Examples of the dataset `music`.
    tokenizers: The tokenizers of one model, by the names of their parts.
    sample_rate: Sample rate of the dataset, in Hz.

  Returns:
    Their examples of the dataset `music_tokens`.
  """
  audio = clips.to_float(np.stack([r['audio'] for r in records]))

  @functools.cache
  def at(rate):
    return io.resample(audio, sample_rate, rate)

  found: dict[str, Any] = {}
  tokens: streams.Tokens = {}
  for tokenizer in tokenizers.values():
    if isinstance(tokenizer, base.ClipTokenizer):
      seconds = audio.shape[1] / sample_rate
      tokens |= tokenizer.tokenize_clips(records, seconds)
      continue
    heard = at(tokenizer.sample_rate)
    if isinstance(tokenizer, base.TextEmbedder):
      found |= _embed(records, heard, tokenizer)
    else:
      tokens |= tokenizer.tokenize(heard)
    if tokenizer.hears_hums:
      found |= _tokenize_hums(records, audio.shape[1] / sample_rate, tokenizer)
  written = [s for t in tokenizers.values() for s in t.streams]
  found |= _align(tokens, [s for s in written if s.name in tokens])
  return [
      {
          **{name: _as_stored(values[i]) for name, values in found.items()},
          'caption_weights': clips.caption_weights(record),
          **{name: record[name] for name in ('captions', 'id', 'work')},
      }
      for i, record in enumerate(records)
  ]


def _as_stored(array: np.ndarray) -> np.ndarray:
  is_float = np.issubdtype(array.dtype, np.floating)
  return array.astype(np.float32 if is_float else np.int32)


def _embed(
    records: Sequence[Record], audio: np.ndarray, tokenizer: base.TextEmbedder
) -> dict[str, Any]:
  """Returns the embeddings of each clip and of its captions."""
  [stream] = tokenizer.streams
  texts = tokenizer.embed_text([c for r in records for c in r['captions']])
  ends = np.cumsum([len(r['captions']) for r in records])
  return {
      stream.name: tokenizer.embed_audio(audio),
      token_dataset.text_of(stream.name): np.split(texts, ends[:-1]),
  }


def _tokenize_hums(
    records: Sequence[Record], seconds: float, tokenizer: base.Tokenizer
) -> dict[str, Any]:
  """Returns tokens of a hummed version of each clip's melody."""
  num_samples = round(seconds * humming.SAMPLE_RATE)

  def tokenize(record):
    rng = np.random.default_rng(zlib.crc32(record['id'].encode()))
    audio = humming.hum_frames(record['melody'], rng, num_samples)
    if audio is None:
      return {
          s.name: np.zeros((1, 0, s.num_quantizers), np.int32)
          for s in tokenizer.streams
      }
    audio = io.resample(audio, humming.SAMPLE_RATE, tokenizer.sample_rate)
    return tokenizer.tokenize(audio[np.newaxis])

  hummed = [tokenize(record) for record in records]
  return {
      token_dataset.hum_of(s.name): [tokens[s.name][0] for tokens in hummed]
      for s in tokenizer.streams
  }


def equal_lengths(
    records: Iterator[Record], batch_size: int, max_waiting: int = MAX_WAITING
) -> Iterator[list[Record]]:
  """Groups clips by length, so that no token depends on padding.

  Args:
    records: Examples of the dataset `music`.
    batch_size: Size of most groups.
    max_waiting: Most clips held back until others of the same length come.

  Yields:
    Each record once, in groups of `batch_size` or, if few clips have its
    length, alone: networks are compiled for each group size.
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
      tokenize_clips,
      tokenizers=load_tokenizers(model_dir),
      sample_rate=datasets.sample_rate(data_dir),
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
    # On an interrupt, do not wait for networks that are being compiled.
    pool.shutdown(wait=False, cancel_futures=True)


def _keyed(examples: Sequence[dict[str, Any]]) -> Examples:
  return ((example['id'], example) for example in examples)


def _with_progress(
    examples: Examples,
    split: str,
    num_clips: int,
    stack: contextlib.ExitStack,
) -> Examples:
  """Yields the examples, with a progress bar from the first one on."""
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
    splits: Sequence[str] | None = None,
    overwrite: bool = False,
) -> bool:
  """Makes the dataset `music_tokens` from the dataset `music`.

  Args:
    data_dir: Folder of both datasets.
    model_dir: Model with the tokenizers.
    runner: Beam runner, e.g. 'DataflowRunner', whose workers must see both
      folders; this process by default.
    pipeline_options: Flags of the Beam pipeline.
    batch_size: Clips tokenized at once.
    splits: Which ones to tokenize; by default all of the corpus.
    overwrite: Whether to tokenize again what has been tokenized.

  Returns:
    Whether it was written: False if these tokenizers had already done so.

  Raises:
    NotFoundError: If the corpus or a part of the model is missing.
    UserError: If the dataset exists and other tokenizers wrote it.
  """
  data_dir, model_dir = os.fspath(data_dir), os.fspath(model_dir)
  sizes = {
      split: len(datasets.open_dataset('music', data_dir, split))
      for split in splits or datasets.splits('music', data_dir)
  }
  load_tokenizers.cache_clear()  # The folder may hold another model by now.
  tokenizers = load_tokenizers(model_dir)
  if datasets.dataset_exists(token_dataset.NAME, data_dir) and not overwrite:
    # Tokens of a part that this model lacks must not exist, either.
    absent = dict.fromkeys(token_dataset.lineage(data_dir))
    token_dataset.check_lineage(data_dir, {**absent, **lineage_of(tokenizers)})
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
        token_dataset.NAME,
        data_dir,
        {split: examples(split, size) for split, size in sizes.items()},
        _features_of(tokenizers),
        metadata={
            **_metadata(tokenizers),
            tally.KEY: ledger.read('music', data_dir),
        },
        arrays={
            f'{stream}_codebooks': embedder.codebooks
            for stream, embedder in _embedders(tokenizers).items()
        },
        runner=runner,
        pipeline_options=pipeline_options,
        overwrite=overwrite,
        verb='tokenize',
    )


def _embedders(tokenizers: Tokenizers) -> dict[str, base.TextEmbedder]:
  """Returns the tokenizers whose embeddings records keep, by stream."""
  return {
      t.streams[0].name: t
      for t in tokenizers.values()
      if isinstance(t, base.TextEmbedder)
  }


def _metadata(tokenizers: Tokenizers) -> dict[str, Any]:
  return {
      'lineage': lineage_of(tokenizers),
      'streams': [s.to_json() for t in tokenizers.values() for s in t.streams],
      'hummed': _hummed(tokenizers),
      **{
          f'{stream}_window_seconds': embedder.window_seconds
          for stream, embedder in _embedders(tokenizers).items()
      },
  }
