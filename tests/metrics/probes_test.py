"""Tests for probes."""

from unittest import mock

from absl.testing import absltest
from musiclm_jax.metrics import probes
import numpy as np
from sklearn import linear_model

FOLDS = np.repeat(np.arange(5), 8)


class AssignTest(absltest.TestCase):

  def test_works_stay_together_in_folds_of_one_size(self):
    works = [f'work{i % 11}' for i in range(60)]
    folds = probes.assign_folds(works)
    self.assertLen(set(zip(works, folds, strict=True)), 11)
    sizes = np.bincount(folds, minlength=5)
    # Five works have 6 clips and six have 5: two to a fold, and one over.
    self.assertEqual(sorted(sizes), [11, 11, 11, 11, 16])

  def test_halves_are_balanced(self):
    halves = probes.assign_halves(['piano'] * 5 + ['harp'] * 3 + ['oboe'] * 2)
    np.testing.assert_array_equal(halves, [0] * 5 + [1] * 5)

  def test_rejects_few_works(self):
    with self.assertRaisesRegex(ValueError, 'at least 5 works.*but are of 4'):
      probes.assign_folds(['a', 'b', 'c', 'd', 'a'])


class AccuracyTest(absltest.TestCase):

  def test_reads_what_is_linear(self):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    labels = np.where(x[:, 1] > 0, 'up', 'down')
    self.assertGreater(
        probes.accuracy(lambda fold: x, labels.tolist(), FOLDS), 0.85
    )

  def test_learns_nothing_of_the_fold_that_is_tested(self):
    # Features tell the fold, and so would tell the label to who had seen it.
    x = np.eye(5)[FOLDS]
    labels = np.array(list('abcde'))[FOLDS]
    self.assertEqual(probes.accuracy(lambda fold: x, labels.tolist(), FOLDS), 0)

  def test_features_are_of_the_fold_that_is_tested(self):
    labels = np.array(['a', 'b'] * 20)
    signs = np.where(labels == 'a', 1.0, -1.0)[:, None]
    right = probes.accuracy(
        lambda fold: signs * (fold < 3), labels.tolist(), FOLDS
    )
    # In two folds of five there is nothing to go by, and classes tie.
    self.assertEqual(right, 3 / 5 + 2 / 5 / 2)

  def test_halves_are_told_by_the_other_half(self):
    labels = np.array(['a', 'b'] * 20)
    halves = np.tile([0, 0, 1, 1], 10)
    signs = np.where(labels == 'a', 1.0, -1.0)
    # What means one class in one half means the other in the other half.
    x = (signs * np.where(halves == 0, 1, -1))[:, None]
    x = np.concatenate([x, np.eye(2)[halves]], axis=1)
    self.assertEqual(
        probes.accuracy(lambda fold: x, labels.tolist(), FOLDS, halves), 0
    )

  def test_equals_scikit_learn(self):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    labels = rng.choice(list('abc'), 40)
    right = []
    for fold in range(5):
      test = FOLDS == fold
      ridge = linear_model.RidgeClassifier(alpha=2.0)
      ridge.fit(x[~test], labels[~test])
      right.append(ridge.predict(x[test]) == labels[test])
    with mock.patch.object(probes, '_STRENGTHS', (2.0,)):
      found = probes.accuracy(lambda fold: x, labels.tolist(), FOLDS)
    self.assertAlmostEqual(found, np.mean(right))

  def test_penalty_is_chosen(self):
    rng = np.random.default_rng(0)
    folds = np.tile(np.arange(5), 40)
    is_b = np.arange(200) % 4 == 0
    labels = np.where(is_b, 'b', 'a').tolist()
    signal = np.where(is_b, 1.0, -1.0)[:, None]
    noise = rng.normal(size=(200, 100))
    with mock.patch.object(probes, '_STRENGTHS', (1e-3, 1e9)):
      # So strong a penalty always names the most frequent class...
      self.assertEqual(probes.accuracy(lambda f: signal, labels, folds), 1)
      # ...which is the best there is where there is nothing to read.
      self.assertEqual(probes.accuracy(lambda f: noise, labels, folds), 0.75)
    with mock.patch.object(probes, '_STRENGTHS', (1e-3,)):
      self.assertLess(probes.accuracy(lambda f: noise, labels, folds), 0.7)

  def test_one_fold_trains_nothing(self):
    x, folds = np.ones((3, 2)), np.zeros(3, int)
    self.assertIsNone(probes.accuracy(lambda fold: x, list('aab'), folds))

  def test_one_class_is_always_named(self):
    x = np.random.default_rng(0).normal(size=(40, 2))
    self.assertEqual(probes.accuracy(lambda f: x, ['a'] * 40, FOLDS), 1)


if __name__ == '__main__':
  absltest.main()
