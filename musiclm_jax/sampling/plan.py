"""The plan of a piece: tempo, metre, key, chords, arrangement and form."""

from collections.abc import Mapping
import dataclasses
import math
import os
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import streams
from musiclm_jax.sampling import plan_words
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import terms
import numpy as np

BPM = (20, 400)  # Lowest and highest tempo, in beats per minute.
MAX_FORM = 1000  # Sections.
METRE = '4/4'  # Default metre of a plan that has a tempo.
EXACT, VARIED = 'exact', 'varied'
_MAX_BYTES = 1 << 20
Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Section:
  """The plan of all sections with one letter; any field may be left open.

  Attributes:
    chords: As in `Plan`, from the start of the section.
    arrange: As in `Plan`, in seconds from the start of the section.
    bars: Length in bars; by default, sections share the piece equally.

  Raises:
    UserError: If a field is invalid.
  """

  chords: str = ''
  arrange: str = ''
  bars: int | None = None

  def __post_init__(self):
    plan_words.read_chords(self.chords)
    plan_words.read_arrangement(self.arrange)
    is_int = isinstance(self.bars, int) and not isinstance(self.bars, bool)
    if self.bars is not None and not (is_int and 0 < self.bars <= 10_000):
      raise errors.UserError(
          'bars of a section must be a whole number of at least 1, but are'
          f' {self.bars!r:.100}.'
      )


