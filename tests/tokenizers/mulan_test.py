"""Tests for mulan."""

import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import bert
from musiclm_jax.models import mulan as mulan_model
from musiclm_jax.models import parts
from musiclm_jax.models import resnet
from musiclm_jax.models import wordpiece
from musiclm_jax.tokenizers import mulan
import numpy as np

VOCAB = wordpiece.train_wordpiece(['slow piano', 'fast drums'], 200)
CONFIG = mulan_model.MuLanConfig(
    audio=resnet.ResNetConfig(
        num_mels=16, stage_sizes=(1,), width=8, num_groups=2
    ),
    text=bert.BertConfig(
        vocab_size=len(VOCAB),
        num_layers=1,
        num_heads=1,
        embed_dim=8,
        mlp_dim=8,
        max_length=16,
        pooling='mean',
    ),
    embed_dim=6,
    window_seconds=0.5,
)


def save(directory, codebooks):
  shapes = jax.eval_shape(
      mulan_model.MuLan(CONFIG).init,
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, CONFIG.window_samples), jnp.float32),
      jax.ShapeDtypeStruct((1, CONFIG.text.max_length), jnp.int32),
  )
  rng = np.random.default_rng(0)
  draw = lambda x: np.asarray(rng.standard_normal(x.shape) / 3, np.float32)
  variables = {
      'params': jax.tree.map(draw, shapes['params']),
      'codebooks': {'codes': codebooks},
  }
  config = {'config': CONFIG.to_json(), 'vocab': VOCAB}
  return parts.save(directory, 'mulan', config, variables)


def reference_quantize(embedding, codebooks):
  tokens = []
  for codebook in codebooks:
    distances = ((embedding - codebook) ** 2).sum(axis=-1)
    tokens.append(int(np.argmin(distances)))
    embedding = embedding - codebook[tokens[-1]]
  return tokens


class MuLanTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    rng = np.random.default_rng(1)
    codebooks = rng.standard_normal((12, 1024, 6)).astype(np.float32) / 3
    with tempfile.TemporaryDirectory() as folder:
      cls.sha256 = save(folder, codebooks)
      cls.tokenizer = mulan.MuLan.from_dir(folder)
    cls.codebooks = codebooks

  def test_tells_what_it_was_loaded_from(self):
    self.assertEqual(self.tokenizer.sha256, self.sha256)
    self.assertEqual(self.tokenizer.window_seconds, 0.5)
    np.testing.assert_array_equal(self.tokenizer.codebooks, self.codebooks)

  def test_tokens_of_the_average_of_windows(self):
    rng = np.random.default_rng(2)
    audio = rng.uniform(-1, 1, (2, 40000)).astype(np.float32)
    windows = self.tokenizer.embed_audio(audio)
    self.assertEqual(windows.shape, (2, 3, 6))
    mean = windows[1].mean(axis=0)
    mean /= np.linalg.norm(mean)
    tokens = self.tokenizer.tokenize(audio)['mulan']
    self.assertEqual((tokens.shape, tokens.dtype), ((2, 1, 12), np.int32))
    self.assertEqual(
        tokens[1, 0].tolist(), reference_quantize(mean, self.codebooks)
    )

  def test_tokens_of_text(self):
    texts = ['slow piano', 'fast drums']
    tokens = self.tokenizer.tokenize_text(texts)['mulan']
    embeddings = self.tokenizer.embed_text(texts)
    for row, embedding in zip(tokens[:, 0].tolist(), embeddings, strict=True):
      self.assertEqual(row, reference_quantize(embedding, self.codebooks))
    self.assertNotEqual(tokens[0].tolist(), tokens[1].tolist())

  def test_text_compiles_no_audio_tower(self):
    with tempfile.TemporaryDirectory() as folder:
      save(folder, self.codebooks)
      tokenizer = mulan.MuLan.from_dir(folder)
    tokenizer.embed_text(['piano'])
    self.assertNotIn('_embed_audio', vars(tokenizer._embedder))

  def test_prompts_must_fit_but_captions_are_cut(self):
    text = 'piano ' * 20
    with self.assertRaisesRegex(ValueError, 'at most 14 word pieces.*Shorten'):
      self.tokenizer.tokenize_text([text])
    np.testing.assert_array_equal(
        self.tokenizer.embed_text([text]),
        self.tokenizer.embed_text(['piano ' * 14]),
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
      with self.assertRaisesRegex(ValueError, r'\(12, 1024, 6\).*\(3, 1024, 6'):
        mulan.MuLan.from_dir(folder)


if __name__ == '__main__':
  absltest.main()
