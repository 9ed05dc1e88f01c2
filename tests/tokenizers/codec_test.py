"""Tests for codec: codecs that look ahead, and streams of codes."""

import dataclasses
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import spectral_codec
import numpy as np
from tests.models import spectral_codec_test

CONFIG = dataclasses.replace(
    spectral_codec_test.CONFIG, sample_rate=1600, streams=(('a', 1), ('b', 3))
)


def make_codec(max_frames=3072):
  variables = spectral_codec_test.make_variables()
  return spectral_codec.SpectralCodec(CONFIG, variables, 'sha', max_frames)


def make_audio(samples, batch=1):
  rng = np.random.default_rng(2)
  return rng.uniform(-0.5, 0.5, (batch, samples)).astype(np.float32)


class SpectralCodecTest(parameterized.TestCase):

  def test_streams(self):
    found = [
        (s.name, s.num_quantizers, s.frame_rate) for s in make_codec().streams
    ]
    self.assertEqual(found, [('a', 2, 100.0), ('b', 1, 100.0)])

  def test_long_audio_is_cut_without_a_trace(self):
    audio = make_audio(200 * 16 + 5, batch=2)
    whole, cut = make_codec(), make_codec(max_frames=70)
    tokens = whole.tokenize(audio)
    self.assertEqual(tokens['a'].shape, (2, 201, 2))
    for name, found in cut.tokenize(audio).items():
      np.testing.assert_array_equal(found, tokens[name], name)
    np.testing.assert_allclose(
        cut.detokenize(tokens), whole.detokenize(tokens), atol=1e-5
    )

  @parameterized.parameters(1, 7, 160, 3000)
  def test_stream_is_offline(self, chunk):
    codec, audio = make_codec(), make_audio(60 * 16 + 3)
    expected = codec.tokenize(audio)
    stream = codec.stream()
    pieces = [
        stream.tokenize(audio[:, i : i + chunk])
        for i in range(0, audio.shape[1], chunk)
    ]
    pieces.append(stream.flush())
    for name, whole in expected.items():
      found = np.concatenate([piece[name] for piece in pieces], axis=1)
      np.testing.assert_array_equal(found, whole)
    sound = [stream.detokenize(piece) for piece in pieces]
    np.testing.assert_allclose(
        np.concatenate(sound, axis=1), codec.detokenize(expected), atol=1e-5
    )

  def test_from_dir(self):
    with tempfile.TemporaryDirectory() as folder:
      config = dataclasses.asdict(CONFIG)
      variables = spectral_codec_test.make_variables()
      parts.save(folder, 'spectral_codec', config, variables)
      loaded = spectral_codec.SpectralCodec.from_dir(folder)
    self.assertEqual(loaded.config, CONFIG)
    audio = make_audio(320)
    np.testing.assert_array_equal(
        loaded.tokenize(audio)['a'], make_codec().tokenize(audio)['a']
    )


if __name__ == '__main__':
  absltest.main()
