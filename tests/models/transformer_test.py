"""Tests for transformer."""

import dataclasses
import functools

from absl.testing import absltest
from absl.testing import parameterized
from flax import traverse_util
import jax
import jax.numpy as jnp
from musiclm_jax.models import positions
from musiclm_jax.models import stacking
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base as tokenizers
import numpy as np

CONFIG = transformer.TransformerConfig(
    num_layers=2,
    num_heads=2,
    head_dim=8,
    embed_dim=16,
    mlp_dim=32,
    frame_bias=True,
)


def describe_params(variables):
  """Describes each parameter, e.g. 'float32 vocab=128 embed=16'."""
  params = traverse_util.flatten_dict(variables['params'], sep='/')
  axes = traverse_util.flatten_dict(variables['params_axes'], sep='/')

  def describe(name, param):
    names = axes[f'{name}_axes'].names
    dims = [f'{n}={d}' for n, d in zip(names, param.shape, strict=True)]
    return ' '.join([str(param.dtype), *dims])

  return {name: describe(name, param) for name, param in params.items()}


def make_ids(stage, seed=0):
  """Returns a batch of two random inputs and targets."""
  rng = np.random.default_rng(seed)

  def ids(streams):
    rows = [
        stage.to_ids(
            rng.integers(
                s.codebook_size,
                size=(2, s.num_frames(stage.crop_seconds), s.num_quantizers),
            ),
            s,
        ).reshape(2, -1)
        for s in streams
    ]
    return jnp.asarray(np.concatenate(rows, axis=1), jnp.int32)

  return ids(stage.inputs), ids([stage.targets])


@functools.partial(jax.jit, static_argnums=0)
def run(module, variables, inputs, targets):
  return module.apply(variables, inputs, targets)


@functools.cache
def random_variables(stage):
  """Returns variables that took no time to compile."""
  module = transformer.StageTransformer(CONFIG, stage)
  shapes = jax.eval_shape(module.init, jax.random.key(0), *make_ids(stage))
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: 0.2 * jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes
  )


