"""Whether a tagger hears in clips what it hears in true audio of their prompts.

This is the KLD of MusicLM (section 5.1).
"""

from collections.abc import Iterable

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.metrics.embedders import base
import numpy as np

# Least probability, which bounds the divergence of one class at 14 nats.
_LEAST = 1e-6


def tag(
    tagger: base.Tagger, clips: Iterable[tuple[np.ndarray, int]]
) -> Float[np.ndarray, 'clips classes']:
  """Returns the probability of each class, for each clip.

  Args:
    tagger: What hears them.
    clips: [samples] audio of each in [-1, 1], and its sample rate in Hz.

  Raises:
    UserError: If there is none, or its audio is not that.
  """
  rate = tagger.sample_rate
  found = [tagger.tag(io.resample(x, hz, rate)) for x, hz in clips]
  if not found:
    raise errors.UserError('there must be clips to tag, but there are none.')
  return np.stack(found)


def kl_divergences(
    made: Float[np.ndarray, 'clips classes'],
    reference: Float[np.ndarray, 'other_clips other_classes'],
) -> Float[np.ndarray, ' clips']:
  """Computes KL(reference | made) of the classes of pairs (MusicLM, 5.1).

  Args:
    made: [clips, classes] probabilities of clips; those of classes that do not
      exclude each other are scaled to sum to 1.
    reference: [clips, classes] those of true audio of the same prompts.

  Returns:
    [clips] nats, at least 0.

  Raises:
    UserError: If they are not of as many clips and classes, or no
      probabilities.
  """
  if made.shape != reference.shape:
    raise errors.UserError(
        'probabilities must be of pairs of clips and of the same classes, but'
        f' are of shapes {made.shape} and {reference.shape}.'
    )
  p, q = _shares(reference), _shares(made)
  return np.sum(p * (np.log(p) - np.log(q)), axis=1)


def _shares(x: np.ndarray) -> np.ndarray:
  if not (np.isfinite(x).all() and x.min(initial=0) >= 0):
    raise errors.UserError(
        'probabilities must be finite and at least 0, but are not. Check the'
        ' tagger.'
    )
  x = np.maximum(x.astype(np.float64), _LEAST)
  return x / x.sum(axis=1, keepdims=True)
