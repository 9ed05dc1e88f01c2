"""Tests for kmeans."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import kmeans
import numpy as np
from sklearn import cluster


def inertia(points, centroids):
  distances = np.linalg.norm(points[:, None] - centroids, axis=-1)
  return float(np.sum(distances.min(axis=1) ** 2))


class NearestTest(parameterized.TestCase):

  @parameterized.parameters(5, 20000)
  def test_matches_brute_force(self, num_points):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(num_points, 3)).astype(np.float32)
    centroids = rng.normal(size=(7, 3)).astype(np.float32)
    distances = np.linalg.norm(points[:, None] - centroids, axis=-1)
    np.testing.assert_array_equal(
        kmeans.nearest(jnp.asarray(points), jnp.asarray(centroids)),
        distances.argmin(axis=-1),
    )

  def test_is_float32_for_bfloat16_points(self):
    # 1 + 2^-6 and 1 are one bfloat16 step apart at 2: products would tie.
    centroids = jnp.asarray([[128.0], [129.0]])
    points = jnp.asarray([[129.0], [128.0]], jnp.bfloat16)
    np.testing.assert_array_equal(kmeans.nearest(points, centroids), [1, 0])


class KmeansTest(parameterized.TestCase):

  def test_finds_separate_clusters(self):
    rng = np.random.default_rng(0)
    centers = 10 * np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2)
    points = np.repeat(centers, 20, axis=0) + 0.1 * rng.normal(size=(320, 2))
    centroids = kmeans.kmeans(jnp.asarray(points, jnp.float32), 16)
    means = points.reshape(16, 20, 2).mean(axis=1)
    order = np.lexsort(np.round(means).T)
    found = np.asarray(centroids)
    np.testing.assert_allclose(
        found[np.lexsort(np.round(found / 10).T)],
        means[order],
        atol=1e-4,
    )

  def test_starts_are_spread(self):
    # Two far points among many near ones: uniform starts would miss them.
    points = np.concatenate([np.zeros((500, 2)), [[9, 0], [0, 9]]])
    centroids = kmeans.kmeans(
        jnp.asarray(points, jnp.float32), 3, num_iterations=0
    )
    self.assertEqual(inertia(points, np.asarray(centroids)), 0)

  def test_iterations_lower_the_inertia(self):
    points = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    values = [
        inertia(points, np.asarray(kmeans.kmeans(points, 16, num_iterations=n)))
        for n in (0, 1, 10)
    ]
    self.assertGreater(values[0], values[1])
    self.assertGreater(values[1], values[2])

  def test_starts_are_the_best_of_several(self):
    # Greedy starts: nearer to all points than those drawn one at a time.
    points = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    greedy = [
        inertia(points, np.asarray(kmeans.kmeans(points, 64, s, 0)))
        for s in range(3)
    ]
    plain = [
        inertia(
            points,
            cluster.kmeans_plusplus(
                points, 64, n_local_trials=1, random_state=s
            )[0],
        )
        for s in range(3)
    ]
    self.assertLess(max(greedy), min(plain))

  def test_reaches_the_inertia_of_scikit_learn(self):
    # Clusters that overlap: where the starts and the end of iterations matter.
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(40, 6))
    points = centers[rng.integers(40, size=3000)] + rng.normal(size=(3000, 6))
    points = points.astype(np.float32)
    theirs = cluster.KMeans(64, n_init=3, random_state=0).fit(points)
    ours = inertia(points, np.asarray(kmeans.kmeans(points, 64)))
    self.assertLess(ours, 1.01 * theirs.inertia_)

  def test_settles_where_more_iterations_change_nothing(self):
    points = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    first, second = (
        np.asarray(kmeans.kmeans(points, 16, num_iterations=n))
        for n in (200, 400)
    )
    np.testing.assert_array_equal(first, second)
    codes = np.asarray(kmeans.nearest(points, first))
    means = np.stack([points[codes == c].mean(axis=0) for c in range(16)])
    # One more iteration would gain less than a hundredth of a percent.
    self.assertLess(inertia(points, first) / inertia(points, means), 1.0001)

  def test_fewer_points_than_codes(self):
    points = jax.random.normal(jax.random.key(0), (3, 2))
    centroids = kmeans.kmeans(points, 8)
    self.assertTrue(np.isfinite(centroids).all())
    self.assertLess(inertia(np.asarray(points), np.asarray(centroids)), 1e-9)

  def test_rejects_no_points(self):
    with self.assertRaisesRegex(ValueError, r'at least one row.*\(0, 4\)'):
      kmeans.kmeans(jnp.zeros((0, 4)), 8)


if __name__ == '__main__':
  absltest.main()
