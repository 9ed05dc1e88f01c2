"""Writes captions of clips from facts, in varied words."""

from collections.abc import Sequence

from musiclm_jax.data.scores import facts as facts_lib
import numpy as np

# A clip is slow below, or fast above, these beats per minute, but only with at
# most, or at least, so many onsets per second.
_SLOW, _SLOW_MAX_ONSETS = 80, 6.0
_FAST, _FAST_MIN_ONSETS = 130, 2.5
TEMPO_WORDS = {
    'slow': ('slow', 'slow-paced', 'unhurried'),
    'moderate': ('mid-tempo', 'moderate', 'medium-paced'),
    'fast': ('fast', 'up-tempo', 'quick'),
}
# Moods of modes and tempos; others have none.
MOOD_WORDS = {
    ('minor', 'slow'): ('melancholic', 'sad', 'somber'),
    ('minor', 'fast'): ('dramatic', 'tense', 'urgent'),
    ('major', 'slow'): ('calm', 'peaceful', 'gentle'),
    ('major', 'fast'): ('cheerful', 'happy', 'lively'),
}
# Other names of instruments.
SYNONYMS = {
    'nylon-string guitar': ('classical guitar', 'acoustic guitar', 'guitar'),
    'steel-string guitar': ('acoustic guitar', 'guitar'),
    'electric guitar': ('clean electric guitar', 'guitar'),
    'jazz guitar': ('guitar',),
    'overdriven guitar': ('overdriven electric guitar',),
    'distorted guitar': ('distorted electric guitar',),
    'strings': ('string ensemble', 'string section'),
    'soprano saxophone': ('soprano sax', 'saxophone'),
    'alto saxophone': ('alto sax', 'saxophone'),
    'tenor saxophone': ('tenor sax', 'saxophone'),
    'baritone saxophone': ('baritone sax', 'saxophone'),
    'drums': ('drum kit',),
    'synth lead': ('lead synth', 'synthesizer'),
    'synth pad': ('synthesizer pad', 'synthesizer'),
    'electric organ': ('organ',),
    'church organ': ('pipe organ', 'organ'),
    'bass guitar': ('electric bass',),
    'double bass': ('upright bass',),
    'choir': ('vocal choir',),
    'french horn': ('horn',),
}
_VOCAL = ('choir', 'synth voice')
# Instruments of many players, who cannot be solo.
_ENSEMBLES = ('strings', 'choir', 'brass')
_MAX_NAMED = 4  # Most instruments that a caption names.
_MAX_TITLE = 60  # Characters of the longest title that a caption quotes.
_KEPT = 0.75  # Share of the facts in a caption, so that captions differ.


def tempo_class(facts: facts_lib.Facts) -> str | None:
  """Returns 'slow', 'moderate' or 'fast'; None if unknown or unclear."""
  if facts.bpm is None:
    return None
  if facts.bpm < _SLOW:
    return 'slow' if facts.onset_rate <= _SLOW_MAX_ONSETS else None
  if facts.bpm > _FAST:
    return 'fast' if facts.onset_rate >= _FAST_MIN_ONSETS else None
  return 'moderate'


def write_captions(
    facts: facts_lib.Facts, rng: np.random.Generator
) -> tuple[str, ...]:
  """Writes three to five captions, from a few words to a few sentences.

  Args:
    facts: Facts of the clip.
    rng: Chooses the words, and the facts that each caption leaves out.

  Returns:
    Different captions; fewer if there are few facts.
  """
  styles = [_short, _sentence, _aspects, _account, _short, _sentence]
  if facts.composer or 0 < len(facts.title) <= _MAX_TITLE:
    styles.insert(3, _credit)
  count = rng.integers(3, 6)
  captions = [style(_Words(facts, rng)) for style in styles]
  return tuple(dict.fromkeys(captions))[:count]


class _Words:
  """The facts of one caption in its choice of words."""

  def __init__(self, facts: facts_lib.Facts, rng: np.random.Generator):
    self.rng = rng
    self.facts = facts
    self.names = self._name_instruments()
    tempo = tempo_class(facts) or ''
    mode = facts.key.split()[1] if facts.key else ''
    paces: Sequence[str] = TEMPO_WORDS[tempo] if tempo else ()
    moods: Sequence[str] = MOOD_WORDS.get((mode, tempo)) or ()
    self.tempo = self.some(paces)
    self.mood = self.some(moods, share=0.5)
    # Loud or busy music is not 'calm' or 'gentle'.
    if mode == 'major' and tempo == 'slow':
      if {'loud', 'dense'} & set(facts.words):
        self.mood = ''
    self.texture = self.some(facts.words, share=0.5)
    self.genre = self.some((facts.genre,) if facts.genre else ())
    self.bpm = self.some((f'{facts.bpm:.0f} bpm',) if facts.bpm else ())
    self.key = self.some((facts.key,) if facts.key else ())
    self.metre = self.some((facts.metre,) if facts.metre else (), share=0.5)

  def some(self, words: Sequence[str], share: float = _KEPT) -> str:
    """Returns one of `words`, or '' to leave the fact out."""
    keep = self.rng.random() < share
    return self.one(words) if words and keep else ''

  def one(self, words: Sequence[str]) -> str:
    return words[int(self.rng.integers(len(words)))]

  def _name_instruments(self) -> dict[str, str]:
    """Returns a word for each instrument, no two the same."""
    names: dict[str, str] = {}
    for name in self.facts.instruments[:_MAX_NAMED]:
      word = self.one((name, name, *SYNONYMS.get(name, ())))
      # Avoids a repeated word, also as in 'classical classical guitar'.
      again = word in names.values() or word.startswith(self.facts.genre + ' ')
      names[name] = name if again else word
    return names

  @property
  def is_solo(self) -> bool:
    name = self.facts.instruments[0]
    ensemble = any(word in name for word in _ENSEMBLES)
    return self.facts.is_solo and not ensemble and not self.is_drumming

  @property
  def is_drumming(self) -> bool:
    return self.facts.instruments == ('drums',)

  @property
  def instruments(self) -> str:
    """The instruments, e.g. 'flute, harp and cello'."""
    words = list(self.names.values())
    if len(self.facts.instruments) > _MAX_NAMED:
      words.append('other instruments')
    return _enumerate(words)

  @property
  def noun(self) -> str:
    if self.is_drumming:
      return self.one(('drum beat', 'drum groove', 'drum pattern'))
    return self.facts.form or self.one(('piece', 'piece', 'tune', 'music'))

  def adjectives(self) -> list[str]:
    # Avoids 'a hymn hymn'.
    genre = '' if self.genre == self.facts.form else self.genre
    return [w for w in (self.tempo, self.mood, self.texture, genre) if w]


