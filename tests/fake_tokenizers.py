"""Doubles of the tokenizers: no weights, instant, deterministic.

A frame is cut into as many pieces as the stream has quantizers, and each token
is the mean of its piece, rounded to one of `codebook_size` levels: PCM at a low
rate. So tokens depend on the audio, on nothing after it, and can be undone.
"""

from musiclm_jax import streams as streams_lib
from musiclm_jax.tokenizers import base
import numpy as np


def _to_levels(values: np.ndarray, codebook_size: int) -> np.ndarray:
  levels = np.floor((values + 1) / 2 * codebook_size)
  return np.clip(levels, 0, codebook_size - 1).astype(np.int32)


def _from_levels(tokens: np.ndarray, codebook_size: int) -> np.ndarray:
  return ((tokens + 0.5) / codebook_size * 2 - 1).astype(np.float32)


def _mean_of_pieces(frames: np.ndarray, num_pieces: int) -> np.ndarray:
  """Returns [batch, frames, pieces] means of [batch, frames, samples]."""
  pieces = np.array_split(frames, num_pieces, axis=-1)
  return np.stack(
      [p.mean(axis=-1) if p.size else p.sum(-1) for p in pieces], -1
  )


class _Weightless(base.Tokenizer):
  """A tokenizer that no model directory holds."""

  @classmethod
  def streams_of(cls, config):
    raise NotImplementedError(config)

  @classmethod
  def from_dir(cls, directory):
    raise NotImplementedError(directory)


class FakeTokenizer(_Weightless):
  """Tokenizes audio to one stream of any kind.

  Attributes:
    streams: The one that it writes.
    sample_rate: Of the audio it reads, in Hz.
  """

  def __init__(self, stream: streams_lib.Stream, sample_rate: int):
    self.streams = (stream,)
    self.sha256 = stream.name
    self.sample_rate = sample_rate

  def tokenize(self, audio: np.ndarray) -> streams_lib.Tokens:
    """Returns `round(seconds * frame_rate)` frames; see the base class."""
    base.check_audio(audio, self.sample_rate)
    (stream,) = self.streams
    num_frames = stream.num_frames(audio.shape[1] / self.sample_rate)
    hop_length = audio.shape[1]
    if stream.frame_rate is not None:
      hop_length = round(self.sample_rate / stream.frame_rate)
    padding = max(0, num_frames * hop_length - audio.shape[1])
    audio = np.pad(audio, ((0, 0), (0, padding)))[:, : num_frames * hop_length]
    frames = audio.reshape(audio.shape[0], num_frames, hop_length)
    means = _mean_of_pieces(frames, stream.num_quantizers)
    return {stream.name: _to_levels(means, stream.codebook_size)}


class FakeCodec(_Weightless, base.Codec):
  """A codec of SoundStream's streams and rates: 12 tokens per 20 ms.

  `tokenize(detokenize(tokens))` gives the tokens back.
  """

  streams = (base.COARSE, base.FINE)
  sample_rate = 24000
  sha256 = 'codec'
  hop_length = 480

  def __init__(self):
    num_quantizers = sum(s.num_quantizers for s in self.streams)
    joined = streams_lib.Stream(
        'joined', num_quantizers, base.COARSE.codebook_size, 50.0
    )
    self._tokenizer = FakeTokenizer(joined, self.sample_rate)

  def tokenize(self, audio: np.ndarray) -> streams_lib.Tokens:
    """Returns coarse and fine tokens of every started frame."""
    base.check_audio(audio, self.sample_rate)
    padding = -audio.shape[1] % self.hop_length
    padded = np.pad(audio, ((0, 0), (0, padding)))
    tokens = self._tokenizer.tokenize(padded)['joined']
    coarse, fine = np.split(tokens, [base.COARSE.num_quantizers], axis=-1)
    return {base.COARSE.name: coarse, base.FINE.name: fine}

  def stream(self, batch_size=1):
    raise NotImplementedError(batch_size)

  def detokenize(self, tokens: streams_lib.Tokens) -> np.ndarray:
    """Returns audio; where fine tokens are missing, their pieces are 0."""
    coarse = tokens[base.COARSE.name]
    levels = _from_levels(coarse, base.COARSE.codebook_size)
    if base.FINE.name in tokens:
      fine = _from_levels(tokens[base.FINE.name], base.FINE.codebook_size)
    else:
      shape = (*coarse.shape[:2], base.FINE.num_quantizers)
      fine = np.zeros(shape, np.float32)
    levels = np.concatenate([levels, fine], axis=-1)
    audio = np.repeat(levels, self.hop_length // levels.shape[-1], axis=-1)
    return audio.reshape(audio.shape[0], -1)
