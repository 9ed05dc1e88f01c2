"""Tests for optimizers."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import core
import jax
import jax.numpy as jnp
from musiclm_jax.training import optimizers
import numpy as np


class ScheduleTest(parameterized.TestCase):

  @parameterized.parameters(
      # Warm-up to the peak of 1 in 10 steps; what follows, by hand.
      ('cosine', {0: 0.1, 9: 1.0, 10: 1.0, 60: 0.505, 110: 0.01}),
      ('rsqrt', {0: 0.1, 9: 1.0, 10: 1.0, 40: 0.5}),
      ('constant', {0: 0.1, 9: 1.0, 10: 1.0, 110: 1.0}),
      ('trapezoid', {0: 0.1, 9: 1.0, 10: 1.0, 88: 1.0, 99: 0.5, 110: 0.0}),
  )
  def test_values(self, name, expected):
    schedule = optimizers.schedule(1.0, 10, 110, name)
    for step, value in expected.items():
      np.testing.assert_allclose(schedule(step), value, rtol=1e-6)

  def test_warmup_takes_at_most_half(self):
    schedule = optimizers.schedule(1.0, 1000, 8, 'constant')
    np.testing.assert_allclose(schedule(3), 1.0)
    np.testing.assert_allclose(schedule(0), 0.25)

  def test_no_warmup(self):
    np.testing.assert_allclose(optimizers.schedule(2.0, 0, 10)(0), 2.0)

  def test_rejects_an_unknown_name(self):
    with self.assertRaisesRegex(ValueError, "'trapezoid', but is 'linear'"):
      optimizers.schedule(1.0, 10, 110, 'linear')


class AdamwTest(parameterized.TestCase):

  def test_first_update_by_hand(self):
    params = {'kernel': jnp.full((1, 1), 2.0), 'bias': jnp.full((1,), 2.0)}
    gradients = {'kernel': jnp.full((1, 1), -3.0), 'bias': jnp.full((1,), 4.0)}
    adamw = optimizers.adamw(0.1, 0, 10, weight_decay=0.5)
    updates, _ = adamw.update(gradients, adamw.init(params), params)
    # Adam's first step is the sign of the gradient; only matrices decay.
    np.testing.assert_allclose(
        updates['kernel'], [[-0.1 * (-1 + 0.5 * 2.0)]], atol=1e-6
    )
    np.testing.assert_allclose(updates['bias'], [-0.1], rtol=1e-5)

  def test_stacked_scales_do_not_decay(self):
    layer = {'scale': jnp.ones((3, 4)), 'kernel': jnp.ones((3, 4, 4))}
    params = {'layers': layer, 'head': jnp.ones((4, 4))}
    adamw = optimizers.adamw(0.1, 0, 10, weight_decay=0.5)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = adamw.update(zeros, adamw.init(params), params)
    for update in (updates['layers']['kernel'], updates['head']):
      np.testing.assert_allclose(update, -0.05, rtol=1e-5)
    np.testing.assert_array_equal(updates['layers']['scale'], 0)

  def test_clips_to_the_norm(self):
    # Two steps tell a clipped gradient from a scaled one: the second is small.
    def last_update(clip_norm):
      params = jnp.zeros((2,))
      adamw = optimizers.adamw(1.0, 0, 10, 'constant', clip_norm=clip_norm)
      state = adamw.init(params)
      _, state = adamw.update(jnp.array([30.0, 40.0]), state, params)
      return adamw.update(jnp.array([0.3, 0.4]), state, params)[0]

    # By hand, with gradients 0.6 and then 0.3: mean (.054 + .03) / .19, mean
    # square (.36 * .02 * .98 + .09 * .02) / (1 - .98^2).
    mean = (0.1 * 0.9 * 0.6 + 0.1 * 0.3) / (1 - 0.9**2)
    square = (0.02 * 0.98 * 0.36 + 0.02 * 0.09) / (1 - 0.98**2)
    np.testing.assert_allclose(
        last_update(1.0)[0], -mean / square**0.5, rtol=1e-4
    )
    self.assertGreater(abs(last_update(1.0)[0] - last_update(None)[0]), 0.05)

  def test_tells_its_learning_rate(self):
    adamw = optimizers.adamw(0.5, 4, 100)
    np.testing.assert_allclose(adamw.learning_rate(1), 0.25)


class MuonTest(absltest.TestCase):

  def update(self, params, gradients):
    muon = optimizers.muon(0.1, 0, 10, schedule_name='constant')
    return muon.update(gradients, muon.init(params), params)[0]

  def test_moves_all_directions_of_a_matrix_alike(self):
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(6, 4)))
    v, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    gradient = jnp.asarray((u * [4.0, 2.0, 1.0, 0.5]) @ v)
    params = {'kernel': jnp.zeros((6, 4))}
    update = self.update(params, {'kernel': gradient})['kernel']
    # The root mean square is 0.2 of the learning rate, as AdamW's is.
    expected = -0.1 * 0.2 * 6**0.5 * (u @ v)
    distance = np.linalg.norm(update - expected) / np.linalg.norm(expected)
    self.assertLess(distance, 0.3)
    values = np.linalg.svd(update, compute_uv=False)
    self.assertLess(values.max() / values.min(), 2.0)

  def test_each_layer_of_a_stack_is_a_matrix(self):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 4, 5)).astype(np.float32)
    stacked = {'layers': {'kernel': jnp.zeros((3, 4, 5))}}
    updates = self.update(stacked, {'layers': {'kernel': kernel}})
    for i in range(3):
      alone = self.update({'kernel': jnp.zeros((4, 5))}, {'kernel': kernel[i]})
      np.testing.assert_allclose(
          updates['layers']['kernel'][i], alone['kernel'], atol=1e-5
      )

  def test_embeddings_and_scales_are_left_to_adam(self):
    params = {'embedding': jnp.ones((4, 3)), 'scale': jnp.ones((3,))}
    gradients = {
        'embedding': jnp.array([[1.0, -2.0, 3.0]] * 4),
        'scale': jnp.array([-4.0, 5.0, 6.0]),
    }
    updates = self.update(params, gradients)
    # Nesterov's mean of the first gradient: .9 * .1 / (1 - .9^2) + 1.
    first = 0.1 * (0.09 / 0.19 + 1)
    for name, gradient in gradients.items():
      np.testing.assert_allclose(
          updates[name], -first * np.sign(gradient), rtol=1e-4
      )


class FrozenTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('adamw', optimizers.adamw(0.1, 0, 10, clip_each=True)),
      ('muon', optimizers.muon(0.1, 0, 10)),
  )
  def test_trees_of_t5x_are_updated_alike(self, optimizer):
    rng = np.random.default_rng(0)
    params = {
        name: {
            'kernel': jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
            'scale': jnp.ones(4),
        }
        for name in ('codec', 'discriminators')
    }
    gradients = jax.tree.map(jnp.sin, params)
    expected, found = (
        optimizer.update(g, optimizer.init(p), p)[0]
        for p, g in (
            (params, gradients),
            (core.freeze(params), core.freeze(gradients)),
        )
    )
    self.assertIsInstance(found, core.FrozenDict)
    jax.tree.map(np.testing.assert_array_equal, expected, core.unfreeze(found))


if __name__ == '__main__':
  absltest.main()
