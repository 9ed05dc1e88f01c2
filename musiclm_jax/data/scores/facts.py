"""Facts of a part of an arrangement, for its captions."""

import dataclasses
import re

from musiclm_jax import errors
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import notation
import numpy as np

# Bounds of adjectives for texture, register, articulation and dynamics.
_SPARSE, _DENSE = 2.0, 12.0  # Notes per second.
_LOW, _HIGH = 50, 74  # Mean MIDI pitch.
_STACCATO = 0.45  # Share of the time to the next note that a note lasts.
_SOFT, _LOUD = 50, 105  # Mean MIDI velocity.
_NOTES = 8  # Fewest notes that have a register and an articulation.
_PEDAL = 64
_ONSET_SECONDS = 0.05  # Notes that begin closer are one onset.

UNKNOWN = 'unknown'
# The words in titles and genres for each form.
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
  """Facts of a score from outside its file; empty if unknown.

  Attributes:
    title: Title that captions may quote.
    composer: Composer that captions may name.
    genre: Genre or style, e.g. 'baroque'.
    key: Written key, e.g. 'A minor'.
    tempo: Written tempo, in beats per minute.
    metre: Metre, e.g. '3/4'; 'unknown' if that of the file is not to be
      trusted, such as the 4/4 that many programs write.
  """

  title: str = ''
  composer: str = ''
  genre: str = ''
  key: str = ''
  tempo: float | None = None
  metre: str = ''


@dataclasses.dataclass(frozen=True)
class Facts:
  """Facts of a clip that captions may contain.

  Attributes:
    instruments: Names of the instruments that are heard, the loudest first.
    is_solo: Whether only one instrument sounds.
    melody: Instrument with the melody, if others accompany it.
    key: Key, e.g. 'A minor'; None if unknown or unclear.
    bpm: Beats per minute; None if unknown or changing.
    metre: Metre, e.g. '3/4'; None if unknown or changing.
    onset_rate: Onsets of notes per second.
    words: Adjectives of texture, register, articulation and dynamics.
    genre: Genre, e.g. 'baroque'; may be empty.
    form: Form in the title or the genre, e.g. 'waltz'; may be empty.
    composer: Composer; may be empty.
    title: Title; may be empty.
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
    arrangement: Arrangement of the whole score.
    metadata: Facts of the written score.
    key: Key of the arrangement. As pieces modulate, it is a fact of the clip
      only if its notes alone suggest it, too.
    start: Second at which the clip begins.
    end: Second at which it ends.

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
  """Returns the first musical form in a title; '' if there is none."""
  words = re.findall(r'\w+', text.lower())
  for word in words:
    for form, pattern in _FORMS.items():
      if re.fullmatch(pattern, word):
        return form
  return ''


def _melody_name(arrangement, heard, names) -> str | None:
  """Returns the instrument of the melody, if it plays no other part."""
  is_melody = [
      arrangement.roles[part] == arranging.Role.MELODY for part in heard
  ]
  melodies = {name for name, m in zip(names, is_melody) if m}
  others = {name for name, m in zip(names, is_melody) if not m}
  if len(melodies) == 1 and others and not melodies & others:
    return melodies.pop()
  return None


def _texture(clip: notation.Score, seconds: float) -> tuple[str, ...]:
  """Returns the adjectives that fit the notes of a clip."""
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
  """Whether notes end long before the next ones, and no pedal holds them."""
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
    # Gaps of a second or more are rests, not articulation.
    shares.extend((lengths / gaps)[gaps < 1.0])
  return len(shares) >= _NOTES and float(np.median(shares)) < _STACCATO