def _short(words: _Words) -> str:
  """Returns e.g. 'slow piano waltz in A minor'."""
  parts = words.adjectives()
  noun = words.noun
  if words.is_drumming:
    parts.append(noun)
  elif len(words.names) == 1 and len(words.facts.instruments) == 1:
    solo = words.some(('solo',), 0.5) if words.is_solo else ''
    parts += [solo, words.instruments, noun]
  else:
    joint = words.one(('for', 'with', 'on'))
    parts += [noun, f'{joint} {words.instruments}']
  if words.key:
    parts.append(f'in {words.key}')
  elif words.bpm:
    parts.append(f'at {words.bpm}')
  return ' '.join(part for part in parts if part)


def _sentence(words: _Words) -> str:
  """Returns e.g. 'A slow piece in 3/4 time in A minor played by flute.'"""
  noun = words.noun
  text = ' '.join([*words.adjectives(), noun])
  if words.metre:
    text += f' in {words.metre} time'
  if words.key:
    text += f' in {words.key}'
  if not words.is_drumming:
    played = words.one(('played by', 'performed on', 'featuring'))
    text += f' {played} {words.instruments}'
  if words.bpm:
    text += f' at {words.bpm}'
  return _capitalize(text if noun == 'music' else _article(text)) + '.'


def _aspects(words: _Words) -> str:
  """Returns e.g. 'piano, flute, slow, minor key, 72 bpm'."""
  facts = words.facts
  mode = f'{words.key.split()[1]} key' if words.key else ''
  aspects = [words.tempo, words.mood, words.texture, words.genre, words.bpm]
  aspects += [words.some((facts.form,) if facts.form else ())]
  aspects += [words.one((words.key, mode))]
  aspects += [f'{words.metre} time' if words.metre else '']
  if not set(facts.instruments) & set(_VOCAL):
    aspects.append(words.some(('instrumental',), 0.3))
  kept = list(dict.fromkeys(a for a in aspects if a))
  words.rng.shuffle(kept)
  names = list(words.names.values())
  if words.is_solo:
    names = [f'solo {words.instruments}']
  return ', '.join([*names, *kept])


def _account(words: _Words) -> str:
  """Returns sentences on the instruments, the tempo and the key."""
  facts = words.facts
  named = [n for n in words.names if n != facts.melody]
  if facts.melody in words.names and named:
    others = _enumerate([words.names[n] for n in named])
    melody = words.names[facts.melody]
    joint = words.one(('accompanied by', 'over', 'backed by'))
    lead = words.one(('The {} plays the melody', 'A melody on {}'))
    text = f'{lead.format(melody)} {joint} {others}.'
  elif facts.is_solo:
    text = f'Only {words.instruments} can be heard.'
  elif len(words.names) == 1:
    text = f'The main instrument is {words.instruments}.'
  else:
    text = f'{_capitalize(words.instruments)} play together.'
  if words.tempo or words.bpm:
    pace = tempo_class(facts) if words.tempo else ''
    pace = ', at '.join(w for w in (pace, words.bpm) if w)
    text += f' The tempo is {pace}.'
  if words.key:
    text += f' The key is {words.key}.'
  if words.mood:
    text += f' It sounds {words.mood}.'
  return text


def _credit(words: _Words) -> str:
  """Returns e.g. '"Sonatina" by Diabelli, played by harp.'"""
  facts = words.facts
  has_title = 0 < len(facts.title) <= _MAX_TITLE
  genre = f'{facts.genre} ' if facts.genre != facts.form else ''
  work = f'"{facts.title}"' if has_title else f'{genre}{words.noun}'
  text = work if has_title else _capitalize(_article(work))
  if facts.composer:
    text += f' by {facts.composer}'
  text += f', played by {words.instruments}'
  return f'{text} in {words.key}.' if words.key else f'{text}.'


def _enumerate(words: Sequence[str]) -> str:
  """Returns 'a, b and c'."""
  if len(words) < 2:
    return ''.join(words)
  return f'{", ".join(words[:-1])} and {words[-1]}'


def _article(text: str) -> str:
  return f'{"an" if text[0].lower() in "aeioué" else "a"} {text}'


def _capitalize(text: str) -> str:
  return text[:1].upper() + text[1:]
