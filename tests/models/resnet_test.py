"""Tests for resnet."""

import importlib.util
import unittest

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax.models import resnet
import numpy as np

TINY = resnet.ResNetConfig(
    num_mels=16, stage_sizes=(2, 1), width=8, num_groups=4
)
HAS_TORCH = importlib.util.find_spec('torch') is not None


def count(tree):
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def torch_forward(params, log_mel):
  """The same network written with torch's functions."""
  import torch  # pylint: disable=g-import-not-at-top
  from torch.nn import functional as F  # pylint: disable=g-import-not-at-top

  def conv(x, p, stride):
    kernel = torch.tensor(np.asarray(p['kernel']).transpose(3, 2, 0, 1).copy())
    return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

  def norm(x, p):
    scale, bias = (torch.tensor(np.asarray(p[k])) for k in ('scale', 'bias'))
    return F.group_norm(x, TINY.num_groups, scale, bias)

  x = torch.tensor(log_mel)[:, None]
  x = F.relu(norm(conv(x, params['stem'], 2), params['stem_norm']))
  x = F.max_pool2d(x, 3, 2, 1)
  for name, stride in (('blocks_0', 1), ('blocks_1', 1), ('blocks_2', 2)):
    p = params[name]
    y = F.relu(norm(conv(x, p['convs_0'], 1), p['norms_0']))
    y = F.relu(norm(conv(y, p['convs_1'], stride), p['norms_1']))
    y = norm(conv(y, p['convs_2'], 1), p['norms_2'])
    if 'projection' in p:
      x = norm(conv(x, p['projection'], stride), p['projection_norm'])
    x = F.relu(x + y)
  return x.mean(dim=(2, 3)).numpy()


class ResNetTest(absltest.TestCase):

  def test_resnet50_has_as_many_parameters_as_torchvisions(self):
    model = resnet.ResNet(resnet.ResNetConfig())
    log_mel = jax.ShapeDtypeStruct((1, 64, 64), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), log_mel)
    # Torchvision's reads 3 channels, and ends in 1000 classes.
    expected = 25_557_032 - 2 * 7 * 7 * 64 - (2048 * 1000 + 1000)
    self.assertEqual(count(shapes['params']), expected)

  @unittest.skipUnless(HAS_TORCH, 'needs torch')
  def test_equals_torch(self):
    log_mel = np.random.default_rng(0).standard_normal((2, 22, 16), np.float32)
    model = resnet.ResNet(TINY)
    params = jax.jit(model.init)(jax.random.key(0), log_mel)['params']
    pooled = jax.jit(model.apply)({'params': params}, log_mel)
    self.assertEqual(pooled.shape, (2, TINY.out_dim))
    np.testing.assert_allclose(
        pooled, torch_forward(params, log_mel), atol=1e-5
    )

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
