"""Tests for soundstream."""

import dataclasses
import json
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import discriminators
from musiclm_jax.models import parts
from musiclm_jax.models import soundstream as codec
from musiclm_jax.training import soundstream
import numpy as np
import optax
import pytest


def tone(num_samples=960):
  """Returns [2, samples] of a decaying fifth, at 24 kHz."""
  time = np.arange(num_samples) / 24000
  sines = np.sin(2 * np.pi * time * np.array([[440.0], [660.0]]))
  return (0.5 * sines * np.exp(-20 * time)).astype(np.float32)


class SoundStreamModelTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    config = codec.SoundStreamConfig(
        strides=(4, 5),
        channels=4,
        embed_dim=8,
        num_quantizers=3,
        codebook_size=16,
    )
    cls.model = soundstream.SoundStreamModel(
        config,
        discriminators.DiscriminatorConfig(
            stft_channels=2,
            stft_window=128,
            stft_hop=32,
            wave_channels=4,
            wave_scales=1,
        ),
        optax.adam(2e-3, b1=0.5, b2=0.9),
    )
    cls.axes = {}

    def describe():
      variables = cls.model.get_initial_variables(
          jax.random.key(0), {'audio': (2, 960)}
      )
      cls.axes = {k: v for k, v in variables.items() if k.endswith('_axes')}
      return {k: v for k, v in variables.items() if k not in cls.axes}

    # Values of our own: initializers take longer to compile than networks.
    rng = np.random.default_rng(0)

    def draw(shape):
      if shape.ndim < 2:
        return jnp.zeros(shape.shape)
      scale = np.prod(shape.shape[:-1]) ** -0.5
      return jnp.asarray(rng.normal(scale=scale, size=shape.shape), jnp.float32)

    shapes = jax.eval_shape(describe)
    cls.variables = {
        'params': jax.tree.map(draw, shapes['params']),
        'codebooks': jax.tree.map(
            lambda x: jnp.zeros(x.shape), shapes['codebooks']
        ),
    }
    cls.batch = {'audio': tone()}
    cls.value_and_grad = staticmethod(
        jax.jit(jax.value_and_grad(cls.model.loss_fn, has_aux=True))
    )

  def mutables(self):
    return {'codebooks': self.variables['codebooks']}

  def test_every_variable_has_axes(self):
    for collection in ('params', 'codebooks'):
      paths = jax.tree_util.tree_leaves_with_path(self.variables[collection])
      for path, array in paths:
        axes = self.axes[f'{collection}_axes']
        for key in path[:-1]:
          axes = axes[key.key]
        names = axes[f'{path[-1].key}_axes'].names
        self.assertLen(names, array.ndim)

  def test_the_two_losses_share_no_gradient(self):
    # With the weights of one side at 0, its parameters must not move; its own
    # gradient must be the same with and without the other's loss.
    silent = soundstream.SoundStreamModel(
        self.model.config,
        self.model.discriminators.config,
        self.model.optimizer_def,
        soundstream.LossWeights(0.0, 0.0, 0.0, 0.0, 0.0),
    )
    arguments = (
        self.variables['params'],
        self.batch,
        jax.random.key(1),
        self.mutables(),
    )
    _, both = self.value_and_grad(*arguments)
    _, alone = jax.jit(jax.value_and_grad(silent.loss_fn, has_aux=True))(
        *arguments
    )
    for gradient in jax.tree.leaves(alone['generator']):
      self.assertEqual(float(jnp.abs(gradient).max()), 0)
    for one, two in zip(
        jax.tree.leaves(alone['discriminator']),
        jax.tree.leaves(both['discriminator']),
        strict=True,
    ):
      np.testing.assert_allclose(one, two, atol=1e-5, rtol=1e-3)
      # The pull of real and fake audio on the last bias may cancel.
      if one.ndim > 1:
        self.assertGreater(float(jnp.abs(one).max()), 0)
    for gradient in jax.tree.leaves(both['generator']):
      self.assertGreater(float(jnp.abs(gradient).max()), 0)

  def test_training_lowers_the_mel_loss(self):
    update = jax.jit(self.model.optimizer_def.update)
    params, mutables = self.variables['params'], self.mutables()
    opt_state = self.model.optimizer_def.init(params)
    history = []
    for i in range(40):
      key = jax.random.fold_in(jax.random.key(2), i)
      (_, (metrics, mutables)), gradients = self.value_and_grad(
          params, self.batch, key, mutables
      )
      updates, opt_state = update(gradients, opt_state)
      params = optax.apply_updates(params, updates)
      history.append({k: float(v.compute()) for k, v in metrics.items()})
    self.assertTrue(np.isfinite([h['loss'] for h in history]).all())
    mel = [h['mel_loss'] for h in history]
    self.assertLess(np.mean(mel[-5:]), 0.8 * np.mean(mel[:5]))
    self.assertGreater(history[-1]['codebook_perplexity_min'], 2)
    self.assertIn('codebook_perplexity_q03', history[-1])
    self.assertNotIn('codebook_perplexity_q04', history[-1])

  @pytest.mark.slow
  def test_bfloat16_trains_as_float32(self):
    config = dataclasses.replace(self.model.config, dtype='bfloat16')
    judges = dataclasses.replace(
        self.model.discriminators.config, dtype='bfloat16'
    )
    low = soundstream.SoundStreamModel(config, judges, optax.sgd(1e-3))
    arguments = (
        self.variables['params'],
        self.batch,
        jax.random.key(1),
        self.mutables(),
    )
    step = jax.jit(jax.value_and_grad(low.loss_fn, has_aux=True))
    (loss, (_, mutables)), gradients = step(*arguments)
    (expected_loss, _), expected = self.value_and_grad(*arguments)
    np.testing.assert_allclose(loss, expected_loss, rtol=0.05)
    self.assertNotEqual(loss, expected_loss)
    # Parameters and codebooks stay float32.
    for array in jax.tree.leaves((gradients, mutables)):
      self.assertEqual(array.dtype, jnp.float32)
    for part in ('generator', 'discriminator'):
      flat, expected_flat = (
          np.concatenate([np.ravel(x) for x in jax.tree.leaves(g[part])])
          for g in (gradients, expected)
      )
      norms = np.linalg.norm(flat) * np.linalg.norm(expected_flat)
      self.assertGreater(flat @ expected_flat / norms, 0.9)

  def test_evaluation_is_deterministic_and_updates_nothing(self):
    evaluate = jax.jit(self.model.eval_fn)
    arguments = (self.variables['params'], self.batch, self.mutables())
    loss, metrics = evaluate(*arguments)
    self.assertEqual(loss, evaluate(*arguments)[0])
    self.assertEqual(metrics['dead_codes'].compute(), 0)
    _, (_, mutables) = jax.jit(self.model.loss_fn)(
        self.variables['params'], self.batch, None, self.mutables()
    )
    np.testing.assert_array_equal(
        mutables['codebooks']['quantizer']['counts'], 0
    )

  def test_summaries_are_a_pair(self):
    summaries = self.model.summaries(self.variables, self.batch)
    self.assertEqual(set(summaries), {'original', 'reconstruction'})
    for audio in summaries.values():
      self.assertEqual(audio.shape, (960,))

  def test_rejects_crops_of_partial_frames(self):
    with self.assertRaisesRegex(
        ValueError, r'whole number of frames of 20 samples, but has 970'
    ):
      self.model.get_initial_variables(jax.random.key(0), {'audio': (2, 970)})

  @parameterized.parameters(
      ('float32', 0.0), ('bfloat16', 2**-8), ('int8', 0.5 / 127)
  )
  def test_export_round_trips(self, dtype, tolerance):
    codes = jax.random.normal(jax.random.key(3), (3, 16, 8))
    codebooks = {'quantizer': {'codes': codes, 'counts': jnp.ones((3, 16))}}
    variables = {'params': self.variables['params'], 'codebooks': codebooks}
    directory = self.enterContext(tempfile.TemporaryDirectory())
    sha256 = self.model.export(variables, directory, dtype=dtype)
    part = parts.load(directory, 'soundstream')
    self.assertEqual(part.sha256, sha256)
    self.assertEqual(
        codec.SoundStreamConfig.from_json(part.config), self.model.config
    )
    self.assertEqual(
        json.loads(json.dumps(dataclasses.asdict(self.model.config))),
        part.config,
    )
    np.testing.assert_array_equal(
        part.variables['codebooks']['quantizer']['codes'], codes
    )
    self.assertEqual(set(part.variables['params']), {'encoder', 'decoder'})
    kernel = self.variables['params']['generator']['encoder']['last']['kernel']
    stored = part.variables['params']['encoder']['last']['kernel']
    error = np.abs(stored - kernel).max()
    self.assertLessEqual(error, tolerance * float(jnp.abs(kernel).max()))


if __name__ == '__main__':
  absltest.main()
