"""Tests for melody."""

import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import melody as melody_model
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import melody
import numpy as np

CONFIG = melody_model.MelodyConfig(
    num_mels=32,
    frames_per_patch=10,
    num_layers=1,
    num_heads=1,
    head_dim=4,
    embed_dim=8,
    mlp_dim=8,
    melody_dim=6,
)


def save(directory, codebooks):
  shapes = jax.eval_shape(
      melody_model.MelodyNet(CONFIG).init,
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, CONFIG.window_samples), jnp.float32),
  )
  rng = np.random.default_rng(0)
  draw = lambda x: np.asarray(rng.standard_normal(x.shape) / 3, np.float32)
  variables = {
      'params': jax.tree.map(draw, shapes['params']),
      'codebooks': {'codes': codebooks},
  }
  return parts.save(directory, 'melody', CONFIG.to_json(), variables)


def reference_quantize(embedding, codebooks):
  tokens = []
  for codebook in codebooks:
    distances = ((embedding - codebook) ** 2).sum(axis=-1)
    tokens.append(int(np.argmin(distances)))
    embedding = embedding - codebook[tokens[-1]]
  return tokens


class MelodyTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    rng = np.random.default_rng(1)
    codebooks = rng.standard_normal((24, 512, 6)).astype(np.float32) / 3
    with tempfile.TemporaryDirectory() as folder:
      cls.sha256 = save(folder, codebooks)
      cls.tokenizer = melody.Melody.from_dir(folder)
    cls.codebooks = codebooks

  def test_tells_what_it_was_loaded_from(self):
    self.assertEqual(self.tokenizer.sha256, self.sha256)
    self.assertEqual(self.tokenizer.streams, (base.MELODY,))
    np.testing.assert_array_equal(self.tokenizer.codebooks, self.codebooks)

  def test_tokens_of_each_window(self):
    rng = np.random.default_rng(2)
    audio = rng.uniform(-1, 1, (2, 5 * 16000)).astype(np.float32)
    embeddings = self.tokenizer.embed_audio(audio)
    self.assertEqual(embeddings.shape, (2, 2, 6))
    tokens = self.tokenizer.tokenize(audio)['melody']
    self.assertEqual((tokens.shape, tokens.dtype), ((2, 2, 24), np.int32))
    for row, clip in zip(tokens, embeddings, strict=True):
      for window, embedding in zip(row, clip, strict=True):
        self.assertEqual(
            window.tolist(), reference_quantize(embedding, self.codebooks)
        )

  @parameterized.parameters(4.0, 6.998, 6.9995, 7.0, 15.0)
  def test_has_all_windows_that_stages_read(self, seconds):
    audio = np.zeros((1, round(16000 * seconds)), np.float32)
    tokens = self.tokenizer.tokenize(audio)['melody']
    self.assertEqual(tokens.shape, (1, int(seconds + 1e-3) - 3, 24))
    crop = base.MELODY.crop(tokens, 0.0, seconds)
    self.assertEqual(crop.shape, (1, base.MELODY.num_frames(seconds), 24))
    self.assertTrue(np.all(crop >= 0))

  def test_short_audio_is_padded_to_one_window(self):
    rng = np.random.default_rng(3)
    audio = rng.uniform(-1, 1, (1, 16000)).astype(np.float32)
    padded = np.pad(audio, ((0, 0), (0, 3 * 16000)))
    np.testing.assert_array_equal(
        self.tokenizer.tokenize(audio)['melody'],
        self.tokenizer.tokenize(padded)['melody'],
    )

  @parameterized.named_parameters(
      ('one_clip', np.zeros(8000, np.float32), r'\[batch, samples\]'),
      ('too_loud', np.full((1, 8000), 2, np.float32), 'peaks at 2'),
  )
  def test_rejects_audio(self, audio, message):
    with self.assertRaisesRegex(ValueError, message):
      self.tokenizer.tokenize(audio)

  def test_rejects_codebooks_of_another_shape(self):
    with tempfile.TemporaryDirectory() as folder:
      save(folder, self.codebooks[:3])
      with self.assertRaisesRegex(ValueError, r'\(24, 512, 6\).*\(3, 512, 6'):
        melody.Melody.from_dir(folder)


if __name__ == '__main__':
  absltest.main()
