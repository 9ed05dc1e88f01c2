"""Tests for causal."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import causal
import numpy as np


class CausalConvTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.x = jax.random.normal(jax.random.key(0), (2, 12, 3))

  def make(self, kernel, stride, dilation):
    conv = causal.CausalConv(3, 4, (kernel,), (stride,), (dilation,))
    variables = conv.init(jax.random.key(1), self.x)
    self.assertEqual(set(variables), {'params', 'params_axes'})
    return conv, {'params': variables['params']}

  def test_by_hand(self):
    # Inputs 1 2 3 4, taps 10 and 1 two steps apart.
    conv = causal.CausalConv(1, 1, (2,), dilation=(2,))
    kernel = np.array([[[10.0]], [[1.0]]], np.float32)
    params = {'kernel': kernel, 'bias': np.zeros(1, np.float32)}
    x = jnp.arange(1.0, 5.0).reshape(1, 4, 1)
    y = conv.apply({'params': params}, x)
    np.testing.assert_array_equal(y[0, :, 0], [1, 2, 13, 24])

  @parameterized.parameters(
      # kernel, stride, dilation, context
      (7, 1, 1, 6),
      (7, 1, 9, 54),
      (6, 3, 1, 3),
      (1, 1, 1, 0),
  )
  def test_chunks_equal_the_whole(self, kernel, stride, dilation, context):
    conv, variables = self.make(kernel, stride, dilation)
    self.assertEqual(conv.context, context)
    state, outputs = {}, []
    for start, end in ((0, 3), (3, 9), (9, 12)):
      output, state = conv.apply(
          {**variables, **state}, self.x[:, start:end], mutable=[causal.STREAM]
      )
      outputs.append(output)
    if context:
      left = state[causal.STREAM]['left']
      self.assertEqual(left.shape, (2, context, 3))
      kept = min(context, 12)
      np.testing.assert_array_equal(left[:, -kept:], self.x[:, -kept:])
    np.testing.assert_allclose(
        np.concatenate(outputs, axis=1),
        conv.apply(variables, self.x),
        atol=1e-6,
    )


if __name__ == '__main__':
  absltest.main()
