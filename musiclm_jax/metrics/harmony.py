"""Key and chords, estimated from audio, and how near they are to true ones."""

from jaxtyping import Float, Int
from musiclm_jax.metrics import hearing
from musiclm_jax.tokenizers import terms
import numpy as np

CHORD_RATE = 5.0  # Chords per second.
# Profiles of C major and C minor (Albrecht and Shanahan, 2013).
_PROFILES = np.array(
    [
        '238 6 111 6 137 94 16 214 9 80 8 81'.split(),
        '220 6 104 123 19 103 12 214 62 22 61 52'.split(),
    ],
    float,
)
_COMPRESS = 100.0  # Lest the loudest notes decide alone.
_FIT, _CONTRAST = 0.5, 0.1  # Of a key: least correlation, and least contrast.
_TRIADS = ((0, 4, 7), (0, 3, 7))
_SMOOTH = 0.5  # Seconds of chroma that decide a chord.
_STAY = 1.6  # Likeness that a change of chord has to gain in all.
_CLEAR = 0.5  # Least likeness of a chord.


def find_key(sound: hearing.Sound) -> int | None:
  """Estimates the key by the method of Krumhansl and Schmuckler.

  Returns:
    The number of the key in `terms.KEYS`; None if no key fits.
  """
  if sound.is_silent:
    return None
  chroma = sound.chroma / max(sound.chroma.max(), 1e-9)
  weights = np.log1p(_COMPRESS * chroma).sum(axis=1)
  contrast = weights.std() / max(weights.mean(), 1e-9)
  profiles = [np.roll(p, tonic) for p in _PROFILES for tonic in range(12)]
  fits = [np.corrcoef(weights, profile)[0, 1] for profile in profiles]
  best = int(np.argmax(fits))
  return best if contrast > _CONTRAST and fits[best] >= _FIT else None


def key_score(found: int | None, true: int) -> float:
  """Returns how near a key is to the true one, as MIREX weighs errors.

  1 if it is the same, .5 a fifth up, .3 the relative, .2 the parallel one.
  """
  import mir_eval

  if found is None:
    return 0.0
  return float(mir_eval.key.weighted_score(terms.KEYS[true], terms.KEYS[found]))


def find_chords(sound: hearing.Sound) -> Int[np.ndarray, ' frames']:
  """Estimates major and minor triads by templates and the Viterbi algorithm.

  Returns:
    [frames] at CHORD_RATE, numbers in `terms`, NO_CHORD where none is clear.
  """
  hop = round(hearing.FRAME_RATE / CHORD_RATE)
  count = round(sound.seconds * CHORD_RATE)
  if sound.is_silent:
    return np.full(count, terms.NO_CHORD)
  kernel = np.ones(round(_SMOOTH * hearing.FRAME_RATE))
  smooth = [np.convolve(x, kernel, 'same') for x in np.sqrt(sound.chroma)]
  chroma = np.stack(smooth, axis=1)[hop // 2 :: hop][:count]
  likeness = hearing.unit_rows(chroma) @ hearing.unit_rows(_templates()).T
  return _viterbi(likeness)


def _templates() -> Float[np.ndarray, '24 12']:
  notes = np.array(
      [np.add(triad, root) % 12 for triad in _TRIADS for root in range(12)]
  )
  return np.any(notes[..., np.newaxis] == np.arange(12), axis=1).astype(float)


def _viterbi(
    likeness: Float[np.ndarray, 'frames 24'],
) -> Int[np.ndarray, ' frames']:
  """Returns the likeliest sequence of chords, or none, that change rarely."""
  none = np.full((len(likeness), 1), _CLEAR)
  likeness = np.concatenate([likeness, none], axis=1)
  total, best = likeness[0], []
  for row in likeness[1:]:
    change = total.max() - _STAY
    best.append(np.where(total >= change, np.arange(25), total.argmax()))
    total = np.maximum(total, change) + row
  path = [int(total.argmax())]
  for before in reversed(best):
    path.append(int(before[path[-1]]))
  chords = np.array(path[::-1])
  return np.where(chords == 24, terms.NO_CHORD, chords)


def chord_overlap(
    found: Int[np.ndarray, ' frames'], true: Int[np.ndarray, ' others']
) -> float | None:
  """Returns the share of the time in which triads are right.

  Args:
    found: [frames] chords that were heard.
    true: [others] true chords, perhaps of a frame more or less. Sevenths
      count as their triads; where the chord is unknown or diminished, nothing
      counts.

  Returns:
    The share; None if nothing counts.
  """
  length = min(len(found), len(true))
  found, true = found[:length], true[:length]
  sevenths = terms.QUALITIES.index('dominant seventh')
  true = np.where(true // 12 == sevenths, true % 12, true)
  counts = ((true >= 0) & (true < 24)) | (true == terms.NO_CHORD)
  if not counts.any():
    return None
  return float(np.mean(found[counts] == true[counts]))
