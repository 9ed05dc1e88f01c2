"""Tests for stage."""

import dataclasses
import functools
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from flax import traverse_util
import jax
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.models import parts
from musiclm_jax.models import stacking
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.training import stage as stage_lib
import numpy as np
import optax

CONFIG = transformer.TransformerConfig(
    num_layers=1, num_heads=2, head_dim=8, embed_dim=16, mlp_dim=32
)
COARSE = 2 + 13 * 1024  # The id of token 0 of quantizer 1.


@functools.cache
def make_model():
  """Returns the coarse stage of 80 ms and its parameters."""
  stage = stages.get_stage('coarse', 0.08)
  model = stage_lib.StageModel(stage, CONFIG, optax.adam(1e-2))
  shapes = {k: (2, v) for k, v in stage.feature_lengths.items()}
  variables = jax.jit(lambda key: model.get_initial_variables(key, shapes))(
      jax.random.key(0)
  )
  return model, variables['params']


def make_batch():
  rng = np.random.default_rng(0)
  codes = rng.integers(1024, size=(2, 4, 4))
  targets = COARSE + np.arange(4) * 1024 + codes
  return {
      'inputs': jnp.asarray(rng.integers(2, COARSE, (2, 14)), jnp.int32),
      'targets': jnp.asarray(targets.reshape(2, 16), jnp.int32),
  }, codes.reshape(2, 16)


def compute(metrics):
  return {name: float(metric.compute()) for name, metric in metrics.items()}


