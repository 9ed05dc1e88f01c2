"""Tests for kernel."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import kernel
import numpy as np


def by_loops(x, y):
  """Returns 100 times the unbiased squared MMD, one pair at a time."""
  pairs = [np.linalg.norm(a - b) for i, a in enumerate(y) for b in y[i + 1 :]]
  sigma = np.median(pairs)

  def mean(u, v, is_same):
    values = [
        np.exp(-np.sum((a - b) ** 2) / (2 * sigma**2))
        for i, a in enumerate(u)
        for j, b in enumerate(v)
        if not (is_same and i == j)
    ]
    return np.mean(values)

  return 100 * (mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False))


class KernelTest(parameterized.TestCase):

  @parameterized.parameters((2, 2, 3), (20, 30, 4), (40, 25, 64))
  def test_equals_loops(self, n, m, width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, width)) * 1.5 + 1000.3
    y = rng.normal(size=(m, width)) + 1000
    np.testing.assert_allclose(
        kernel.kernel_distance(x, y), by_loops(x, y), atol=1e-6
    )

  def test_has_no_bias_where_sets_are_small(self):
    rng = np.random.default_rng(0)
    for count in (5, 50):
      draws = [
          kernel.kernel_distance(*rng.normal(size=(2, count, 8)))
          for _ in range(200)
      ]
      error = np.std(draws) / len(draws) ** 0.5
      self.assertLess(abs(np.mean(draws)), 3 * error)

  def test_clips_sum_the_kernels_of_their_windows(self):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(6, 3))
    full = np.exp(-np.sum((x[:, None] - y) ** 2, axis=-1) / (2 * 1.3**2))
    expected = [
        [full[rows, :4].sum(), full[rows, 4:].sum()]
        for rows in (slice(0, 1), slice(1, 3), slice(3, 5))
    ]
    for entries in (1 << 22, 12, 7):  # One block, one clip too many, each.
      with mock.patch.object(kernel, '_MAX_ENTRIES', entries):
        found = kernel.clip_kernels(
            x, y, np.array([0, 1, 3]), np.array([0, 4]), 1.3
        )
      np.testing.assert_allclose(found, expected)

  def test_median_of_many_is_near_that_of_some(self):
    x = np.random.default_rng(0).normal(size=(3000, 4))
    exact = np.median(np.linalg.norm(x[:1500] - x[1500:], axis=1))
    np.testing.assert_allclose(kernel.median_distance(x), exact, rtol=0.05)

  @parameterized.parameters(
      (np.ones((1, 3)), np.ones((5, 3)), 'embeddings must be two or more'),
      (np.ones((5, 3)), np.full((5, 3), np.inf), 'references .*15 values'),
      (np.ones((5, 3)), np.ones((5, 2)), 'one width, but are of 3 and 2'),
      (np.ones((5, 3)), np.ones((5, 3)), 'most of 5 are equal'),
  )
  def test_rejects(self, x, y, message):
    with self.assertRaisesRegex(ValueError, message):
      kernel.kernel_distance(x, y)


if __name__ == '__main__':
  absltest.main()
