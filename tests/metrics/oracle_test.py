"""Tests for oracle."""

import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import datasets
from musiclm_jax.data import stage_examples
from musiclm_jax.data import token_dataset
from musiclm_jax.metrics import oracle
from musiclm_jax.metrics import stage_loss
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np

from tests import random_model

EMBED_DIM = 128
SECONDS = 5.0


def make_record(seed, name):
  """Returns a clip of random tokens."""
  rng = np.random.default_rng(seed)
  tokens = {
      s.name: rng.integers(
          0,
          s.codebook_size,
          (s.num_frames(SECONDS), s.num_quantizers),
          dtype=np.int32,
      )
      for s in (base.SEMANTIC, base.COARSE, base.FINE)
  }
  return {
      **tokens,
      'melody': np.zeros((0, base.MELODY.num_quantizers), np.int32),
      'melody_hum': np.zeros((0, base.MELODY.num_quantizers), np.int32),
      'mulan': rng.normal(size=(2, EMBED_DIM)).astype(np.float32),
      'mulan_text': np.zeros((1, EMBED_DIM), np.float32),
      'captions': ['noise'],
      'caption_weights': np.ones(1, np.float32),
      'id': name,
      'work': name,
  }


class OracleTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.model_dir = f'{cls.folder}/model'
    cls.hashes = random_model.write_random_model(cls.model_dir)

  def write_tokens(self, seeds, lineage=None):
    """Returns the folder of a dataset of clips of such seeds."""
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    clips = [
        (f'{i}', make_record(seed, f'{i}')) for i, seed in enumerate(seeds)
    ]
    rng = np.random.default_rng(0)
    datasets.write_dataset(
        token_dataset.NAME,
        data_dir,
        {'train': clips, 'validation': clips[:1]},
        token_dataset.features(base.PAPER, {'mulan': EMBED_DIM}, ('melody',)),
        metadata={
            'lineage': lineage or self.hashes,
            'mulan_window_seconds': 4.0,
        },
        arrays={
            'mulan_codebooks': rng.normal(size=(12, 1024, EMBED_DIM)).astype(
                np.float32
            )
        },
    )
    return data_dir

  def test_alike_clips_swap_to_no_effect(self):
    data_dir = self.write_tokens([7, 7, 7, 7])
    swap = oracle.swap(data_dir, self.model_dir, 'fine')
    self.assertEqual(swap.nats.shape, (2, 4))
    # Crops start anywhere, but the same of both.
    np.testing.assert_array_equal(swap.nats[0], swap.nats[1])
    np.testing.assert_array_equal(swap.decibels[0], swap.decibels[1])
    self.assertEqual(swap.gain, 0)

  def test_untrained_stages_do_not_listen(self):
    data_dir = self.write_tokens(range(8))
    swap = oracle.swap(data_dir, self.model_dir, 'semantic')
    self.assertFalse(np.array_equal(swap.nats[0], swap.nats[1]))
    self.assertLess(abs(swap.gain), 4 * swap.uncertainty)
    self.assertIsNone(swap.decibels)

  def test_needs_clips_to_swap(self):
    data_dir = self.write_tokens([0, 1])
    with self.assertRaisesRegex(ValueError, '2 clips or more .* holds 1'):
      oracle.swap(data_dir, self.model_dir, 'fine', 'validation')

  def test_needs_the_tokens_of_the_model(self):
    data_dir = self.write_tokens([0, 1], {**self.hashes, 'mulan': 'f' * 64})
    with self.assertRaisesRegex(ValueError, 'tokens of the mulan of this'):
      oracle.swap(data_dir, self.model_dir, 'fine')

  def test_streams_are_what_ids_were_made_of(self):
    stage = stages.get_stage('coarse', random_model.CROPS['coarse'])
    record = make_record(3, 'a')
    codebooks = np.random.default_rng(1).normal(size=(12, 1024, EMBED_DIM))
    quantizers = {'mulan': stage_examples.Quantizer(codebooks, 4.0)}
    crops = stage_loss.crop(stage, [record], quantizers)
    tokens = oracle._tokens(stage, crops)
    self.assertEqual(tokens['coarse'].shape, (1, 50, 4))
    for name in ('semantic', 'coarse'):
      frames = tokens[name].shape[1]
      starts = range(len(record[name]) - frames + 1)
      found = [
          np.array_equal(record[name][i : i + frames], tokens[name][0])
          for i in starts
      ]
      self.assertEqual(sum(found), 1, name)

  @parameterized.parameters(
      (('coarse', 'fine'), 'coarse', []),
      (('coarse', 'fine'), 'fine', ['coarse']),
      (('coarse', 'fine'), 'semantic', None),
      (('codes',), 'coarse', None),
      # Decoding needs what the stage does not read.
      (('coarsest', 'coarse', 'fine'), 'fine', None),
  )
  def test_what_targets_are_decoded_with(self, codec, name, expected):
    stage = stages.get_stage(name)
    self.assertEqual(oracle._coarser(codec, stage), expected)

  def test_gain(self):
    nats = np.array([[1.0, 2.0, 3.0], [1.5, 2.1, 3.6]])
    swap = oracle.Swap(nats, None)
    self.assertAlmostEqual(swap.gain, 0.4)
    self.assertAlmostEqual(swap.uncertainty, np.sqrt(0.07 / 3))


if __name__ == '__main__':
  absltest.main()
