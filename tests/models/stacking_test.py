"""Tests for stacking."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax.models import stacking
import numpy as np


class StackingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    # More than ten: 'layers_10' must not come before 'layers_2'.
    self.layers = {f'layers_{i}': {'a': jnp.full((2,), i)} for i in range(12)}
    self.params = {**self.layers, 'head': jnp.ones(3)}

  def assert_same(self, found, expected):
    self.assertEqual(jax.tree.structure(found), jax.tree.structure(expected))
    jax.tree.map(np.testing.assert_array_equal, found, expected)

  def test_stacks_in_order(self):
    stacked = stacking.stack(self.params)
    self.assertEqual(set(stacked), {'layers', 'head'})
    np.testing.assert_array_equal(stacked['layers']['a'][:, 0], np.arange(12))

  def test_round_trip(self):
    stacked = stacking.stack(self.params)
    self.assert_same(stacking.unstack(stacked), self.params)

  def test_leaves_a_layout_that_is_there(self):
    stacked = stacking.stack(self.params)
    self.assert_same(stacking.stack(stacked), stacked)
    self.assert_same(stacking.unstack(self.params), self.params)


if __name__ == '__main__':
  absltest.main()
