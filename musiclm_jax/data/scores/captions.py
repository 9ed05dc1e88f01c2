"""Writes captions of clips from facts, in varied words."""

from collections.abc import Callable

from musiclm_jax.data.scores import facts as facts_lib
from musiclm_jax.data.scores import wording
import numpy as np

_MAX_TITLE = 60  # Characters of the longest title that a caption quotes.
_KEPT = (0.3, 0.95)  # Least and greatest share of the facts in a caption.
_TRIALS = 12  # Captions to write until there are five different ones.
_MOST = 5

_Words = wording.Words


def write_captions(
    facts: facts_lib.Facts, rng: np.random.Generator
) -> tuple[str, ...]:
  """Writes three to five captions, from a word to a paragraph.

  Args:
    facts: Facts of the clip.
    rng: Chooses the words, and the facts that each caption leaves out.

  Returns:
    Different captions; fewer if there are few facts.
  """
  styles = list(_STYLES)
  if facts.composer or _quotable(facts):
    styles += [_credit, _credit]
  count = int(rng.integers(3, _MOST + 1))
  captions: dict[str, None] = {}
  for _ in range(_TRIALS):
    if len(captions) == count:
      break
    style = styles[int(rng.integers(len(styles)))]
    caption = style(_Words(facts, rng, float(rng.uniform(*_KEPT))))
    if caption:
      captions[caption] = None
  return tuple(captions) or (_short(_Words(facts, rng, 1.0)),)


def _quotable(facts: facts_lib.Facts) -> bool:
  return 0 < len(facts.title) <= _MAX_TITLE


def _label(words: _Words) -> str:
  """Returns a word or two, e.g. 'waltz' or 'sad violin'."""
  noun = words.noun
  first = next(iter(words.names.values()))
  adjectives = words.adjectives()
  bare = words.facts.form or words.genre or first
  if not adjectives or words.chance(0.4):
    return noun if words.is_drumming else bare
  adjective = words.one(adjectives)
  if words.is_drumming or words.facts.form or words.chance(0.3):
    return f'{adjective} {noun}' if adjective != noun else noun
  return f'{adjective} {first}' if adjective != first else first


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


def _wish(words: _Words) -> str:
  """Returns e.g. 'something sad and slow for cello and piano'."""
  wanted = [w for w in (words.mood, words.tempo, words.texture) if w]
  words.rng.shuffle(wanted)
  thing = words.one(('something', 'a bit of music', 'music', 'a recording'))
  if thing == 'something':
    text = f'something {wording.enumerate_words(wanted)}'.strip()
  else:
    text = f'{thing} that is {wording.enumerate_words(wanted)}'
    text = text if wanted else thing
  if words.is_drumming:
    text += words.one((' on the drums', ' with drums'))
  else:
    text += f' {words.one(("for", "with", "played on"))} {words.instruments}'
  if words.genre:
    text += f', {words.genre} style'
  if words.bpm:
    text += f', {words.bpm}'
  return f'{text}, in {words.key}' if words.key else text


def _sentence(words: _Words) -> str:
  """Returns e.g. 'A slow piece in 3/4 time in A minor played by flute.'"""
  noun = words.noun
  text = ' '.join([*words.adjectives(), noun])
  if words.metre:
    text += f' in {words.metre}'
  if words.key:
    text += f' in {words.key}'
  if not words.is_drumming:
    played = words.one(('played by', 'performed on', 'featuring'))
    text += f' {played} {words.instruments}'
  if words.bpm:
    text += f' at {words.bpm}'
  text = text if noun in ('music', words.genre) else wording.article(text)
  begin = words.one(('', '', 'this is ')) if noun != 'music' else ''
  return wording.capitalize(begin + text) + '.'


def _aspects(words: _Words) -> str:
  """Returns e.g. 'piano, flute, slow, minor key, 72 bpm'."""
  facts = words.facts
  key = words.one((words.key, f'{words.mode} key' if words.mode else ''))
  aspects = [words.tempo, words.mood, words.texture, words.genre, words.bpm]
  aspects += [facts.form if words.chance(0.75) else '', key, words.metre]
  aspects += [_absent(words) if words.chance(0.5) else '']
  if words.tempo and words.chance(0.3):
    aspects.append(f'{wording.tempo_class(facts)} tempo')
  kept = list(dict.fromkeys(a for a in aspects if a))
  words.rng.shuffle(kept)
  names = list(words.names.values())
  if words.is_solo:
    names = [f'solo {words.instruments}']
  elif facts.melody and facts.melody in words.names and words.chance(0.3):
    names.append(f'{words.names[facts.melody]} melody')
  if words.chance(0.4):  # Else the instruments come first.
    kept = [*names, *kept]
    words.rng.shuffle(kept)
    return ', '.join(kept)
  return ', '.join([*names, *kept])


