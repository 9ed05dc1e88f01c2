"""Words of music theory: keys, chords, metres, and families of instruments."""

import dataclasses
import re

from musiclm_jax import errors

MODES = ('major', 'minor')
TONICS = {
    'major': 'C Db D Eb E F F# G Ab A Bb B'.split(),
    'minor': 'C C# D Eb E F F# G G# A Bb B'.split(),
}
# Keys by their numbers: major from C up, then minor.
KEYS = tuple(f'{tonic} {mode}' for mode in MODES for tonic in TONICS[mode])

# Chords by their numbers: those of each quality from C up.
QUALITIES = ('major', 'minor', 'dominant seventh', 'diminished')
NO_CHORD = 12 * len(QUALITIES)  # Where nothing with a pitch sounds.
NUM_CHORDS = NO_CHORD + 1
# How chords are written. Other sevenths and more colours count as triads.
_SUFFIXES = {
    'major': r'|M|maj|major|(maj|M|Δ)(7|9|11|13)|6|6/?9|add(2|9)|5',
    'minor': r'(m|min|minor|-)(6|7|9|11|13|add9|maj7)?',
    'dominant seventh': r'7|9|11|13|dom7',
    'diminished': r'(dim|°|o)7?|ø7?|m7b5',
}

_LETTERS = {'C': 0, 'D': 2, 'E': 4, 'F': 5, 'G': 7, 'A': 9, 'B': 11}
_ACCIDENTALS = {'': 0, '#': 1, '♯': 1, 'b': -1, '♭': -1}


@dataclasses.dataclass(frozen=True)
class Metre:
  """How beats make up bars.

  Attributes:
    beats: Beats in a bar.
    quarters: Quarter notes in a beat.
  """

  beats: int
  quarters: float = 1.0


# The metres that are told apart.
METRES = {
    '2/4': Metre(2),
    '3/4': Metre(3),
    '4/4': Metre(4),
    '5/4': Metre(5),
    '6/8': Metre(2, 1.5),
    '9/8': Metre(3, 1.5),
    '12/8': Metre(4, 1.5),
}
# Other ways of writing them, with beats of other notes.
_WRITTEN = {
    '2/2': ('2/4', 2.0),
    '3/2': ('3/4', 2.0),
    '3/8': ('3/4', 0.5),
    '5/8': ('5/4', 0.5),
}

# Families of the 128 programs of General MIDI, and of drums, in the order of
# their numbers: the programs of each, and words for them.
_FAMILIES = {
    'piano': (
        range(0, 4),
        'grand piano, electric grand piano, honky-tonk piano',
    ),
    'keys': (
        range(4, 8),
        'electric piano, rhodes, wurlitzer, keyboard, keyboards, harpsichord,'
        ' clavinet, clavichord',
    ),
    'mallets': (
        range(8, 16),
        'celesta, glockenspiel, music box, vibraphone, vibes, marimba,'
        ' xylophone, tubular bells, dulcimer, bells',
    ),
    'organ': (
        range(16, 24),
        'church organ, pipe organ, electric organ, rock organ, reed organ,'
        ' hammond, accordion, harmonica, bandoneon',
    ),
    'guitar': (
        range(24, 32),
        'guitars, acoustic guitar, electric guitar, nylon-string guitar,'
        ' steel-string guitar, jazz guitar, muted guitar, overdriven guitar,'
        ' distorted guitar, guitar harmonics',
    ),
    'bass': (
        range(32, 40),
        'double bass, upright bass, bass guitar, fretless bass, slap bass,'
        ' synth bass',
    ),
    'strings': (
        (*range(40, 52), 55),
        'violin, violins, viola, cello, cellos, harp, timpani, pizzicato'
        ' strings, tremolo strings, synth strings, string quartet, string'
        ' section, orchestra hit',
    ),
    'voice': (
        range(52, 55),
        'voices, choir, vocals, vocal, singer, singing, synth voice',
    ),
    'brass': (
        range(56, 64),
        'trumpet, trumpets, trombone, trombones, tuba, muted trumpet, french'
        ' horn, horn, horns, brass section, synth brass',
    ),
    'reed': (
        range(64, 72),
        'saxophone, sax, soprano saxophone, alto saxophone, tenor saxophone,'
        ' baritone saxophone, oboe, english horn, bassoon, clarinet',
    ),
    'flute': (
        range(72, 80),
        'flutes, piccolo, recorder, pan flute, blown bottle, shakuhachi,'
        ' whistle, ocarina',
    ),
    'synth': (range(80, 88), 'synth lead, synthesizer, synthesiser'),
    'pad': (range(88, 96), 'synth pad, pads'),
    'effects': (
        (*range(96, 104), *range(120, 128)),
        'synth effects, fret noise, breath noise, seashore, birdsong,'
        ' telephone, helicopter, applause, gunshot',
    ),
    'world': (
        range(104, 112),
        'sitar, banjo, shamisen, koto, kalimba, bagpipes, fiddle, shanai',
    ),
    'drums': (
        range(112, 120),
        'drum, drum kit, drum machine, percussion, beats, tinkle bell, agogo'
        ' bells, steel drums, woodblock, taiko drums, tom drums, synth drums,'
        ' reverse cymbal',
    ),
}
FAMILIES = tuple(_FAMILIES)
DRUMS = FAMILIES.index('drums')
_FAMILY_OF_PROGRAM = {
    program: i
    for i, (programs, _) in enumerate(_FAMILIES.values())
    for program in programs
}
# The number of the family of each word.
FAMILY_OF_WORD = {
    word: i
    for i, (family, (_, words)) in enumerate(_FAMILIES.items())
    for word in (family, *words.split(', '))
}