@dataclasses.dataclass(frozen=True)
class Plan:
  """Tempo, harmony, instruments and form of a piece; any may be left open.

    Plan(bpm=96, metre='3/4', key='A minor', chords='Am F C G')
    Plan(arrange='0 piano; 8 +bass +drums; 24 -drums +strings')
    Plan(bpm=120, form='AABA', sections={'B': Section(chords='F G Em Am')})

  Attributes:
    bpm: Beats per minute. A beat is a quarter note; in 6/8, 9/8 and 12/8 a
      dotted one, in 2/2 and 3/2 a half, in 3/8 and 5/8 an eighth.
    metre: Metre; '4/4' if there is a tempo but no metre.
    key: Key, e.g. 'A minor'.
    chords: Chords, e.g. 'Am F:2 C G7:0.5', each lasting one bar or the number
      of bars after the colon. They restart with each section, and repeat until
      it ends.
    arrange: Families of instruments that play, with the second of each change,
      e.g. '0 piano; 8 +bass +drums': '+' and '-' add and remove families, names
      without a sign replace all. The first family leads.
    form: Letters of the sections, e.g. 'AABA'. Sections start on a bar line.
    sections: Sections with their own chords, arrangement or length, by their
      letters in the form. The others follow the rest of the plan.
    repeat: Whether a returning section is 'exact', with the same semantic
      tokens, or 'varied', with the same plan.

  Raises:
    UserError: If a field is invalid.
  """

  bpm: int | float | None = None
  metre: str = ''
  key: str = ''
  chords: str = ''
  arrange: str = ''
  form: str = ''
  sections: Mapping[str, Section] = dataclasses.field(default_factory=dict)
  repeat: str = VARIED

  def __post_init__(self):
    _check_tempo(self.bpm, self.metre)
    if self.key:
      terms.parse_key(self.key)
    plan_words.read_chords(self.chords)
    plan_words.read_arrangement(self.arrange)
    _check_form(self.form, self.repeat)
    self._check_letters()

  def _check_letters(self) -> None:
    """Raises UserError unless sections match the letters of the form."""
    says_all = self.chords or self.arrange or not self.sections
    undefined = {*self.form} - {*self.sections} if not says_all else set()
    if undefined or {*self.sections} - {*self.form}:
      raise errors.UserError(
          f"sections must be of the letters of the form '{self.form:.100}', all"
          ' where the rest of the plan has neither chords nor an arrangement,'
          f' but are of {sorted(self.sections)}.'
      )

  @property
  def told(self) -> tuple[str, ...]:
    """The names of the streams that it determines."""
    sections: list[Plan | Section] = [self, *self.sections.values()]
    says = {
        'beat': self.bpm is not None,
        'chord': any(s.chords for s in sections),
        'key': bool(self.key),
        'arrangement': any(s.arrange for s in sections),
    }
    return tuple(name for name, is_said in says.items() if is_said)

  def filled(self, other: 'Plan') -> 'Plan':
    """Returns the plan with open fields filled from another one."""
    taken = {
        field.name: getattr(other, field.name)
        for field in dataclasses.fields(self)
        if getattr(self, field.name) in (None, '', {}, VARIED)
    }
    return dataclasses.replace(self, **taken)

  def tokens(
      self,
      seconds: float,
      wanted: Mapping[str, streams.Stream] = plan_streams.STREAMS,
      after: float = 0.0,
  ) -> streams.Tokens:
    """Returns [1, frames, quantizers] tokens, ABSENT where the plan is open.

    Args:
      seconds: Length of the piece.
      wanted: Streams to make tokens for, some of `plan_streams`, by name.
      after: Seconds beyond the end, in which the piece starts again.

    Raises:
      UserError: If the plan does not fit the length, or lacks something that
        other fields need.
    """
    make = {
        'beat': self._beat,
        'chord': self._chord,
        'key': self._key,
        'arrangement': self._arrangement,
    }
    placed = self._placed(seconds)
    tokens = {}
    for name, stream in wanted.items():
      rate = stream.frame_rate or 0.0
      count = math.ceil((seconds + after) * rate - 1e-3)
      times = plan_streams.centres(rate, count) % seconds
      tokens[name] = make[name](placed, times)[np.newaxis].astype(np.int32)
    return tokens

  def repeats(self, seconds: float) -> list[tuple[float, float, float]]:
    """Returns the copies to make if the form repeats exactly.

    Args:
      seconds: Length of the piece.

    Returns:
      Start and end of a section's first appearance, and start of a later one,
      ordered by the ends; in seconds.
    """
    if self.repeat != EXACT:
      return []
    first: dict[str, _Placed] = {}
    found = []
    for section in self._placed(seconds):
      there = first.setdefault(section.letter, section)
      if there is not section:
        length = min(there.end - there.start, section.end - section.start)
        found.append((there.start, there.start + length, section.start))
    return sorted(found, key=lambda copy: copy[1])

  def to_json(self) -> dict[str, Any]:
    """Returns the plan as JSON values for `from_json`, without open fields."""
    values = {k: v for k, v in vars(self).items() if v and v != VARIED}
    if self.sections:
      values['sections'] = {
          letter: {k: v for k, v in vars(section).items() if v}
          for letter, section in self.sections.items()
      }
    return values

  @classmethod
  def from_json(cls, value: Any) -> 'Plan':
    """Makes the plan that `to_json` described.

    Raises:
      UserError: If the values do not describe a plan.
    """
    fields = _fields(cls, 'a plan', value)
    sections = fields.get('sections', {})
    if not isinstance(sections, dict):
      raise errors.UserError(
          'sections of a plan must be an object, with a section for each'
          f' letter, but are {sections!r:.100}.'
      )
    fields['sections'] = {
        letter: Section(**_fields(Section, 'a section', section))
        for letter, section in sections.items()
    }
    return cls(**fields)

  @property
  def _bar_seconds(self) -> float | None:
    if self.bpm is None:
      return None
    metre, _ = terms.find_metre(self.metre or METRE) or (METRE, 1.0)
    return terms.METRES[metre].beats * 60 / self.bpm

  def _placed(self, seconds: float) -> list['_Placed']:
    """Returns the sections with their places in the piece."""
    self._check_changes(self.arrange, seconds, 'the piece')
    if not self.form:
      return [_Placed('', 0.0, seconds, self.chords, self.arrange)]
    placed, start = [], 0.0
    for i, letter in enumerate(self.form):
      own = self.sections.get(letter, Section())
      length = self._length(own, seconds)
      # The last section takes up the remainder.
      end = seconds if i == len(self.form) - 1 else start + length
      if start > seconds - 1e-6:
        raise errors.UserError(
            f"the form '{self.form}' must fit the {seconds:g} s of the piece,"
            f' but its section {i + 1} starts at {start:g} s. Make the piece'
            ' longer, or sections shorter.'
        )
      self._check_changes(own.arrange, length, f"section '{letter}'")
      chords = own.chords or self.chords
      placed.append(
          _Placed(letter, start, min(end, seconds), chords, own.arrange)
      )
      start += length
    return placed

  def _length(self, section: Section, seconds: float) -> float:
    """Returns the length of a section in seconds: whole bars, if known."""
    bar, share = self._bar_seconds, seconds / len(self.form)
    if section.bars is None:
      return share if bar is None else max(1, round(share / bar)) * bar
    if bar is None:
      raise _needs_tempo('sections of so many bars')
    return section.bars * bar

  def _check_changes(self, arrange: str, seconds: float, what: str) -> None:
    for start, _ in plan_words.read_arrangement(arrange):
      if start >= seconds:
        raise errors.UserError(
            f'changes of the arrangement must be within the {seconds:g} s of'
            f" {what}, but one of '{arrange:.100}' is at {start:g} s."
        )

  def _beat(self, placed: list['_Placed'], times: Array) -> Array:
    del placed  # Sections start on bar lines, so the beat runs through.
    if self.bpm is None:
      if self.metre:
        raise _needs_tempo('a metre')
      return _absent(times, 2)
    metre, _ = terms.find_metre(self.metre or METRE) or (METRE, 1.0)
    numbers = np.arange(int(times.max(initial=0) * self.bpm / 60) + 2)
    number = numbers % terms.METRES[metre].beats
    index = np.full(len(numbers), list(terms.METRES).index(metre))
    beats = np.stack([numbers * 60 / self.bpm, number, index], axis=1)
    return plan_streams.beat_tokens(beats, times)

  def _chord(self, placed: list['_Placed'], times: Array) -> Array:
    tokens = _absent(times, 1)
    for section in placed:
      chords = plan_words.read_chords(section.chords)
      if not chords:
        continue
      if self._bar_seconds is None:
        raise _needs_tempo('chords, which last so many bars,')
      inside = (times >= section.start) & (times < section.end)
      ends = np.cumsum([bars for _, bars in chords])
      bars = (times[inside] - section.start) / self._bar_seconds % ends[-1]
      index = np.searchsorted(ends, bars, side='right')
      tokens[inside, 0] = np.array([chord for chord, _ in chords])[index]
    return tokens

  def _key(self, placed: list['_Placed'], times: Array) -> Array:
    del placed
    tokens = _absent(times, 1)
    if self.key:
      tokens[:] = terms.parse_key(self.key)
    return tokens

  def _arrangement(self, placed: list['_Placed'], times: Array) -> Array:
    tokens = _absent(times, len(terms.FAMILIES))
    whole = _Placed('', 0.0, math.inf, '', self.arrange)
    for section in [whole, *placed]:
      for start, families in plan_words.read_arrangement(section.arrange):
        inside = (times >= section.start + start) & (times < section.end)
        tokens[inside] = plan_streams.arrangement_tokens(families)
    return tokens


