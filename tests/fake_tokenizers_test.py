"""Tests for fake_tokenizers."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import streams
from musiclm_jax.tokenizers import base
import numpy as np
from tests import fake_tokenizers


class FakeTokenizerTest(parameterized.TestCase):

  @parameterized.parameters(
      (base.MULAN, 16000, (2, 1, 12)),
      (base.SEMANTIC, 16000, (2, 50, 1)),
      (base.COARSE, 24000, (2, 100, 4)),
  )
  def test_shapes(self, stream, sample_rate, shape):
    tokenizer = fake_tokenizers.FakeTokenizer(stream, sample_rate)
    audio = np.random.default_rng(0).uniform(-1, 1, (2, 2 * sample_rate))
    tokens = tokenizer.tokenize(audio)[stream.name]
    self.assertEqual(tokens.shape, shape)
    self.assertEqual(tokens.dtype, np.int32)

  def test_levels(self):
    stream = streams.Stream(
        'x', num_quantizers=2, codebook_size=4, frame_rate=1.0
    )
    audio = np.asarray([[-1.0, -1.0, 1.0, 1.0, -0.4, -0.4, 0.1, 0.1]])
    tokens = fake_tokenizers.FakeTokenizer(stream, sample_rate=4).tokenize(
        audio
    )['x']
    np.testing.assert_array_equal(tokens, [[[0, 3], [1, 2]]])

  def test_rejects_stereo(self):
    with self.assertRaisesRegex(ValueError, 'mix stereo down'):
      fake_tokenizers.FakeTokenizer(base.SEMANTIC, 16000).tokenize(
          np.zeros((1, 9, 2))
      )


class FakeCodecTest(parameterized.TestCase):

  def test_tokens_round_trip(self):
    rng = np.random.default_rng(0)
    tokens = {
        'coarse': rng.integers(1024, size=(2, 7, 4), dtype=np.int32),
        'fine': rng.integers(1024, size=(2, 7, 8), dtype=np.int32),
    }
    codec = fake_tokenizers.FakeCodec()
    audio = codec.detokenize(tokens)
    self.assertEqual(audio.shape, (2, 7 * 480))
    again = codec.tokenize(audio)
    for name in tokens:
      np.testing.assert_array_equal(again[name], tokens[name])

  def test_coarse_alone(self):
    codec = fake_tokenizers.FakeCodec()
    tokens = {'coarse': np.full((1, 3, 4), 1023, np.int32)}
    audio = codec.detokenize(tokens).reshape(3, 480)
    self.assertTrue(np.all(audio[:, :160] > 0.99))
    self.assertTrue(np.all(audio[:, 160:] == 0))

  def test_pads_to_whole_frames(self):
    tokens = fake_tokenizers.FakeCodec().tokenize(
        np.zeros((1, 481), np.float32)
    )
    self.assertEqual(tokens['coarse'].shape, (1, 2, 4))


if __name__ == '__main__':
  absltest.main()
