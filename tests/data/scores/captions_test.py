"""Tests for captions."""

import re

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import captions
from musiclm_jax.data.scores import facts
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import wording
import numpy as np

KEY_PATTERN = r'\b([A-G][#b]? (?:major|minor))\b'
WALTZ = facts.Facts(
    instruments=('piano', 'alto saxophone'),
    melody='alto saxophone',
    key='A minor',
    bpm=72.0,
    metre='3/4',
    onset_rate=2.0,
    genre='romantic',
    form='waltz',
    composer='Chopin',
    title='Valse',
)


def meanings():
  """Returns the instruments that each word of captions may mean."""
  names = {*instruments.NAMES, instruments.DRUMS}
  result = {name: {name} for name in names}
  for name, synonyms in wording.SYNONYMS.items():
    for word in synonyms:
      result.setdefault(word, set()).add(name)
  return result


def named_instruments(caption):
  """Returns the sets of instruments that each word of a caption may mean."""
  found = []
  # Longest first, so that 'electric guitar' is no 'guitar'.
  for word, names in sorted(meanings().items(), key=lambda m: -len(m[0])):
    pattern = rf'(?<![\w-]){re.escape(word)}(?![\w-])'
    if re.search(pattern, caption, re.IGNORECASE):
      found.append(names)
      caption = re.sub(pattern, '', caption, flags=re.IGNORECASE)
  return found


def check_true(test, caption, described):
  """Fails `test` unless all that a caption says is in the facts."""
  # Titles are quoted, not claimed.
  caption = re.sub(r'"[^"]*"', '', caption)
  check_absent(test, caption, described)
  heard = re.sub(r'(no|without) drums', '', caption)
  for names in named_instruments(
      re.sub(r'drum (beat|groove|pattern|loop|part)', '', heard)
  ):
    test.assertTrue(names & set(described.instruments), caption)
  for key in re.findall(KEY_PATTERN, caption):
    test.assertEqual(key, described.key, caption)
  for mode in re.findall('(major|minor) key', caption):
    test.assertEqual(mode, described.key.split()[1], caption)
  for bpm in re.findall(r'(\d+) bpm', caption):
    test.assertAlmostEqual(float(bpm), described.bpm, delta=0.5, msg=caption)
  for metre in re.findall(r'(\d+/\d+)', caption):
    test.assertEqual(metre, described.metre, caption)
  tempo = wording.tempo_class(described)
  for name, words in wording.TEMPO_WORDS.items():
    if re.search(rf'(?<![\w-])({"|".join(words)})(?![\w-])', caption):
      test.assertEqual(name, tempo, caption)
  for (mode, name), words in wording.MOOD_WORDS.items():
    if re.search(rf'\b({"|".join(words)})\b', caption, re.IGNORECASE):
      test.assertEqual(f'{mode} {name}', f'{described.key.split()[1]} {tempo}')
  for form in ('waltz', 'march', 'hymn', 'sonata'):
    if form in caption.lower():
      test.assertEqual(form, described.form, caption)
  for metre in re.findall(r'in ((?:\w+ )?\w+ metre|common time)', caption):
    test.assertIn(metre, wording.METRE_WORDS[described.metre], caption)
  if re.search('(?i)solo|only|on its own|alone|nothing|no other', caption):
    test.assertTrue(described.is_solo, caption)


def check_absent(test, caption, described):
  """Fails `test` if a caption denies what is heard."""
  if re.search(r'(no|without) drums', caption):
    test.assertNotIn('drums', described.instruments, caption)
  if re.search('instrumental|no vocals|no voices|no singer|Nobody', caption):
    voices = {'choir', 'synth voice'}
    test.assertEmpty(voices & set(described.instruments), caption)


class CaptionsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('waltz', WALTZ),
      ('unknown', facts.Facts(instruments=('harp',))),
      (
          'solo',
          facts.Facts(
              instruments=('harp',),
              is_solo=True,
              bpm=150.0,
              onset_rate=5.0,
              key='Eb major',
          ),
      ),
      (
          'drums',
          facts.Facts(
              instruments=('drums',),
              is_solo=True,
              bpm=100.0,
              genre='funk',
              metre='4/4',
              onset_rate=9.0,
          ),
      ),
      ('orchestra', facts.Facts(instruments=instruments.NAMES[40:48])),
  )
  def test_are_true_and_varied(self, described):
    seen = set()
    for seed in range(100):
      texts = captions.write_captions(described, np.random.default_rng(seed))
      self.assertBetween(len(texts), 1, 5)
      self.assertLen(set(texts), len(texts))
      for text in texts:
        check_true(self, text, described)
        self.assertNotRegex(text, r'  | ,|\ba [aeio]|None|^\s|\s$|\.\.')
      seen.update(texts)
    self.assertGreater(len(seen), 10)

  def test_tell_all_facts_in_the_long_run(self):
    texts = [
        text
        for seed in range(50)
        for text in captions.write_captions(WALTZ, np.random.default_rng(seed))
    ]
    joined = '\n'.join(texts)
    for fact in (
        'triple metre',
        'beats per minute',
        'no vocals',
        'piano',
        'sax',
        'slow',
        'A minor',
        'minor key',
        '72 bpm',
        '3/4 time',
        'romantic',
        'waltz',
        'by Chopin',
        '"Valse"',
        'melancholic',
        'plays the melody',
    ):
      self.assertIn(fact, joined)
    lengths = [len(text.split()) for text in texts]
    self.assertEqual(min(lengths), 1)
    self.assertGreater(max(lengths), 30)

  def test_is_a_function_of_the_seed(self):
    first, again, other = (
        captions.write_captions(WALTZ, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    self.assertEqual(first, again)
    self.assertNotEqual(first, other)

  @parameterized.parameters(
      (60.0, 2.0, 'slow'),
      (60.0, 9.0, None),  # Sixteenth notes are not slow.
      (80.0, 2.0, 'moderate'),
      (130.0, 2.0, 'moderate'),
      (131.0, 3.0, 'fast'),
      (131.0, 1.0, None),
      (None, 2.0, None),
  )
  def test_tempo_classes(self, bpm, onset_rate, expected):
    described = facts.Facts(('piano',), bpm=bpm, onset_rate=onset_rate)
    self.assertEqual(wording.tempo_class(described), expected)

  def test_choirs_are_not_instrumental(self):
    described = facts.Facts(('choir', 'drums'), genre='romantic')
    for seed in range(60):
      for text in captions.write_captions(
          described, np.random.default_rng(seed)
      ):
        check_true(self, text, described)

  def test_flats_and_sharps_are_spelled_out(self):
    described = facts.Facts(('piano',), key='Bb minor')
    texts = '\n'.join(
        text
        for seed in range(30)
        for text in captions.write_captions(
            described, np.random.default_rng(seed)
        )
    )
    self.assertIn('B flat minor', texts)
    self.assertIn('Bb minor', texts)

  def test_every_word_for_an_instrument_is_of_a_real_one(self):
    self.assertContainsSubset(
        wording.SYNONYMS, {*instruments.NAMES, instruments.DRUMS}
    )

  def test_loud_music_is_not_calm(self):
    described = facts.Facts(
        ('piano',), key='C major', bpm=60.0, words=('loud',)
    )
    for seed in range(30):
      for text in captions.write_captions(
          described, np.random.default_rng(seed)
      ):
        self.assertNotRegex(text, '|'.join(wording.MOOD_WORDS['major', 'slow']))


if __name__ == '__main__':
  absltest.main()
