"""Reads tempo, metre, key and instruments from prompts."""

import re

from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.tokenizers import terms

# Metres that the names of dances imply.
_DANCES = {
    'waltz|waltzes|minuet|mazurka|polonaise|sarabande': '3/4',
    'polka': '2/4',
    'jig|gigue|tarantella': '6/8',
}
# Names of families that usually mean something else in a prompt.
_VAGUE = {'beats', 'bells', 'effects', 'keys', 'pad', 'pads', 'reed', 'whistle',
          'world', 'telephone', 'applause', 'voice', 'singing'}  # fmt: skip

# A negation reaches to the end of its clause.
_NOT = re.compile(r'\b(?:no|not|never|without|instead of)\b[^,.;:]*', re.I)
_BPM = re.compile(
    r'\b(\d{2,3}(?:\.\d+)?)\s*-?\s*(?:bpm|beats per minute)\b', re.I
)
_METRE = re.compile(r'(?<![\d/])(\d{1,2}/\d{1,2})(?![\d/])')
# 'In a minor key' does not name the key of A minor.
_KEY = re.compile(
    r'\b(?:in|key of)\s+(?P<letter>[A-G]|[b-g])\s*-?'
    r'(?P<sign>#|♯|♭|b|sharp|flat)?[\s-]*(?P<mode>major|minor)\b'
    r'(?!\s+(?:key|mode|mood|chord|scale))'
)
_SHORT_KEY = re.compile(r'\bin\s+([A-G][#♯♭b]?m)\b')
_SIGNS = {None: '', 'sharp': '#', 'flat': 'b'}

_ANY = '|'.join(
    re.escape(word)
    for word in sorted(terms.FAMILY_OF_WORD, key=len, reverse=True)
    if word not in _VAGUE
)
_WORD = re.compile(rf'\b(?:{_ANY})\b', re.I)
_ADJECTIVES = r'(?:(?:an?|the|some)\s+)?(?:\w+\s+)?'
_LIST = re.compile(
    rf'\b(?:{_ANY})(?:\s*(?:,\s*and|,|and|with|&|\+)\s+{_ADJECTIVES}'
    rf'(?:{_ANY}))+\b',
    re.I,
)
_SOLO = re.compile(
    rf'\b(?:solo|unaccompanied)\s+(?:\w+\s+)?(?P<before>{_ANY})\b'
    rf'|\b(?P<after>{_ANY})\s+(?:alone|only)\b',
    re.I,
)


def read(prompt: str) -> plan_lib.Plan:
  """Returns the tempo, metre, key and instruments that a prompt names.

  Instruments count only if the prompt says that there are no others ('solo
  flute'), or lists several and nothing else ('piano and drums').
  """
  text = _NOT.sub(' ', prompt)
  least, most = plan_lib.BPM
  bpm = _BPM.search(text)
  is_tempo = bpm is not None and least <= float(bpm[1]) <= most
  return plan_lib.Plan(
      bpm=float(bpm[1]) if bpm and is_tempo else None,
      metre=_metre(text),
      key=_key(text),
      arrange=_arrangement(text),
  )


def describe(plan: plan_lib.Plan) -> str:
  """Describes a plan from `read` in words; '' if it is empty."""
  bpm = f'{plan.bpm:g} bpm' if plan.bpm is not None else ''
  families = ' and '.join(plan.arrange.removeprefix('0 ').split())
  return ', '.join(x for x in (bpm, plan.metre, plan.key, families) if x)


def _metre(text: str) -> str:
  for found in _METRE.findall(text):
    if terms.find_metre(found):
      return found
  words = {word.lower() for word in re.findall(r'\w+', text)}
  for dances, metre in _DANCES.items():
    if words.intersection(dances.split('|')):
      return metre
  return ''


def _key(text: str) -> str:
  found = _KEY.search(text)
  if found:
    sign = _SIGNS.get(found['sign'], found['sign'])
    key = f'{found["letter"].upper()}{sign} {found["mode"]}'
    return terms.KEYS[terms.parse_key(key)]
  short = _SHORT_KEY.search(text)
  return terms.KEYS[terms.parse_key(short[1])] if short else ''


def _families(text: str) -> list[str]:
  """Returns the families that a text names, in order."""
  numbers = [terms.FAMILY_OF_WORD[w.lower()] for w in _WORD.findall(text)]
  return [terms.FAMILIES[i] for i in dict.fromkeys(numbers)]


def _arrangement(text: str) -> str:
  named = _families(text)
  listed = _LIST.search(text)
  solo = _SOLO.search(text)
  if len(named) == 1 and solo:
    return f'0 {named[0]}'
  if listed and len(named) > 1 and _families(listed[0]) == named:
    return f'0 {" ".join(named)}'
  return ''
