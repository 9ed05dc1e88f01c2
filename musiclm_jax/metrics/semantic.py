"""Examples and features for probes of semantic tokens, and a baseline.

The baseline are tokens that k-means makes of the log-mel spectrogram itself.
"""

from collections.abc import Callable, Sequence
import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
from musiclm_jax import streams
from musiclm_jax.audio import dsp
from musiclm_jax.data import clips as clips_lib
from musiclm_jax.data.scores import chords
from musiclm_jax.models import kmeans
from musiclm_jax.models import w2v_bert as network
import numpy as np
from scipy import signal

_CHORD_SECONDS = 0.5  # From one chord to be named to the next.
_CONTEXT_SECONDS = (
    1.0  # Length of the tokens around it that a chord is read of.
)
_DELAY = 7  # In samples.
_MAX_FRAMES = 100_000  # Frames that k-means of log-mel frames is fitted to.

# Tokens of a clip. As clips differ in length, some shapes below have no name.
Tokens = Int[np.ndarray, ' _']

_nearest = jax.jit(kmeans.nearest)


@dataclasses.dataclass(frozen=True)
class Examples:
  """Pieces of clips, and the class of each that a probe shall tell.

  Attributes:
    clips: [n] index of the clip of each example.
    starts: [n] first frame of semantic tokens that it is read from.
    stops: [n] frame after the last.
    labels: Class of each example.
  """

  clips: Int[np.ndarray, ' n']
  starts: Int[np.ndarray, ' n']
  stops: Int[np.ndarray, ' n']
  labels: Sequence[str]


def chord_examples(
    chord_frames: Sequence[Int[np.ndarray, ' _']],
    num_frames: Sequence[int],
    stream: streams.Stream,
) -> Examples:
  """Takes each half second that one chord sounds throughout.

  Args:
    chord_frames: Chords of each clip, as `data.scores.chords` finds them.
    num_frames: Frames of semantic tokens of each clip.
    stream: The stream of semantic tokens.

  Returns:
    Examples that are read from the second around it.
  """
  length = round(_CHORD_SECONDS * clips_lib.MELODY_RATE)
  rows = []
  for clip, found in enumerate(chord_frames):
    for i, first in enumerate(range(0, len(found) - length + 1, length)):
      chord = found[first]
      if chord != chords.NO_CHORD and np.all(found[first:][:length] == chord):
        centre = (i + 0.5) * _CHORD_SECONDS
        start, stop = (
            stream.num_frames(max(0.0, centre + side))
            for side in (-_CONTEXT_SECONDS / 2, _CONTEXT_SECONDS / 2)
        )
        if start < num_frames[clip]:
          stop = min(stop, num_frames[clip])
          rows.append((clip, start, stop, chords.NAMES[chord]))
  return _examples(rows)


def key_examples(
    keys: Sequence[str | None], num_frames: Sequence[int]
) -> Examples:
  """Takes each clip whose key is known, as a whole."""
  return _examples(
      [
          (clip, 0, num_frames[clip], key)
          for clip, key in enumerate(keys)
          if key is not None
      ]
  )


def _examples(rows: Sequence[tuple[int, int, int, str]]) -> Examples:
  numbers = np.array([row[:3] for row in rows], int).reshape(-1, 3)
  clips, starts, stops = numbers.T
  return Examples(clips, starts, stops, [row[3] for row in rows])


def token_features(
    tokens: Sequence[Tokens], examples: Examples, num_codes: int
) -> Float[np.ndarray, 'n codes']:
  """Counts tokens.

  Args:
    tokens: Tokens of each clip.
    examples: The frames to count.
    num_codes: Size of the codebook.

  Returns:
    [n, codes] square roots of the shares of codes: of length 1, so that one
    frequent code does not hide the others.
  """
  counted = [
      np.bincount(tokens[clip][start:stop], minlength=num_codes)
      for clip, start, stop in zip(
          examples.clips, examples.starts, examples.stops
      )
  ]
  return np.sqrt([c / c.sum() for c in counted]).astype(np.float32)


def frame_features(
    frames: Sequence[Float[np.ndarray, '_ d']], examples: Examples
) -> Float[np.ndarray, 'n d']:
  """Averages frames, and standardizes the averages to a length of about 1."""
  means = np.stack(
      [
          frames[clip][start:stop].mean(axis=0)
          for clip, start, stop in zip(
              examples.clips, examples.starts, examples.stops
          )
      ]
  )
  standardized = (means - means.mean(axis=0)) / (means.std(axis=0) + 1e-6)
  return standardized / np.sqrt(means.shape[1])


def log_mel_frames(
    audio: Float[np.ndarray, ' samples'], num_frames: int
) -> Float[np.ndarray, 'frames mels']:
  """Returns the log-mel frames that w2v-BERT reads, averaged to its rate."""
  return network.in_windows(_mean_log_mel, audio[np.newaxis], num_frames)[0]


@jax.jit
def _mean_log_mel(audio, valid):
  log_mel = dsp.log_mel(
      audio,
      network.SAMPLE_RATE,
      network.WINDOW_LENGTH,
      network.HOP_LENGTH,
      network.W2vBertConfig.num_mels,
  )[:, :-1]
  return jnp.mean(log_mel.reshape(*valid.shape, -1, log_mel.shape[-1]), axis=2)


def log_mel_quantizer(
    clips: Sequence[Float[np.ndarray, '_ mels']], num_codes: int
) -> Callable[[np.ndarray], Tokens]:
  """Fits k-means as w2v-BERT's is fitted, but to log-mel frames.

  Args:
    clips: Log-mel frames of each clip.
    num_codes: Tokens to tell apart.

  Returns:
    A function from [frames, mels] to [frames] tokens.
  """
  frames = np.concatenate(clips)
  frames = np.random.default_rng(0).permutation(frames)[:_MAX_FRAMES]
  mean, std = frames.mean(axis=0), frames.std(axis=0) + 1e-6
  centroids = kmeans.kmeans((frames - mean) / std, num_codes)
  return lambda log_mel: np.asarray(_nearest((log_mel - mean) / std, centroids))


def change_phase(
    audio: Float[np.ndarray, ' samples'],
) -> dict[str, Float[np.ndarray, ' samples']]:
  """Returns audio that sounds the same, by the name of the change."""
  delayed = np.pad(audio, (_DELAY, 0))[: len(audio)]
  # First-order all-passes turn the phases of partials against each other.
  dispersed = audio
  for pole in (-0.8, -0.4, 0.4, 0.8):
    dispersed = signal.lfilter([pole, 1.0], [1.0, pole], dispersed)
  return {
      'polarity flipped': -audio,
      f'{_DELAY} samples later': delayed,
      'through all-passes': dispersed.astype(np.float32),
  }
