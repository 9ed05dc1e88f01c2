"""Tests for positions."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import positions
from musiclm_jax.stages import base as stages
import numpy as np


def t5_bucket(relative, num_buckets, max_distance, bidirectional):
  """The formula of T5, one number at a time, in double precision."""
  bucket, n = 0, -relative
  if bidirectional:
    num_buckets //= 2
    bucket += num_buckets if n < 0 else 0
    n = abs(n)
  n = max(n, 0)
  exact = num_buckets // 2
  if n < exact:
    return bucket + n
  # The epsilon is T5's, too: logarithms of powers must not fall short.
  far = math.log(n / exact + np.finfo(np.float32).eps)
  far = exact + int(
      far / math.log(max_distance / exact) * (num_buckets - exact)
  )
  return bucket + min(far, num_buckets - 1)


class RelativeBucketsTest(parameterized.TestCase):

  @parameterized.product(
      sizes=((32, 128), (32, 1024), (16, 100)), bidirectional=(False, True)
  )
  def test_is_the_formula_of_t5(self, sizes, bidirectional):
    relative = np.arange(-1500, 1500)
    buckets = positions.relative_buckets(
        jnp.asarray(relative), *sizes, bidirectional
    )
    expected = [t5_bucket(int(r), *sizes, bidirectional) for r in relative]
    np.testing.assert_array_equal(buckets, expected)

  def test_buckets_by_hand(self):
    # 4 exact ones, then 4 that double: 4-7, 8-15, 16-31, and 32 on.
    relative = jnp.array([2, 0, -3, -4, -7, -8, -15, -16, -31, -32, -999])
    buckets = positions.relative_buckets(relative, 8, 64)
    np.testing.assert_array_equal(buckets, [0, 0, 3, 4, 4, 5, 5, 6, 6, 7, 7])


class NearFirstTest(absltest.TestCase):

  def test_falls_with_distance_on_both_sides(self):
    table = positions.near_first(jax.random.key(0), (2, 8))
    # Distances 0 to 3 of keys before, then of keys after.
    expected = np.array([0, -1, -2, -3] * 2)
    np.testing.assert_allclose(table, [expected, expected / 16])


class FramesTest(absltest.TestCase):

  def test_coarse(self):
    stage = stages.get_stage('coarse')
    # 12 MuLan tokens, 2 semantic frames at half the rate, 3 coarse frames.
    frames = positions.frames(stage, 14, 12)
    expected = [-1] * 12 + [0, 2] + [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(frames, expected)

  def test_fine(self):
    frames = positions.frames(stages.get_stage('fine'), 8, 16)
    expected = [0] * 4 + [1] * 4 + [0] * 8 + [1] * 8
    np.testing.assert_array_equal(frames, expected)

  def test_semantic(self):
    frames = positions.frames(stages.get_stage('semantic'), 12, 3)
    np.testing.assert_array_equal(frames, [-1] * 12 + [0, 1, 2])


if __name__ == '__main__':
  absltest.main()
