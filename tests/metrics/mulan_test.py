"""Tests for mulan."""

from absl.testing import absltest
from musiclm_jax.metrics import mulan
import numpy as np
from sklearn import metrics as sklearn_metrics


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


class TaggingTest(absltest.TestCase):

  def test_classification_by_hand(self):
    scores = np.array(
        [[0.9, 0.1, 0], [0.8, 0.7, 0], [0.1, 0.2, 0], [0, 0.1, 0.3]]
    )
    result = mulan.classification(scores, np.array([0, 0, 0, 1]))
    self.assertEqual(result['accuracy'], 0.5)
    self.assertEqual(result['chance'], 1 / 3)
    self.assertEqual(result['majority'], 0.75)
    # 2 of 3 of the first class, none of the second.
    self.assertAlmostEqual(result['balanced_accuracy'], 1 / 3)

  def test_rejects_no_labels(self):
    with self.assertRaisesRegex(ValueError, 'at least one clip.*not known'):
      mulan.classification(np.zeros((0, 2)), np.zeros(0, int))

  def test_equals_scikit_learn(self):
    rng = np.random.default_rng(0)
    for _ in range(20):
      truth = rng.random(30) < 0.3
      truth[:2] = True, False
      # Rounded, so that some tie.
      scores = np.round(rng.standard_normal(30) + truth, 1)
      self.assertAlmostEqual(
          mulan.average_precision(scores, truth),
          sklearn_metrics.average_precision_score(truth, scores),
      )
      self.assertAlmostEqual(
          mulan.roc_auc(scores, truth),
          sklearn_metrics.roc_auc_score(truth, scores),
      )


if __name__ == '__main__':
  absltest.main()
