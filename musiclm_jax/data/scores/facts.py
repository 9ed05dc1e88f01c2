"""What is true of a stretch of an arrangement: the matter of its captions."""

import dataclasses
import re

from musiclm_jax import errors
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import notation
import numpy as np

# Bounds of the words for texture, register, articulation and dynamics.
_SPARSE, _DENSE = 2.0, 12.0  # Notes per second.
_LOW, _HIGH = 50, 74  # Mean MIDI pitch.
_STACCATO = 0.45  # Of the time to the next note that a note sounds.
_SOFT, _LOUD = 50, 105  # Mean MIDI velocity.
_NOTES = 8  # From which number a clip has a texture and a register at all.
_PEDAL = 64
_ONSET_SECONDS = 0.05  # Notes that begin closer are one onset.

UNKNOWN = 'unknown'
# Forms, by the words of titles and genres that mean them.
_FORMS = {
    'waltz': 'waltz|waltzes|valse|valses|walzer|vals',
    'march': 'march|marche|marsch|marcia',
    'minuet': 'minuet|menuet|menuett|minuetto',
    'mazurka': 'mazurka|mazurkas',
    'polka': 'polka',
    'polonaise': 'polonaise|polonaises',
    'tango': 'tango',
    'rag': 'rag|ragtime',
    'gavotte': 'gavotte|gavotta',
    'gigue': 'gigue|giga',
    'sarabande': 'sarabande|sarabanda',
    'bourrée': 'bourree|bourrée',
    'nocturne': 'nocturne|notturno',
    'lullaby': 'lullaby|berceuse|wiegenlied',
    'étude': 'etude|étude|etudes|études|studio',
    'prelude': 'prelude|prélude|preludio|präludium|praeludium|praeambulum',
    'fugue': 'fugue|fuga|fughetta',
    'invention': 'invention|inventio',
    'sonata': 'sonata|sonate|sonatina|sonatine',
    'rondo': 'rondo|rondeau',
    'scherzo': 'scherzo',
    'serenade': 'serenade|serenata',
    'hymn': 'hymn|chorale|choral',
    'reel': 'reel',
    'jig': 'jig',
    'song': 'song|lied',
    'dance': 'dance|danse|tanz|danza',
}
_GENRES = {
    'classique': 'classical',
    'romantique': 'romantic',
    'romanticism': 'romantic',
    'popular / dance': 'popular',
    'technique': '',
}


@dataclasses.dataclass(frozen=True)
class Metadata:
  """What is known of a score from elsewhere; empty where it is not.

  Attributes:
    title: As captions may quote it.
    composer: As captions may name them.
    genre: Or style, e.g. 'baroque'.
    key: As it is written, e.g. 'A minor'.
    tempo: As it is written, in beats per minute.
    metre: E.g. '3/4'; 'unknown' where that of the file is not to be trusted,
      such as the 4/4 that many programs write.
  """

  title: str = ''
  composer: str = ''
  genre: str = ''
  key: str = ''
  tempo: float | None = None
  metre: str = ''


@dataclasses.dataclass(frozen=True)
class Facts:
  """What captions may say of a clip.

  Attributes:
    instruments: Names of those that are heard, the loudest first.
    is_solo: Whether nothing else sounds than one instrument.
    melody: The instrument with the melody, if only others accompany it.
    key: E.g. 'A minor'; None if unknown or unclear.
    bpm: Beats per minute; None if unknown or changing.
    metre: E.g. '3/4'; None if unknown or changing.
    onset_rate: Times per second at which notes begin.
    words: Measured adjectives of texture, register, articulation, dynamics.
    genre: E.g. 'baroque'; may be empty.
    form: E.g. 'waltz', where the title or the genre says so; may be empty.
    composer: May be empty.
    title: May be empty.
  """

  instruments: tuple[str, ...]
  is_solo: bool = False
  melody: str | None = None
  key: str | None = None
  bpm: float | None = None
  metre: str | None = None
  onset_rate: float = 0.0
  words: tuple[str, ...] = ()
  genre: str = ''
  form: str = ''
  composer: str = ''
  title: str = ''


def find_key(
    arrangement: arranging.Arrangement, metadata: Metadata
) -> str | None:
  """Returns the key of an arrangement: the known one, or an estimate."""
  if metadata.key:
    return analysis.transpose_key(metadata.key, arrangement.transposition)
  return analysis.estimate_key(arrangement.score)


