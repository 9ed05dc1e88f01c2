"""Tests for soundstream."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
from flax import traverse_util
import jax
import jax.numpy as jnp
from musiclm_jax.models import soundstream
import numpy as np

# A unit has two convolutions, a block three units and a resampling.
PARAMS = {
    'encoder/first/kernel': 'kernel=7 in_channels=1 channels=2',
    'encoder/blocks_0/units_2/dilated/kernel': (
        'kernel=7 in_channels=2 channels=2'
    ),
    'encoder/blocks_0/units_2/pointwise/kernel': (
        'kernel=1 in_channels=2 channels=2'
    ),
    'encoder/blocks_0/downsample/kernel': 'kernel=4 in_channels=2 channels=4',
    'encoder/blocks_1/downsample/kernel': 'kernel=6 in_channels=4 channels=8',
    'encoder/last/kernel': 'kernel=3 in_channels=8 channels=5',
    'decoder/first/kernel': 'kernel=7 in_channels=5 channels=8',
    'decoder/blocks_0/upsample/kernel': 'kernel=2 in_channels=8 channels=12',
    'decoder/blocks_1/upsample/kernel': 'kernel=2 in_channels=4 channels=4',
    'decoder/blocks_1/units_0/dilated/kernel': (
        'kernel=7 in_channels=2 channels=2'
    ),
    'decoder/last/bias': 'channels=1',
}


class SoundStreamTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.config = soundstream.SoundStreamConfig(
        strides=(2, 3),
        channels=2,
        embed_dim=5,
        num_quantizers=3,
        codebook_size=16,
    )
    cls.module = soundstream.SoundStream(cls.config)
    key = jax.random.key(0)
    cls.audio = 0.3 * jax.random.normal(key, (2, 60 * 6))
    # Values of our own: initializers take longer to compile than networks.
    cls.axes = {}

    def describe():
      variables = cls.module.init(key, cls.audio)
      cls.axes = variables['params_axes']
      return variables['params']

    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: rng.normal(scale=0.3, size=x.shape).astype(np.float32),
        jax.eval_shape(describe),
    )
    codes = jax.random.normal(key, (3, 16, 5))
    cls.variables = {
        'params': params,
        'codebooks': {
            'quantizer': {'codes': codes, 'counts': jnp.ones((3, 16))}
        },
    }

  def jitted(self, network):
    """Returns the 'encoder' or 'decoder' as a jitted function."""
    method = lambda module, x: getattr(module, network)(x)
    return jax.jit(
        lambda x: self.module.apply(self.variables, x, method=method)
    )

  def apply(self, method, *args):
    apply = jax.jit(functools.partial(self.module.apply, method=method))
    return apply(self.variables, *args)

  def test_paper_has_480_samples_to_a_frame(self):
    config = soundstream.SoundStreamConfig()
    self.assertEqual(config.hop_length, 480)
    self.assertEqual(config.sample_rate / config.hop_length, 50)
    self.assertEqual(config.widest, 512)

  def test_config_survives_json(self):
    config = soundstream.SoundStreamConfig.from_json({'strides': [4, 5]})
    self.assertEqual(config, soundstream.SoundStreamConfig(strides=(4, 5)))

  def test_shapes(self):
    tokens = self.apply('encode', self.audio)
    self.assertEqual(tokens.shape, (2, 60, 3))
    self.assertEqual(self.apply('decode', tokens).shape, (2, 360))
    self.assertEqual(self.apply('decode', tokens[..., :1]).shape, (2, 360))

  def test_params(self):
    params = traverse_util.flatten_dict(self.variables['params'], sep='/')
    axes = traverse_util.flatten_dict(self.axes, sep='/')
    self.assertLen(params, 2 * (2 + 2 * (3 * 2 + 1)) * 2)
    for name, description in PARAMS.items():
      names = axes[f'{name}_axes'].names
      dims = zip(names, params[name].shape, strict=True)
      self.assertEqual(' '.join(f'{n}={d}' for n, d in dims), description)

  def test_units_start_as_the_identity(self):
    unit = soundstream.ResidualUnit(self.config, channels=3, dilation=9)
    x = jax.random.normal(jax.random.key(0), (2, 20, 3))
    outputs, _ = jax.jit(unit.init_with_output)(jax.random.key(1), x)
    np.testing.assert_array_equal(outputs, x)

  def test_encoder_is_causal(self):
    # Frame 30 is samples 180 to 185; from 186 on it must not hear a thing.
    encode = self.jitted('encoder')
    before = encode(self.audio)
    after = encode(self.audio.at[:, 186:].add(1.0))
    np.testing.assert_allclose(before[:, :31], after[:, :31], atol=1e-6)
    self.assertGreater(float(jnp.abs(before - after)[:, 31].max()), 1e-3)

  def test_decoder_is_causal(self):
    decode = self.jitted('decoder')
    embeddings = jax.random.normal(jax.random.key(1), (2, 60, 5))
    before = decode(embeddings)
    after = decode(embeddings.at[:, 30:].add(1.0))
    np.testing.assert_allclose(before[:, :180], after[:, :180], atol=1e-6)
    self.assertGreater(float(jnp.abs(before - after)[:, 180:186].max()), 1e-3)

  @parameterized.parameters('encoder', 'decoder')
  def test_context_covers_what_is_seen_to_the_left(self, network):
    run = self.jitted(network)
    per_frame = {'encoder': (6, 1), 'decoder': (5, 6)}
    width, hop = per_frame[network]
    x = jax.random.normal(jax.random.key(1), (2, 60, width))
    if network == 'encoder':
      run = lambda x, encode=run: encode(x.reshape(2, -1))
    context = self.config.context_frames
    # A network that starts `context` frames late agrees from then on.
    late = run(x[:, 10:])[:, context * hop :]
    np.testing.assert_allclose(
        run(x)[:, (10 + context) * hop :], late, atol=1e-6
    )

  def test_upsampling_is_a_transposed_convolution(self):
    block = soundstream.DecoderBlock(self.config, channels=4, stride=3)
    x = jax.random.normal(jax.random.key(0), (1, 7, 4))
    variables = block.init(jax.random.key(1), x)
    kernel = variables['params']['upsample']['kernel']  # [2, 4, 3 * 2]
    # Tap 1 is the step itself and makes the kernel's first stride of outputs.
    taps = kernel.reshape(2, 4, 3, 2)[::-1]
    expected = np.zeros((1, 8 * 3, 2))
    for t in range(7):
      for tap in (0, 1):
        for phase in range(3):
          expected[0, (t + tap) * 3 + phase] += x[0, t] @ taps[tap, :, phase]
    y = block.bind(variables).upsample(x).reshape(1, -1, 2)
    np.testing.assert_allclose(y, expected[:, : 7 * 3], atol=1e-5)

  def test_bfloat16_is_near_float32(self):
    low = soundstream.SoundStream(
        soundstream.SoundStreamConfig(
            strides=(2, 3),
            channels=2,
            embed_dim=5,
            num_quantizers=3,
            codebook_size=16,
            dtype='bfloat16',
        )
    )
    decode = jax.jit(functools.partial(low.apply, method='decode'))
    tokens = self.apply('encode', self.audio)
    audio = decode(self.variables, tokens)
    expected = self.apply('decode', tokens)
    self.assertEqual(audio.dtype, jnp.float32)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(audio, expected, atol=0.05 * scale)
    self.assertGreater(float(jnp.abs(audio - expected).max()), 0)


if __name__ == '__main__':
  absltest.main()
