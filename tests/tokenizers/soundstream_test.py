"""Tests for soundstream."""

import dataclasses
import functools
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import parts
from musiclm_jax.models import soundstream as codec
from musiclm_jax.tokenizers import soundstream
import numpy as np

CONFIG = codec.SoundStreamConfig(channels=2, embed_dim=4)


def make_variables():
  module = codec.SoundStream(CONFIG)
  shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 480)))
  rng = np.random.default_rng(0)
  embeddings = 0.1 * jax.random.normal(jax.random.key(1), (12, 1024, 4))
  codebooks = {'codes': embeddings, 'counts': jnp.ones((12, 1024))}
  return jax.device_get(
      {
          'params': jax.tree.map(
              lambda x: rng.normal(scale=0.2, size=x.shape).astype(np.float32),
              shapes['params'],
          ),
          'codebooks': {'quantizer': codebooks},
      }
  )


class SoundStreamTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.variables = make_variables()
    cls.codec = soundstream.SoundStream(CONFIG, cls.variables)
    rng = np.random.default_rng(0)
    cls.audio = rng.uniform(-0.5, 0.5, (2, 70 * 480)).astype(np.float32)
    cls.tokens = cls.codec.tokenize(cls.audio)

  def test_shapes(self):
    self.assertEqual(self.tokens['coarse'].shape, (2, 70, 4))
    self.assertEqual(self.tokens['fine'].shape, (2, 70, 8))
    self.assertEqual(self.tokens['fine'].dtype, np.int32)
    self.assertEqual(self.codec.detokenize(self.tokens).shape, (2, 70 * 480))

  def test_matches_the_network(self):
    encode = functools.partial(codec.SoundStream(CONFIG).apply, method='encode')
    tokens = jax.jit(encode)(self.variables, self.audio)
    np.testing.assert_array_equal(self.tokens['coarse'], tokens[..., :4])
    np.testing.assert_array_equal(self.tokens['fine'], tokens[..., 4:])

  def test_fills_the_last_frame(self):
    tokens = self.codec.tokenize(self.audio[:, : 5 * 480 + 1])
    self.assertEqual(tokens['coarse'].shape[1], 6)
    np.testing.assert_array_equal(
        tokens['coarse'][:, :5], self.tokens['coarse'][:, :5]
    )

  def test_chunks_are_exact(self):
    chunked = soundstream.SoundStream(CONFIG, self.variables, max_frames=32)
    tokens = chunked.tokenize(self.audio)
    for name in tokens:
      np.testing.assert_array_equal(tokens[name], self.tokens[name])
    np.testing.assert_allclose(
        chunked.detokenize(tokens), self.codec.detokenize(tokens), atol=1e-4
    )

  def test_coarse_alone_is_decoded(self):
    coarse = {'coarse': self.tokens['coarse']}
    audio = self.codec.detokenize(coarse)
    self.assertEqual(audio.shape, self.audio.shape)
    self.assertGreater(
        np.abs(audio - self.codec.detokenize(self.tokens)).max(), 1e-3
    )

  def test_no_audio_has_no_tokens(self):
    tokens = self.codec.tokenize(np.zeros((1, 0), np.float32))
    self.assertEqual(tokens['coarse'].shape, (1, 0, 4))
    self.assertEqual(self.codec.detokenize(tokens).shape, (1, 0))

  @parameterized.named_parameters(
      ('fine_alone', {'fine': np.zeros((1, 2, 8), np.int32)}, "hold 'coarse'"),
      (
          'other_length',
          {
              'coarse': np.zeros((1, 2, 4), np.int32),
              'fine': np.zeros((1, 3, 8), np.int32),
          },
          r'shape \(1, 2, 8\), but have \(1, 3, 8\)',
      ),
      (
          'ids',
          {'coarse': np.full((1, 2, 4), 1024, np.int32)},
          r'in \[0, 1024\), but are in \[1024, 1024\]',
      ),
  )
  def test_rejects_tokens(self, tokens, message):
    with self.assertRaisesRegex(ValueError, message):
      self.codec.detokenize(tokens)


class FromDirTest(parameterized.TestCase):

  def save(self, config, variables):
    directory = self.enterContext(tempfile.TemporaryDirectory())
    parts.save(directory, 'soundstream', dataclasses.asdict(config), variables)
    return directory

  def test_loads(self):
    directory = self.save(CONFIG, make_variables())
    loaded = soundstream.SoundStream.from_dir(directory)
    self.assertEqual(loaded.config, CONFIG)
    self.assertEqual(loaded.sample_rate, 24000)
    self.assertLen(loaded.sha256, 64)

  def test_rejects_other_streams(self):
    config = dataclasses.replace(CONFIG, num_quantizers=8)
    with self.assertRaisesRegex(ValueError, r'\(12, 1024, 50.0\).*\(8, '):
      soundstream.SoundStream.from_dir(self.save(config, make_variables()))

  def test_rejects_other_shapes(self):
    config = dataclasses.replace(CONFIG, embed_dim=5)
    with self.assertRaisesRegex(ValueError, 'must hold .* of shape'):
      soundstream.SoundStream.from_dir(self.save(config, make_variables()))


if __name__ == '__main__':
  absltest.main()
