"""Tests for conformer."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import traverse_util
import jax
import jax.numpy as jnp
from musiclm_jax.models import conformer
import numpy as np
import torch
from transformers.models.wav2vec2_conformer import (
    configuration_wav2vec2_conformer as hf_configuration,
)
from transformers.models.wav2vec2_conformer import (
    modeling_wav2vec2_conformer as hf_modeling,
)


def random_like(variables, seed):
  """Returns parameters of which none is 0 or 1, so that each has a say."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda p: rng.normal(scale=0.4, size=p.shape).astype(np.float32),
      variables['params'],
  )


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def dense(p, x):
  return x @ p['kernel'] + p['bias']


def norm(p, x):
  x = x - x.mean(-1, keepdims=True)
  return (
      x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p['scale']
      + p['bias']
  )


def feed_forward(p, x):
  hidden = dense(p['up'], norm(p['norm'], x))
  return dense(p['down'], hidden * sigmoid(hidden))


def attention(p, x, num_heads, bias):
  """[frames, features], a head and a query at a time."""
  query, key, value = (dense(p[n], x) for n in ('query', 'key', 'value'))
  size = x.shape[-1] // num_heads
  outputs = np.zeros_like(x)
  for head in range(num_heads):
    part = slice(head * size, (head + 1) * size)
    for t in range(len(x)):
      logits = key[:, part] @ query[t, part] / np.sqrt(size) + bias[head, t]
      weights = np.exp(logits) / np.exp(logits).sum()
      outputs[t, part] = weights @ value[:, part]
  return dense(p['out'], outputs)


def conv_module(p, x, kernel_size):
  values, gates = np.split(dense(p['gated'], norm(p['norm'], x)), 2, axis=-1)
  y = values * sigmoid(gates)
  half = kernel_size // 2
  padded = np.pad(y, ((half, half), (0, 0)))
  kernel = p['depthwise']['kernel'][:, 0]  # [kernel, channels]
  y = np.stack(
      [(padded[t : t + kernel_size] * kernel).sum(0) for t in range(len(x))]
  )
  y = norm(p['conv_norm'], y + p['depthwise']['bias'])
  return dense(p['out'], y * sigmoid(y))


def reference_block(p, x, num_heads, kernel_size, bias):
  """A block over [frames, features], written from the paper."""
  x = x + feed_forward(p['mlp_before'], x) / 2
  y = norm(p['attention_norm'], x)
  x = x + attention(p['attention'], y, num_heads, bias)
  x = x + conv_module(p['conv'], x, kernel_size)
  x = x + feed_forward(p['mlp_after'], x) / 2
  return norm(p['norm'], x)


class NormOfChannels(torch.nn.LayerNorm):
  """Layer normalization where transformers has batch normalization."""

  def forward(self, x):
    return super().forward(x.transpose(1, 2)).transpose(1, 2)


# Our names of the layers of a block, by those of transformers.
HF_NAMES = {
    'ffn1_layer_norm': 'mlp_before/norm',
    'ffn1.intermediate_dense': 'mlp_before/up',
    'ffn1.output_dense': 'mlp_before/down',
    'self_attn_layer_norm': 'attention_norm',
    'self_attn.linear_q': 'attention/query',
    'self_attn.linear_k': 'attention/key',
    'self_attn.linear_v': 'attention/value',
    'self_attn.linear_out': 'attention/out',
    'conv_module.layer_norm': 'conv/norm',
    'conv_module.pointwise_conv1': 'conv/gated',
    'conv_module.depthwise_conv': 'conv/depthwise',
    'conv_module.batch_norm': 'conv/conv_norm',
    'conv_module.pointwise_conv2': 'conv/out',
    'ffn2_layer_norm': 'mlp_after/norm',
    'ffn2.intermediate_dense': 'mlp_after/up',
    'ffn2.output_dense': 'mlp_after/down',
    'final_layer_norm': 'norm',
}


