"""Names of licences, written as SPDX does, and what they allow of weights."""

import re

UNKNOWN = 'unknown'
RESERVED = 'All-Rights-Reserved'

_VERSION = r'(?:version |v\.? ?)?(?P<version>\d(?:\.\d)?)?'
# Patterns of whole names, and what they are called; {} is the version. Creative
# Commons are below.
_NAMES = {
    r'': UNKNOWN,
    r'unknown|none|n/?a|various|mixed': UNKNOWN,
    r'all rights reserved|copyright(ed)?|proprietary': RESERVED,
    r'(©|\(c\)|copyright\b|all rights reserved).+': RESERVED,
    r'pd|public domain( mark)?|publicdomain': 'Public-Domain',
    r'(cc0|cc zero|zero|creative commons (zero|0))( 1\.0)?': 'CC0-1.0',
    r'(mit|expat)( license)?': 'MIT',
    rf'apache( license)? {_VERSION}': 'Apache-{}',
    rf'(gnu )?gpl {_VERSION}(\+| or later)': 'GPL-{}-or-later',
    rf'(gnu )?gpl {_VERSION}': 'GPL-{}',
    rf'(gnu )?lgpl {_VERSION}(\+| or later)': 'LGPL-{}-or-later',
    rf'(gnu )?lgpl {_VERSION}': 'LGPL-{}',
    r'bsd( license)?( 3 clause)?': 'BSD-3-Clause',
    rf'artistic( license)? {_VERSION}': 'Artistic-{}',
    rf'(free art license|fal|lal) {_VERSION}': 'LAL-{}',
    rf'(sil )?(ofl|open font license) {_VERSION}': 'OFL-{}',
}
_CREATIVE_COMMONS = re.compile(
    r'(?:creative commons|cc) (?P<terms>(?:(?:attribution|by|non ?commercial|nc'
    r'|share ?alike|sa|no ?derivatives|no ?derivs|nd)\b ?)+)'
    rf'(?:license |licence )?{_VERSION}(?: [a-z]+| unported| generic)?'
)
_URL = re.compile(
    r'https?://(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/'
)
_TERMS = {
    'BY': r'attribution|by\b',
    'NC': r'non ?commercial|nc\b',
    'ND': r'no ?derivatives|no ?derivs|nd\b',
    'SA': r'share ?alike|sa\b',
}
_KNOWN = re.compile(
    r'Public-Domain|CC0-1\.0|MIT|BSD-3-Clause|CC-BY(-SA)?(-[\d.]+)?'
    r'|(Apache|Artistic|LAL|OFL)(-[\d.]+)?|L?GPL(-[\d.]+)?(-or-later)?'
)


def normalize(text: str) -> str:
  """Returns the name of a licence as SPDX writes it, e.g. 'CC-BY-NC-4.0'.

  Args:
    text: The name as people or tags write it, or a URL of Creative Commons.

  Returns:
    'Public-Domain', 'All-Rights-Reserved' and 'unknown' are ours; a name that
    is not recognized stays as it is.
  """
  words = _URL.sub('cc ', text.strip().casefold())
  words = re.sub(r'licen[sc]ed? (under|by) (the )?', '', words)
  words = ' '.join(re.split(r'[\s_/,-]+', words)).strip(' .')
  for pattern, name in _NAMES.items():
    if found := re.fullmatch(pattern, words):
      version = found.groupdict().get('version')
      return _with_version(name, version)
  if found := _CREATIVE_COMMONS.fullmatch(words):
    there = [k for k, x in _TERMS.items() if re.search(x, found['terms'])]
    return _with_version('-'.join(['CC', *there, '{}']), found['version'])
  return text.strip()


def _with_version(name: str, version: str | None) -> str:
  if version and '.' not in version:
    version = f'{version}.0'
  return name.format(version) if version else name.replace('-{}', '')


def objection(license: str) -> str:  # pylint: disable=redefined-builtin
  """Says why weights trained on music of a licence can't be released.

  Args:
    license: Any name of it.

  Returns:
    The reason; '' if there is none.
  """
  name = normalize(license)
  if _KNOWN.fullmatch(name):
    return ''
  if '-NC' in name:
    return 'non-commercial'
  if '-ND' in name:
    return 'no derivatives'
  if name == RESERVED:
    return 'all rights reserved'
  return 'unknown' if name == UNKNOWN else 'not a licence that is known here'


def is_share_alike(license: str) -> bool:  # pylint: disable=redefined-builtin
  """Returns whether what is made of a work must have the same licence."""
  name = normalize(license)
  return '-SA' in name or 'GPL' in name or name.startswith('LAL')
