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

  def can_play(self, pitches: Num[np.ndarray, ' notes']) -> bool:
    """Returns whether nearly all of the pitches are in its range."""
    inside = (pitches >= self.lowest) & (pitches <= self.highest)
    return bool(len(pitches)) and float(np.mean(inside)) >= 0.95


PIANO = Instrument(0, 21, 108)
# Instruments for a melody, for chords or a whole piece, and for a bass line.
MELODY = (
    PIANO,
    Instrument(4, 28, 103),  # electric piano
    Instrument(8, 60, 108),  # celesta
    Instrument(10, 60, 108),  # music box
    Instrument(11, 53, 89),  # vibraphone
    Instrument(12, 45, 96),  # marimba
    Instrument(21, 53, 93),  # accordion
    Instrument(22, 55, 96),  # harmonica
    Instrument(24, 40, 84),  # nylon-string guitar
    Instrument(25, 40, 84),  # steel-string guitar
    Instrument(27, 40, 86),  # electric guitar
    Instrument(29, 40, 86),  # overdriven guitar
    Instrument(40, 55, 100),  # violin
    Instrument(42, 36, 79),  # cello
    Instrument(52, 48, 79),  # choir
    Instrument(56, 52, 86),  # trumpet
    Instrument(57, 40, 74),  # trombone
    Instrument(60, 41, 77),  # french horn
    Instrument(65, 49, 81),  # alto saxophone
    Instrument(66, 44, 76),  # tenor saxophone
    Instrument(68, 58, 91),  # oboe
    Instrument(71, 50, 91),  # clarinet
    Instrument(73, 59, 96),  # flute
    Instrument(74, 60, 98),  # recorder
    Instrument(75, 60, 96),  # pan flute
    Instrument(80, 36, 100),  # synth lead
    Instrument(81, 36, 100),  # synth lead
    Instrument(104, 48, 79),  # sitar
)
CHORDS = (
    PIANO,
    Instrument(4, 28, 103),  # electric piano
    Instrument(6, 29, 89),  # harpsichord
    Instrument(10, 48, 108),  # music box
    Instrument(11, 48, 89),  # vibraphone
    Instrument(12, 40, 96),  # marimba
    Instrument(16, 33, 96),  # electric organ
    Instrument(19, 24, 103),  # church organ
    Instrument(21, 45, 93),  # accordion
    Instrument(24, 38, 84),  # nylon-string guitar
    Instrument(25, 38, 84),  # steel-string guitar
    Instrument(27, 38, 86),  # electric guitar
    Instrument(45, 33, 96),  # pizzicato strings
    Instrument(46, 24, 103),  # harp
    Instrument(48, 28, 96),  # strings
    Instrument(50, 28, 96),  # synth strings
    Instrument(52, 43, 84),  # choir
    Instrument(61, 36, 84),  # brass section
    Instrument(89, 28, 96),  # synth pad
    Instrument(107, 45, 91),  # koto
)
BASS = (
    Instrument(32, 24, 60),  # double bass
    Instrument(33, 24, 64),  # bass guitar
    Instrument(35, 24, 64),  # fretless bass
    Instrument(38, 24, 64),  # synth bass
    Instrument(42, 36, 72),  # cello
    Instrument(58, 26, 60),  # tuba
    Instrument(70, 34, 72),  # bassoon
)
