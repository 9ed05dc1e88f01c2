"""Tests for text_agreement."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import text_agreement
from musiclm_jax.metrics.embedders import base
import numpy as np

WIDTH = 24


class Joint(base.JointEmbedder):
  """Embeds a text as a random direction that is the text's own."""

  identity = base.Identity('joint', 'a' * 64, 100, 1.0, WIDTH)

  def embed_audio(self, audio):
    raise AssertionError('clips are embedded already')

  def embed_text(self, texts):
    found = [
        np.random.default_rng(list(x.encode())).normal(size=WIDTH)
        for x in texts
    ]
    return np.stack([x / np.linalg.norm(x) for x in found])


def clips_of(prompts, noise):
  """Returns embedded clips that are near to their prompts."""
  rng = np.random.default_rng(0)
  clips = [
      row + noise * rng.normal(size=(2, WIDTH))
      for row in Joint().embed_text(prompts)
  ]
  return embedded_sets.make(clips, Joint.identity, 'made')


class AgreementTest(parameterized.TestCase):

  def test_of_clips_that_are_their_prompts(self):
    prompts = [f'prompt {i}' for i in range(20)]
    found = text_agreement.measure(Joint(), clips_of(prompts, 0), prompts)
    np.testing.assert_allclose(found.cosines, 1, rtol=1e-6)
    np.testing.assert_array_equal(found.ranks, 1)
    self.assertEqual(found.recall(1).value, 1)
    self.assertEqual(found.median_rank, 1)
    self.assertEqual(found.pool, 20)

  def test_by_loops(self):
    prompts = [f'prompt {i}' for i in range(6)]
    made = clips_of(prompts, 0.3)
    found = text_agreement.measure(Joint(), made, prompts)
    text = Joint().embed_text(prompts)
    for i in range(6):
      mean = made.embeddings[2 * i : 2 * i + 2].mean(axis=0)
      cosines = [mean @ t / np.linalg.norm(mean) for t in text]
      self.assertAlmostEqual(found.cosines[i], cosines[i], places=5)
      others = np.mean([c for j, c in enumerate(cosines) if j != i])
      self.assertAlmostEqual(found.others[i], others, places=5)
      rank = sum(c >= cosines[i] - 1e-9 for c in cosines)
      self.assertEqual(found.ranks[i], rank)

  def test_shuffled_prompts_score_at_chance(self):
    prompts = [f'prompt {i}' for i in range(200)]
    made = clips_of(prompts, 0.2)
    right = text_agreement.measure(Joint(), made, prompts)
    self.assertGreater(right.score.value, 0.6)
    self.assertGreater(right.recall(1).value, 0.9)
    shuffled = np.random.default_rng(1).permutation(prompts).tolist()
    found = text_agreement.measure(Joint(), made, shuffled)
    margin, rank = found.margin, found.mean_rank
    self.assertLess(abs(margin.value), 3 * margin.standard_error)
    self.assertLess(abs(rank.value - 100.5), 3 * rank.standard_error)
    self.assertLess(found.recall(10).value, 0.05 + 3 * 0.0154)

  def test_takes_of_one_prompt_are_one_choice(self):
    prompts = ['waltz', 'waltz', 'techno']
    found = text_agreement.measure(Joint(), clips_of(prompts, 0), prompts)
    np.testing.assert_array_equal(found.ranks, 1)
    self.assertEqual(found.pool, 2)

  @parameterized.parameters(
      (['waltz'], '2 clips.*1 came'),
      (['waltz', 'waltz'], 'two or more must differ'),
  )
  def test_rejects(self, prompts, message):
    with self.assertRaisesRegex(ValueError, message):
      text_agreement.measure(Joint(), clips_of(['a', 'b'], 0), prompts)

  def test_rejects_clips_of_another_embedder(self):
    made = clips_of(['a', 'b'], 0)
    other = base.Identity('other', 'b' * 64, 100, 1.0, WIDTH)
    made = embedded_sets.make([made.embeddings] * 2, other, 'made')
    with self.assertRaisesRegex(ValueError, "one embedder.*'other'"):
      text_agreement.measure(Joint(), made, ['a', 'b'])


if __name__ == '__main__':
  absltest.main()