def _absent(words: _Words) -> str:
  """Returns a word for what cannot be heard."""
  absent = []
  if not words.has_voices:
    absent += ['instrumental', 'no vocals', 'no voices', 'no singer']
  if not words.has_drums:
    absent += ['no drums', 'without drums']
  if words.is_solo:
    absent += ['single instrument', 'no other instruments']
  return words.one(absent) if absent else ''


def _account(words: _Words) -> str:
  """Returns sentences on the instruments, the tempo and the key."""
  return ' '.join([_who_plays(words), *_remarks(words)[:3]])


def _paragraph(words: _Words) -> str:
  """Returns all that is known, in several sentences."""
  full = _Words(words.facts, words.rng, 1.0)
  remarks = _remarks(full)
  words.rng.shuffle(remarks)
  return ' '.join([_opening(full), _who_plays(full), *remarks])


def _opening(words: _Words) -> str:
  """Returns what kind of music it is, e.g. 'This is a slow waltz.'"""
  begin = words.one(
      ('this is', 'here is', 'the clip is', 'the recording is', 'we hear')
  )
  noun = words.noun
  text = ' '.join([*words.adjectives()[:3], noun])
  if noun != 'music':
    text = wording.article(text)
  return wording.capitalize(f'{begin} {text}.')


def _who_plays(words: _Words) -> str:
  """Returns a sentence on the instruments."""
  facts = words.facts
  named = [n for n in words.names if n != facts.melody]
  everyone = words.instruments
  if facts.melody and facts.melody in words.names and named:
    others = wording.enumerate_words([words.names[n] for n in named])
    melody = words.names[facts.melody]
    joint = words.one(('accompanied by', 'over', 'backed by', 'supported by'))
    lead = words.one(
        (
            'the {} plays the melody',
            'a melody on {}',
            'the {} leads',
            'the main tune is on {}',
            'the {} carries the tune',
        )
    )
    return wording.capitalize(f'{lead.format(melody)}, {joint} {others}.')
  if facts.is_solo:
    text = words.one(
        (
            'only {} can be heard.',
            'there is nothing but {}.',
            'the {} plays on its own.',
            'the {} is alone.',
        )
    )
  elif len(words.names) == 1:
    text = words.one(
        (
            'the main instrument is {}.',
            'it is mostly {}.',
            'the {} stands out.',
        )
    )
  else:
    text = words.one(
        (
            '{} play together.',
            'the instruments are {}.',
            'it is scored for {}.',
            'there are {}.',
            'one can hear {}.',
        )
    )
  return wording.capitalize(text.format(everyone))


def _remarks(words: _Words) -> list[str]:
  """Returns a sentence on each of the other facts."""
  facts = words.facts
  remarks = []
  if words.tempo or words.bpm:
    pace = wording.tempo_class(facts) if words.tempo else ''
    pace = ', at '.join(w for w in (pace, words.bpm) if w)
    remarks.append(
        words.one(('The tempo is {}.', 'Its tempo: {}.')).format(pace)
    )
  if words.key:
    form = ('The key is {}.', 'It is in {}.', 'It is written in {}.')
    remarks.append(words.one(form).format(words.key))
  if words.mood:
    form = ('It sounds {}.', 'The mood is {}.', 'The atmosphere is {}.')
    remarks.append(words.one(form).format(words.mood))
  if words.metre:
    form = ('It is in {}.', 'The music is in {}.', 'It moves in {}.')
    remarks.append(words.one(form).format(words.metre))
  if words.texture:
    remarks.append(f'The playing is {words.texture}.')
  if words.era and words.genre:
    form = ('It is {} music.', 'The style is {}.', 'It is from the {} era.')
    remarks.append(words.one(form).format(words.genre))
  if facts.form in wording.DANCES and words.chance(0.4):
    remarks.append(words.one(('One could dance to it.', 'It is a dance.')))
  if not words.has_voices and words.chance(0.3):
    remarks.append(words.one(('Nobody sings.', 'There are no vocals.')))
  if not words.has_drums and words.chance(0.2):
    remarks.append(words.one(('There are no drums.', 'It has no drums.')))
  return remarks


def _credit(words: _Words) -> str:
  """Returns e.g. '"Sonatina" by Diabelli, played by harp.'"""
  facts = words.facts
  genre = f'{facts.genre} ' if facts.genre != facts.form else ''
  quoted = _quotable(facts)
  work = f'"{facts.title}"' if quoted else f'{genre}{words.noun}'.strip()
  text = work if quoted else wording.capitalize(wording.article(work))
  if facts.composer:
    text += f' by {facts.composer}'
  text += f', played by {words.instruments}'
  return f'{text} in {words.key}.' if words.key else f'{text}.'


# How often each style is drawn.
_STYLES: tuple[Callable[[_Words], str], ...] = (
    _label,
    _short,
    _short,
    _short,
    _wish,
    _sentence,
    _sentence,
    _sentence,
    _aspects,
    _aspects,
    _account,
    _account,
    _paragraph,
)
