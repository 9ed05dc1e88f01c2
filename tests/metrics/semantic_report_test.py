"""Tests for semantic_report."""

import json
import tempfile

from absl.testing import absltest
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.metrics import report
from musiclm_jax.metrics import semantic_report
import numpy as np
from tests import random_model

SECONDS = 2
KEYS = ('C major', 'A minor')
COLUMNS = ['metric', 'semantic', 'log-mel', 'embeddings', 'majority']
COLUMNS += ['choices', 'examples']


def example(index, known=True):
  """A chord for a second and another for a second: which first, is the key."""
  time = np.arange(clips.SAMPLE_RATE) / clips.SAMPLE_RATE
  # Instruments that differ by a partial.
  instrument = index // 2 % 2
  pitches = {0: (262, 330, 392), 21: (440, 523, 659)}
  chords = (0, 21) if index % 2 else (21, 0)
  tones = [
      sum(
          np.sin(2 * np.pi * hz * time)
          + 0.1 * instrument * np.sin(6 * np.pi * hz * time)
          for hz in pitches[chord]
      )
      for chord in chords
  ]
  rng = np.random.default_rng(index)
  audio = 0.1 * np.concatenate(tones) + 1e-3 * rng.normal(size=2 * len(time))
  facts = {'instruments': [f'i{instrument}'], 'key': KEYS[index % 2]}
  clip = clips.Clip(
      audio=audio.astype(np.float32),
      captions=('chords',),
      id=f'work{index // 2}/{index}',
      work=f'work{index // 2}',
      title='chords',
      source='tones',
      chords=np.repeat(chords, clips.MELODY_RATE) if known else np.zeros(0),
      facts=json.dumps(facts) if known else '',
  )
  return clip.id, clip.to_example()


class EvaluateTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data_dir = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(cls.data_dir)
    splits = {
        'test': [example(i) for i in range(20)],
        'validation': [example(i, known=False) for i in range(10)],
        'train': [example(i) for i in range(4)],
    }
    datasets.write_dataset('music', cls.data_dir, splits, corpora.features())
    cls.rows = semantic_report.evaluate(
        cls.data_dir, cls.data_dir, 'test', max_clips=20
    )
    cls.by_name = {row['metric']: row for row in cls.rows}

  def test_rows(self):
    self.assertEqual(
        list(self.by_name),
        [
            'chord accuracy',
            'chord accuracy, other instruments',
            'key accuracy',
            'key accuracy, other instruments',
            'tokens that stay, polarity flipped',
            'tokens that stay, 7 samples later',
            'tokens that stay, through all-passes',
        ],
    )
    for row in self.rows:
      self.assertEqual(list(row), COLUMNS)
    self.assertLen(report.render(self.rows).splitlines(), 8)

  def test_chords(self):
    row = self.by_name['chord accuracy']
    self.assertEqual(row['choices'], 2)
    self.assertEqual(row['examples'], 20 * 2 * SECONDS)  # Half seconds.
    self.assertEqual(row['majority'], 0.5)
    # Even a random network keeps two chords apart that are always the same.
    for column in ('semantic', 'log-mel', 'embeddings'):
      self.assertGreater(row[column], 0.8, column)

  def test_keys(self):
    # Both keys have the same chords, in another order, which counts lose.
    row = self.by_name['key accuracy']
    self.assertEqual(row['examples'], 20)
    self.assertEqual(row['majority'], 0.5)
    self.assertBetween(row['log-mel'], 0, 1)

  def test_polarity_is_not_heard(self):
    row = self.by_name['tokens that stay, polarity flipped']
    self.assertEqual(row['log-mel'], 1)
    self.assertEqual(row['semantic'], 1)
    self.assertEqual(row['examples'], 20 * 25 * SECONDS)

  def test_rejects_a_split_of_which_nothing_is_known(self):
    with self.assertRaisesRegex(ValueError, "'validation' must hold clips of"):
      semantic_report.evaluate(self.data_dir, self.data_dir, 'validation')

  def test_rejects_few_works(self):
    with self.assertRaisesRegex(ValueError, 'at least 5 works.*are of 2'):
      semantic_report.evaluate(self.data_dir, self.data_dir, 'train')


if __name__ == '__main__':
  absltest.main()