class StageTransformerTest(parameterized.TestCase):

  def make(self, name='coarse', pattern='flat', **changes):
    self.stage = stages.get_stage(name, 0.2, pattern=pattern)
    self.inputs, self.targets = make_ids(self.stage)
    self.variables = random_variables(self.stage)
    config = dataclasses.replace(CONFIG, **changes)
    return transformer.StageTransformer(config, self.stage)

  @parameterized.parameters(*stages.PAPER)
  def test_a_target_changes_only_what_follows(self, name):
    module = self.make(name)
    logits = run(module, self.variables, self.inputs, self.targets)
    self.assertEqual(logits.dtype, jnp.float32)
    self.assertEqual(logits.shape, (*self.targets.shape, 1024))
    i = 2
    changed = self.targets.at[0, i].add(1)
    other = run(module, self.variables, self.inputs, changed)
    np.testing.assert_array_equal(other[0, : i + 1], logits[0, : i + 1])
    np.testing.assert_array_equal(other[1], logits[1])
    differences = np.abs(other - logits).max(axis=-1)[0, i + 1 :]
    self.assertTrue(np.all(differences > 0))

  def test_every_input_matters(self):
    module = self.make('semantic')
    logits = run(module, self.variables, self.inputs, self.targets)
    for i in range(self.inputs.shape[1]):
      changed = self.inputs.at[:, i].add(1)
      other = run(module, self.variables, changed, self.targets)
      self.assertTrue(np.all(np.abs(other - logits).max(axis=-1) > 0))

  def test_padding_is_not_attended_to(self):

    class Disturbed(transformer.StageTransformer):

      def embed(self, ids):
        padding = (ids == 0) & (jnp.arange(ids.shape[1]) > 0)
        return super().embed(ids) + padding[..., None]

    module = self.make('semantic')
    disturbed = Disturbed(CONFIG, self.stage)
    padded = self.inputs.at[:, 5].set(0)
    np.testing.assert_array_equal(
        run(disturbed, self.variables, padded, self.targets),
        run(module, self.variables, padded, self.targets),
    )

  def test_a_delayed_target_changes_only_what_follows(self):
    module = self.make(pattern='delay')
    logits = run(module, self.variables, self.inputs, self.targets)
    self.assertEqual(logits.shape, (*self.targets.shape, 1024))
    frame, quantizer = 3, 1
    changed = self.targets.at[0, frame * 4 + quantizer].add(1)
    other = run(module, self.variables, self.inputs, changed)
    differs = np.abs(other - logits).max(axis=-1)[0].reshape(-1, 4) > 0
    steps = np.arange(len(differs))[:, None] + np.arange(4)
    np.testing.assert_array_equal(differs, steps > frame + quantizer)

  def test_a_delayed_padding_is_not_attended_to(self):
    # Targets that end early, as those of short clips.
    module = self.make(pattern='delay')
    padded = self.targets.at[:, 12:].set(0)
    logits = run(module, self.variables, self.inputs, padded)
    whole = run(module, self.variables, self.inputs, self.targets)
    np.testing.assert_array_equal(logits[:, :12:4], whole[:, :12:4])

  @parameterized.parameters('flat', 'delay')
  def test_quantizer_decides_the_head(self, pattern):
    module = self.make(pattern=pattern)
    bound = module.bind(self.variables)
    count = module.pattern.num_positions(2)
    x = jax.random.normal(jax.random.key(1), (1, count, CONFIG.embed_dim))
    found = bound.logits(x)[0]
    params = self.variables['params']
    frame, quantizer = 1, 2
    position = frame + quantizer if pattern == 'delay' else 6
    normed = x[0, position] / np.sqrt(np.mean(x[0, position] ** 2))
    expected = params['head'][2] @ (normed * params['final_norm']['scale'])
    np.testing.assert_allclose(found[frame, quantizer], expected, atol=1e-5)

  def test_bias_depends_on_distance_and_frame(self):
    bound = self.make('coarse').bind(self.variables)
    frames = jnp.asarray(positions.frames(self.stage, 14, 8))
    index = jnp.arange(22)
    bias = bound.bias(index, index, frames)[0]
    params = self.variables['params']

    def bucket(relative, bidirectional=False):
      relative = jnp.asarray(relative)
      return positions.relative_buckets(relative, 32, 1024, bidirectional)

    # Position 18 predicts frame 1; position 13 read semantic frame 0 (time 0),
    # 14 the next one (time 2).
    for key, relative_frame in ((13, -1), (14, 1)):
      position = bucket(key - 18)
      frame = bucket(relative_frame, True)
      np.testing.assert_allclose(
          bias[:, 18, key],
          params['position_bias'][:, position] + params['frame_bias'][:, frame],
          rtol=1e-6,
      )
    # MuLan tokens have no time.
    np.testing.assert_array_equal(
        bias[:, 18, 3],
        params['position_bias'][:, bucket(-15)],
    )
    self.assertTrue(np.all(bias[:, 18, 19:] == transformer.MASKED))

  def gradients(self, module, params):
    """Returns the compiled function, and the unstacked gradients."""
    loss = lambda p: jnp.sum(
        module.apply({'params': p}, self.inputs, self.targets) ** 2
    )
    compiled = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
    value, gradients = compiled(params)
    return compiled, value, stacking.unstack(gradients)

  @parameterized.product(remat=transformer.REMATS, scan_layers=(False, True))
  def test_remat_and_scan_change_nothing(self, remat, scan_layers):
    plain = self.make()
    params = self.variables['params']
    changed = self.make(remat=remat, scan_layers=scan_layers)
    layout = stacking.stack(params) if scan_layers else params
    _, value, expected = self.gradients(plain, params)
    _, same_value, found = self.gradients(changed, layout)
    np.testing.assert_allclose(same_value, value, rtol=1e-5)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(
            one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max()
        ),
        found,
        expected,
    )

  def test_remat_trades_memory_for_operations(self):
    flops, stored = {}, {}
    for remat in transformer.REMATS:
      module = self.make(remat=remat, num_layers=8, mlp_dim=128)
      params = self.module_params(module)
      compiled, _, _ = self.gradients(module, params)
      flops[remat] = compiled.cost_analysis()['flops']
      loss = lambda p, m=module: jnp.sum(
          m.apply({'params': p}, self.inputs, self.targets)
      )
      # What waits for the backward pass, the parameters among it.
      kept = jax.eval_shape(lambda p, f=loss: jax.vjp(f, p)[1], params)
      stored[remat] = sum(x.size for x in jax.tree.leaves(kept))
    self.assertLess(flops['none'], 0.98 * flops['dots'])
    self.assertLess(flops['dots'], 0.9 * flops['full'])
    size = sum(x.size for x in jax.tree.leaves(params))
    self.assertGreater(stored['none'] - size, 2 * (stored['dots'] - size))
    self.assertGreater(stored['dots'] - size, 2 * (stored['full'] - size))

  def module_params(self, module):
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), self.inputs, self.targets
    )
    return jax.tree.map(lambda x: jnp.full(x.shape, 0.1), shapes['params'])

  def test_stacked_layers_have_an_axis(self):
    module = self.make(scan_layers=True)
    args = jax.random.key(0), self.inputs, self.targets
    variables = jax.eval_shape(module.init, *args)
    kernel = variables['params']['layers']['mlp']['up']['kernel']
    axes = variables['params_axes']['layers']['mlp']['up']['kernel_axes']
    self.assertEqual(kernel.shape, (2, 16, 32))
    self.assertEqual(axes.names, ('layers', 'embed', 'mlp'))

  def test_stacked_layers_start_out_different(self):
    module = self.make(scan_layers=True)
    variables = jax.jit(module.init)(
        jax.random.key(0), self.inputs, self.targets
    )
    kernel = variables['params']['layers']['mlp']['up']['kernel']
    self.assertGreater(np.abs(kernel[0] - kernel[1]).min(), 0)

  def test_remat_of_older_files(self):
    self.assertEqual(self.make(remat=True).config.remat, 'full')
    self.assertEqual(self.make(remat=False).config.remat, 'none')

  def test_rejects_an_unknown_remat(self):
    with self.assertRaisesRegex(ValueError, "one of .*'dots'.* is 'some'"):
      self.make(remat='some')

  def test_dropout_only_when_training(self):
    module = self.make(dropout=0.5)
    args = (self.variables, self.inputs, self.targets)
    np.testing.assert_array_equal(run(module, *args), run(module, *args))
    train = jax.jit(functools.partial(module.apply, train=True))
    first, second = (
        train(*args, rngs={'dropout': jax.random.key(seed)}) for seed in (0, 1)
    )
    self.assertGreater(np.abs(first - second).max(), 0)

  def test_bfloat16_is_near_float32(self):
    logits = run(self.make(), self.variables, self.inputs, self.targets)
    module = self.make(dtype='bfloat16')
    low = run(module, self.variables, self.inputs, self.targets)
    self.assertEqual(low.dtype, jnp.float32)
    self.assertLess(np.abs(low - logits).max(), 0.03 * np.abs(logits).max())

  def test_parameters(self):
    self.make()
    layer = {
        'attention/qkv/kernel': 'float32 embed=16 heads=48',
        'attention/out/kernel': 'float32 heads=16 embed=16',
        'attention_norm/scale': 'float32 embed=16',
        'mlp/gate/kernel': 'float32 embed=16 mlp=32',
        'mlp/up/kernel': 'float32 embed=16 mlp=32',
        'mlp/down/kernel': 'float32 mlp=32 embed=16',
        'mlp_norm/scale': 'float32 embed=16',
    }
    expected = {
        # 2 + (12 + 1 + 4) * 1024 ids, rounded up to a multiple of 128.
        'token_embed/embedding': 'float32 vocab=17536 embed=16',
        'position_bias': 'float32 heads=2 buckets=32',
        'frame_bias': 'float32 heads=2 buckets=32',
        'final_norm/scale': 'float32 embed=16',
        'head': 'float32 quantizers=4 vocab=1024 embed=16',
        **{
            f'layers_{i}/{name}': value
            for i in range(2)
            for name, value in layer.items()
        },
    }
    self.assertEqual(describe_params(self.variables), expected)

  @parameterized.parameters(*stages.PAPER)
  def test_paper_size_is_430m(self, name):
    config = transformer.TransformerConfig(
        num_layers=24, num_heads=16, head_dim=64, embed_dim=1024, mlp_dim=4096
    )
    stage = stages.get_stage(name)
    module = transformer.StageTransformer(config, stage)
    lengths = stage.feature_lengths
    inputs, targets = (
        jax.ShapeDtypeStruct((1, lengths[k]), jnp.int32)
        for k in ('inputs', 'targets')
    )
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs, targets)
    size = sum(p.size for p in jax.tree.leaves(variables['params']))
    melody = sum(
        s.num_quantizers * s.codebook_size
        for s in stage.inputs
        if s == tokenizers.MELODY
    )
    # Without the paper's logits over the ids that are not legal.
    self.assertBetween(size - 1024 * melody, 0.97 * 430e6, 430e6)


if __name__ == '__main__':
  absltest.main()
