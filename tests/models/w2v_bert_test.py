"""Tests for w2v_bert."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
from flax import traverse_util
import jax
import jax.numpy as jnp
from musiclm_jax.models import layers
from musiclm_jax.models import w2v_bert
import numpy as np

TINY = {
    'conv_channels': (2, 2),
    'embed_dim': 8,
    'num_heads': 2,
    'mlp_dim': 12,
    'contrastive_layers': 1,
    'masked_prediction_layers': 2,
    'semantic_layer': 1,
    'codebook_size': 32,
    'codebook_dim': 4,
}
FRAME_LENGTH = w2v_bert.FRAME_LENGTH


def all_valid(audio):
  return jnp.ones((audio.shape[0], audio.shape[1] // FRAME_LENGTH), bool)


def make_audio(frames, batch=2):
  rng = np.random.default_rng(0)
  audio = rng.uniform(-1, 1, (batch, frames * FRAME_LENGTH))
  return jnp.asarray(audio, jnp.float32)


def random_params(module, *args):
  """Returns weights of which none is 0 or 1, without compiling."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: jnp.asarray(rng.normal(scale=0.4, size=x.shape), jnp.float32),
      shapes['params'],
  )
  return {'params': params}, shapes['params_axes']


class ConfigTest(parameterized.TestCase):

  @parameterized.parameters(0, 3)
  def test_layer_must_exist(self, layer):
    with self.assertRaisesRegex(ValueError, r'in \[1, .*= 2\], but is \d'):
      w2v_bert.W2vBertConfig(**{**TINY, 'semantic_layer': layer})

  def test_heads_must_divide_width(self):
    with self.assertRaisesRegex(ValueError, 'multiple of num_heads 3, but is'):
      w2v_bert.W2vBertConfig(**{**TINY, 'num_heads': 3})

  def test_lists_of_json_become_hashable(self):
    config = w2v_bert.W2vBertConfig(conv_channels=[4, 2])
    self.assertEqual(
        hash(config), hash(w2v_bert.W2vBertConfig(conv_channels=(4, 2)))
    )
    self.assertEqual(config.feature_dim, 20 * 2)

  def test_default_has_600m_parameters(self):
    module = w2v_bert.W2vBert(w2v_bert.W2vBertConfig())
    audio = jax.ShapeDtypeStruct((1, FRAME_LENGTH), np.float32)
    mask = jax.ShapeDtypeStruct((1, 1), np.bool_)
    shapes = jax.eval_shape(module.init, jax.random.key(0), audio, mask)
    count = sum(x.size for x in jax.tree.leaves(shapes['params']))
    self.assertBetween(count, 570e6, 630e6)


class EncoderTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.encoder = w2v_bert.W2vBertEncoder(w2v_bert.W2vBertConfig(**TINY))
    cls.audio = make_audio(frames=20)
    cls.variables, _ = random_params(
        cls.encoder, cls.audio, all_valid(cls.audio)
    )
    cls.apply = staticmethod(jax.jit(cls.encoder.apply))

  def test_a_frame_is_40_ms(self):
    embeddings = self.apply(self.variables, self.audio, all_valid(self.audio))
    self.assertEqual(embeddings.shape, (2, 20, 8))

  def test_audio_must_fill_the_frames(self):
    with self.assertRaisesRegex(
        ValueError, '640 samples for each frame, 12800 in all, but holds 12799'
    ):
      valid = all_valid(self.audio)
      self.encoder.apply(self.variables, self.audio[:, :-1], valid)

  def test_features_are_local(self):
    # A click at 10.5 frames is heard by frames within 25 ms, and no others.
    encode = lambda audio: self.encoder.apply(
        self.variables, audio, all_valid(audio), method='encode_features'
    )
    clicked = self.audio.at[:, int(10.5 * FRAME_LENGTH)].add(10)
    change = np.abs(encode(clicked) - encode(self.audio)).max(axis=(0, 2))
    np.testing.assert_array_equal(np.flatnonzero(change > 1e-4), [9, 10])

  def test_padding_has_no_influence(self):
    embeddings = self.apply(self.variables, self.audio, all_valid(self.audio))
    # What comes after the end and a bit of silence may be anything.
    silence = jnp.zeros((2, FRAME_LENGTH))
    longer = [self.audio, silence, make_audio(frames=9)]
    longer = jnp.concatenate(longer, axis=1)
    valid = jnp.broadcast_to(jnp.arange(30) < 20, (2, 30))
    padded = self.apply(self.variables, longer, valid)[:, :20]
    np.testing.assert_allclose(padded, embeddings, atol=1e-5)

  def test_output_is_that_of_the_semantic_layer(self):
    valid = all_valid(self.audio)
    features = self.encoder.apply(
        self.variables, self.audio, valid, method='encode_features'
    )
    outputs = jax.jit(
        lambda *args: self.encoder.apply(*args, method='contextualize')
    )(self.variables, features, valid)
    self.assertLen(outputs, 3)
    embeddings = self.apply(self.variables, self.audio, valid)
    np.testing.assert_allclose(embeddings, outputs[1], atol=1e-5)


class QuantizerTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    config = w2v_bert.W2vBertConfig(**TINY)
    self.quantizer = w2v_bert.Quantizer(config)
    self.features = jax.random.normal(
        jax.random.key(0), (2, 7, config.feature_dim)
    )
    variables = self.quantizer.init(jax.random.key(1), self.features)
    self.params = {'params': variables['params']}

  def test_picks_the_code_of_the_smallest_angle(self):
    codes, logits = self.quantizer.apply(self.params, self.features)
    params = jax.tree.map(np.asarray, self.params['params'])
    features = np.asarray(self.features)
    features = features - features.mean(axis=1, keepdims=True)
    query = features @ params['query']['kernel']
    codebook = params['codebook']
    codebook = codebook / np.linalg.norm(codebook, axis=-1, keepdims=True)
    nearest = np.argmax(query @ codebook.T, axis=-1)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), nearest)
    np.testing.assert_allclose(codes, codebook[nearest], atol=1e-6)

  def test_gradient_is_that_of_the_softmax(self):
    params = self.params['params']
    # At one frame in all, features less their mean are 0: use two.
    features = self.features[:1, :2]

    def hard(query):
      p = {'params': {**params, 'query': query}}
      return jnp.sum(self.quantizer.apply(p, features)[0][..., 0])

    def soft(query):
      p = {'params': {**params, 'query': query}}
      codebook = layers.normalize(params['codebook'])
      logits = self.quantizer.apply(p, features)[1]
      return jnp.sum((jax.nn.softmax(logits) @ codebook)[..., 0])

    grads = jax.grad(hard)(params['query'])
    self.assertGreater(jnp.abs(grads['kernel']).max(), 1e-3)
    expected = jax.grad(soft)(params['query'])
    np.testing.assert_allclose(grads['kernel'], expected['kernel'], atol=1e-5)

  def test_gumbel_noise_picks_codes_by_their_softmax(self):
    pick = jax.jit(
        lambda rng: self.quantizer.apply(self.params, self.features, rng)[0]
    )
    codes = jax.vmap(pick)(jax.random.split(jax.random.key(0), 2000))
    _, logits = self.quantizer.apply(self.params, self.features)
    codebook = layers.normalize(self.params['params']['codebook'])
    expected = jax.nn.softmax(logits) @ codebook
    np.testing.assert_allclose(codes.mean(axis=0), expected, atol=0.1)


