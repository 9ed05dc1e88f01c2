"""Finds the chords of a score: conditions, and labels for probes of tokens."""

from jaxtyping import Float, Int
from musiclm_jax.data import clips
from musiclm_jax.data.scores import notation
from musiclm_jax.tokenizers import terms
import numpy as np

# Names of the classes of `chord_frames`, by their numbers in `terms`.
_NOTES = 'C C# D D# E F F# G G# A A# B'.split()
NAMES = tuple(f'{n} {q}' for q in terms.QUALITIES for n in _NOTES)
NO_CHORD = -1
# The notes of each of `terms.QUALITIES`, in semitones; some are named twice.
_CHORDS = ((0, 4, 7, 7), (0, 3, 7, 7), (0, 4, 7, 10), (0, 3, 6, 6))
_TONES = np.array(
    [np.add(chord, root) % 12 for chord in _CHORDS for root in range(12)]
)
# [chords, 12] which pitch classes are in each.
TEMPLATES = np.any(_TONES[..., np.newaxis] == np.arange(12), axis=1)
_WINDOW = 1.0  # Seconds of notes around a frame that decide its chord.
# Least shares of the sounding notes: of a chord, and of each of its notes.
_SHARE = 0.75
_LEAST = 0.05


def chord_frames(
    score: notation.Score, start: float, num_frames: int
) -> Int[np.ndarray, ' frames']:
  """Returns the chord at each frame: the one that most sounding notes are in.

  Args:
    score: Notes; drums are left out.
    start: Second at which the first frame begins.
    num_frames: Number of frames, at `clips.MELODY_RATE`.

  Returns:
    [frames] int8 indices into `NAMES`; -1 if no note sounds, or if the notes of
    the second around the frame are not mostly those of one complete chord.
  """
  half = round(_WINDOW * clips.MELODY_RATE / 2)
  offset = start - half / clips.MELODY_RATE
  roll = _pitch_classes(score, offset, num_frames + 2 * half)
  sums = np.cumsum(np.pad(roll, ((1, 0), (0, 0))), axis=0)
  weights = sums[2 * half :][:num_frames] - sums[:num_frames]
  shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
  is_whole = shares[:, _TONES].min(axis=2) >= _LEAST  # [frames, chords]
  total = np.where(is_whole, shares @ TEMPLATES.T, 0)
  best = total.argmax(axis=1)
  return np.where(total.max(axis=1) >= _SHARE, best, NO_CHORD).astype(np.int8)


def _pitch_classes(
    score: notation.Score, start: float, num_frames: int
) -> Float[np.ndarray, 'frames 12']:
  """Returns the number of notes of each pitch class at each frame."""
  pitched = score.select(~score.is_drums)
  bounds = np.stack([pitched.start, pitched.end]) - start
  frames = np.round(bounds * clips.MELODY_RATE).astype(int)
  first, last = np.clip(frames, 0, num_frames)
  changes = np.zeros((num_frames + 1, 12))
  np.add.at(changes, (first, pitched.pitch % 12), 1)
  np.add.at(changes, (last, pitched.pitch % 12), -1)
  return np.cumsum(changes, axis=0)[:num_frames]
