"""Tests for mulan."""

import tempfile

from absl.testing import absltest
from musiclm_jax.metrics.embedders import mulan
from musiclm_jax.metrics.embedders import table
from musiclm_jax.tokenizers import mulan as tokenizers
import numpy as np
from tests import random_model


class MuLanTest(absltest.TestCase):

  def test_equals_the_part_of_the_model(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    hashes = random_model.write_random_model(folder)
    loaded = table.load_joint(f'mulan:{folder}')
    self.assertEqual(loaded.identity.sha256, hashes['mulan'])
    self.assertEqual(loaded.identity.window_seconds, 4)
    part = tokenizers.MuLan.from_dir(folder)
    embedder = mulan.MuLan('mulan', part)
    loaded.identity.check_same(embedder.identity)
    rng = np.random.default_rng(0)
    audio = rng.uniform(-0.5, 0.5, 5 * 16000).astype(np.float32)
    expected = part.embed_audio(audio[np.newaxis])[0]
    found = embedder.embed_audio(audio)
    np.testing.assert_array_equal(found, expected)
    self.assertEqual(found.shape, (2, embedder.identity.width))
    np.testing.assert_array_equal(
        embedder.embed_text(['slow waltz']), part.embed_text(['slow waltz'])
    )
    # One by one, or those of a length at once.
    for clips in ([audio, audio[:100]], [audio, audio[::-1].copy()]):
      several = embedder.embed_clips(clips)
      self.assertLen(several, 2)
      for clip, windows in zip(clips, several):
        alone = embedder.embed_audio(clip)
        np.testing.assert_allclose(windows, alone, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
