"""The vocabulary of captions, and the choice of words of one caption."""

from collections.abc import Sequence

from musiclm_jax.data.scores import facts as facts_lib
from musiclm_jax.data.scores import instruments
import numpy as np

# A clip is slow below, or fast above, these beats per minute, but only with at
# most, or at least, so many onsets per second.
_SLOW, _SLOW_MAX_ONSETS = 80, 6.0
_FAST, _FAST_MIN_ONSETS = 130, 2.5
TEMPO_WORDS = {
    'slow': ('slow', 'slow-paced', 'unhurried', 'slow-tempo', 'leisurely'),
    'moderate': ('mid-tempo', 'moderate', 'medium-paced', 'medium-tempo'),
    'fast': ('fast', 'up-tempo', 'quick', 'fast-paced', 'brisk', 'uptempo'),
}
# Moods of modes and tempos; others have none.
MOOD_WORDS = {
    ('minor', 'slow'): (
        'melancholic, sad, somber, mournful, pensive, sorrowful, brooding'
    ).split(', '),
    ('minor', 'moderate'): 'wistful, serious, moody, bittersweet'.split(', '),
    ('minor', 'fast'): (
        'dramatic, tense, urgent, intense, restless, stormy, suspenseful'
    ).split(', '),
    ('major', 'slow'): (
        'calm, peaceful, gentle, soothing, relaxing, mellow, tender, serene'
    ).split(', '),
    ('major', 'moderate'): 'pleasant, warm, easygoing, sunny'.split(', '),
    ('major', 'fast'): (
        'cheerful, happy, lively, joyful, upbeat, playful, energetic, spirited'
    ).split(', '),
}
# Synonyms of the words of `facts`.
TEXTURE_WORDS = {
    'sparse': ('sparse', 'minimal', 'sparsely textured'),
    'dense': ('dense', 'busy', 'densely textured'),
    'soft': ('soft', 'softly played', 'delicate'),
    'loud': ('loud', 'forceful', 'powerful'),
    'low-pitched': ('low-pitched', 'deep', 'low-register'),
    'high-pitched': ('high-pitched', 'high-register'),
    'staccato': ('staccato', 'detached', 'crisply articulated'),
}
# Names of metres, besides e.g. '3/4 time'.
METRE_WORDS = {
    '2/4': ('duple metre', 'two-four time'),
    '3/4': ('triple metre', 'three-four time'),
    '4/4': ('common time', 'four-four time'),
    '2/2': ('cut time',),
    '5/4': ('five-four time',),
    '6/8': ('six-eight time', 'compound duple metre'),
    '9/8': ('nine-eight time', 'compound triple metre'),
    '12/8': ('twelve-eight time', 'compound quadruple metre'),
}
# Other names of instruments.
SYNONYMS = {
    'piano': ('acoustic piano', 'keyboard'),
    'electric piano': ('e-piano', 'keyboard'),
    'honky-tonk piano': ('saloon piano',),
    'harpsichord': ('keyboard',),
    'nylon-string guitar': ('classical guitar', 'acoustic guitar', 'guitar'),
    'steel-string guitar': ('acoustic guitar', 'guitar'),
    'electric guitar': ('clean electric guitar', 'guitar'),
    'jazz guitar': ('guitar',),
    'muted guitar': ('palm-muted guitar',),
    'overdriven guitar': ('overdriven electric guitar', 'rock guitar'),
    'distorted guitar': ('distorted electric guitar', 'rock guitar'),
    'violin': ('string instrument',),
    'cello': ('violoncello', 'string instrument'),
    'viola': ('string instrument',),
    'fiddle': ('folk violin',),
    'strings': ('string ensemble', 'string section', 'orchestral strings'),
    'synth strings': ('synthesizer strings', 'string machine'),
    'pizzicato strings': ('plucked strings',),
    'tremolo strings': ('trembling strings',),
    'soprano saxophone': ('soprano sax', 'saxophone'),
    'alto saxophone': ('alto sax', 'saxophone', 'sax'),
    'tenor saxophone': ('tenor sax', 'saxophone', 'sax'),
    'baritone saxophone': ('baritone sax', 'saxophone'),
    'flute': ('concert flute', 'woodwind'),
    'clarinet': ('woodwind',),
    'oboe': ('woodwind',),
    'bassoon': ('woodwind',),
    'pan flute': ('panpipes',),
    'english horn': ('cor anglais',),
    'trumpet': ('brass instrument',),
    'trombone': ('brass instrument',),
    'brass section': ('brass', 'horn section'),
    'synth brass': ('synthesizer brass',),
    'drums': ('drum kit', 'drum set', 'percussion'),
    'synth lead': ('lead synth', 'synthesizer', 'synth'),
    'synth pad': ('synthesizer pad', 'synthesizer', 'pad'),
    'synth voice': ('synthetic voices',),
    'synth bass': ('bass synthesizer',),
    'electric organ': ('organ', 'drawbar organ'),
    'rock organ': ('organ',),
    'reed organ': ('harmonium', 'organ'),
    'church organ': ('pipe organ', 'organ'),
    'bass guitar': ('electric bass', 'e-bass', 'bass'),
    'fretless bass': ('fretless bass guitar', 'bass'),
    'double bass': ('upright bass', 'contrabass', 'bass'),
    'choir': ('vocal choir', 'choral voices'),
    'french horn': ('horn',),
    'glockenspiel': ('bells',),
    'tubular bells': ('bells',),
    'vibraphone': ('mallet percussion', 'vibes'),
    'marimba': ('mallet percussion',),
    'xylophone': ('mallet percussion',),
    'steel drums': ('steel pans',),
    'kalimba': ('thumb piano',),
}
DANCES = (
    'waltz, minuet, mazurka, polka, polonaise, tango, gavotte, gigue, '
    'sarabande, bourrée, reel, jig, dance'
).split(', ')
_ERAS = ('renaissance', 'baroque', 'classical', 'romantic')
_ACCIDENTALS = {'#': ' sharp', 'b': ' flat'}
_VOCAL = ('choir', 'synth voice')
# Instruments of many players, who cannot be solo.
_ENSEMBLES = ('strings', 'choir', 'brass', 'voice')
MAX_NAMED = 4  # Most instruments that a caption names.


