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

  @parameterized.parameters(3, 7)
  def test_any_bitrate(self, num_quantizers):
    tokens = self.codec.tokenize(self.audio, num_quantizers)
    codes = np.concatenate([self.tokens['coarse'], self.tokens['fine']], -1)
    first = codes[..., :num_quantizers]
    np.testing.assert_array_equal(
        np.concatenate(list(tokens.values()), -1), first
    )
    decode = functools.partial(codec.SoundStream(CONFIG).apply, method='decode')
    expected = jax.jit(decode)(self.variables, first).clip(-1, 1)
    audio = self.codec.detokenize(tokens)
    np.testing.assert_allclose(audio, expected, atol=1e-5)
    np.testing.assert_array_equal(
        self.codec.detokenize(self.tokens, num_quantizers), audio
    )

  def test_each_quantizer_is_half_a_kilobit(self):
    self.assertEqual(CONFIG.kbps(1), 0.5)
    self.assertEqual(CONFIG.kbps(12), 6.0)

  def test_rejects_other_bitrates(self):
    with self.assertRaisesRegex(ValueError, r'in \[1, 12\], but is 13'):
      self.codec.tokenize(self.audio, 13)
    with self.assertRaisesRegex(ValueError, r'in \[1, 12\], but is 0'):
      self.codec.detokenize(self.tokens, 0)
    with self.assertRaisesRegex(ValueError, r'in \[1, 12\], but is 0'):
      self.codec.stream(num_quantizers=0)

  def test_rejects_tokens(self):
    with self.assertRaisesRegex(ValueError, "hold 'coarse'"):
      self.codec.detokenize({'fine': np.zeros((1, 2, 8), np.int32)})

  def test_bfloat16_is_close_to_float32(self):
    low = soundstream.SoundStream(CONFIG, self.variables, dtype='bfloat16')
    audio, expected = (c.detokenize(self.tokens) for c in (low, self.codec))
    error = np.sqrt(np.mean((audio - expected) ** 2) / np.mean(expected**2))
    self.assertBetween(error, 1e-5, 0.05)
    # Rounding tips some choices between codes; the coarsest are the clearest.
    same = low.tokenize(self.audio)['coarse'] == self.tokens['coarse']
    self.assertGreater(same[..., 0].mean(), 0.9)
    self.assertFalse(same.all())


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

  def test_streams_are_those_of_its_config(self):
    split = (('acoustic', 1), ('finer', 9), ('none', 13))
    config = dataclasses.replace(CONFIG, sample_rate=16000, streams=split)
    directory = self.save(config, make_variables())
    loaded = soundstream.SoundStream.from_dir(directory)
    rate = 16000 / config.hop_length
    self.assertEqual(
        [(s.name, s.num_quantizers, s.frame_rate) for s in loaded.streams],
        [('acoustic', 8, rate), ('finer', 4, rate)],
    )
    stored = parts.read_description(directory, 'soundstream')['config']
    self.assertEqual(loaded.streams_of(stored), loaded.streams)

  def test_rejects_streams_out_of_order(self):
    for split in ((), (('a', 2),), (('a', 1), ('b', 5), ('c', 5))):
      with self.assertRaisesRegex(ValueError, 'start at quantizer 1'):
        dataclasses.replace(CONFIG, streams=split)

  def test_rejects_other_shapes(self):
    config = dataclasses.replace(CONFIG, embed_dim=5)
    with self.assertRaisesRegex(ValueError, 'must hold .* of shape'):
      soundstream.SoundStream.from_dir(self.save(config, make_variables()))


if __name__ == '__main__':
  absltest.main()
