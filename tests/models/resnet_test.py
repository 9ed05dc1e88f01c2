"""Tests for resnet."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import resnet
import numpy as np
import torch
from torch.nn import functional as F

TINY = resnet.ResNetConfig(
    num_mels=16, stage_sizes=(2, 1), width=8, num_groups=4
)


def count(tree):
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def torch_forward(params, log_mel, config):
  """The same network written with torch's functions."""

  def conv(x, p, stride):
    kernel = torch.tensor(np.asarray(p['kernel']).transpose(3, 2, 0, 1).copy())
    return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

  def norm(x, p):
    scale, bias = (torch.tensor(np.asarray(p[k])) for k in ('scale', 'bias'))
    return F.group_norm(x, config.num_groups, scale, bias)

  x = torch.tensor(log_mel)[:, None]
  x = F.relu(norm(conv(x, params['stem'], 2), params['stem_norm']))
  x = F.max_pool2d(x, 3, 2, 1)
  firsts = np.cumsum(config.stage_sizes)[:-1]  # Of all stages but one.
  for i in range(sum(config.stage_sizes)):
    p, stride = params[f'blocks_{i}'], 2 if i in firsts else 1
    y = F.relu(norm(conv(x, p['convs_0'], 1), p['norms_0']))
    y = F.relu(norm(conv(y, p['convs_1'], stride), p['norms_1']))
    y = norm(conv(y, p['convs_2'], 1), p['norms_2'])
    if 'projection' in p:
      x = norm(conv(x, p['projection'], stride), p['projection_norm'])
    x = F.relu(x + y)
  return x.mean(dim=(2, 3)).numpy()


class ResNetTest(parameterized.TestCase):

  def test_resnet50_has_as_many_parameters_as_torchvisions(self):
    model = resnet.ResNet(resnet.ResNetConfig())
    log_mel = jax.ShapeDtypeStruct((1, 64, 64), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), log_mel)
    # Torchvision's reads 3 channels, and ends in 1000 classes.
    expected = 25_557_032 - 2 * 7 * 7 * 64 - (2048 * 1000 + 1000)
    self.assertEqual(count(shapes['params']), expected)

  @parameterized.named_parameters(
      ('tiny', TINY, 22), ('resnet50', resnet.ResNetConfig(), 70)
  )
  def test_equals_torch(self, config, num_frames):
    rng = np.random.default_rng(0)
    log_mel = rng.standard_normal((2, num_frames, config.num_mels), np.float32)
    model = resnet.ResNet(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), log_mel)

    def draw(x):
      if x.ndim == 1:  # Of a norm, which a scale of 1 would not show.
        return rng.uniform(0.5, 1, x.shape).astype(np.float32)
      scale = float(np.prod(x.shape[:-1])) ** -0.5
      return scale * rng.standard_normal(x.shape, np.float32)

    params = jax.tree.map(draw, shapes['params'])
    pooled = jax.jit(model.apply)({'params': params}, log_mel)
    self.assertEqual(pooled.shape, (2, config.out_dim))
    expected = torch_forward(params, log_mel, config)
    self.assertGreater(np.std(expected), 0.1)
    np.testing.assert_allclose(pooled, expected, atol=1e-5, rtol=1e-5)

  def test_group_norm(self):
    x = np.random.default_rng(0).normal(2, 4, (2, 3, 5, 8))
    norm = resnet.GroupNorm(8, 2)
    y, _ = jax.jit(norm.init_with_output)(jax.random.key(1), x)
    groups = np.asarray(y).reshape(2, 3, 5, 2, 4)
    np.testing.assert_allclose(groups.mean((1, 2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.std((1, 2, 4)), 1, atol=1e-4)

  def test_param_axes_are_declared(self):
    log_mel = jax.ShapeDtypeStruct((1, 22, 16), jnp.float32)
    model = resnet.ResNet(TINY)
    shapes = jax.eval_shape(model.init, jax.random.key(0), log_mel)
    axes = shapes['params_axes']['stem']['kernel_axes'].names
    self.assertEqual(axes, ('kernel', 'kernel_1', 'in_channels', 'channels'))


if __name__ == '__main__':
  absltest.main()
