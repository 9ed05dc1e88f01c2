"""Tests for streaming."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import soundstream as codec
from musiclm_jax.tokenizers import soundstream
from musiclm_jax.tokenizers import streaming
import numpy as np

CONFIG = codec.SoundStreamConfig(
    sample_rate=3000,
    strides=(2, 3),
    channels=2,
    embed_dim=4,
    codebook_size=64,
)
HOP = CONFIG.hop_length
NUM_FRAMES = 90  # More than an output sees, and than is taken at one time.


def make_codec():
  """Returns a codec of random weights whose audio is neither 0 nor clipped."""
  module = codec.SoundStream(CONFIG)
  shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, HOP)))
  rng = np.random.default_rng(0)

  def draw(x):
    scale = 0.1 if x.ndim == 1 else np.prod(x.shape[:-1]) ** -0.5
    return rng.normal(scale=scale, size=x.shape).astype(np.float32)

  codebooks = {
      'codes': 0.05 * rng.normal(size=(12, 64, 4)).astype(np.float32),
      'counts': np.ones((12, 64), np.float32),
  }
  params = jax.tree.map(draw, shapes['params'])
  params['decoder']['last']['kernel'] *= 0.1
  variables = {'params': params, 'codebooks': {'quantizer': codebooks}}
  return soundstream.SoundStream(CONFIG, variables)


def cuts(rng, length, longest):
  """Yields slices of random lengths, some of 0, that cover `length`."""
  start = 0
  while start < length:
    end = min(length, start + int(rng.integers(0, longest + 1)))
    yield slice(start, end)
    start = end


def join(pieces):
  return {
      name: np.concatenate([p[name] for p in pieces], axis=1)
      for name in pieces[0]
  }


class ChunkSizesTest(absltest.TestCase):

  def test_few_sizes_add_up_to_any_length(self):
    self.assertEqual(streaming.chunk_sizes(0), [])
    self.assertEqual(streaming.chunk_sizes(21), [16, 4, 1])
    self.assertEqual(streaming.chunk_sizes(130), [64, 64, 2])
    sizes = [streaming.chunk_sizes(n) for n in range(300)]
    self.assertEqual([sum(s) for s in sizes], list(range(300)))
    self.assertEqual(set(sum(sizes, [])), {1, 2, 4, 8, 16, 32, 64})


class CodecStreamTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.codec = make_codec()
    rng = np.random.default_rng(1)
    shape = (2, NUM_FRAMES * HOP)
    cls.audio = rng.uniform(-0.5, 0.5, shape).astype(np.float32)
    cls.tokens = cls.codec.tokenize(cls.audio)
    cls.decoded = cls.codec.detokenize(cls.tokens)

  def setUp(self):
    super().setUp()
    # Fewer programs to compile.
    self.enterContext(mock.patch.object(streaming, '_MAX_FRAMES', 8))

  def assert_tokens_equal(self, tokens, expected):
    self.assertEqual(set(tokens), set(expected))
    for name in tokens:
      np.testing.assert_array_equal(tokens[name], expected[name])

  @parameterized.product(seed=(0, 1, 2, 3), longest=(5, 50, 500))
  def test_encodes_as_offline(self, seed, longest):
    rng = np.random.default_rng([seed, longest])
    stream = self.codec.stream(batch_size=2)
    pieces = [
        stream.tokenize(self.audio[:, s])
        for s in cuts(rng, self.audio.shape[1], longest)
    ]
    self.assert_tokens_equal(join(pieces), self.tokens)
    self.assertEqual(stream.flush()['coarse'].shape, (2, 0, 4))

  @parameterized.product(seed=(0, 1, 2, 3), longest=(2, 11, 90))
  def test_decodes_as_offline(self, seed, longest):
    rng = np.random.default_rng([seed, longest])
    stream = self.codec.stream(batch_size=2)
    audio = [
        stream.detokenize({k: t[:, s] for k, t in self.tokens.items()})
        for s in cuts(rng, NUM_FRAMES, longest)
    ]
    np.testing.assert_allclose(
        np.concatenate(audio, axis=1), self.decoded, rtol=0, atol=1e-5
    )
    # Neither silence nor what clipping makes alike.
    self.assertGreater(np.std(self.decoded), 0.01)
    self.assertLess(np.mean(np.abs(self.decoded) == 1), 0.01)

  def test_tokens_come_with_the_last_sample_of_their_frame(self):
    stream = self.codec.stream(batch_size=2)
    num_frames = [
        stream.tokenize(self.audio[:, s])['fine'].shape[1]
        for s in (slice(0, HOP - 1), slice(HOP - 1, HOP), slice(HOP, 4 * HOP))
    ]
    self.assertEqual(num_frames, [0, 1, 3])

  def test_flush_fills_the_last_frame(self):
    stream = self.codec.stream(batch_size=2, num_quantizers=3)
    audio = self.audio[:, : 2 * HOP + 1]
    tokens = join([stream.tokenize(audio), stream.flush()])
    audio = np.pad(audio, ((0, 0), (0, 87 * HOP + 5)))  # To a shape compiled.
    expected = self.codec.tokenize(audio, 3)['coarse'][:, :3]
    self.assert_tokens_equal(tokens, {'coarse': expected})

  def test_bitrate_may_change_along_the_way(self):
    stream = self.codec.stream(batch_size=2)
    coarse = {'coarse': self.tokens['coarse'][:, :4]}
    audio = stream.detokenize(coarse)
    np.testing.assert_allclose(
        audio, self.codec.detokenize(coarse), rtol=0, atol=1e-5
    )
    rest = {k: t[:, 4:5] for k, t in self.tokens.items()}
    self.assertEqual(stream.detokenize(rest).shape, (2, HOP))

  def test_streams_do_not_share_state(self):
    first, second = (self.codec.stream(batch_size=2) for _ in range(2))
    first.tokenize(self.audio[:, : 5 * HOP])
    tokens = second.tokenize(self.audio[:, : 5 * HOP])
    expected = {k: t[:, :5] for k, t in self.tokens.items()}
    self.assert_tokens_equal(tokens, expected)

  def test_rejects_other_batches(self):
    stream = self.codec.stream(batch_size=3)
    with self.assertRaisesRegex(ValueError, r'audio.*3 clips.*\(2, 540\)'):
      stream.tokenize(self.audio)
    with self.assertRaisesRegex(ValueError, r'tokens.*3 clips.*\(2, 90, 12\)'):
      stream.detokenize(self.tokens)


if __name__ == '__main__':
  absltest.main()
