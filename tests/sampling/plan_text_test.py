"""Tests for plan_text."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import instruments
from musiclm_jax.sampling import plan
from musiclm_jax.sampling import plan_text
from musiclm_jax.tokenizers import terms


class ReadTest(parameterized.TestCase):

  @parameterized.parameters(
      ('techno at 120 bpm', 120),
      ('a song, 92.5 BPM', 92.5),
      ('100 beats per minute, with a beat', 100),
      ('at 128-bpm', 128),
      ('999 bpm', None),
      ('the hits of 1990', None),
      ('not 120 bpm', None),
  )
  def test_tempo(self, prompt, bpm):
    self.assertEqual(plan_text.read(prompt).bpm, bpm)

  @parameterized.parameters(
      ('a slow waltz', '3/4'),
      ('Waltz in 6/8', '6/8'),
      ('an Irish jig', '6/8'),
      ('in 4/4 time', '4/4'),
      ('recorded on 24/12/1999', ''),
      ('7/8 prog rock', ''),
      ('anything but, not a waltz', ''),
      ('waltzing', ''),
  )
  def test_metre(self, prompt, metre):
    self.assertEqual(plan_text.read(prompt).metre, metre)

  @parameterized.parameters(
      ('slow piano waltz in A minor', 'A minor'),
      ('in the key of F sharp minor', 'F# minor'),
      ('in B-flat major, calm', 'Bb major'),
      ('in g minor', 'G minor'),
      ('a ballad in F#m', 'F# minor'),
      ('a song in a minor key', ''),
      ('a song in a minor', ''),
      ('a band in A major city', 'A major'),
      ('in A minor mood', ''),
      ('not in A minor', ''),
      ('major drama', ''),
  )
  def test_key(self, prompt, key):
    self.assertEqual(plan_text.read(prompt).key, key)

  @parameterized.parameters(
      ('solo flute', '0 flute'),
      ('a sad solo french horn', '0 brass'),
      ('unaccompanied cello in A minor', '0 strings'),
      ('electric piano alone', '0 keys'),
      ('piano and drums', '0 piano drums'),
      ('a piano, a double bass and soft drums, 90 bpm', '0 piano bass drums'),
      ('Violin with an acoustic guitar', '0 strings guitar'),
      ('solo flute with piano', '0 flute piano'),
      # Who else plays is not said.
      ('slow piano waltz', ''),
      ('rock with a guitar solo', ''),
      ('piano and drums, later a choir', ''),
      ('piano without drums', ''),
      ('world music of all keys', ''),
      ('violin and viola', ''),
  )
  def test_arrangement(self, prompt, arrange):
    self.assertEqual(plan_text.read(prompt).arrange, arrange)

  def test_says_what_it_understood(self):
    said = plan_text.describe(
        plan_text.read('a waltz of 90 bpm in Bb major, piano and flute')
    )
    self.assertEqual(said, '90 bpm, 3/4, Bb major, piano and flute')
    self.assertEqual(plan_text.describe(plan_text.read('a calm tune')), '')
    self.assertEqual(plan_text.read('calm music'), plan.Plan())

  def test_names_of_instruments_are_of_the_family_of_their_program(self):
    for program, name in enumerate(instruments.NAMES):
      if name != 'double bass':  # Played with a bow, or plucked.
        family = terms.FAMILY_OF_WORD[name]
        self.assertEqual(family, terms.family(program), name)


if __name__ == '__main__':
  absltest.main()
