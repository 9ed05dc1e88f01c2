"""Tests for report."""

import math
import tempfile

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.metrics import report
import numpy as np

from tests import random_model


def example(index):
  audio = np.random.default_rng(index).uniform(-0.3, 0.3, 120000)
  clip = clips.Clip(
      audio=audio.astype(np.float32),
      captions=('slow piano',),
      id=f'{index}',
      work=f'{index}',
      title='',
      source='',
  )
  return clip.id, clip.to_example()


class ReportTest(absltest.TestCase):

  def test_every_part_has_its_rows(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(folder)
    splits = {'test': [example(i) for i in range(2)]}
    datasets.write_dataset('music', folder, splits, corpora.features())
    rows = report.evaluate(folder, folder)
    self.assertEqual(
        [(row['part'], row['metric']) for row in rows],
        [
            ('soundstream', 'log-mel distance (dB)'),
            ('soundstream', 'STFT distance'),
            ('soundstream', 'SI-SDR (dB)'),
            ('soundstream', 'coarse codebook perplexity'),
            ('soundstream', 'fine codebook perplexity'),
            ('w2v_bert', 'semantic codebook perplexity'),
            *(
                ('mulan', f'caption to clip recall@{k}, of 2')
                for k in (1, 5, 10)
            ),
            ('mulan', 'caption to clip median rank'),
            ('semantic', 'nats per token'),
            ('coarse', 'nats per token'),
            ('fine', 'nats per token'),
        ],
    )
    for row in rows[-3:]:
      self.assertAlmostEqual(row['chance'], math.log(1024))
      self.assertBetween(row['value'], 6, 9)  # It knows nothing.

  def test_rejects_a_part_without_a_report(self):
    with self.assertRaisesRegex(
        errors.NotFoundError, "'codec' or one of .*'mulan'.*but is 'fine'"
    ):
      report.evaluate_part('fine', 'data', 'model')

  def test_render_lines_up(self):
    rows = [
        {'part': 'mulan', 'metric': 'median rank', 'value': 2.0, 'chance': 4.5},
        {'part': 'fine', 'metric': 'nats', 'value': math.pi, 'chance': None},
    ]
    lines = report.render(rows).splitlines()
    self.assertEqual(lines[1].split(), 'mulan median rank 2.000 4.500'.split())
    self.assertEqual(lines[2].split(), ['fine', 'nats', '3.142'])


if __name__ == '__main__':
  absltest.main()
