"""How a piece develops: returning sections, drift, and variety of takes."""

from collections.abc import Sequence
import itertools

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import musicality
from musiclm_jax.metrics import rhythm
import numpy as np

STEP_SECONDS = 0.5  # Of pieces without beats.
_PARTS = 3  # Drift is from the first third to the last.

Similarity = Float[np.ndarray, 'steps steps']
Take = Float[np.ndarray, '_']  # Takes may differ in length.


def self_similarity(
    audio: Float[np.ndarray, ' samples'], sample_rate: int
) -> Similarity:
  """Returns how alike each two beats of a piece are, -1 to 1.

  Args:
    audio: [samples] mono audio.
    sample_rate: Sample rate, in Hz.

  Returns:
    [beats, beats] the mean likeness of their chroma and their timbre; of each
    two half seconds, if the piece has no beats.
  """
  sound = hearing.Sound(audio, sample_rate)
  found = rhythm.find_rhythm(sound)
  step = round(STEP_SECONDS * hearing.FRAME_RATE)
  starts = np.arange(0, len(sound.onsets), step) if not found else found.beats
  return _similarity(sound, starts)


def _similarity(sound: hearing.Sound, starts: np.ndarray) -> Similarity:
  rows = [_means(x, starts) for x in (sound.chroma, _timbre(sound))]
  return np.mean([x @ x.T for x in map(_unit, rows)], axis=0)


def _timbre(sound: hearing.Sound) -> Float[np.ndarray, 'mfccs frames']:
  """Returns the timbre of each frame, without its level."""
  return sound.mfcc[1:]


def _means(x: Float[np.ndarray, 'n frames'], starts: np.ndarray) -> np.ndarray:
  """Returns the [steps, n] mean from each start to the next."""
  bounds = np.append(starts, x.shape[1])
  return np.stack(
      [
          x[:, a : max(b, a + 1)].mean(axis=1)
          for a, b in itertools.pairwise(np.minimum(bounds, x.shape[1] - 1))
      ]
  )


def _unit(x: Float[np.ndarray, 'steps n']) -> Float[np.ndarray, 'steps n']:
  """Centres columns, and scales rows to length 1."""
  x = x - x.mean(axis=0)
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def form_likeness(
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    form: str,
    bounds: Sequence[float] | None = None,
) -> dict[str, float]:
  """Compares sections of one letter with those of different letters.

  Sections are compared moment by moment, each half second with that of the same
  place in the other section.

  Args:
    audio: [samples] mono audio.
    sample_rate: Sample rate, in Hz.
    form: Letter of each section, e.g. 'AABA'.
    bounds: Seconds at which each section starts, and the end; sections of equal
      length by default.

  Returns:
    Mean likeness 'alike' and 'unlike', -1 to 1, and the 'contrast', how much
    more alike the first are.

  Raises:
    UserError: If there are not both letters that return and that differ, or
      the bounds do not fit.
  """
  pairs = list(itertools.combinations(range(len(form)), 2))
  same = [(i, j) for i, j in pairs if form[i] == form[j]]
  other = [(i, j) for i, j in pairs if form[i] != form[j]]
  if not same or not other:
    raise errors.UserError(
        'form must have a letter that returns, and another one, as AABA, but is'
        f" '{form:.100}'."
    )
  sound = hearing.Sound(audio, sample_rate)
  if bounds is None:
    bounds = np.linspace(0, sound.seconds, len(form) + 1).tolist()
  if len(bounds) != len(form) + 1 or np.any(np.diff(bounds) < STEP_SECONDS):
    raise errors.UserError(
        f"bounds must be {len(form) + 1} rising seconds for the form '{form}',"
        f' at least {STEP_SECONDS} s apart, but are {list(bounds)}.'
    )
  likeness = _section_likeness(sound, bounds)
  alike = float(np.mean([likeness[pair] for pair in same]))
  unlike = float(np.mean([likeness[pair] for pair in other]))
  return {'alike': alike, 'unlike': unlike, 'contrast': alike - unlike}


