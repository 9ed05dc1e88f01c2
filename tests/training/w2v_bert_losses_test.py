"""Tests for w2v_bert_losses."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.training import w2v_bert_losses
import numpy as np


class SpanMaskTest(parameterized.TestCase):

  def test_each_frame_is_masked_as_often_as_spans_say(self):
    mask = w2v_bert_losses.span_mask(jax.random.key(0), (4000, 30), 0.065, 10)
    frames = np.arange(30)
    # Frame t is reached by the spans that start at t - 9 … t.
    expected = 1 - 0.935 ** np.minimum(frames + 1, 10)
    np.testing.assert_allclose(mask.mean(axis=0), expected, atol=0.03)

  def test_runs_are_at_least_a_span_long(self):
    mask = w2v_bert_losses.span_mask(jax.random.key(0), (200, 60), 0.05, 4)
    for row in np.asarray(mask, int):
      edges = np.diff(np.concatenate([[0], row, [0]]))
      starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
      inside = ends < 60  # The end of the clip cuts spans off.
      self.assertTrue(((ends - starts)[inside] >= 4).all())

  def test_all_or_nothing(self):
    draw = lambda p: w2v_bert_losses.span_mask(jax.random.key(0), (2, 9), p, 3)
    self.assertTrue(draw(1.0).all())
    self.assertFalse(draw(0.0).any())


class ContrastiveTest(absltest.TestCase):

  def test_distractors_are_the_other_masked_frames_equally_often(self):
    mask = jnp.array([[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 0]], bool)
    drawn = w2v_bert_losses.sample_distractors(jax.random.key(0), mask, 6000)
    share = lambda b, t: np.bincount(drawn[b, t], minlength=6) / 6000
    for frame in (0, 2, 3, 5):
      others = [f for f in (0, 2, 3, 5) if f != frame]
      expected = np.zeros(6)
      expected[others] = 1 / 3
      np.testing.assert_allclose(share(0, frame), expected, atol=0.03)
    np.testing.assert_array_equal(share(1, 1), [0, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(share(1, 4), [0, 1, 0, 0, 0, 0])

  def test_logits_by_hand(self):
    context = jnp.array([[[2.0, 0.0], [1.0, 1.0]]])
    quantized = jnp.array([[[3.0, 0.0], [0.0, 5.0]]])
    distractors = jnp.array([[[1, 1, 0], [0, 0, 1]]])
    logits = w2v_bert_losses.contrastive_logits(
        context, quantized, distractors, 0.5
    )
    half = 2 * np.sqrt(0.5)  # cos 45° over the temperature
    expected = [[[2, 0, 0, 2], [half, half, half, half]]]
    np.testing.assert_allclose(logits, expected, atol=1e-6)

  def test_diversity_loss_by_hand(self):
    equal = jnp.zeros((2, 3, 8))
    self.assertAlmostEqual(
        float(w2v_bert_losses.diversity_loss(equal)), 0, places=5
    )
    one = jnp.zeros((2, 3, 8)).at[..., 5].set(100)
    self.assertAlmostEqual(
        float(w2v_bert_losses.diversity_loss(one)), np.log(8), places=5
    )
    # Each frame is sure, but the frames differ: two codes of eight.
    two = one.at[0].set(jnp.zeros(8).at[1].set(100))
    self.assertAlmostEqual(
        float(w2v_bert_losses.diversity_loss(two)), np.log(4), places=5
    )


if __name__ == '__main__':
  absltest.main()