def describe(
    arrangement: arranging.Arrangement,
    metadata: Metadata,
    key: str | None,
    start: float,
    end: float,
) -> Facts:
  """Gathers the facts of a clip.

  Args:
    arrangement: Of the whole score.
    metadata: Of the score as it was written.
    key: Of the arrangement. It is a fact of the clip only where the notes of
      the clip alone suggest it too: pieces modulate.
    start: Seconds at which the clip begins.
    end: Seconds at which it ends.

  Raises:
    UserError: If no note sounds in the clip.
  """
  clip = arrangement.score.crop(start, end)
  if not len(clip.start):
    raise errors.UserError(
        f'a clip must have notes, but none sounds in {start:g}-{end:g} s.'
    )
  heard = analysis.heard_parts(clip)
  names = [analysis.part_name(clip.parts[i]) for i in heard]
  sounding = {
      analysis.part_name(clip.parts[i]) for i in set(clip.part.tolist())
  }
  metre = metadata.metre or analysis.find_metre(clip, start, end)
  if metre == UNKNOWN:
    metre = None
  bpm = analysis.find_tempo(clip, start, end, metre)
  if metadata.tempo is not None:
    bpm = metadata.tempo * arrangement.tempo_factor
  onsets = np.round(clip.start / _ONSET_SECONDS)
  genre = metadata.genre.strip().lower()
  return Facts(
      instruments=tuple(dict.fromkeys(names)),
      is_solo=len(sounding) == 1,
      melody=_melody_name(arrangement, heard, names),
      key=key if key == analysis.estimate_key(clip) else None,
      bpm=bpm,
      metre=metre,
      onset_rate=len(np.unique(onsets)) / (end - start),
      words=_texture(clip, end - start),
      genre=_GENRES.get(genre, genre),
      form=find_form(f'{metadata.title} {genre}'),
      composer=metadata.composer,
      title=metadata.title,
  )


def find_form(text: str) -> str:
  """Returns the musical form that a title names first; '' if none."""
  words = re.findall(r'\w+', text.lower())
  for word in words:
    for form, pattern in _FORMS.items():
      if re.fullmatch(pattern, word):
        return form
  return ''


def _melody_name(arrangement, heard, names) -> str | None:
  """Returns the instrument of the melody, if it plays nothing else."""
  is_melody = [
      arrangement.roles[part] == arranging.Role.MELODY for part in heard
  ]
  melodies = {name for name, m in zip(names, is_melody) if m}
  others = {name for name, m in zip(names, is_melody) if not m}
  if len(melodies) == 1 and others and not melodies & others:
    return melodies.pop()
  return None


def _texture(clip: notation.Score, seconds: float) -> tuple[str, ...]:
  """Returns the adjectives that the notes of a clip have earned."""
  words = []
  density = len(clip.start) / seconds
  if density < _SPARSE:
    words.append('sparse')
  elif density > _DENSE:
    words.append('dense')
  velocity = float(np.mean(clip.velocity))
  if velocity < _SOFT:
    words.append('soft')
  elif velocity > _LOUD:
    words.append('loud')
  pitched = clip.select(~clip.is_drums)
  if len(pitched.start) >= _NOTES:
    pitch = float(np.mean(pitched.pitch))
    if pitch < _LOW:
      words.append('low-pitched')
    elif pitch > _HIGH:
      words.append('high-pitched')
    if _is_staccato(pitched):
      words.append('staccato')
  return tuple(words)


def _is_staccato(clip: notation.Score) -> bool:
  """Whether notes are short of the next ones, and no pedal holds them."""
  if any(
      m.type == 'control_change' and m.control == _PEDAL and m.value >= 64
      for _, _, m in clip.controls
  ):
    return False
  shares = []
  for part in set(clip.part.tolist()):
    mine = clip.select(clip.part == part)
    onsets = np.unique(mine.start)
    i = np.searchsorted(onsets, mine.start) + 1
    has_next = i < len(onsets)
    gaps = onsets[i[has_next]] - mine.start[has_next]
    lengths = (mine.end - mine.start)[has_next]
    # A rest is not a matter of articulation.
    shares.extend((lengths / gaps)[gaps < 1.0])
  return len(shares) >= _NOTES and float(np.median(shares)) < _STACCATO