class W2vBertTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    module = w2v_bert.W2vBert(w2v_bert.W2vBertConfig(**TINY))
    cls.audio = make_audio(frames=10)
    cls.mask = jnp.broadcast_to(jnp.arange(10) % 3 == 0, (2, 10))
    cls.variables, cls.axes = random_params(module, cls.audio, cls.mask)
    apply = functools.partial(jax.jit(module.apply), cls.variables)
    cls.apply = staticmethod(apply)

  def test_targets_do_not_depend_on_the_mask(self):
    masked = self.apply(self.audio, self.mask)
    seen = self.apply(self.audio, jnp.zeros_like(self.mask))
    np.testing.assert_array_equal(masked.quantized, seen.quantized)
    self.assertGreater(np.abs(masked.context - seen.context).max(), 1e-2)

  def test_masked_frames_are_not_seen(self):
    # All masked: nothing of the audio is left.
    mask = jnp.ones_like(self.mask)
    one, other = (
        self.apply(audio, mask) for audio in (self.audio, self.audio / 2)
    )
    np.testing.assert_array_equal(one.context, other.context)
    np.testing.assert_array_equal(one.logits, other.logits)

  def test_parameters_are_described(self):
    params = traverse_util.flatten_dict(self.variables['params'], sep='/')
    axes = traverse_util.flatten_dict(self.axes, sep='/')
    described = {
        name: ' '.join(
            f'{axis}={size}'
            for axis, size in zip(
                axes[f'{name}_axes'].names, param.shape, strict=True
            )
        )
        for name, param in params.items()
    }
    golden = {
        'mask': 'in_channels=40',
        'quantizer/codebook': 'codes=32 code_embed=4',
        'quantizer/query/kernel': 'in_channels=40 code_embed=4',
        'target/kernel': 'code_embed=4 embed=8',
        'context/kernel': 'in_channels=8 embed=8',
        'prediction/kernel': 'embed=8 codes=32',
        'encoder/bias/biases': 'heads=2 distances=129',
        'encoder/project/kernel': 'in_channels=40 embed=8',
        'encoder/feature_encoder/norm/scale': 'embed=40',
        'encoder/feature_encoder/convs_1/kernel': (
            'kernel=3 kernel_1=3 in_channels=2 channels=2'
        ),
        'encoder/blocks_2/mlp_before/up/kernel': 'embed=8 mlp=12',
        'encoder/blocks_2/mlp_after/down/kernel': 'mlp=12 embed=8',
        'encoder/blocks_2/attention/query/kernel': 'embed=8 heads=8',
        'encoder/blocks_2/attention/out/kernel': 'heads=8 embed=8',
        'encoder/blocks_2/conv/gated/kernel': 'embed=8 mlp=16',
        'encoder/blocks_2/conv/depthwise/kernel': (
            'kernel=5 in_channels=1 channels=8'
        ),
        'encoder/blocks_2/conv/out/kernel': 'mlp=8 embed=8',
    }
    self.assertEqual({name: described[name] for name in golden}, golden)
    blocks = {name.split('/')[1] for name in params if '/blocks_' in name}
    self.assertEqual(blocks, {'blocks_0', 'blocks_1', 'blocks_2'})


class InWindowsTest(parameterized.TestCase):

  @parameterized.parameters(
      (1, [125]), (125, [125]), (126, [250]), (751, [750, 125])
  )
  def test_windows_and_buckets(self, num_frames, buckets):
    seen = []

    def fn(audio, valid):
      self.assertEqual(audio.shape[1], valid.shape[1] * FRAME_LENGTH)
      seen.append(valid.shape[1])
      # The first sample of each frame, or -1 where it is padding.
      return np.where(valid, audio[:, ::FRAME_LENGTH], -1)

    samples = np.arange(num_frames * FRAME_LENGTH, dtype=np.float32)
    frames = w2v_bert.in_windows(fn, samples[np.newaxis], num_frames)
    np.testing.assert_array_equal(
        frames[0], np.arange(num_frames) * FRAME_LENGTH
    )
    self.assertEqual(seen, buckets)

  def test_audio_is_cut_or_filled_up(self):
    fn = lambda audio, valid: audio.reshape(*valid.shape, -1).sum(-1)
    audio = np.ones((1, 1000), np.float32)
    np.testing.assert_array_equal(
        w2v_bert.in_windows(fn, audio, 2), [[640, 360]]
    )
    np.testing.assert_array_equal(w2v_bert.in_windows(fn, audio, 1), [[640]])


if __name__ == '__main__':
  absltest.main()
