"""Plays plans: a score that does what a plan says, so that all of it is known.

Bass, chords and drums keep to the bar, as in a songbook; the lead is drawn.
"""

from musiclm_jax.data.scores import chords
from musiclm_jax.data.scores import notation
from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.sampling import plan_words
from musiclm_jax.tokenizers import terms
import numpy as np

# An instrument of each family, and the pitches of its register.
_PROGRAMS = {
    'piano': 0, 'keys': 4, 'mallets': 12, 'organ': 19, 'guitar': 24,
    'bass': 33, 'strings': 48, 'voice': 52, 'brass': 61, 'reed': 68,
    'flute': 73, 'synth': 81, 'pad': 89, 'world': 105, 'drums': 0,
}  # fmt: skip
_KICK, _SNARE, _HAT = 36, 38, 42
_LOW, _MIDDLE, _HIGH = 36, 55, 69
_HARMONICS = 5


class _Notes:
  """Notes that are being gathered."""

  def __init__(self):
    self.rows = []

  def add(self, part, start, length, pitch, velocity):
    self.rows.append((start, start + length, pitch, velocity, part))

  def score(self, parts, seconds):
    rows = np.array(sorted(r for r in self.rows if r[0] < seconds - 0.05))
    start, end, pitch, velocity, part = rows.T
    return notation.Score(
        parts=parts,
        start=start,
        end=np.minimum(end, seconds),
        pitch=pitch.astype(int),
        velocity=velocity.astype(int),
        volume=np.ones(len(start)),
        part=part.astype(int),
    )


def write_score(plan, seconds, seed=0, first_program=False):
  """Returns a score that does what a plan says.

  Args:
    plan: A plan with tempo, chords, and an arrangement that stays.
    seconds: Length.
    seed: Seed of the lead, and of the instruments.
    first_program: Whether families are played by their usual instrument; else
      by any of theirs.
  """
  rng = np.random.default_rng(seed)
  [(_, families)] = plan_words.read_arrangement(plan.arrange)
  parts = tuple(
      notation.Part(f, _program(f, first_program, rng), f == 'drums')
      for f in families
  )
  notes = _Notes()
  beat = 60 / plan.bpm
  metre, _ = terms.find_metre(plan.metre or plan_lib.METRE)
  beats = terms.METRES[metre].beats
  tokens = plan.tokens(seconds + 0.2)['chord'][0, :, 0]
  for number in range(int(seconds / beat) + 1):
    start, place = number * beat, number % beats
    chord = int(tokens[min(int((start + 0.05) * 5), len(tokens) - 1)])
    for part, family in enumerate(families):
      _play(notes, part, family, part == 0, families, rng)(
          start, beat, place, beats, chord
      )
  return notes.score(parts, seconds)


def _program(family, first, rng):
  if first or family in ('drums', 'bass', 'strings'):
    return _PROGRAMS[family]
  programs = [
      p for p in range(112) if terms.FAMILIES[terms.family(p)] == family
  ]
  return int(rng.choice(programs))


def _play(notes, part, family, leads, families, rng):
  """Returns the function that plays a beat of a part."""

  def tones(chord, low):
    classes = np.flatnonzero(chords.TEMPLATES[chord])
    root = chord % 12
    ordered = sorted(classes, key=lambda c: (c - root) % 12)
    first = low + (root - low) % 12
    return [first + int((c - root) % 12) for c in ordered]

  def drums(start, beat, place, beats, chord):
    is_back = place in (1, 3) if beats == 4 else place > 0
    drum = _SNARE if is_back else _KICK
    notes.add(part, start, 0.1, drum, 115 if place == 0 else 80)
    for half in (0, 1):
      notes.add(part, start + half * beat / 2, 0.1, _HAT, 70 - 20 * half)

  def bass(start, beat, place, beats, chord):
    root = tones(chord, _LOW)[0]
    if place == 0:
      notes.add(part, start, beat * 0.95, root, 105)
    elif beats == 4 and place == 2:
      notes.add(part, start, beat * 0.95, root + 7, 80)

  def comp(start, beat, place, beats, chord):
    if place == 0:
      notes.add(part, start, beat * 0.95, tones(chord, _LOW + 12)[0], 100)
    for pitch in tones(chord, _MIDDLE):
      if place or len(families) > 2:
        notes.add(part, start, beat * 0.9, pitch, 72)

  def lead(start, beat, place, beats, chord):
    pitches = tones(chord, _HIGH)
    count = 1 if place == 0 else int(rng.integers(1, 3))
    for i in range(count):
      pitch = pitches[0] if place == 0 and not i else rng.choice(pitches)
      notes.add(
          part, start + i * beat / count, 0.95 * beat / count, pitch,
          105 if place == 0 else 85,
      )  # fmt: skip

  if family == 'drums':
    return drums
  if family == 'bass':
    return bass
  others = [f for f in families if f not in ('drums', 'bass')]
  if not leads and others[0] != family:
    return comp
  if len(others) > 1:
    return lead

  def both(*where):
    comp(*where)
    lead(*where)

  return both


def synthesize(score, sample_rate, seconds):
  """Plays a score with decaying tones, and noise for drums.

  Returns:
    [samples] float32 audio.
  """
  audio = np.zeros(round(seconds * sample_rate))
  rng = np.random.default_rng(0)
  for i in range(len(score.start)):
    first = round(score.start[i] * sample_rate)
    length = min(
        round((score.end[i] - score.start[i] + 0.1) * sample_rate),
        len(audio) - first,
    )
    time = np.arange(length) / sample_rate
    if score.is_drums[i]:
      tone = rng.normal(0, 1, length) * np.exp(-40 * time)
      if score.pitch[i] == _KICK:
        tone = 3 * np.sin(2 * np.pi * 60 * time) * np.exp(-15 * time)
    else:
      hertz = 440 * 2 ** ((score.pitch[i] - 69) / 12)
      tone = np.exp(-3 * time) * sum(
          np.sin(2 * np.pi * hertz * k * time) / k**1.5
          for k in range(1, _HARMONICS + 1)
      )
    audio[first : first + length] += tone * (score.velocity[i] / 127) ** 2
  return (0.5 * audio / np.abs(audio).max()).astype(np.float32)
