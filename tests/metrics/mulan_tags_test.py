"""Tests for mulan_tags."""

import dataclasses
import json

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import facts as facts_lib
from musiclm_jax.metrics import mulan_tags

FACTS = facts_lib.Facts(
    instruments=('flute', 'piano'),
    key='A minor',
    bpm=60.0,
    onset_rate=2.0,
    genre='baroque',
    form='gigue',
)
UNKNOWN = facts_lib.Facts(instruments=('piano',))


class MuLanTagsTest(parameterized.TestCase):

  def test_reads_the_feature_of_examples(self):
    facts = mulan_tags.read_facts(json.dumps(dataclasses.asdict(FACTS)))
    self.assertEqual(facts, FACTS)
    self.assertIsNone(mulan_tags.read_facts(''))

  @parameterized.parameters(*mulan_tags.TAGS)
  def test_labels(self, tag):
    expected = {
        'loudest instrument': ('flute', 'piano'),
        'mode': ('minor', ''),
        'tempo class': ('slow', ''),
        'genre': ('baroque', ''),
        'form': ('gigue', ''),
    }
    labels = tag.label(FACTS), tag.label(UNKNOWN)
    self.assertEqual(labels, expected[tag.name])

  @parameterized.parameters(*mulan_tags.TAGS)
  def test_no_prompt_stands_for_two_classes(self, tag):
    classes = tag.classes or ('flute', 'piano', 'waltz')
    prompts = [text for name in classes for text in tag.prompts(name)]
    self.assertLen(set(prompts), len(prompts))
    self.assertGreaterEqual(len(prompts), 2 * len(classes))

  def test_classes_are_known_or_found(self):
    by_name = {tag.name: tag for tag in mulan_tags.TAGS}
    self.assertEqual(
        by_name['mode'].find_classes(['minor']), ['major', 'minor']
    )
    self.assertEqual(
        by_name['tempo class'].find_classes([]), ['slow', 'moderate', 'fast']
    )
    self.assertEqual(
        by_name['genre'].find_classes(['pop', 'baroque', 'pop']),
        ['baroque', 'pop'],
    )


if __name__ == '__main__':
  absltest.main()
