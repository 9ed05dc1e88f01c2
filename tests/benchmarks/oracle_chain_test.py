"""Tests for oracle_chain."""

import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import streams
from musiclm_jax.sampling import pretrained
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import plan_streams
import numpy as np

from tests import random_model
from tests.benchmarks import oracle_chain

CLIPS, SECONDS = 3, 0.96


class WaysTest(parameterized.TestCase):

  def test_paper(self):
    sampled = ('semantic', 'coarse', 'fine')
    reads = {
        'semantic': ('mulan',),
        'coarse': ('mulan', 'semantic'),
        'fine': ('coarse',),
    }
    ways = oracle_chain.make_ways(sampled, reads, {}, ('coarse', 'fine'))
    names = ['prompt, semantic, coarse', 'prompt, semantic', 'prompt']
    self.assertEqual(list(map(str, ways)), names)

  def test_plan_and_melody(self):
    conditions = {
        'chord': plan_streams.STREAMS['chord'],
        'melody': base.MELODY,
    }
    reads = {
        'semantic': ('mulan', 'chord', 'melody'),
        'acoustic': ('semantic', 'chord'),
    }
    # The codec has quantizers that no stage writes.
    ways = oracle_chain.make_ways(
        ('semantic', 'acoustic'), reads, conditions, ('acoustic', 'rest')
    )
    expected = [
        'prompt, semantic, acoustic',
        'prompt, semantic, chord',
        'prompt, chord, melody',
        'prompt, chord',
        'prompt',
        "prompt; another clip's chord, melody",
    ]
    self.assertEqual(list(map(str, ways)), expected)


class CascadeTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(directory, has_melody=True)
    loaded = oracle_chain.Cascade.load(pretrained.find(directory))
    cls.cascade = oracle_chain.Cascade(
        loaded.tokenizers, loaded.sampler, loaded.ways, SECONDS
    )
    rng = np.random.default_rng(0)
    all_streams = (
        *loaded.sampler.sampled,
        loaded.sampler.prompts,
        *loaded.sampler.conditions.values(),
    )
    cls.tokens = {
        s.name: rng.integers(
            s.codebook_size,
            size=(CLIPS, max(1, s.num_frames(SECONDS)), s.num_quantizers),
            dtype=np.int32,
        )
        for s in all_streams
    }

  def test_what_is_true_stays_and_the_rest_is_left_to_write(self):
    way = oracle_chain.Way(('semantic', 'coarse'), ())
    takes = self.cascade.blank(self.tokens, way)
    self.assertLen(takes, CLIPS)
    self.assertLen({take.layout for take in takes}, 1)  # One batch.
    for clip, take in enumerate(takes):
      for name in ('semantic', 'coarse', 'mulan'):
        true = self.tokens[name][[clip]]
        np.testing.assert_array_equal(
            take.tokens[name][:, : true.shape[1]], true
        )
      self.assertTrue(np.all(take.tokens['fine'] == streams.ABSENT))

  def test_conditions_are_own_or_swapped_or_unknown(self):
    told = tuple(self.cascade.sampler.conditions)
    self.assertEqual(told, ('melody',))
    for swapped, order in ((False, (0, 1, 2)), (True, (1, 2, 0))):
      way = oracle_chain.Way((), told, swapped)
      takes = self.cascade.blank(self.tokens, way)
      for take, clip in zip(takes, order, strict=True):
        np.testing.assert_array_equal(
            take.tokens['melody'][0], self.tokens['melody'][clip]
        )
    [take, *_] = self.cascade.blank(self.tokens, oracle_chain.Way((), ()))
    self.assertEqual(take.tokens['melody'].shape[1], 0)

  def test_nothing_left_to_write_is_the_codec_alone(self):
    way = oracle_chain.Way(('semantic', 'coarse', 'fine'), ())
    made = self.cascade.write(self.cascade.blank(self.tokens, way))
    self.assertEqual(made.shape, (CLIPS, round(SECONDS * self.cascade.rate)))
    np.testing.assert_array_equal(made, self.cascade.decode(self.tokens))


class CellsTest(absltest.TestCase):

  def test_mean_and_standard_error(self):
    row = oracle_chain.cells('x', {'chroma': [1.0, 2.0, 3.0], 'kernel': [5, 1]})
    expected = {'true': 'x', 'chroma': '2 ± 0.58', 'kernel': '5 ± 1'}
    self.assertEqual(row, expected)


if __name__ == '__main__':
  absltest.main()
