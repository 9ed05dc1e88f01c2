"""The instruments of General MIDI: their names and ranges."""

import dataclasses

from jaxtyping import Num
import numpy as np

DRUMS = 'drums'
# Names of the 128 programs in captions.
NAMES = tuple(
    (
        'piano, piano, electric grand piano, honky-tonk piano, electric piano, '
        'electric piano, harpsichord, clavinet, '
        'celesta, glockenspiel, music box, vibraphone, marimba, xylophone, '
        'tubular bells, dulcimer, '
        'electric organ, electric organ, rock organ, church organ, reed organ, '
        'accordion, harmonica, bandoneon, '
        'nylon-string guitar, steel-string guitar, jazz guitar, electric '
        'guitar, muted guitar, overdriven guitar, distorted guitar, guitar '
        'harmonics, '
        'double bass, bass guitar, bass guitar, fretless bass, slap bass, slap '
        'bass, synth bass, synth bass, '
        'violin, viola, cello, double bass, tremolo strings, pizzicato '
        'strings, harp, timpani, '
        'strings, strings, synth strings, synth strings, choir, choir, synth '
        'voice, orchestra hit, '
        'trumpet, trombone, tuba, muted trumpet, french horn, brass section, '
        'synth brass, synth brass, '
        'soprano saxophone, alto saxophone, tenor saxophone, baritone '
        'saxophone, oboe, english horn, bassoon, clarinet, '
        'piccolo, flute, recorder, pan flute, blown bottle, shakuhachi, '
        'whistle, ocarina, '
        'synth lead, synth lead, synth lead, synth lead, synth lead, synth '
        'lead, synth lead, synth lead, '
        'synth pad, synth pad, synth pad, synth pad, synth pad, synth pad, '
        'synth pad, synth pad, '
        'synth effects, synth effects, synth effects, synth effects, synth '
        'effects, synth effects, synth effects, synth effects, '
        'sitar, banjo, shamisen, koto, kalimba, bagpipes, fiddle, shanai, '
        'tinkle bell, agogo bells, steel drums, woodblock, taiko drums, tom '
        'drums, synth drums, reverse cymbal, '
        'fret noise, breath noise, seashore, birdsong, telephone, helicopter, '
        'applause, gunshot'
    ).split(', ')
)


@dataclasses.dataclass(frozen=True)
class Instrument:
  """An instrument that an arrangement may give to a part.

  Attributes:
    program: Program of General MIDI, from 0.
    lowest: MIDI pitch of the lowest note that sounds natural.
    highest: MIDI pitch of the highest such note.
  """

  program: int
  lowest: int
  highest: int

  @property
  def family(self) -> int:
    """Number of its family in General MIDI: pianos, organs, strings, …"""
    return self.program // 8

  @property
  def rings(self) -> bool:
    """Whether its notes die away, so that a pedal may hold them."""
    return self.program in _RINGING

  def can_play(self, pitches: Num[np.ndarray, ' notes']) -> bool:
    """Returns whether nearly all of the pitches are in its range."""
    inside = (pitches >= self.lowest) & (pitches <= self.highest)
    return bool(len(pitches)) and float(np.mean(inside)) >= 0.95

  def octaves(self, pitches: Num[np.ndarray, ' notes']) -> int | None:
    """Returns the octaves to move pitches by so that it can play them.

    Args:
      pitches: [notes] MIDI pitches.

    Returns:
      As few octaves as possible; None if their range is too wide for it.
    """
    for octaves in (0, 1, -1, 2, -2):
      moved = pitches + 12 * octaves
      if self.can_play(moved) and 0 <= moved.min() <= moved.max() <= 127:
        return octaves
    return None


