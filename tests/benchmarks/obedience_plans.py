"""Draws the 200 plans that obedience is measured with.

  python -m tests.benchmarks.obedience_plans musiclm_jax/metrics/obedience.jsonl

Each has a prompt, tempo, metre, key, chords and an arrangement. Metres and keys
are drawn equally often, and tempos from 60 to 180 bpm; each family of
instruments but effects leads, accompanies or is left out in turn.
"""

import argparse
import json
import pathlib

from musiclm_jax.tokenizers import terms
import numpy as np

COUNT = 200
SECONDS = 10
_TEMPOS = (60, 180)
_LONG_BAR = 2.6  # Seconds; such bars of four beats have two chords.
# Degrees of the scale: semitones above the tonic, and how chords are written.
_DEGREES = {
    'major': {
        'I': (0, ''),
        'ii': (2, 'm'),
        'iii': (4, 'm'),
        'IV': (5, ''),
        'V': (7, ''),
        'vi': (9, 'm'),
    },
    'minor': {
        'i': (0, 'm'),
        'III': (3, ''),
        'iv': (5, 'm'),
        'v': (7, 'm'),
        'V': (7, ''),
        'VI': (8, ''),
        'VII': (10, ''),
    },
}
_PROGRESSIONS = {
    'major': 'I V vi IV, I IV V I, I vi IV V, I vi ii V, I iii IV V, I IV I V,'
    ' I ii V I, vi IV I V',
    'minor': 'i VI III VII, i iv V i, i VII VI V, i iv VII III, i VI iv V,'
    ' i v VI VII, i VII i V, VI VII i i',
}
# Notes, and the keys that are spelled with flats.
_SHARPS, _FLATS = 'C C# D D# E F F# G G# A A# B', 'C Db D Eb E F Gb G Ab A Bb B'
_FLAT_KEYS = ('F major', 'C minor', 'D minor', 'F minor', 'G minor')
_OTHERS = ('effects', 'bass', 'drums')  # Families that never lead.
_LEADS = tuple(f for f in terms.FAMILIES if f not in _OTHERS)
_CHORDS = (
    'piano keys organ guitar strings pad voice brass mallets synth'.split()
)
# Words for families that say which they are.
_NAMES = {
    'piano': 'piano', 'keys': 'electric piano', 'mallets': 'marimba',
    'organ': 'organ', 'guitar': 'acoustic guitar', 'bass': 'bass',
    'strings': 'strings', 'voice': 'choir', 'brass': 'trumpets',
    'reed': 'clarinet', 'flute': 'flute', 'synth': 'synth lead',
    'pad': 'synth pad', 'world': 'banjo', 'drums': 'drums',
}  # fmt: skip
_MOODS = {
    ('major', 'slow'): ('gentle', 'warm', 'peaceful', 'tender'),
    ('major', 'fast'): ('joyful', 'bright', 'lively', 'playful'),
    ('minor', 'slow'): ('sad', 'wistful', 'dark', 'lonely'),
    ('minor', 'fast'): ('restless', 'dramatic', 'tense', 'fiery'),
}
_STYLES = {
    '3/4': ('waltz', 'folk waltz', 'song in three', 'dance in three'),
    '4/4': ('pop tune', 'folk song', 'theme', 'film cue', 'march', 'groove'),
}


def draw_plan(index, rng):
  """Returns the line of a plan."""
  mode = terms.MODES[index % 2]
  key = terms.KEYS[12 * (index % 2) + index // 2 % 12]
  metre = ('4/4', '3/4')[index // 24 % 2]
  families = _families(index, rng)
  bpm = round(float(np.exp(rng.uniform(*np.log(_TEMPOS)))))
  bar = terms.METRES[metre].beats * 60 / bpm
  length = ':0.5' if metre == '4/4' and bar > _LONG_BAR else ''
  return {
      'id': f'obedience-{index:03d}',
      'prompt': _prompt(rng, mode, bpm, metre, families),
      'seconds': SECONDS,
      'seed': index,
      'plan': {
          'bpm': bpm,
          'metre': metre,
          'key': key,
          'chords': _chords(rng, key, length),
          'arrange': f'0 {" ".join(families)}',
      },
  }


def _families(index, rng):
  """Returns who plays: the lead first, then chords, bass and drums."""
  lead = _LEADS[index % len(_LEADS)]
  chords = [f for f in _CHORDS if f != lead]
  families = [lead]
  if rng.random() < 0.7:
    families.append(str(rng.choice(chords)))
  families += ['bass'] * int(rng.random() < 0.5)
  return families + ['drums'] * int(rng.random() < 0.5)


def _chords(rng, key, length):
  """Returns the chords of a progression in a key."""
  tonic, mode = key.split()
  is_flat = 'b' in tonic or key in _FLAT_KEYS
  notes = (_FLATS if is_flat else _SHARPS).split()
  root = terms.parse_key(key) % 12
  found = []
  for degree in str(rng.choice(_PROGRESSIONS[mode].split(', '))).split():
    step, suffix = _DEGREES[mode][degree]
    found.append(f'{notes[(root + step) % 12]}{suffix}{length}')
  return ' '.join(found)


def _prompt(rng, mode, bpm, metre, families):
  pace = 'slow' if bpm < 105 else 'fast'
  mood = rng.choice(_MOODS[mode, pace])
  style = rng.choice(_STYLES[metre])
  names = [_NAMES[family] for family in families]
  who = ', '.join(names[:-1]) + f' and {names[-1]}'
  if len(names) == 1:
    who = f'solo {names[0]}'
  wordings = (
      f'{pace} {mood} {style} for {who}',
      f'{who} in a {mood} {style}',
      f'{mood} {style}, {pace}, {who}',
  )
  return str(rng.choice(wordings))


def draw_lines():
  """Returns the lines of all plans."""
  rng = np.random.default_rng(2025)
  lines = [draw_plan(index, rng) for index in range(COUNT)]
  return ''.join(json.dumps(line) + '\n' for line in lines)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
  parser.add_argument('output', type=pathlib.Path)
  parser.parse_args().output.write_text(draw_lines(), encoding='utf-8')


if __name__ == '__main__':
  main()
