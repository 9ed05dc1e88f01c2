"""Tests for patterns."""

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
from musiclm_jax.models import patterns
import numpy as np

FLAT, DELAY = patterns.Pattern(3, False), patterns.Pattern(3, True)
IDS = np.array([[11, 12, 13], [21, 22, 23]])  # Of two frames.


class PatternTest(parameterized.TestCase):

  def test_flat_by_hand(self):
    laid_out = FLAT.to_positions(IDS)
    np.testing.assert_array_equal(laid_out[:, 0], [11, 12, 13, 21, 22, 23])
    frames, quantizers = FLAT.places(np.array([0, 4]))
    np.testing.assert_array_equal(frames, [[0], [1]])
    np.testing.assert_array_equal(quantizers, [[0], [1]])

  def test_delay_by_hand(self):
    expected = [[11, 0, 0], [21, 12, 0], [0, 22, 13], [0, 0, 23]]
    np.testing.assert_array_equal(DELAY.to_positions(IDS), expected)
    frames, quantizers = DELAY.places(np.array([0, 3]))
    np.testing.assert_array_equal(frames, [[0, -1, -2], [3, 2, 1]])
    np.testing.assert_array_equal(quantizers, [0, 1, 2])

  @parameterized.parameters(
      (FLAT, [[0, 4, 5, 11, 12, 13, 21, 22]]),
      (
          DELAY,
          [
              [0, 0, 0],
              [4, 0, 0],
              [5, 0, 0],
              [11, 0, 0],
              [21, 12, 0],
              [0, 22, 13],
          ],
      ),
  )
  def test_a_position_reads_the_one_before(self, pattern, expected):
    read = pattern.read(jnp.array([[4, 5]]), IDS.reshape(1, -1))[0]
    expected = np.array(expected)
    if not pattern.is_delayed:
      expected = expected.T
    np.testing.assert_array_equal(read, expected)

  @parameterized.product(pattern=[FLAT, DELAY], numpy=[np, jnp])
  def test_back_and_forth(self, pattern, numpy):
    ids = numpy.arange(2 * 5 * 3).reshape(2, 5, 3)
    laid_out = pattern.to_positions(ids)
    self.assertEqual(laid_out.shape[1], pattern.num_positions(5))
    self.assertEqual(laid_out.shape[2], pattern.width)
    np.testing.assert_array_equal(pattern.to_frames(laid_out), ids)
    each = numpy.stack([laid_out, laid_out + 1], -1)
    np.testing.assert_array_equal(pattern.to_frames(each)[..., 1], ids + 1)

  @parameterized.parameters(
      (FLAT, [0, 0, 0, 1, 1, 1, 2], 3), (DELAY, [0, 0, 0, 1, 2, 3, 4], 1)
  )
  def test_whole_frames(self, pattern, counts, first):
    self.assertEqual([pattern.num_frames(n) for n in range(7)], counts)
    self.assertEqual(pattern.first_position(1), first)

  def test_empty_places_add_nothing(self):
    table = jnp.eye(24)
    embed = lambda ids: table[ids]
    added = patterns.add_up(embed, jnp.array([[0, 0, 0], [21, 12, 0]]))
    root = 3**0.5
    np.testing.assert_allclose(added[0], table[0] / root, rtol=1e-6)
    expected = (table[21] + table[12]) / root
    np.testing.assert_allclose(added[1], expected, rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
