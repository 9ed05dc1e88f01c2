"""Tests for likelihood."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.models import likelihood
import numpy as np
import optax

STAGE = streams.Stage(
    'a',
    (streams.Stream('read', 1, 5, 2.0),),
    streams.Stream('written', 2, 8, 2.0),
    1.0,
)


class LikelihoodTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    # Two frames of two quantizers, whose codes begin at ids 7 and 15.
    self.codes = np.array([[0, 3, 7, 0], [2, 1, 0, 0]])
    targets = self.codes + np.array([7, 15, 7, 15])
    targets[1, 2:] = 0
    self.targets = jnp.asarray(targets)

  def test_ids_become_codes(self):
    np.testing.assert_array_equal(likelihood.offsets(STAGE, 4), [7, 15, 7, 15])
    np.testing.assert_array_equal(
        likelihood.codes(STAGE, self.targets), self.codes
    )

  def test_nats_are_the_cross_entropy(self):
    logits = 9 * jax.random.normal(jax.random.key(0), (2, 4, 8))
    nats, seen = likelihood.nats(STAGE, logits, self.targets)
    expected = optax.softmax_cross_entropy_with_integer_labels(
        logits, self.codes
    )
    np.testing.assert_array_equal(nats, expected)
    self.assertEqual(seen.sum(), 6)
    np.testing.assert_array_equal(seen[1], [True, True, False, False])


if __name__ == '__main__':
  absltest.main()
