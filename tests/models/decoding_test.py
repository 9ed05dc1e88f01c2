"""Tests for decoding."""

import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import conditions
from musiclm_jax.models import caching
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

  def __init__(self, name, frame_bias, rows=2, embed_dim=64, crop=None):
    name, _, pattern = name.partition('/')
    options = {'pattern': pattern} if pattern else {}
    self.stage = stages.get_stage(name, crop or CROPS[name], **options)
    self.config = transformer.TransformerConfig(
        num_layers=2,
        num_heads=2,
        head_dim=32,
        embed_dim=embed_dim,
        mlp_dim=128,
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
    module = transformer.StageTransformer(self.config, self.stage)
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs, targets)
    self.params = jax.tree.map(
        lambda x: 0.3 * jnp.asarray(rng.normal(size=x.shape), x.dtype),
        shapes['params'],
    )
    self.logits = jax.jit(module.apply)(
        {'params': self.params}, inputs, targets
    )
    prefix, self.added_ids = conditions.split(self.stage, inputs)
    self.num_inputs, self.pattern = prefix.shape[1], module.pattern
    self.read = self.pattern.read(prefix, targets)
    self.token_frames = positions.frames(
        self.stage, prefix.shape[1], targets.shape[1]
    )

    # Compiled once for all tests of the same sizes.
    self.prefill = jax.jit(self._prefill)
    self.step = jax.jit(
        self._step,
        donate_argnums=3,
        compiler_options=decoding.compiler_options(),
    )

  def decode(self, dtype, num_steps=12, rows=None, known=None):
    """Returns the logits of steps after a prefill, and of the one pass.

    Args:
      dtype: Type of the weights.
      num_steps: Positions to decode.
      rows: Sequences to decode; all by default.
      known: Positions to prefill; inputs and some targets by default.
    """
    known = known or self.num_inputs + 5
    length = -(-self.read.shape[1] // caching.LENGTH_STEP)
    length *= caching.LENGTH_STEP
    missing = [(0, 0), (0, length - self.read.shape[1]), (0, 0)]
    read = jnp.pad(self.read, missing)[:rows]
    packed = decoding.pack(self.params, self.config, dtype)
    weights = jax.device_put(packed)
    added = self._add(weights, rows, length)
    cache = caching.empty(self.config, dtype, len(read), length)
    cache = self.prefill(weights, read, known, cache, added)
    cache = self.fill(cache, known)
    found = []
    for position in range(known, known + num_steps):
      logits, cache = self.step(
          weights, read[:, position], position, cache, added
      )
      found.append(logits)
    start = known - self.num_inputs
    places = self.pattern.places(np.arange(start, start + num_steps))
    frames, quantizers = np.broadcast_arrays(*places)
    num_quantizers = self.pattern.num_quantizers
    num_frames = self.logits.shape[1] // num_quantizers
    is_token = (frames >= 0) & (frames < num_frames)
    tokens = np.clip(frames, 0, num_frames - 1) * num_quantizers + quantizers
    expected = np.asarray(self.logits)[:rows, tokens]
    return np.stack(found, axis=1)[:, is_token], expected[:, is_token]

  def fill(self, cache, known):
    """Fills what must not be seen with what would show."""

    def fill(x, axis):
      shape = [1, x.shape[1], *[1] * (x.ndim - 2)]
      shape[axis] = x.shape[axis]
      later = np.arange(x.shape[1] * x.shape[axis]).reshape(shape) >= known
      return jnp.where(later, jnp.asarray(9, x.dtype), x)

    return [(fill(keys, -1), fill(values, -2)) for keys, values in cache]

  def _add(self, weights, rows, length):
    if not self.added_ids:
      return None
    ids = {name: x[:rows] for name, x in self.added_ids.items()}
    room = length - len(self.token_frames)
    frames = np.pad(
        self.token_frames, (0, room), constant_values=positions.NO_FRAME
    )
    return decoding.add_up(weights, self.config, self.stage, ids, frames)

  def _prefill(self, weights, ids, known, cache, added):
    frames = jnp.asarray(self.token_frames)
    return decoding.prefill(
        weights, self.config, ids, 0, known, frames, cache, added
    )

  def _step(self, weights, ids, position, cache, added):
    _, quantizers = self.pattern.places(position - self.num_inputs)
    return decoding.step(
        weights,
        self.config,
        ids,
        jnp.int32(position),
        jnp.asarray(self.token_frames),
        quantizers,
        cache,
        added,
    )


make = functools.cache(Sequences)


def error(found, expected):
  """Returns the rms error, relative to the rms of what is expected."""
  return np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))


class DecodingTest(parameterized.TestCase):

  @parameterized.parameters(
      *((name, False, 64) for name in stages.PAPER),
      ('coarse', True, 64),
      ('coarse/delay', True, 64),
      ('coarse_melody/delay', True, 64),
      ('semantic', True, 48),  # Not a multiple that makes blocks.
  )
  def test_steps_with_a_cache_equal_one_pass(self, name, frame_bias, embed_dim):
    sequences = make(name, frame_bias, embed_dim=embed_dim)
    found, expected = sequences.decode('float32')
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)

  @parameterized.parameters(1, caching.BLOCK, 2 * caching.BLOCK + 1)
  def test_any_position_equals_one_pass(self, known):
    # To the end of a sequence of many blocks of the cache.
    sequences = make('coarse', True, crop=2.6)
    num_steps = sequences.logits.shape[1] + sequences.num_inputs
    known = max(known, sequences.num_inputs)
    found, expected = sequences.decode('float32', num_steps - known, 1, known)
    self.assertGreater(known + found.shape[1], 2 * caching.BLOCK + 50)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale)

  @parameterized.parameters(
      ('semantic', 'bfloat16', 64, 0.01),
      ('semantic', 'int8', 64, 0.02),
      ('coarse', 'bfloat16', 48, 0.01),
      ('coarse', 'int8', 48, 0.03),
      ('coarse/delay', 'int8', 64, 0.03),
      ('fine', 'int8', 64, 0.02),
      ('semantic_melody', 'bfloat16', 64, 0.01),
  )
  def test_fewer_bits_are_close(self, name, dtype, embed_dim, tolerance):
    found, expected = make(name, True, embed_dim=embed_dim).decode(dtype)
    self.assertBetween(error(found, expected), 1e-4, tolerance)

  @parameterized.parameters(
      ('float32', 0.0, 1e-5), ('bfloat16', 1e-4, 0.01), ('int8', 1e-3, 0.02)
  )
  def test_the_form_for_accelerators(self, dtype, low, high):
    # Another number of rows than elsewhere, as programs are kept by it.
    with mock.patch.object(jax, 'default_backend', return_value='gpu'):
      self.assertIsNone(decoding.compiler_options())
      found, expected = make('coarse', True, rows=3).decode(dtype)
    self.assertBetween(error(found, expected), low, high)

  def test_a_row_does_not_depend_on_the_others(self):
    sequences = make('coarse', True)
    both, _ = sequences.decode('float32')
    alone, _ = sequences.decode('float32', rows=1)
    np.testing.assert_allclose(alone, both[:1], atol=1e-5)

  def test_rejects(self):
    sequences = make('coarse', True)
    with self.assertRaisesRegex(ValueError, "float32.*but is 'float16'"):
      decoding.pack({}, sequences.config, 'float16')


if __name__ == '__main__':
  absltest.main()
