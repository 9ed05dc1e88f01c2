"""Tests for frechet."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import frechet
import numpy as np
import scipy.linalg


def gaussian(seed, count, width, scale=1.0):
  """Returns embeddings of dimensions that depend on each other."""
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=(width, width))
  return scale * rng.normal(size=(count, width)) @ mix + rng.normal(size=width)


def by_scipy(x, y):
  covariances = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
  product = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
  difference = x.mean(axis=0) - y.mean(axis=0)
  return difference @ difference + np.trace(
      covariances[0] + covariances[1] - 2 * product.real
  )


class FrechetDistanceTest(parameterized.TestCase):

  @parameterized.parameters((3, 50, 80), (16, 17, 400), (128, 300, 200))
  def test_equals_scipy(self, width, n, m):
    x, y = gaussian(0, n, width), gaussian(1, m, width, scale=2.0)
    np.testing.assert_allclose(
        frechet.frechet_distance(x, y), by_scipy(x, y), rtol=1e-6
    )

  def test_of_a_shift(self):
    # Equal covariances: only the means differ, by 3 and 4.
    x = gaussian(0, 100, 2)
    distance = frechet.frechet_distance(x, x + np.array([3.0, 4.0]))
    np.testing.assert_allclose(distance, 25, rtol=1e-9)

  def test_of_one_dimension(self):
    # (μ1 - μ2)² + (σ1 - σ2)², with variances 2 and 8 of two points.
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
    distance = frechet.frechet_distance(x, y)
    np.testing.assert_allclose(distance, 4 + 2, rtol=1e-12)

  def test_of_commuting_covariances(self):
    # Axes scaled by 1, 2, 3: standard deviations differ by 0, s2, 2 s3.
    x = gaussian(0, 500, 3)
    x = np.linalg.qr(x - x.mean(axis=0))[0] * np.sqrt(499)  # Covariance 1.
    distance = frechet.frechet_distance(x, x * np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(distance, 0 + 1 + 4, rtol=1e-9)

  def test_of_itself_is_zero(self):
    x = gaussian(0, 60, 8)
    self.assertLess(frechet.frechet_distance(x, x[::-1]), 1e-9)
    self.assertGreaterEqual(frechet.frechet_distance(x, x[::-1]), 0)

  def test_order_of_sets_does_not_matter(self):
    x, y = gaussian(0, 40, 8), gaussian(1, 70, 8)
    np.testing.assert_allclose(
        frechet.frechet_distance(x, y), frechet.frechet_distance(y, x)
    )

  def test_dimensions_that_are_constant(self):
    x, y = gaussian(0, 40, 3), gaussian(1, 70, 3)
    expected = frechet.frechet_distance(x, y)
    pad = ((0, 0), (0, 2))
    distance = frechet.frechet_distance(np.pad(x, pad), np.pad(y, pad))
    np.testing.assert_allclose(distance, expected, rtol=1e-9)

  def test_float32_loses_nothing(self):
    # Means far from 0 would drown variances in float32 sums.
    x = (gaussian(0, 4000, 4) / 10 + 1000).astype(np.float32)
    distance = frechet.frechet_distance(x, x + np.float32(2))
    np.testing.assert_allclose(distance, 16, rtol=1e-6)

  @parameterized.parameters(
      ((9, 8), (20, 4), 'one width, but are of 8 and 4'),
      ((8, 8), (20, 8), 'embeddings must be more .* 8, .* but are 8'),
      ((20, 8), (3, 8), 'references must be more .* but are 3'),
  )
  def test_rejects_shapes(self, shape, other, message):
    with self.assertRaisesRegex(ValueError, message):
      frechet.frechet_distance(np.ones(shape), np.ones(other))

  def test_rejects_nan(self):
    x = gaussian(0, 40, 3)
    bad = np.where(np.arange(40)[:, None] == 7, np.nan, x)
    with self.assertRaisesRegex(ValueError, 'references must be finite'):
      frechet.frechet_distance(x, bad)


if __name__ == '__main__':
  absltest.main()
