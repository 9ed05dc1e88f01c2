"""The interface of networks that embed or tag clips, to judge music by them."""

import abc
from collections.abc import Sequence
import dataclasses

from jaxtyping import Float
from musiclm_jax import errors
import numpy as np


@dataclasses.dataclass(frozen=True)
class Identity:
  """All that must be equal for embeddings to be of one space.

  Attributes:
    name: Name of the embedder, for tables.
    sha256: Hash of its weights.
    sample_rate: Sample rate of the audio it hears, in Hz.
    window_seconds: Audio that one embedding stands for.
    width: Dimensions of an embedding.
    variant: Its features and the layer that is read, where files of the same
      weights leave a choice.
  """

  name: str
  sha256: str
  sample_rate: int
  window_seconds: float
  width: int
  variant: str = ''

  def check_same(self, other: 'Identity') -> None:
    """Raises UserError unless another embedder is this one, by any name."""
    mine, others = (dataclasses.asdict(x) for x in (self, other))
    for key in mine.keys() - {'name'}:
      if mine[key] != others[key]:
        raise errors.UserError(
            'embeddings that are compared must be of one embedder, but are of'
            f" '{self.name}' with {key} {mine[key]} and of '{other.name}' with"
            f' {others[key]}. Embed both with the same one.'
        )


class Embedder(abc.ABC):
  """Embeds windows of clips.

  Attributes:
    identity: What tells its embeddings from those of others.
  """

  identity: Identity

  @property
  def sample_rate(self) -> int:
    """Sample rate of the audio it hears, in Hz."""
    return self.identity.sample_rate

  @abc.abstractmethod
  def embed_audio(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, 'windows width']:
    """Embeds the windows of a clip, at least one.

    Args:
      audio: [samples] mono floats in [-1, 1], at `sample_rate`.

    Raises:
      UserError: If it is not that.
    """

  def embed_clips(
      self, clips: Sequence[Float[np.ndarray, ' _']]
  ) -> list[Float[np.ndarray, '_ width']]:
    """Embeds each of some clips; see `embed_audio`."""
    return [self.embed_audio(clip) for clip in clips]


class JointEmbedder(Embedder):
  """Embeds texts, too, in the space of audio."""

  @abc.abstractmethod
  def embed_text(
      self, texts: Sequence[str]
  ) -> Float[np.ndarray, 'texts width']:
    """Embeds texts, each as a vector of length 1; long ones lose their end.

    Raises:
      UserError: If there is no text, or one is empty.
    """


class Tagger(abc.ABC):
  """Tells how likely clips belong to classes.

  Attributes:
    identity: What tells its probabilities from those of others.
    classes: Names of the classes.
  """

  identity: Identity
  classes: tuple[str, ...]

  @property
  def sample_rate(self) -> int:
    """Sample rate of the audio it hears, in Hz."""
    return self.identity.sample_rate

  @abc.abstractmethod
  def tag(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, ' classes']:
    """Returns a probability for each class, the mean of all windows of a clip.

    Args:
      audio: [samples] mono floats in [-1, 1], at `sample_rate`.

    Raises:
      UserError: If it is not that.
    """


def check_texts(texts: Sequence[str]) -> None:
  """Raises UserError unless there are texts, and all say something."""
  if not texts or not all(text.strip() for text in texts):
    raise errors.UserError(
        f'texts must be one or more that say something, but are {texts!r:.200}.'
        ' Leave out clips without a prompt.'
    )