# Pianos, chromatic percussion, plucked strings and kalimbas.
_RINGING = frozenset(
    {*range(16), *range(24, 29), 31, 45, 46, *range(104, 109), 114}
)
PIANO = Instrument(0, 21, 108)
# Instruments for a melody, for chords or a whole piece, and for a bass line.
MELODY = (
    PIANO,
    Instrument(3, 28, 103),  # honky-tonk piano
    Instrument(4, 28, 103),  # electric piano
    Instrument(6, 29, 89),  # harpsichord
    Instrument(8, 60, 108),  # celesta
    Instrument(9, 72, 108),  # glockenspiel
    Instrument(10, 60, 108),  # music box
    Instrument(11, 53, 89),  # vibraphone
    Instrument(12, 45, 96),  # marimba
    Instrument(13, 65, 108),  # xylophone
    Instrument(15, 55, 89),  # dulcimer
    Instrument(16, 36, 96),  # electric organ
    Instrument(18, 36, 96),  # rock organ
    Instrument(19, 36, 96),  # church organ
    Instrument(20, 36, 96),  # reed organ
    Instrument(21, 53, 93),  # accordion
    Instrument(22, 55, 96),  # harmonica
    Instrument(23, 53, 93),  # bandoneon
    Instrument(24, 40, 84),  # nylon-string guitar
    Instrument(25, 40, 84),  # steel-string guitar
    Instrument(26, 40, 86),  # jazz guitar
    Instrument(27, 40, 86),  # electric guitar
    Instrument(29, 40, 86),  # overdriven guitar
    Instrument(30, 40, 86),  # distorted guitar
    Instrument(32, 28, 60),  # double bass
    Instrument(33, 28, 64),  # bass guitar
    Instrument(35, 28, 67),  # fretless bass
    Instrument(38, 28, 64),  # synth bass
    Instrument(40, 55, 100),  # violin
    Instrument(41, 48, 91),  # viola
    Instrument(42, 36, 79),  # cello
    Instrument(45, 36, 96),  # pizzicato strings
    Instrument(46, 36, 100),  # harp
    Instrument(48, 40, 96),  # strings
    Instrument(50, 40, 96),  # synth strings
    Instrument(52, 48, 79),  # choir
    Instrument(54, 48, 84),  # synth voice
    Instrument(56, 52, 86),  # trumpet
    Instrument(57, 40, 74),  # trombone
    Instrument(58, 28, 65),  # tuba
    Instrument(59, 52, 86),  # muted trumpet
    Instrument(60, 41, 77),  # french horn
    Instrument(61, 41, 84),  # brass section
    Instrument(62, 40, 90),  # synth brass
    Instrument(64, 56, 88),  # soprano saxophone
    Instrument(65, 49, 81),  # alto saxophone
    Instrument(66, 44, 76),  # tenor saxophone
    Instrument(67, 37, 69),  # baritone saxophone
    Instrument(68, 58, 91),  # oboe
    Instrument(69, 52, 81),  # english horn
    Instrument(70, 34, 72),  # bassoon
    Instrument(71, 50, 91),  # clarinet
    Instrument(72, 74, 108),  # piccolo
    Instrument(73, 59, 96),  # flute
    Instrument(74, 60, 98),  # recorder
    Instrument(75, 60, 96),  # pan flute
    Instrument(77, 55, 84),  # shakuhachi
    Instrument(78, 60, 96),  # whistle
    Instrument(79, 60, 84),  # ocarina
    Instrument(80, 36, 100),  # synth lead
    Instrument(81, 36, 100),  # synth lead
    Instrument(82, 48, 100),  # synth lead
    Instrument(85, 48, 96),  # synth lead
    Instrument(88, 48, 96),  # synth pad
    Instrument(90, 48, 96),  # synth pad
    Instrument(104, 48, 79),  # sitar
    Instrument(105, 48, 91),  # banjo
    Instrument(106, 50, 86),  # shamisen
    Instrument(107, 48, 91),  # koto
    Instrument(108, 48, 84),  # kalimba
    Instrument(109, 55, 84),  # bagpipes
    Instrument(110, 55, 96),  # fiddle
    Instrument(111, 56, 84),  # shanai
    Instrument(114, 52, 84),  # steel drums
)
CHORDS = (
    PIANO,
    Instrument(1, 21, 108),  # bright piano
    Instrument(3, 28, 103),  # honky-tonk piano
    Instrument(4, 28, 103),  # electric piano
    Instrument(5, 28, 103),  # electric piano
    Instrument(6, 29, 89),  # harpsichord
    Instrument(7, 36, 96),  # clavinet
    Instrument(8, 48, 108),  # celesta
    Instrument(10, 48, 108),  # music box
    Instrument(11, 48, 89),  # vibraphone
    Instrument(12, 40, 96),  # marimba
    Instrument(15, 48, 89),  # dulcimer
    Instrument(16, 33, 96),  # electric organ
    Instrument(18, 33, 96),  # rock organ
    Instrument(19, 24, 103),  # church organ
    Instrument(20, 33, 96),  # reed organ
    Instrument(21, 45, 93),  # accordion
    Instrument(24, 38, 84),  # nylon-string guitar
    Instrument(25, 38, 84),  # steel-string guitar
    Instrument(26, 38, 86),  # jazz guitar
    Instrument(27, 38, 86),  # electric guitar
    Instrument(28, 38, 86),  # muted guitar
    Instrument(44, 33, 96),  # tremolo strings
    Instrument(45, 33, 96),  # pizzicato strings
    Instrument(46, 24, 103),  # harp
    Instrument(48, 28, 96),  # strings
    Instrument(49, 28, 96),  # strings
    Instrument(50, 28, 96),  # synth strings
    Instrument(52, 43, 84),  # choir
    Instrument(54, 43, 84),  # synth voice
    Instrument(61, 36, 84),  # brass section
    Instrument(62, 36, 90),  # synth brass
    Instrument(88, 36, 96),  # synth pad
    Instrument(89, 28, 96),  # synth pad
    Instrument(90, 36, 96),  # synth pad
    Instrument(91, 36, 96),  # synth pad
    Instrument(105, 43, 91),  # banjo
    Instrument(107, 45, 91),  # koto
    Instrument(108, 43, 88),  # kalimba
    Instrument(114, 45, 88),  # steel drums
)
BASS = (
    Instrument(32, 24, 60),  # double bass
    Instrument(33, 24, 64),  # bass guitar
    Instrument(34, 24, 64),  # bass guitar
    Instrument(35, 24, 64),  # fretless bass
    Instrument(36, 24, 60),  # slap bass
    Instrument(38, 24, 64),  # synth bass
    Instrument(39, 24, 64),  # synth bass
    Instrument(42, 36, 72),  # cello
    Instrument(43, 24, 60),  # double bass
    Instrument(57, 34, 70),  # trombone
    Instrument(58, 26, 60),  # tuba
    Instrument(67, 36, 69),  # baritone saxophone
    Instrument(70, 34, 72),  # bassoon
)
# Drum kits of General MIDI level 2: standard, room, power, electronic, analog,
# jazz and brushes.
DRUM_KITS = (0, 8, 16, 24, 25, 32, 40)