class StageModelTest(parameterized.TestCase):

  def test_loss_starts_at_chance(self):
    model, params = make_model()
    loss, _ = jax.jit(model.eval_fn)(params, make_batch()[0])
    self.assertAlmostEqual(float(loss), np.log(1024), delta=0.05)

  def test_loss_is_the_mean_surprise(self):
    model, params = make_model()
    batch, codes = make_batch()
    # Larger logits than at the start, so that the loss is no constant.
    params = {**params, 'head': 30 * params['head']}
    logits = np.asarray(
        jax.jit(model.module.apply)({'params': params}, **batch), np.float64
    )
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    nats = -np.log(np.take_along_axis(probabilities, codes[..., None], -1))
    nats = nats.reshape(2, 4, 4)
    loss, metrics = jax.jit(model.eval_fn)(params, batch)
    self.assertAlmostEqual(float(loss), nats.mean(), places=4)
    metrics = compute(metrics)
    for q in range(4):
      self.assertAlmostEqual(
          metrics[f'loss_q{q + 1}'], nats[:, :, q].mean(), places=4
      )
    np.testing.assert_allclose(
        jax.jit(model.score_batch)(params, batch),
        -nats.sum(axis=(1, 2)),
        rtol=1e-5,
    )

  def test_padding_does_not_count(self):
    model, params = make_model()
    batch, _ = make_batch()
    # Row 2 is all padding but its first frame.
    padded = {**batch, 'targets': batch['targets'].at[1, 4:].set(0)}
    nats = -jax.jit(model.score_batch)(params, padded)
    loss, metrics = jax.jit(model.eval_fn)(params, padded)
    self.assertAlmostEqual(float(loss), float(nats.sum()) / 20, places=4)
    first = {k: v[:1] for k, v in batch.items()}
    np.testing.assert_allclose(
        -nats[0], jax.jit(model.score_batch)(params, first)[0], rtol=1e-6
    )
    self.assertLessEqual(compute(metrics)['accuracy'], 1)

  def test_scores_of_each_quantizer(self):
    model, params = make_model()
    batch, _ = make_batch()
    batch['targets'] = batch['targets'].at[1, 4:].set(0)
    scores, sums = jax.jit(model.score_batch_with_aux)(params, batch)
    np.testing.assert_array_equal(sums['count'], [[4] * 4, [1] * 4])
    np.testing.assert_allclose(scores, -sums['nats'].sum(axis=1), rtol=1e-6)
    metrics = compute(jax.jit(model.eval_fn)(params, batch)[1])
    mean = lambda name: sums[name].sum(axis=0) / sums['count'].sum(axis=0)
    for q in range(4):
      self.assertAlmostEqual(
          metrics[f'loss_q{q + 1}'], mean('nats')[q], places=4
      )
    self.assertAlmostEqual(
        metrics['accuracy'], mean('accuracy').mean(), places=6
    )

  def test_gradient_goes_to_legal_codes_only(self):
    model, params = make_model()
    batch, codes = make_batch()
    grads = jax.jit(jax.grad(lambda p: model.loss_fn(p, batch, None)[0]))(
        params
    )
    # The sum over codes of the gradient of a softmax is none.
    self.assertLess(np.abs(grads['head'].sum(axis=1)).max(), 1e-6)
    self.assertGreater(np.abs(grads['head'][0, codes[0, 0]]).max(), 1e-4)

  def test_learns_one_batch(self):
    model, params = make_model()
    batch, codes = make_batch()
    optimizer = model.optimizer_def

    @jax.jit
    def step(params, state, rng):
      (loss, metrics), grads = jax.value_and_grad(model.loss_fn, has_aux=True)(
          params, batch, rng
      )
      updates, state = optimizer.update(grads, state, params)
      return optax.apply_updates(params, updates), state, loss, metrics

    state = optimizer.init(params)
    for i in range(150):
      params, state, loss, _ = step(params, state, jax.random.key(i))
    self.assertLess(float(loss), 1.0)
    # Greedy decoding gives back what it learned by heart.
    ids, aux = jax.jit(model.predict_batch_with_aux)(params, batch)
    np.testing.assert_array_equal(ids, batch['targets'])
    np.testing.assert_allclose(
        aux['scores'], jax.jit(model.score_batch)(params, batch), rtol=1e-4
    )

  def test_sampled_ids_are_legal(self):
    model, params = make_model()
    ids = jax.jit(model.predict_batch)(
        params, make_batch()[0], rng=jax.random.key(0)
    )
    codes = np.asarray(ids).reshape(2, 4, 4) - COARSE - np.arange(4) * 1024
    self.assertTrue(np.all((codes >= 0) & (codes < 1024)))
    self.assertGreater(len(np.unique(codes)), 8)

  def test_every_parameter_has_axes(self):
    model, _ = make_model()
    shapes = {'inputs': (1, 14), 'targets': (1, 16)}
    variables = jax.eval_shape(
        lambda: model.get_initial_variables(jax.random.key(0), shapes)
    )
    params = traverse_util.flatten_dict(variables['params'])
    axes = traverse_util.flatten_dict(variables['params_axes'])
    self.assertEqual(set(variables), {'params', 'params_axes'})
    self.assertEqual(
        {
            name: len(axes[(*name[:-1], f'{name[-1]}_axes')].names)
            for name in params
        },
        {name: param.ndim for name, param in params.items()},
    )

  def test_exports_what_rebuilds_it(self):
    model, params = make_model()
    lineage = {'soundstream': 'a', 'w2v_bert': 'b', 'mulan': 'c'}
    with tempfile.TemporaryDirectory() as directory:
      sha256 = model.export({'params': params}, directory, [], lineage)
      part = parts.load(directory, 'coarse')
    self.assertEqual(part.sha256, sha256)
    self.assertEqual(part.lineage, lineage)
    rebuilt = transformer.StageTransformer(
        transformer.TransformerConfig(**part.config['transformer']),
        stages.of_part(part.config),
    )
    batch, _ = make_batch()
    np.testing.assert_array_equal(
        jax.jit(rebuilt.apply)(part.variables, **batch),
        jax.jit(model.module.apply)({'params': params}, **batch),
    )

  def test_exports_the_same_of_stacked_layers(self):
    model, params = make_model()
    config = dataclasses.replace(CONFIG, scan_layers=True, remat='full')
    stacked = stage_lib.StageModel(model.stage, config, optax.adam(1e-2))
    with tempfile.TemporaryDirectory() as directory:
      found = [
          m.export({'params': p}, f'{directory}/{i}', [], {})
          for i, (m, p) in enumerate(
              [(model, params), (stacked, stacking.stack(params))]
          )
      ]
      configs = [
          parts.load(f'{directory}/{i}', 'coarse').config for i in range(2)
      ]
    self.assertEqual(found[0], found[1])
    self.assertEqual(configs[0], configs[1])

  def test_z_loss_by_hand(self):
    model, params = make_model()
    batch, _ = make_batch()
    params = {**params, 'head': 30 * params['head']}
    other = stage_lib.StageModel(
        model.stage, CONFIG, optax.adam(1e-2), z_loss=0.01
    )
    logits = jax.jit(model.module.apply)({'params': params}, **batch)
    logits = np.asarray(logits, np.float64)
    expected = 0.01 * np.mean(np.log(np.exp(logits).sum(axis=-1)) ** 2)
    plain, _ = jax.jit(model.eval_fn)(params, batch)
    loss, metrics = jax.jit(other.eval_fn)(params, batch)
    self.assertAlmostEqual(float(loss - plain), expected, places=4)
    # What is reported stays the likelihood.
    self.assertAlmostEqual(compute(metrics)['loss'], float(plain), places=5)
    self.assertAlmostEqual(compute(metrics)['z_loss'], expected, places=4)

  def test_conditioning_dropout(self):
    stage = stages.get_stage('coarse_melody', 4.0)
    model = stage_lib.StageModel(
        stage, CONFIG, optax.adam(1e-2), conditioning_dropout=0.25
    )
    rng = np.random.default_rng(0)

    def ids(stream):
      shape = (4000, stream.num_frames(4.0), stream.num_quantizers)
      tokens = rng.integers(stream.codebook_size, size=shape)
      return stage.to_ids(tokens, stream).reshape(4000, -1)

    described = [ids(s) for s in stage.inputs[:2]]
    rest = ids(stage.inputs[2])
    inputs = np.concatenate([*described, rest], axis=1).astype(np.int32)
    found = np.asarray(
        model._drop_conditioning(jnp.asarray(inputs), jax.random.key(0))
    )
    length = inputs.shape[1] - rest.shape[1]
    dropped = np.all(found[:, :length] == streams.ABSENT_ID, axis=1)
    # Whole examples, as often as asked for, and nothing else.
    self.assertAlmostEqual(dropped.mean(), 0.25, delta=0.03)
    np.testing.assert_array_equal(found[~dropped], inputs[~dropped])
    np.testing.assert_array_equal(found[:, length:], rest)

  def test_what_is_added_is_dropped_with_the_conditioning(self):
    [*_, semantic] = stages.get_stage('coarse', 4.0).inputs
    added = dataclasses.replace(semantic, is_added=True)
    stage = stages.get_stage('coarse', 4.0)
    stage = dataclasses.replace(stage, inputs=(*stage.inputs[:-1], added))
    model = stage_lib.StageModel(
        stage, CONFIG, optax.adam(1e-2), conditioning_dropout=0.5
    )
    inputs = np.concatenate(
        [np.full(stage.num_ids(s), stage.ids(s).start) for s in stage.inputs]
    )
    rows = jnp.asarray(np.tile(inputs, (64, 1)), jnp.int32)
    found = np.asarray(model._drop_conditioning(rows, jax.random.key(0)))
    dropped = np.all(found == streams.ABSENT_ID, axis=1)
    np.testing.assert_array_equal(dropped, found[:, -1] == streams.ABSENT_ID)
    np.testing.assert_array_equal(found[~dropped], np.asarray(rows)[~dropped])
    self.assertBetween(dropped.mean(), 0.3, 0.7)

  def test_conditioning_is_dropped_in_training_only(self):
    model, params = make_model()
    batch, _ = make_batch()
    params = {**params, 'head': 30 * params['head']}
    config = dataclasses.replace(CONFIG, dropout=0.0)
    always = stage_lib.StageModel(
        model.stage, config, optax.adam(1e-2), conditioning_dropout=1.0
    )
    # 12 tokens of MuLan, and 2 of semantic frames.
    mulan = 2 + (batch['inputs'][:, :12] - 2) % (12 * 1024)
    semantic = 2 + 12 * 1024 + batch['inputs'][:, 12:] % 1024
    batch['inputs'] = jnp.concatenate([mulan, semantic], axis=1)
    inputs = batch['inputs'].at[:, :12].set(streams.ABSENT_ID)
    expected, _ = model.eval_fn(params, {**batch, 'inputs': inputs})
    given, _ = model.eval_fn(params, batch)
    trained, _ = always.loss_fn(params, batch, jax.random.key(0))
    evaluated, _ = always.eval_fn(params, batch)
    self.assertAlmostEqual(float(trained), float(expected), places=5)
    self.assertAlmostEqual(float(evaluated), float(given), places=5)
    self.assertNotAlmostEqual(float(given), float(expected), places=3)

  def test_history_dropout(self):
    model = stage_lib.StageModel(
        stages.get_stage('semantic', 4.0), CONFIG, optax.adam(1e-2),
        history_dropout=0.6,
    )  # fmt: skip
    targets = jnp.full((2000, 100), 77).at[:, 90:].set(0)
    found = np.asarray(model._drop_history(targets, jax.random.key(0)))
    dropped = found == streams.ABSENT_ID
    # Of each example another share; of padding none.
    shares = dropped[:, :90].mean(axis=1)
    self.assertAlmostEqual(shares.mean(), 0.3, delta=0.02)
    self.assertAlmostEqual(shares.std(), 0.6 / 12**0.5, delta=0.02)
    np.testing.assert_array_equal(found[~dropped], targets[~dropped])
    self.assertFalse(np.any(dropped[:, 90:]))

  def test_history_is_dropped_in_training_only(self):
    model, params = make_model()
    batch, _ = make_batch()
    params = {**params, 'head': 30 * params['head']}
    config = dataclasses.replace(CONFIG, dropout=0.0)
    forgets = stage_lib.StageModel(
        model.stage, config, optax.adam(1e-2), history_dropout=1.0
    )
    given, _ = model.eval_fn(params, batch)
    evaluated, _ = forgets.eval_fn(params, batch)
    trained, _ = forgets.loss_fn(params, batch, jax.random.key(0))
    self.assertAlmostEqual(float(evaluated), float(given), places=5)
    # What is hidden from later targets is still to be predicted.
    self.assertNotAlmostEqual(float(trained), float(given), places=3)

  @parameterized.parameters('conditioning_dropout', 'history_dropout')
  def test_rejects_a_dropout_that_is_no_probability(self, name):
    with self.assertRaisesRegex(ValueError, name + r'.*\[0, 1\], but is 1.5'):
      stage_lib.StageModel(
          make_model()[0].stage, CONFIG, optax.adam(1e-2), **{name: 1.5}
      )


if __name__ == '__main__':
  absltest.main()