def _section_likeness(
    sound: hearing.Sound, bounds: Sequence[float]
) -> Float[np.ndarray, 'sections sections']:
  """Returns the likeness of each two sections, place by place."""
  counts = (np.diff(bounds) / STEP_SECONDS).astype(int)
  seconds = [
      start + STEP_SECONDS * np.arange(count)
      for start, count in zip(bounds, counts)
  ]
  frames = np.round(np.concatenate(seconds) * hearing.FRAME_RATE).astype(int)
  similar = _similarity(sound, frames)
  first = np.append(0, np.cumsum(counts))
  likeness = np.ones((len(counts), len(counts)))
  for i, j in itertools.permutations(range(len(counts)), 2):
    place = np.arange(min(counts[i], counts[j]))
    likeness[i, j] = similar[first[i] + place, first[j] + place].mean()
  return likeness


def drift(
    audio: Float[np.ndarray, ' samples'], sample_rate: int
) -> dict[str, float | None]:
  """Compares the last third of a piece with the first.

  Args:
    audio: [samples] mono audio of at least three seconds.
    sample_rate: Sample rate, in Hz.

  Returns:
    'tempo' as a share, None if one of them has none; 'level (LU)'; 'timbre' as
    the distance of their mean MFCC over the deviation within the piece.
  """
  length = len(audio) // _PARTS
  first, last = audio[:length], audio[-length:]
  sounds = [hearing.Sound(part, sample_rate) for part in (first, last)]
  rhythms = [rhythm.find_rhythm(sound) for sound in sounds]
  levels = [musicality.loudness(part, sample_rate) for part in (first, last)]
  tempo = None
  if rhythms[0] and rhythms[1]:
    tempo = rhythms[1].bpm / rhythms[0].bpm - 1
  timbres = [_timbre(sound) for sound in sounds]
  spread = np.concatenate(timbres, axis=1).std(axis=1)
  change = timbres[1].mean(axis=1) - timbres[0].mean(axis=1)
  distance = np.sqrt(np.mean((change / np.maximum(spread, 1e-9)) ** 2))
  return {
      'tempo': tempo,
      'level (LU)': levels[1] - levels[0],
      'timbre': float(distance),
  }


def diversity(takes: Sequence[Take], sample_rate: int) -> dict[str, float]:
  """Returns how different takes of one prompt are.

  Args:
    takes: Two or more takes, each [samples].
    sample_rate: Sample rate, in Hz.

  Returns:
    Mean distance of two takes: of 'chroma' (1 less the correlation of pitch
    classes at the same times) and of 'timbre' (dB between mean log-mel spectra
    of equal level). Copies have 0.

  Raises:
    UserError: If there are fewer than two.
  """
  if len(takes) < 2:
    raise errors.UserError(
        f'takes must be at least 2 to differ, but are {len(takes)}.'
    )
  sounds = [hearing.Sound(take, sample_rate) for take in takes]
  pairs = list(itertools.combinations(sounds, 2))
  return {
      'chroma': float(1 - np.mean([chroma_likeness(a, b) for a, b in pairs])),
      'timbre': float(np.mean([_timbre_distance(a, b) for a, b in pairs])),
  }


def chroma_likeness(a: hearing.Sound, b: hearing.Sound) -> float:
  """Returns the correlation of pitch classes at the same times: -1 to 1."""
  length = min(a.chroma.shape[1], b.chroma.shape[1])
  starts = np.arange(0, length, round(STEP_SECONDS * hearing.FRAME_RATE))
  x, y = (_means(sound.chroma[:, :length], starts) for sound in (a, b))
  alike = np.sum(hearing.unit_rows(x) * hearing.unit_rows(y), axis=1)
  return float(np.mean(alike))


def _timbre_distance(a: hearing.Sound, b: hearing.Sound) -> float:
  x, y = (sound.log_mel.mean(axis=1) for sound in (a, b))
  return float(np.mean(np.abs((x - x.mean()) - (y - y.mean()))))
