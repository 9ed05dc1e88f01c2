"""Measures the codec of a model at several bitrates, beside Opus."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import math
import os
import time

from jaxtyping import Float
from musiclm_jax import progress
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import opus
from musiclm_jax.metrics import report
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import acoustic
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np

SHARES = (1 / 4, 1 / 2, 1)  # Shares of the quantizers that are measured.
OPUS_KBPS = (6, 12, 24)
_SPEED_ROUNDS = 5  # Calls whose median counts.
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
  """Returns a row of the table; None where a value is not defined."""
  return {'codec': name, **{column: found.get(column) for column in _COLUMNS}}


def _quality(
    audio: Sequence[Audio],
    made: Iterable[Audio],
    sample_rate: int,
    num_bits: float,
) -> dict[str, float]:
  """Returns the mean distances over clips, and the bitrate over all of them."""
  distances = [
      list(
          codec_metrics.distances(
              clip[np.newaxis],
              reconstruction[np.newaxis, : len(clip)],
              sample_rate,
          ).values()
      )
      for clip, reconstruction in zip(audio, made, strict=True)
  ]
  names = ('log-mel (dB)', 'STFT', 'SI-SDR (dB)')
  means = np.mean(distances, axis=0).tolist()
  seconds = sum(map(len, audio)) / sample_rate
  return dict(zip(names, means)) | {'actual kbps': num_bits / seconds / 1000}


def real_time_factor(function: Callable[[], object], seconds: float) -> float:
  """Returns how many times faster than real time a function is.

  Args:
    function: The work to time; it is done when this returns.
    seconds: Length of the audio it works on.
  """
  function()  # May compile.
  times = []
  for _ in range(_SPEED_ROUNDS):
    start = time.perf_counter()
    function()
    times.append(time.perf_counter() - start)
  return seconds / float(np.median(times))


def _codebook_sizes(written: Sequence[streams.Stream]) -> list[int]:
  """Returns the size of the codebook of each quantizer."""
  return [s.codebook_size for s in written for _ in range(s.num_quantizers)]


def _codec_row(
    audio: Sequence[Audio],
    tokens: Sequence[streams.Tokens],
    codec: base.Codec,
    num_quantizers: int,
) -> report.Row:
  """Measures the first quantizers."""
  written = codec.streams
  first = [
      acoustic.split(acoustic.join(t, written)[..., :num_quantizers], written)
      for t in tokens
  ]
  codebooks = _codebook_sizes(written)[:num_quantizers]
  bits_per_frame = sum(map(math.log2, codebooks))
  num_frames = sum(t[written[0].name].shape[1] for t in tokens)
  made = (codec.detokenize(t)[0] for t in first)
  bits = num_frames * bits_per_frame
  quality = _quality(audio, made, codec.sample_rate, bits)
  clip, seconds = audio[0][np.newaxis], len(audio[0]) / codec.sample_rate
  encode = lambda: codec.tokenize(clip)
  decode = lambda: codec.detokenize(first[0])
  found = {
      'kbps': bits_per_frame * codec.frame_rate / 1000,
      'encode (x real time)': real_time_factor(encode, seconds),
      'decode (x real time)': real_time_factor(decode, seconds),
  }
  name = f'{type(codec).__name__}, {num_quantizers} quantizers'
  return _row(name, quality | found)


def opus_rows(audio: Sequence[Audio], sample_rate: int) -> list[report.Row]:
  """Measures Opus, if it is installed."""
  if not opus.is_installed():
    progress.say('Opus is left out: opusenc is not installed (opus-tools).')
    return []
  rate = sample_rate if sample_rate in opus.RATES else max(opus.RATES)
  rows = []
  for kbps in OPUS_KBPS:
    pairs = [
        opus.transcode(io.resample(clip, sample_rate, rate), rate, kbps)
        for clip in audio
    ]
    decoded, sizes = zip(*pairs, strict=True)
    made = (io.resample(clip, rate, sample_rate) for clip in decoded)
    quality = _quality(audio, made, sample_rate, 8.0 * sum(sizes))
    rows.append(_row('Opus', quality | {'kbps': float(kbps)}))
  return rows


def perplexity_rows(
    tokens: Sequence[streams.Tokens], written: Sequence[streams.Stream]
) -> list[report.Row]:
  """Returns the codes in use of each quantizer, and the least of them."""
  codes = np.concatenate([acoustic.join(t, written)[0] for t in tokens])
  sizes = _codebook_sizes(written)
  found = codec_metrics.codebook_perplexity(codes, max(sizes)).tolist()
  least = int(np.argmin(found))
  named = {f'quantizer {i + 1}': i for i in range(len(found))}
  named[f'least of {len(found)} quantizers'] = least
  return [
      _row(
          name, {'perplexity': found[i], 'share of codes': found[i] / sizes[i]}
      )
      for name, i in named.items()
  ]


def evaluate(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    split: str = 'test',
    max_clips: int = held_out.MAX_CLIPS,
) -> list[report.Row]:
  """Measures a codec on a split of the dataset `music`.

  Distances are means over clips. The bitrate of Opus counts its packets, not
  their container. Speed is that of this machine, on the first clip, alone.
  Perplexity is over all frames: it says little of fewer than some thousands.

  Args:
    data_dir: Folder of the dataset.
    model_dir: Directory of the model; None for the one in the package.
    split: Split to measure on; 'test' has works that the codec was not trained
      on.
    max_clips: Most clips, evenly spread over the split.

  Returns:
    A row for each bitrate of the codec, for each of Opus if opusenc is
    installed, and for each quantizer.

  Raises:
    NotFoundError: If the dataset or the codec is missing.
  """
  directory = parts.embedded_model() if model_dir is None else model_dir
  codec = table.Tokenizers(directory).codec
  audio = [
      clip
      for _, clip in held_out.read_audio(
          data_dir, split, max_clips, codec.sample_rate, 'read'
      )
  ]
  tokens = [codec.tokenize(clip[np.newaxis]) for clip in audio]
  most = acoustic.num_quantizers(codec.streams)
  counts = dict.fromkeys(max(1, round(share * most)) for share in SHARES)
  return [
      *(_codec_row(audio, tokens, codec, count) for count in counts),
      *opus_rows(audio, codec.sample_rate),
      *perplexity_rows(tokens, codec.streams),
  ]
