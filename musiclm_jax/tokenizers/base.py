"""The interface of everything that turns audio into tokens."""

import abc
from collections.abc import Mapping, Sequence
import os
from typing import Any, cast

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
# The streams of parts and records that do not describe theirs, by part.
PAPER_PARTS = {
    'soundstream': (COARSE, FINE),
    'w2v_bert': (SEMANTIC,),
    'mulan': (MULAN,),
    'melody': (MELODY,),
}
PAPER = tuple(s for written in PAPER_PARTS.values() for s in written)

Record = Mapping[str, Any]  # An example of the dataset `music`.


class Tokenizer(abc.ABC):
  """Turns audio into the tokens of its streams.

  Attributes:
    streams: The streams it writes.
    sample_rate: Sample rate of the audio it reads, in Hz.
    sha256: Hash of the part that holds its weights.
    hears_hums: Whether it is also to hear the melody of a score being hummed,
      as those who use the model will hum it.
  """

  streams: tuple[streams_lib.Stream, ...]
  sample_rate: int
  sha256: str
  hears_hums: bool = False

  @property
  def tokens_sha256(self) -> str:
    """Hash of the part whose tokens it writes; see `parts.tokens_of`."""
    return self.sha256

  @classmethod
  @abc.abstractmethod
  def streams_of(
      cls, config: Mapping[str, Any]
  ) -> tuple[streams_lib.Stream, ...]:
    """Returns the streams that a part of this config writes.

    Args:
      config: The config of a part, as stored.
    """

  @classmethod
  @abc.abstractmethod
  def from_dir(cls, directory: str | os.PathLike[str]) -> 'Tokenizer':
    """Loads the part of a model.

    Raises:
      NotFoundError: If the model has no such part.
      UserError: If the part is damaged, or not what its config describes.
    """

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


class Embedder(Tokenizer):
  """A tokenizer that quantizes embeddings of windows of audio.

  Attributes:
    window_seconds: Audio that one embedding stands for; a window starts each
      second.
    codebooks: [quantizers, codes, embed] float32.
  """

  window_seconds: float
  codebooks: np.ndarray

  @abc.abstractmethod
  def embed_audio(self, audio: np.ndarray) -> np.ndarray:
    """Returns [batch, windows, embed] embeddings of length 1.

    Args:
      audio: [batch, samples] floats in [-1, 1], at `self.sample_rate`.

    Raises:
      UserError: If `audio` is not a batch of mono floats in [-1, 1].
    """

  @abc.abstractmethod
  def quantize(self, embeddings: np.ndarray) -> np.ndarray:
    """Returns the tokens of embeddings of length 1."""


class TextEmbedder(Embedder):
  """An embedder of texts, too; its one stream describes a whole clip.

  Records keep its embeddings instead of tokens, as those of a crop are averaged
  before they are quantized.
  """

  @abc.abstractmethod
  def embed_text(
      self, texts: Sequence[str], truncate: bool = True
  ) -> np.ndarray:
    """Returns [batch, embed] embeddings of length 1.

    Args:
      texts: A batch of them.
      truncate: Whether one that is too long loses its end.

    Raises:
      UserError: If there is no text, or one is empty, or too long and not to
        be truncated.
    """

  @abc.abstractmethod
  def check_text(self, text: str) -> None:
    """Raises UserError if a prompt says nothing that the model knows."""


class ClipTokenizer(Tokenizer):
  """A part without weights that reads what is known of clips, not their audio.

  So a model that has it can be told the same of a piece to be made.
  """

  sample_rate = 0

  @classmethod
  @abc.abstractmethod
  def write(cls, directory: str | os.PathLike[str]) -> None:
    """Writes the part into a model."""

  @classmethod
  @abc.abstractmethod
  def knows(cls, record: Record) -> bool:
    """Returns whether there is anything to read in an example."""

  @abc.abstractmethod
  def tokenize_clips(
      self, records: Sequence[Record], seconds: float
  ) -> streams_lib.Tokens:
    """Returns the tokens of clips, ABSENT where nothing is known.

    Args:
      records: Examples of the dataset `music`.
      seconds: Their length.
    """

  def tokenize(self, audio: np.ndarray) -> streams_lib.Tokens:
    """Raises UserError: there is nothing to hear."""
    del audio
    names = [stream.name for stream in self.streams]
    raise errors.UserError(
        f'the streams {names} must be of clips of a corpus, or of a plan, but'
        ' are asked of audio. Tokenize the corpus.'
    )


class CodecStream(abc.ABC):
  """A codec over live audio, chunk by chunk."""

  @abc.abstractmethod
  def tokenize(self, audio: np.ndarray) -> streams_lib.Tokens:
    """Takes the next audio; returns the tokens of the frames it completes."""

  @abc.abstractmethod
  def detokenize(self, tokens: streams_lib.Tokens) -> np.ndarray:
    """Takes the next tokens; returns the audio that is certain by now."""


class Codec(Tokenizer):
  """A tokenizer whose tokens can be turned back into audio.

  Its streams have one frame rate; each goes on where the one before it ends.
  """

  @abc.abstractmethod
  def detokenize(self, tokens: streams_lib.Tokens) -> np.ndarray:
    """Returns [batch, samples] audio, from some or all of `self.streams`."""

  @abc.abstractmethod
  def stream(self, batch_size: int = 1) -> CodecStream:
    """Returns a codec of live audio, chunk by chunk."""

  @property
  def frame_rate(self) -> float:
    """Frames per second of each of its streams."""
    return cast(float, self.streams[0].frame_rate)


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
