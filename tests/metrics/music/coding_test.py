"""Tests for coding."""

import pathlib
import tempfile

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.metrics.music import coding
from musiclm_jax.metrics.music import sounds
import numpy as np
from tests import fake_tokenizers


class CodingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.codec = fake_tokenizers.FakeCodec()
    self.codec.sha256 = 'a' * 64
    rate = self.codec.sample_rate
    time = np.arange(2 * rate) / rate
    audio = (0.5 * np.sin(2 * np.pi * 3 * time)).astype(np.float32)
    io.write_audio(self.dir / 'true.wav', audio, rate)
    self.clips = {'x': sounds.File(str(self.dir / 'true.wav'))}

  def code(self, seconds=1.0):
    folder = self.dir / 'coded'
    return coding.code_all(self.codec, self.clips, {'x': seconds}, folder)

  def test_passes_the_first_seconds_through_the_codec(self):
    rate = self.codec.sample_rate
    audio = self.clips['x'].read(rate)[:rate]
    made = self.code()['x'].read(rate)
    tokens = self.codec.tokenize(audio[np.newaxis])
    expected = self.codec.detokenize(tokens)[0, :rate]
    np.testing.assert_allclose(made, expected, atol=1e-4)

  def test_keeps_what_is_there(self):
    path = pathlib.Path(self.code()['x'].path)
    before = path.stat().st_mtime_ns
    self.code()
    self.assertEqual(path.stat().st_mtime_ns, before)
    self.codec.sha256 = 'b' * 64
    with self.assertRaisesRegex(errors.UserError, 'must be of this codec'):
      self.code()


if __name__ == '__main__':
  absltest.main()
