"""Tests for decoding."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import decoding
from musiclm_jax.models import positions
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
import numpy as np

CROPS = {
    'semantic': 2.0,
    'coarse': 0.4,
    'fine': 0.2,
    'semantic_melody': 7.0,
    'coarse_melody': 4.0,
}


class Sequences:
  """Random weights and tokens of a stage, and the logits of one pass."""

  def __init__(self, name, frame_bias, rows=2):
    self.stage = stages.get_stage(name, CROPS[name])
    self.config = transformer.TransformerConfig(
        num_layers=2,
        num_heads=2,
        head_dim=8,
        embed_dim=16,
        mlp_dim=32,
        frame_bias=frame_bias,
    )
    rng = np.random.default_rng(0)

    def ids(streams):
      drawn = [
          self.stage.to_ids(
              rng.integers(
                  s.codebook_size,
                  size=(
                      rows,
                      s.num_frames(self.stage.crop_seconds),
                      s.num_quantizers,
                  ),
              ),
              s,
          ).reshape(rows, -1)
          for s in streams
      ]
      return jnp.asarray(np.concatenate(drawn, axis=1), jnp.int32)

    inputs, targets = ids(self.stage.inputs), ids([self.stage.targets])
    self.num_inputs = inputs.shape[1]
    module = transformer.StageTransformer(self.config, self.stage)
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs, targets)
    self.params = jax.tree.map(
        lambda x: 0.5 * jnp.asarray(rng.normal(size=x.shape), x.dtype),
        shapes['params'],
    )
    self.logits = jax.jit(module.apply)(
        {'params': self.params}, inputs, targets
    )
    self.read = jnp.pad(jnp.concatenate([inputs, targets], 1), ((0, 0), (1, 0)))
    self.token_frames = jnp.asarray(
        positions.frames(self.stage, inputs.shape[1], targets.shape[1])
    )

  def decode(self, dtype, num_steps=12, rows=None):
    """Returns the logits of steps after a prefill, and of the one pass."""
    read = self.read[:rows]
    known = self.num_inputs + 5  # Inputs and some targets, in one pass.
    weights = decoding.pack(self.params, self.config, self.stage, dtype)
    cache = jax.jit(self._prefill)(weights, read[:, :known])
    # Room to spare, filled with what must not be seen.
    pad = (0, 0), (0, 0), (0, num_steps + 3), (0, 0)
    cache = jax.tree.map(lambda x: jnp.pad(x, pad, constant_values=9), cache)
    step = jax.jit(self._step, donate_argnums=3)
    found = []
    for position in range(known, known + num_steps):
      logits, cache = step(weights, read[:, position], position, cache)
      found.append(logits)
    start = known - self.num_inputs
    expected = self.logits[:rows, start : start + num_steps]
    return np.stack(found, axis=1), np.asarray(expected)

  def _prefill(self, weights, ids):
    return decoding.prefill(
        weights, self.config, self.stage, ids, self.token_frames
    )

  def _step(self, weights, ids, position, cache):
    quantizers = self.stage.targets.num_quantizers
    return decoding.step(
        weights,
        self.config,
        self.stage,
        ids,
        jnp.int32(position),
        self.token_frames,
        (position - self.num_inputs) % quantizers,
        cache,
    )


make = functools.cache(Sequences)


def error(found, expected):
  """Returns the rms error, relative to the rms of what is expected."""
  return np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))


class DecodingTest(parameterized.TestCase):

  @parameterized.product(name=stages.names(), frame_bias=[False, True])
  def test_steps_with_a_cache_equal_one_pass(self, name, frame_bias):
    found, expected = make(name, frame_bias).decode('float32')
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)

  @parameterized.product(
      name=['semantic', 'coarse', 'fine', 'semantic_melody'],
      dtype_and_error=[('bfloat16', 0.02), ('int8', 0.05)],
  )
  def test_fewer_bits_are_close(self, name, dtype_and_error):
    dtype, tolerance = dtype_and_error
    found, expected = make(name, True).decode(dtype)
    self.assertBetween(error(found, expected), 1e-4, tolerance)

  @parameterized.parameters(*decoding.DTYPES)
  def test_a_row_does_not_depend_on_the_others(self, dtype):
    sequences = make('coarse', True)
    both, _ = sequences.decode(dtype)
    alone, _ = sequences.decode(dtype, rows=1)
    np.testing.assert_array_equal(alone, both[:1])

  def test_rejects(self):
    sequences = make('coarse', True)
    with self.assertRaisesRegex(ValueError, "float32.*but is 'float16'"):
      decoding.pack({}, sequences.config, sequences.stage, 'float16')


if __name__ == '__main__':
  absltest.main()