def family(program: int, is_drums: bool = False) -> int:
  """Returns the number of the family of a program of General MIDI, from 0."""
  return DRUMS if is_drums else _FAMILY_OF_PROGRAM[program]


def parse_key(key: str) -> int:
  """Returns the number of a key.

  Args:
    key: A tonic, and 'major' or 'minor', or short as 'Am' and 'A'.

  Raises:
    UserError: If `key` is not a key.
  """
  match = re.fullmatch(
      r'([A-Ga-g])([#b♯♭]?)\s*(m|min|minor|maj|major|)', key.strip()
  )
  if not match:
    raise errors.UserError(
        f"a key must be like 'A minor' or 'Eb major', but is '{key}'. Correct"
        ' it, or leave it empty.'
    )
  letter, accidental, mode = match.groups()
  is_minor = mode in ('m', 'min', 'minor')
  tonic = _LETTERS[letter.upper()] + _ACCIDENTALS[accidental]
  return 12 * is_minor + tonic % 12


def parse_chord(chord: str) -> int:
  """Returns the number of a chord; a bass note after '/' does not count.

  Args:
    chord: E.g. 'C', 'F#m', 'G7', 'Bdim', 'Am7/G', or 'N' for none.

  Raises:
    UserError: If it is not a chord that is told apart.
  """
  if chord in ('N', 'NC', 'N.C.'):
    return NO_CHORD
  match = re.fullmatch(r'([A-G])([#b♯♭]?)(.*?)(/[A-G][#b♯♭]?)?', chord)
  if match:
    letter, accidental, suffix, _ = match.groups()
    root = (_LETTERS[letter] + _ACCIDENTALS[accidental]) % 12
    for i, quality in enumerate(QUALITIES):
      if re.fullmatch(_SUFFIXES[quality], suffix):
        return 12 * i + root
  raise errors.UserError(
      "a chord must be like 'C', 'Am', 'G7', 'Bdim' or 'N' for none, but is"
      f" '{chord}'. Take the nearest of these."
  )


def find_metre(written: str) -> tuple[str, float] | None:
  """Returns the metre that a time signature is counted as, and its beat.

  Args:
    written: A time signature, e.g. '3/8'.

  Returns:
    One of METRES and the quarter notes in a beat; None if it is no such.
  """
  if written in METRES:
    return written, METRES[written].quarters
  return _WRITTEN.get(written)