def hf_block(params, num_heads, kernel_size):
  """Returns the block of transformers with parameters of ours."""
  params = traverse_util.flatten_dict(params, sep='/')
  mlp_dim, features = params['mlp_before/down/kernel'].shape
  block = hf_modeling.Wav2Vec2ConformerEncoderLayer(
      hf_configuration.Wav2Vec2ConformerConfig(
          hidden_size=features,
          num_attention_heads=num_heads,
          intermediate_size=mlp_dim,
          conv_depthwise_kernel_size=kernel_size,
          hidden_act='swish',
          position_embeddings_type=None,
          attn_implementation='eager',
      )
  )
  block.conv_module.batch_norm = NormOfChannels(features)
  state = {}
  for theirs, ours in HF_NAMES.items():
    if f'{ours}/scale' in params:
      block.get_submodule(theirs).eps = 1e-6
      state[f'{theirs}.weight'] = params[f'{ours}/scale']
    else:
      # [in, out] -> [out, in]; convolutions [time, in, out] -> [out, in, time].
      kernel = params[f'{ours}/kernel'].T
      is_pointwise = 'pointwise' in theirs
      state[f'{theirs}.weight'] = kernel[..., None] if is_pointwise else kernel
    state[f'{theirs}.bias'] = params[f'{ours}/bias']
  own = block.state_dict()
  # Its convolutions have no biases.
  state = {k: torch.tensor(v.copy()) for k, v in state.items() if k in own}
  block.load_state_dict(state, strict=True)
  return block.eval()


class ConformerBlockTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.block = conformer.ConformerBlock(
        features=8, num_heads=2, kernel_size=5, mlp_dim=12
    )
    self.x = jax.random.normal(jax.random.key(0), (2, 9, 8))
    self.bias = jax.random.normal(jax.random.key(1), (2, 9, 9))
    variables = jax.eval_shape(
        self.block.init, jax.random.key(2), self.x, self.bias
    )
    self.axes = variables['params_axes']
    self.params = random_like(variables, seed=3)

  def test_equals_the_reference(self):
    y = jax.jit(self.block.apply)({'params': self.params}, self.x, self.bias)
    for row, x in zip(y, np.asarray(self.x, np.float64), strict=True):
      expected = reference_block(self.params, x, 2, 5, np.asarray(self.bias))
      np.testing.assert_allclose(row, expected, atol=2e-5)

  def test_equals_transformers(self):
    params = jax.tree.map(np.copy, self.params)
    for name in ('gated', 'depthwise', 'out'):
      params['conv'][name]['bias'][:] = 0
    y = jax.jit(self.block.apply)({'params': params}, self.x, self.bias)
    with torch.no_grad():
      expected = hf_block(params, num_heads=2, kernel_size=5)(
          torch.tensor(np.asarray(self.x)),
          attention_mask=torch.tensor(np.asarray(self.bias))[None],
      )
    np.testing.assert_allclose(y, expected, atol=2e-5)

  def test_padding_has_no_influence(self):
    apply = jax.jit(self.block.apply)
    params = {'params': self.params}
    valid = jnp.broadcast_to(jnp.arange(9) < 6, (2, 9))
    padded = apply(params, self.x, self.bias, valid)[:, :6]
    alone = apply(params, self.x[:, :6], self.bias[:, :6, :6])
    np.testing.assert_allclose(padded, alone, atol=1e-5)

  def test_dropout_only_when_asked(self):
    block = self.block.clone(dropout_rate=0.5)

    @jax.jit
    def apply(rng):
      arguments = {'params': self.params}, self.x, self.bias
      without = block.apply(*arguments)
      with_dropout = block.apply(
          *arguments, deterministic=False, rngs={'dropout': rng}
      )
      return without, with_dropout

    without, with_dropout = apply(jax.random.key(0))
    expected = jax.jit(self.block.apply)(
        {'params': self.params}, self.x, self.bias
    )
    np.testing.assert_allclose(without, expected, atol=1e-6)
    self.assertGreater(np.abs(with_dropout - without).max(), 0.1)

  def test_every_parameter_has_axes(self):
    params = traverse_util.flatten_dict(self.params, sep='/')
    axes = traverse_util.flatten_dict(self.axes, sep='/')
    for name, param in params.items():
      self.assertLen(axes[f'{name}_axes'].names, param.ndim, name)


class RelativeBiasTest(absltest.TestCase):

  def test_bias_is_that_of_the_clipped_distance(self):
    biases = np.arange(10.0, dtype=np.float32).reshape(2, 5)
    module = conformer.RelativeBias(num_heads=2, max_distance=2)
    bias = module.apply({'params': {'biases': jnp.asarray(biases)}}, 4)
    # Key minus query: -2 or less, -1, 0, 1, 2 or more.
    expected = [[2, 3, 4, 4], [1, 2, 3, 4], [0, 1, 2, 3], [0, 0, 1, 2]]
    np.testing.assert_array_equal(bias[0], expected)
    np.testing.assert_array_equal(bias[1], np.array(expected) + 5)


if __name__ == '__main__':
  absltest.main()