def tempo_class(facts: facts_lib.Facts) -> str | None:
  """Returns 'slow', 'moderate' or 'fast'; None if unknown or unclear."""
  if facts.bpm is None:
    return None
  if facts.bpm < _SLOW:
    return 'slow' if facts.onset_rate <= _SLOW_MAX_ONSETS else None
  if facts.bpm > _FAST:
    return 'fast' if facts.onset_rate >= _FAST_MIN_ONSETS else None
  return 'moderate'


class Words:
  """The facts of one caption, in the words chosen for it; '' if left out.

  Attributes:
    facts: The facts.
    names: Words for the instruments, by their names.
    tempo: Adjective.
    bpm: E.g. '72 beats per minute'.
    mood: Adjective.
    texture: Adjective.
    genre: Adjective, or noun.
    key: E.g. 'A minor', or 'B flat major'.
    mode: 'major' or 'minor'.
    metre: E.g. '3/4 time'.
  """

  def __init__(
      self, facts: facts_lib.Facts, rng: np.random.Generator, kept: float
  ):
    """Chooses words; leaves each fact out with a probability of 1 - `kept`."""
    self.rng = rng
    self.facts = facts
    self.names = self._name_instruments()
    tempo = tempo_class(facts) or ''
    mode = facts.key.split()[1] if facts.key else ''
    moods: Sequence[str] = MOOD_WORDS.get((mode, tempo)) or ()
    # Loud or busy music is not 'calm' or 'gentle'.
    if (mode, tempo) == ('major', 'slow'):
      moods = () if {'loud', 'dense'} & set(facts.words) else moods
    textures = [w for fact in facts.words for w in TEXTURE_WORDS[fact]]
    self.tempo = self.some(TEMPO_WORDS[tempo] if tempo else (), kept)
    self.mood = self.some(moods, kept * 0.7)
    self.texture = self.some(textures, kept * 0.6)
    self.genre = self.some((facts.genre,) if facts.genre else (), kept)
    self.bpm = self.some(self._beats(), kept)
    self.key = self.some(self._keys(), kept)
    self.mode = self.some((mode,) if mode else (), kept)
    self.metre = self.some(self._metres(), kept * 0.7)

  def some(self, words: Sequence[str], share: float) -> str:
    """Returns one of `words`, or '' to leave the fact out."""
    keep = self.rng.random() < share
    return self.one(words) if words and keep else ''

  def one(self, words: Sequence[str]) -> str:
    return words[int(self.rng.integers(len(words)))]

  def chance(self, share: float) -> bool:
    return bool(self.rng.random() < share)

  def _beats(self) -> tuple[str, ...]:
    if not self.facts.bpm:
      return ()
    number = f'{self.facts.bpm:.0f}'
    return (f'{number} bpm',) * 2 + (
        f'{number} BPM',
        f'{number} beats per minute',
    )

  def _keys(self) -> tuple[str, ...]:
    key = self.facts.key
    if not key:
      return ()
    tonic, mode = key.split()
    spelled = tonic[0] + _ACCIDENTALS.get(tonic[1:], '')
    return (key, key, f'{spelled} {mode}')

  def _metres(self) -> tuple[str, ...]:
    metre = self.facts.metre
    if not metre:
      return ()
    return (f'{metre} time', f'{metre} time', *METRE_WORDS.get(metre, ()))

  def _name_instruments(self) -> dict[str, str]:
    """Returns a word for each instrument, no two the same."""
    names: dict[str, str] = {}
    for name in self.facts.instruments[:MAX_NAMED]:
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
    return self.facts.instruments == (instruments.DRUMS,)

  @property
  def has_voices(self) -> bool:
    return bool(set(self.facts.instruments) & set(_VOCAL))

  @property
  def has_drums(self) -> bool:
    return instruments.DRUMS in self.facts.instruments

  @property
  def era(self) -> str:
    """The genre, if it is an era of classical music."""
    return self.facts.genre if self.facts.genre in _ERAS else ''

  @property
  def instruments(self) -> str:
    """The instruments, e.g. 'flute, harp and cello'."""
    words = list(self.names.values())
    if len(self.facts.instruments) > MAX_NAMED:
      words.append('other instruments')
    return enumerate_words(words)

  @property
  def noun(self) -> str:
    if self.is_drumming:
      return self.one(
          ('drum beat', 'drum groove', 'drum pattern', 'drum loop', 'drum part')
      )
    nouns = ['piece', 'piece', 'tune', 'music', 'track', 'song']
    if not self.has_voices:
      nouns.append('instrumental')
    return self.facts.form or self.one(nouns)

  def adjectives(self) -> list[str]:
    # Avoids 'a hymn hymn'.
    genre = '' if self.genre == self.facts.form else self.genre
    return [w for w in (self.tempo, self.mood, self.texture, genre) if w]


def enumerate_words(words: Sequence[str]) -> str:
  """Returns 'a, b and c'."""
  if len(words) < 2:
    return ''.join(words)
  return f'{", ".join(words[:-1])} and {words[-1]}'


def article(text: str) -> str:
  """Returns 'a tune' or 'an étude'."""
  return f'{"an" if text[0].lower() in "aeioué" else "a"} {text}'


def capitalize(text: str) -> str:
  return text[:1].upper() + text[1:]
