"""Tests for melody_report."""

import tempfile

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax.data import datasets
from musiclm_jax.data import renditions
from musiclm_jax.metrics import melody_report
from musiclm_jax.metrics import report
from musiclm_jax.models import melody as melody_model
from musiclm_jax.models import parts
import numpy as np

CONFIG = melody_model.MelodyConfig(
    num_mels=64,
    frames_per_patch=10,
    num_layers=1,
    num_heads=1,
    head_dim=4,
    embed_dim=8,
    mlp_dim=8,
    melody_dim=6,
)


def save_model(directory):
  shapes = jax.eval_shape(
      melody_model.MelodyNet(CONFIG).init,
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, CONFIG.window_samples), jnp.float32),
  )
  rng = np.random.default_rng(0)
  draw = lambda shape: np.asarray(rng.standard_normal(shape) / 3, np.float32)
  variables = {
      'params': jax.tree.map(lambda x: draw(x.shape), shapes['params']),
      'codebooks': {'codes': draw((24, 512, 6))},
  }
  parts.save(directory, 'melody', CONFIG.to_json(), variables)


def write_phrases(directory):
  """Writes phrases whose hum is the solo, and whose score is noise."""
  rng = np.random.default_rng(1)

  def example(name):
    noise = rng.uniform(-0.3, 0.3, (2, 80000)).astype(np.float32)
    same = np.sin(np.cumsum(np.repeat(rng.uniform(0.1, 1, 5), 16000)))
    audio = {'written': noise[0], 'solo': same, 'hum': same, 'other': noise[1]}
    phrase = renditions.Phrase(
        [
            renditions.Rendition(kind, 1.0, 0.3 * x.astype(np.float32))
            for kind, x in audio.items()
        ],
        melody=np.zeros(250, np.int8),
        id=name,
        work=name,
    )
    return name, phrase.to_example()

  splits = {'test': [example(f'{i}') for i in range(8)]}
  datasets.write_dataset(
      renditions.NAME, directory, splits, renditions.features()
  )


class MelodyReportTest(absltest.TestCase):

  def test_finds_what_is_the_same(self):
    with tempfile.TemporaryDirectory() as folder:
      save_model(folder)
      write_phrases(folder)
      rows = melody_report.evaluate(folder, folder, 'test', max_clips=6)
    # Six pairs of kinds, by embeddings and by tokens.
    self.assertLen(rows, 12)
    found = {(r['query'], r['pool'], r['of']): r for r in rows}
    same = found['hum', 'solo', 'embeddings']
    self.assertEqual(same['recall@1'], 1)
    self.assertEqual(same['median rank'], 1)
    self.assertEqual(same['phrases'], 6)
    self.assertAlmostEqual(same['chance@1'], 1 / 6)
    self.assertEqual(found['hum', 'solo', 'tokens']['recall@1'], 1)
    noise = found['other', 'written', 'embeddings']
    self.assertLess(noise['recall@1'], 0.9)
    self.assertIn('median rank', report.render(rows).splitlines()[0])


class RetrievalRowsTest(absltest.TestCase):

  def test_by_hand(self):
    rows = melody_report.retrieval_rows(
        {
            'written': np.eye(3),
            # The first finds itself, the others each other.
            'hum': np.array([[1, 0.1, 0], [0, 0.6, 0.8], [0, 0.8, 0.6]]),
        },
        'embeddings',
    )
    (row,) = rows
    self.assertEqual((row['query'], row['pool']), ('hum', 'written'))
    self.assertAlmostEqual(row['recall@1'], 1 / 3)
    self.assertEqual(row['recall@5'], 1)
    self.assertEqual(row['median rank'], 2)


if __name__ == '__main__':
  absltest.main()
