"""Measures the codec of a model at several bitrates, beside Opus."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import math
import os
import time

from jaxtyping import Float
from musiclm_jax import progress
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import opus
from musiclm_jax.metrics import report
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import acoustic
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import soundstream
import numpy as np
import tqdm

NUM_QUANTIZERS = (3, 6, 12)  # 1.5, 3 and 6 kbps.
OPUS_KBPS = (6, 12, 24)
_SPEED_ROUNDS = 5
_COLUMNS = (
    'kbps',
    'actual kbps',
    'log-mel (dB)',
    'STFT',
    'SI-SDR (dB)',
    'encode (x real time)',
    'decode (x real time)',
    'perplexity',
    'share of codes',
)

# Clips differ in length.
Audio = Float[np.ndarray, '_']


def _row(name: str, found: Mapping[str, float]) -> report.Row:
  """Returns a row of the table; None where there is nothing to say."""
  return {'codec': name, **{column: found.get(column) for column in _COLUMNS}}


def _read(
    data_dir: str | os.PathLike[str],
    split: str,
    max_clips: int,
    sample_rate: int,
) -> list[Audio]:
  """Returns evenly spread clips of a split."""
  dataset = datasets.open_dataset('music', data_dir, split)
  indices = report.spread(len(dataset), max_clips)
  return [
      io.resample(
          clips.to_float(dataset[int(i)]['audio']),
          clips.SAMPLE_RATE,
          sample_rate,
      )
      for i in indices
  ]


def _quality(
    audio: Sequence[Audio],
    made: Iterable[Audio],
    sample_rate: int,
    num_bits: float,
) -> dict[str, float]:
  """Returns the mean distances over clips, and the bitrate over all of them."""
  distances = []
  for clip, reconstruction in zip(audio, made, strict=True):
    pair = clip[np.newaxis], reconstruction[np.newaxis, : len(clip)]
    distances.append(
        (
            codec_metrics.mel_distance(*pair, sample_rate)[0],
            codec_metrics.multi_resolution_stft_distance(*pair)[0],
            codec_metrics.si_sdr(*pair)[0],
        )
    )
  names = ('log-mel (dB)', 'STFT', 'SI-SDR (dB)')
  means = np.mean(np.asarray(distances), axis=0).tolist()
  seconds = sum(map(len, audio)) / sample_rate
  return dict(zip(names, means)) | {'actual kbps': num_bits / seconds / 1000}


def real_time_factor(
    function: Callable[[], object], seconds: float, rounds: int = _SPEED_ROUNDS
) -> float:
  """Returns how many times faster than playing `seconds` a function is.

  Args:
    function: Done when it returns.
    seconds: Of the audio it works on.
    rounds: Calls whose median counts, after one that may compile.
  """
  function()
  times = []
  for _ in range(rounds):
    start = time.perf_counter()
    function()
    times.append(time.perf_counter() - start)
  return seconds / float(np.median(times))


def _codec_row(
    audio: Sequence[Audio],
    tokens: Sequence[streams.Tokens],
    codec: soundstream.SoundStream,
    num_quantizers: int,
) -> report.Row:
  """Measures the first quantizers."""
  num_frames = sum(t[base.COARSE.name].shape[1] for t in tokens)
  bits_per_frame = num_quantizers * math.log2(codec.config.codebook_size)
  made = (codec.detokenize(t, num_quantizers)[0] for t in tokens)
  bits = num_frames * bits_per_frame
  quality = _quality(audio, made, codec.sample_rate, bits)
  clip, seconds = audio[0][np.newaxis], len(audio[0]) / codec.sample_rate
  encode = lambda: codec.tokenize(clip, num_quantizers)
  decode = lambda: codec.detokenize(tokens[0], num_quantizers)
  found = {
      'kbps': codec.config.kbps(num_quantizers),
      'encode (x real time)': real_time_factor(encode, seconds),
      'decode (x real time)': real_time_factor(decode, seconds),
  }
  return _row(f'SoundStream, {num_quantizers} quantizers', quality | found)


def opus_rows(audio: Sequence[Audio], sample_rate: int) -> list[report.Row]:
  """Measures Opus, if it is installed."""
  if not opus.is_installed():
    progress.say('Opus is left out: opusenc is not installed (opus-tools).')
    return []
  rows = []
  for kbps in OPUS_KBPS:
    pairs = [opus.transcode(clip, sample_rate, kbps) for clip in audio]
    made, sizes = zip(*pairs, strict=True)
    quality = _quality(audio, made, sample_rate, 8.0 * sum(sizes))
    rows.append(_row('Opus', quality | {'kbps': float(kbps)}))
  return rows


def perplexity_rows(
    tokens: Sequence[streams.Tokens], written: Sequence[streams.Stream]
) -> list[report.Row]:
  """Returns the codes in use of each quantizer, and the least of them."""
  codes = np.concatenate([acoustic.join(t, written)[0] for t in tokens])
  codebook_size = written[0].codebook_size
  found = codec_metrics.codebook_perplexity(codes, codebook_size).tolist()
  named = {f'quantizer {i + 1}': value for i, value in enumerate(found)}
  named[f'least of {len(found)} quantizers'] = min(found)
  return [
      _row(name, {'perplexity': value, 'share of codes': value / codebook_size})
      for name, value in named.items()
  ]


def evaluate(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'test',
    max_clips: int = report.MAX_CLIPS,
) -> list[report.Row]:
  """Measures a codec on a split of the dataset `music`.

  Distances are means over clips. The bitrate of Opus counts its packets, not
  their container. Speed is that of this machine, on the first clip, alone.
  Perplexity is over all frames: it says little of fewer than some thousands.

  Args:
    data_dir: Folder of the dataset.
    model_dir: With the part soundstream; None for the model in the package.
    split: 'test' has works that the codec was not trained on.
    max_clips: Evenly spread over the split.

  Returns:
    A row for each bitrate of the codec, for each of Opus if opusenc is
    installed, and for each quantizer.

  Raises:
    NotFoundError: If the dataset or the part is missing.
  """
  if model_dir is None:
    model_dir = parts.embedded_model()
  codec = soundstream.SoundStream.from_dir(model_dir)
  audio = _read(data_dir, split, max_clips, codec.sample_rate)
  tokens = [
      codec.tokenize(clip[np.newaxis])
      for clip in tqdm.tqdm(audio, 'tokenize', unit='clip')
  ]
  return [
      *(_codec_row(audio, tokens, codec, n) for n in NUM_QUANTIZERS),
      *opus_rows(audio, codec.sample_rate),
      *perplexity_rows(tokens, codec.streams),
  ]
