"""The interface of everything that turns audio into tokens."""

import abc

from musiclm_jax import errors
from musiclm_jax import streams as streams_lib
import numpy as np

# The streams of MusicLM (sections 3.1 and 3.2 of the paper).
MULAN = streams_lib.Stream(
    'mulan', num_quantizers=12, codebook_size=1024, is_conditioning=True
)
SEMANTIC = streams_lib.Stream(
    'semantic', num_quantizers=1, codebook_size=1024, frame_rate=25.0
)
COARSE = streams_lib.Stream(
    'coarse', num_quantizers=4, codebook_size=1024, frame_rate=50.0
)
FINE = streams_lib.Stream(
    'fine', num_quantizers=8, codebook_size=1024, frame_rate=50.0
)
# Section 4.5: of windows of 4 s; one for each second (ours), not every third.
MELODY = streams_lib.Stream(
    'melody',
    num_quantizers=24,
    codebook_size=512,
    frame_rate=1.0,
    window_seconds=4.0,
    is_conditioning=True,
    is_added=True,
)


class Tokenizer(abc.ABC):
  """Turns audio into the tokens of its streams.

  Attributes:
    streams: What it writes.
    sample_rate: Of the audio it reads, in Hz.
  """

  streams: tuple[streams_lib.Stream, ...]
  sample_rate: int

  @abc.abstractmethod
  def tokenize(self, audio: np.ndarray) -> streams_lib.Tokens:
    """Tokenizes mono audio.

    Args:
      audio: [batch, samples] floats in [-1, 1], at `self.sample_rate`.

    Returns:
      The tokens of each of `self.streams`.

    Raises:
      UserError: If `audio` is not a batch of mono floats in [-1, 1].
    """


class Codec(Tokenizer):
  """A tokenizer whose tokens can be turned back into audio."""

  @abc.abstractmethod
  def detokenize(self, tokens: streams_lib.Tokens) -> np.ndarray:
    """Returns [batch, samples] audio, from some or all of `self.streams`."""


def check_audio(audio: np.ndarray, sample_rate: int) -> None:
  """Raises UserError unless `audio` is [batch, samples] floats in [-1, 1]."""
  if audio.ndim != 2:
    raise errors.UserError(
        f'audio must be [batch, samples], but has shape {audio.shape}. Add a'
        ' batch axis to one clip with audio[np.newaxis]; mix stereo down with'
        ' audio.mean(axis=-1).'
    )
  if not np.issubdtype(audio.dtype, np.floating):
    raise errors.UserError(
        f'audio must be floats in [-1, 1], but is {audio.dtype}. Read it with'
        f' audio.io.read_audio(path, sample_rate={sample_rate}), which scales.'
    )
  peak = float(np.max(np.abs(audio), initial=0.0))
  if not peak <= 1.0:
    raise errors.UserError(
        f'audio must be in [-1, 1], but peaks at {peak:.3g}.'
    )
