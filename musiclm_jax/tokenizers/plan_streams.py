"""What is planned of a piece, as streams: beat, chord, key, arrangement.

The part has no weights. It copies what a clip of a corpus is known to be; of
what is not known, tokens are ABSENT. A plan for a new piece becomes the same
tokens, see `sampling.plan`.
"""

from collections.abc import Mapping, Sequence
import functools
import json
import math
import os
from typing import Any

from jaxtyping import Float, Int
from musiclm_jax import streams
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import terms
import numpy as np

PART = 'plan'
# Every rate divides the faster ones, so that crops that start with a frame of
# the slowest start with one of each. Beats are told as fast as semantic tokens.
RATES = {'beat': 25.0, 'chord': 5.0, 'key': 1.0, 'arrangement': 1.0}
PHASES = 12  # Of a beat: halves, thirds and quarters begin with one.
_LATE = 1e-4  # Seconds, lest rounding errors tell the beat or phase before.
OFF, ON, LEADING = range(3)  # Tokens of a family of instruments.

_CHORD_RATE = 50.0  # Frames per second of the chords of a clip.

# The token of the first beat of a bar of each metre.
_FIRST_BEATS = dict(
    zip(
        terms.METRES,
        np.cumsum([0, *(m.beats for m in terms.METRES.values())]).tolist(),
    )
)
_NUM_BEATS = sum(metre.beats for metre in terms.METRES.values())
_SIZES = {
    'beat': (2, max(_NUM_BEATS, PHASES)),
    'chord': (1, terms.NUM_CHORDS),
    'key': (1, len(terms.KEYS)),
    'arrangement': (len(terms.FAMILIES), LEADING + 1),
}
NAMES = tuple(_SIZES)


def make_streams(rates: Mapping[str, float]) -> tuple[streams.Stream, ...]:
  """Returns the streams at some rates.

  `beat` has a token for the metre and the beat of the bar, and one for how much
  of the beat is over, so that a tempo can be told without a metre; `chord` and
  `key` one each; `arrangement` one for each family of instruments.

  Args:
    rates: Frames per second of each, by name.
  """
  return tuple(
      streams.Stream(
          name,
          *_SIZES[name],
          frame_rate=rates[name],
          is_conditioning=True,
          is_added=True,
      )
      for name in NAMES
  )


STREAMS = {s.name: s for s in make_streams(RATES)}


def is_planned(stream: streams.Stream) -> bool:
  """Returns whether a stream is one of these, be it at another rate."""
  made = stream.num_quantizers, stream.codebook_size
  return made == _SIZES.get(stream.name)


class PlanStreams(base.ClipTokenizer):
  """Writes what clips of a corpus are known to be."""

  def __init__(self, rates: Mapping[str, float], sha256: str):
    self.streams = make_streams(rates)
    self.sha256 = sha256

  @classmethod
  def streams_of(cls, config: Mapping[str, Any]) -> tuple[streams.Stream, ...]:
    return make_streams(config['rates'])

  @classmethod
  def from_dir(cls, directory: str | os.PathLike[str]) -> 'PlanStreams':
    part = parts.load(directory, PART)
    with parts.building(directory, PART):
      return cls(part.config['rates'], part.sha256)

  @classmethod
  def knows(cls, record: base.Record) -> bool:
    """Returns whether an example of the dataset `music` says any of it."""
    return any(
        len(record.get(name, ()))
        for name in ('beats', 'chords', 'key', 'families', 'facts')
    )

  @classmethod
  def write(cls, directory: str | os.PathLike[str]) -> None:
    """Writes the part, which needs no training, into a model."""
    parts.save(directory, PART, {'rates': RATES}, {})

  def tokenize_clips(
      self, records: Sequence[base.Record], seconds: float
  ) -> streams.Tokens:
    """Returns the tokens of clips, ABSENT where nothing is known.

    Args:
      records: Examples of the dataset `music`; see `data.clips.Clip`.
      seconds: Their length.
    """
    make = {
        'beat': _beat_of,
        'chord': _chord_of,
        'key': _key_of,
        'arrangement': _arrangement_of,
    }
    tokens = {}
    for stream in self.streams:
      rate = stream.frame_rate or 0.0
      times = centres(rate, math.ceil(seconds * rate - 1e-3))
      rows = [make[stream.name](record, times) for record in records]
      tokens[stream.name] = np.stack(rows).astype(np.int32)
    return tokens