@dataclasses.dataclass(frozen=True)
class _Placed:
  """A section at its place in the piece.

  Attributes:
    letter: Its letter in the form.
    start: Start, in seconds.
    end: End, in seconds.
    chords: Its chords.
    arrange: Its arrangement.
  """

  letter: str
  start: float
  end: float
  chords: str
  arrange: str


def load(path: str | os.PathLike[str]) -> Plan:
  """Reads a plan from a file with the JSON values of `Plan.to_json`.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If it holds no plan.
  """
  value = files.read_json(path, 'a plan', _MAX_BYTES, needs_seal=False)
  try:
    return Plan.from_json(value)
  except errors.UserError as e:
    raise errors.UserError(f'{path}: {e}') from e


def _absent(times: Array, width: int) -> Array:
  return np.full((len(times), width), streams.ABSENT)


def _needs_tempo(what: str) -> errors.UserError:
  return errors.UserError(
      f'{what} must be in a plan with a tempo, but it has none. Say bpm.'
  )


def _check_tempo(bpm: Any, metre: Any) -> None:
  least, most = BPM
  is_number = isinstance(bpm, (int, float)) and not isinstance(bpm, bool)
  if bpm is not None and not (is_number and least <= bpm <= most):
    raise errors.UserError(
        f'bpm must be from {least} to {most} beats per minute, but is'
        f' {bpm!r:.100}.'
    )
  if metre and terms.find_metre(metre) is None:
    raise errors.UserError(
        f'metre must be one of {list(terms.METRES)}, or with beats of other'
        f" notes as 2/2, but is '{metre:.100}'."
    )


def _check_form(form: str, repeat: str) -> None:
  if form and not (form.isalpha() and len(form) <= MAX_FORM):
    raise errors.UserError(
        f"form must be letters of up to {MAX_FORM} sections, e.g. 'AABA', but"
        f" is '{form:.100}'."
    )
  if repeat not in (EXACT, VARIED):
    raise errors.UserError(
        f"repeat must be '{EXACT}' or '{VARIED}', but is {repeat!r:.100}."
    )
  if repeat == EXACT and len({*form}) == len(form):
    raise errors.UserError(
        f"repeat must be '{VARIED}' where no section returns, but is"
        f" '{EXACT}', and the form is '{form:.100}'."
    )


def _fields(cls: type[Any], what: str, value: Any) -> dict[str, Any]:
  """Returns JSON values as fields of a class; UserError if they are invalid."""
  kinds = {'bpm': (int, float), 'bars': int, 'sections': dict}
  names = [field.name for field in dataclasses.fields(cls)]
  if not isinstance(value, dict):
    raise errors.UserError(
        f'{what} must be an object with some of {names}, but is'
        f' {value!r:.100}.'
    )
  for name, item in value.items():
    kind: Any = kinds.get(name, str)
    if name not in names or not isinstance(item, kind):
      raise errors.UserError(
          f'{what} must have some of {names}, numbers and texts, but has'
          f' {name!r:.100}: {item!r:.100}.'
      )
  return dict(value)
