"""Parses the notation of chords and arrangements in a plan."""

import functools
import re

from musiclm_jax import errors
from musiclm_jax.tokenizers import terms

MAX_ITEMS = 10_000  # Chords, or changes of an arrangement.

Chords = tuple[tuple[int, float], ...]
Changes = tuple[tuple[float, tuple[str, ...]], ...]


@functools.lru_cache
def read_chords(text: str) -> Chords:
  """Reads chords, e.g. 'Am F:2 C G7:0.5'.

  Returns:
    The number of each chord in `terms`, and its length in bars.

  Raises:
    UserError: If an item is not a chord, or has no length.
  """
  words = text.replace('|', ' ').replace(',', ' ').split()
  _check_number('chords', words)
  chords = []
  for word in words:
    name, _, length = word.partition(':')
    bars = _number(length or '1')
    if bars is None or not 0 < bars <= 1000:
      raise errors.UserError(
          "a chord must last one bar, or as many as stand after it, as 'Am:2',"
          f" but one is '{word:.40}'."
      )
    chords.append((terms.parse_chord(name), bars))
  return tuple(chords)


@functools.lru_cache
def read_arrangement(text: str) -> Changes:
  """Reads an arrangement, e.g. '0 piano; 8 +bass +drums; 24 -drums'.

  Returns:
    The second of each change, and the families that play from then on, the
    leading one first.

  Raises:
    UserError: If a change is invalid, or nobody is left to play.
  """
  entries = [entry for entry in text.split(';') if entry.strip()]
  _check_number('changes of the arrangement', entries)
  changes: list[tuple[float, tuple[str, ...]]] = []
  for entry in entries:
    start, *words = entry.replace(',', ' ').split()
    second = _number(start)
    before = changes[-1] if changes else (-1.0, ())
    if second is None or not words or second < 0 or second <= before[0]:
      raise errors.UserError(
          'a change of the arrangement must be a second, later than the one'
          " before, and families of instruments, as '8 +bass -drums', but is"
          f" '{entry.strip():.60}'."
      )
    changes.append((second, _change(before[1], words, entry)))
  return tuple(changes)


def _change(
    before: tuple[str, ...], words: list[str], entry: str
) -> tuple[str, ...]:
  """Returns the families that play after a change."""
  playing = [*before] if words[0][0] in '+-' else []
  for word in words:
    family = _family(word.lstrip('+-'))
    if word[0] == '-' and family in playing:
      playing.remove(family)
    elif word[0] == '-':
      raise errors.UserError(
          'a change of the arrangement must only remove who plays, but'
          f" '{family}' does not in '{entry.strip():.60}'."
      )
    elif family not in playing:
      playing.append(family)
  if not playing:
    raise errors.UserError(
        'an arrangement must leave somebody to play, but after'
        f" '{entry.strip():.60}' nobody does. Make the piece shorter."
    )
  return tuple(playing)


def _family(word: str) -> str:
  number = terms.FAMILY_OF_WORD.get(word.lower().replace('_', ' '))
  if number is None:
    raise errors.UserError(
        f'instruments of an arrangement must be of {list(terms.FAMILIES)}, but'
        f" one is '{word:.40}'."
    )
  return terms.FAMILIES[number]


def _number(text: str) -> float | None:
  return float(text) if re.fullmatch(r'\d{1,6}(\.\d{1,6})?', text) else None


def _check_number(what: str, items: list[str]) -> None:
  if len(items) > MAX_ITEMS:
    raise errors.UserError(
        f'{what} must be at most {MAX_ITEMS}, but are {len(items)}.'
    )
