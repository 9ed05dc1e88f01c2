"""Tests for mulan."""

from absl.testing import absltest
from musiclm_jax.metrics import mulan
import numpy as np


class RetrievalTest(absltest.TestCase):

  def test_ranks_count_items_at_least_as_near(self):
    similarities = np.array([[0.9, 0.5, 0.7], [0.2, 0.2, 0.1]])
    np.testing.assert_array_equal(
        mulan.ranks(similarities, np.array([2, 0])), [2, 2]
    )

  def test_recall_and_median_rank(self):
    items = np.eye(4)
    # The first two find theirs at once, the third at rank 2, the last at 4.
    queries = np.array(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.8, 0.6, 0], [0.7, 0.6, 0.5, 0.1]]
    )
    result = mulan.retrieval(queries, items, np.arange(4), cutoffs=(1, 2))
    self.assertEqual(result['recall@1'], 0.5)
    self.assertEqual(result['recall@2'], 0.75)
    self.assertEqual(result['chance@2'], 0.5)
    self.assertEqual(result['median_rank'], 1.5)
    self.assertEqual(result['pool_size'], 4)

  def test_collapsed_embeddings_rank_last(self):
    same = np.ones((5, 3)) / np.sqrt(3)
    result = mulan.retrieval(same, same, np.arange(5), cutoffs=(1,))
    self.assertEqual(result['recall@1'], 0)
    self.assertEqual(result['median_rank'], 5)

  def test_rejects_no_queries(self):
    with self.assertRaisesRegex(ValueError, 'at least one.*captions'):
      mulan.retrieval(np.zeros((0, 3)), np.eye(3), np.zeros(0, int))


if __name__ == '__main__':
  absltest.main()