def centres(rate: float, count: int) -> Float[np.ndarray, ' frames']:
  """Returns the second in the middle of each of some frames."""
  return (np.arange(count) + 0.5) / rate


def beat_tokens(
    beats: Float[np.ndarray, 'beats 3'], times: Float[np.ndarray, ' frames']
) -> Int[np.ndarray, 'frames 2']:
  """Returns the tokens of `beat`.

  Args:
    beats: [beats, 3] the second of each, its number in the bar from 0, and the
      number of the metre in `terms.METRES`; both are -1 where the metre is not
      known.
    times: Seconds to return tokens of; ABSENT before the first beat and from
      the last one on.
  """
  tokens = np.full((len(times), 2), streams.ABSENT)
  if len(beats) < 2:
    return tokens
  times = times + _LATE
  index = np.searchsorted(beats[:, 0], times, side='right') - 1
  inside = (index >= 0) & (index < len(beats) - 1)
  index, times = index[inside], times[inside]
  start, end = beats[index, 0], beats[index + 1, 0]
  share = (times - start) / np.maximum(end - start, 1e-9)
  number, metre = beats[index, 1:].astype(int).T
  first = np.array([*_FIRST_BEATS.values()])[metre]
  tokens[inside, 0] = np.where(metre < 0, streams.ABSENT, first + number)
  tokens[inside, 1] = np.minimum(PHASES * share, PHASES - 1)
  return tokens


def arrangement_tokens(
    families: Sequence[str],
) -> Int[np.ndarray, ' families']:
  """Returns a frame of `arrangement`.

  Args:
    families: Names of the families that play, the leading one first.
  """
  tokens = np.full(len(terms.FAMILIES), OFF)
  for name in families:
    tokens[terms.FAMILIES.index(name)] = ON
  for name in families[:1]:
    tokens[terms.FAMILIES.index(name)] = LEADING
  return tokens


def _at(times: np.ndarray, rate: float, values: np.ndarray) -> np.ndarray:
  """Returns [frames, ...] values at some seconds, ABSENT after the last one."""
  index = np.floor(times * rate).astype(int)
  found = np.full((len(times), *values.shape[1:]), streams.ABSENT)
  known = index < len(values)
  found[known] = values[index[known]]
  return found


def _beat_of(record: base.Record, times: np.ndarray) -> np.ndarray:
  return beat_tokens(record.get('beats', np.zeros((0, 3))), times)


def _chord_of(record: base.Record, times: np.ndarray) -> np.ndarray:
  chords = _at(times, _CHORD_RATE, np.asarray(record.get('chords', ()), int))
  pitched = np.delete(_arrangement_of(record, times), terms.DRUMS, axis=1)
  # Where no chord was found, there is none if nothing with a pitch sounds.
  is_none = (chords == streams.ABSENT) & np.all(pitched == OFF, axis=1)
  return np.where(is_none, terms.NO_CHORD, chords)[:, np.newaxis]


def _key_of(record: base.Record, times: np.ndarray) -> np.ndarray:
  key = record.get('key') or _key_in_facts(record.get('facts', ''))
  token = terms.parse_key(key) if key else streams.ABSENT
  return np.full((len(times), 1), token)


@functools.lru_cache
def _key_in_facts(facts: str) -> str:
  return (json.loads(facts) if facts else {}).get('key') or ''


def _arrangement_of(record: base.Record, times: np.ndarray) -> np.ndarray:
  families = np.asarray(record.get('families', ()), int)
  return _at(times, 1.0, families.reshape(-1, len(terms.FAMILIES)))
