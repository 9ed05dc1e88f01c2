"""Tests for licenses."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import licenses

NAMES = {
    'CC-BY-4.0': (
        'CC-BY 4.0',
        'cc by 4.0',
        'Creative Commons Attribution 4.0',
        'Creative Commons Attribution 4.0 International',
        'https://creativecommons.org/licenses/by/4.0/',
        'Licensed under the Creative Commons Attribution License 4.0',
    ),
    'CC-BY-SA-3.0': (
        'CC-BY-SA-3.0',
        'Creative Commons Attribution-ShareAlike 3.0',
        'http://creativecommons.org/licenses/by-sa/3.0/',
    ),
    'CC-BY-NC-SA-4.0': (
        'cc-by-nc-sa 4.0',
        'Creative Commons Attribution-NonCommercial-ShareAlike 4.0',
    ),
    'CC-BY-NC': ('CC BY-NC', 'Creative Commons Attribution-NonCommercial'),
    'CC-BY-ND-4.0': (
        'CC BY-ND 4.0',
        'Creative Commons Attribution-NoDerivatives 4.0',
    ),
    'CC0-1.0': (
        'CC0',
        'CC0 1.0',
        'https://creativecommons.org/publicdomain/zero/1.0/',
        'Creative Commons Zero',
    ),
    'Public-Domain': ('Public Domain', 'PD', 'public-domain'),
    'MIT': ('MIT', 'MIT License', 'Expat'),
    'Apache-2.0': ('Apache-2.0', 'Apache License, Version 2.0'),
    'GPL-2.0-or-later': ('GPL-2+', 'GNU GPL v2 or later'),
    'GPL-2.0': ('GPL-2', 'GNU GPL version 2'),
    'All-Rights-Reserved': (
        '© 2019 Somebody',
        'All rights reserved.',
        'Copyright 1999 by X',
    ),
    'unknown': ('', ' ', 'Unknown'),
    'My own terms': ('My own terms',),
}


class LicensesTest(parameterized.TestCase):

  @parameterized.parameters(
      (text, name) for name, texts in NAMES.items() for text in (*texts, name)
  )
  def test_normalizes(self, text, name):
    self.assertEqual(licenses.normalize(text), name)

  @parameterized.parameters(
      ('CC-BY-NC 4.0', 'non-commercial'),
      ('CC BY-NC-ND 4.0', 'non-commercial'),
      ('CC BY-ND 4.0', 'no derivatives'),
      ('© me', 'all rights reserved'),
      ('', 'unknown'),
      ('My own terms', 'not a licence that is known here'),
      *((name, '') for name in ('MIT', 'PD', 'CC0', 'CC-BY', 'CC BY-SA 4.0')),
      ('GPL-2+', ''),
  )
  def test_objection(self, name, reason):
    self.assertEqual(licenses.objection(name), reason)

  def test_share_alike(self):
    names = ('CC BY-SA 4.0', 'GPL-2+', 'CC-BY 4.0', 'MIT')
    found = [licenses.is_share_alike(name) for name in names]
    self.assertEqual(found, [True, True, False, False])


if __name__ == '__main__':
  absltest.main()
