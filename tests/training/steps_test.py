"""Tests for steps."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.training import optimizers
from musiclm_jax.training import steps
import numpy as np
import optax

from tests.training import fake


def make_batch(count=8):
  rows = fake.examples(count)
  return {k: jnp.stack([r[k] for r in rows]) for k in rows[0]}


def initial_state(model):
  initialize = steps.make_initializer(model, {'x': (8, 4)}, {})
  return initialize(jax.random.key(0))[0]


class TrainStepTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.model = fake.FakeModel(optax.sgd(0.1))
    self.state = initial_state(self.model)
    self.batch = make_batch()
    self.rng = jax.random.key(1)

  def test_updates_by_hand(self):
    step = steps.make_train_step(self.model)
    state, metrics, skipped = step(self.state, self.batch, self.rng)

    def loss(kernel):
      hidden = jnp.tanh(self.batch['x'] @ kernel)
      narrow = self.state.params['narrow']['kernel'][:, 0]
      return jnp.mean((hidden @ narrow - self.batch['y']) ** 2)

    kernel = self.state.params['wide']['kernel']
    np.testing.assert_allclose(
        state.params['wide']['kernel'],
        kernel - 0.1 * jax.grad(loss)(kernel),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        state.mutables['statistics']['mean'],
        0.1 * self.batch['x'].mean(axis=0),
        rtol=1e-5,
    )
    self.assertEqual(state.step, 1)
    self.assertEqual(skipped, 0)
    np.testing.assert_allclose(
        metrics['loss'].compute(), loss(kernel), rtol=1e-5
    )

  @parameterized.parameters(2, 4, 8)
  def test_microbatches_give_the_gradient_of_the_batch(self, count):
    whole, _, _ = steps.make_train_step(self.model)(
        self.state, self.batch, self.rng
    )
    split, metrics, _ = steps.make_train_step(self.model, count)(
        self.state, self.batch, self.rng
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        split.params,
        whole.params,
    )
    self.assertEqual(metrics['rms_error'].count, count)

  def test_microbatches_hand_mutables_on(self):
    split, _, _ = steps.make_train_step(self.model, 2)(
        self.state, self.batch, self.rng
    )
    mean = np.zeros(4)
    for rows in (self.batch['x'][0::2], self.batch['x'][1::2]):
      mean = 0.9 * mean + 0.1 * np.mean(rows, axis=0)
    np.testing.assert_allclose(
        split.mutables['statistics']['mean'], mean, rtol=1e-5
    )

  @parameterized.product(value=(np.nan, np.inf), num_microbatches=(1, 2))
  def test_a_step_that_is_not_finite_changes_nothing(
      self, value, num_microbatches
  ):
    model = fake.FakeModel(optimizers.adamw(0.1, 0, 10))
    state = initial_state(model)
    step = steps.make_train_step(model, num_microbatches)
    state, _, _ = step(state, self.batch, self.rng)
    bad = {**self.batch, 'y': self.batch['y'].at[3].set(value)}
    once, _, in_a_row = step(state, bad, self.rng)
    self.assertEqual(in_a_row, 1)
    for name in ('params', 'mutables', 'opt_state'):
      jax.tree.map(
          np.testing.assert_array_equal,
          getattr(once, name),
          getattr(state, name),
      )
    twice, _, in_a_row = step(once, bad, self.rng)
    self.assertEqual(in_a_row, 2)
    good, _, in_a_row = step(twice, self.batch, self.rng)
    self.assertEqual(in_a_row, 0)
    self.assertEqual(good.num_skipped, 2)
    self.assertEqual(good.step, 4)

  def test_dropout_differs_by_step(self):
    model = fake.FakeModel(optax.sgd(0.0), dropout=0.5)
    state = initial_state(model)
    step = steps.make_train_step(model)
    state, first, _ = step(state, self.batch, self.rng)
    _, second, _ = step(state, self.batch, self.rng)
    self.assertNotEqual(first['loss'].compute(), second['loss'].compute())


class MergeTest(absltest.TestCase):

  def test_averages_over_steps_and_names_the_loss_first(self):
    model = fake.FakeModel(optax.sgd(0.0))
    step = steps.make_eval_step(model)
    state = initial_state(model)
    batches = [make_batch(), {k: 2 * v for k, v in make_batch().items()}]
    outputs = [step(state.params, state.mutables, b) for b in batches]
    merged = steps.merge(outputs)
    self.assertEqual(list(merged), ['loss', 'rms_error'])
    expected = np.mean([float(o['loss'].compute()) for o in outputs])
    np.testing.assert_allclose(merged['loss'], expected, rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
