"""Tests for clap."""

import pathlib
import tempfile

from absl.testing import absltest
from musiclm_jax.metrics.embedders import clap
from musiclm_jax.metrics.embedders import table
import numpy as np
from safetensors import torch as safetensors_torch
import tokenizers
from tokenizers import processors
import torch
import transformers

TEXTS = ['slow piano waltz', 'drums', 'a very long text ' * 40]


def write_clap(folder):
  """Writes CLAP with random weights: its real architecture, narrower."""
  torch.manual_seed(0)
  text = transformers.ClapTextConfig(
      vocab_size=300,
      hidden_size=16,
      num_hidden_layers=1,
      num_attention_heads=2,
      intermediate_size=16,
      max_position_embeddings=34,
  )
  audio = transformers.ClapAudioConfig(
      spec_size=64,
      num_mel_bins=16,
      hidden_size=32,
      depths=[1, 1],
      num_attention_heads=[2, 2],
      patch_embeds_hidden_size=16,
      num_hidden_layers=2,
      num_classes=3,
      window_size=4,
  )
  config = transformers.ClapConfig(
      text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=8
  )
  model = transformers.ClapModel(config).eval()
  model.save_pretrained(folder)
  transformers.ClapFeatureExtractor(
      feature_size=16,
      sampling_rate=8000,
      max_length_s=1,
      truncation='rand_trunc',
  ).save_pretrained(folder)
  vocab = {'<s>': 0, '<pad>': 1, '</s>': 2, '<unk>': 3, '<mask>': 4}
  alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  vocab |= {letter: 5 + i for i, letter in enumerate(sorted(alphabet))}
  words = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
  words.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
  words.post_processor = processors.RobertaProcessing(('</s>', 2), ('<s>', 0))
  transformers.PreTrainedTokenizerFast(
      tokenizer_object=words,
      bos_token='<s>',
      eos_token='</s>',
      pad_token='<pad>',
      unk_token='<unk>',
  ).save_pretrained(folder)
  return model


class ClapTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.model = write_clap(self.folder)
    rng = np.random.default_rng(1)
    self.audio = rng.uniform(-0.5, 0.5, 3 * 8000).astype(np.float32)

  def test_equals_transformers(self):
    embedder = table.load_joint(f'clap:{self.folder}')
    extractor = transformers.ClapFeatureExtractor.from_pretrained(self.folder)
    # Each window by itself; the last clip is short, and so repeated.
    for audio in (*self.audio.reshape(3, -1), self.audio[:3000]):
      inputs = extractor(audio, sampling_rate=8000, return_tensors='pt')
      with torch.inference_mode():
        found = self.model.audio_model(**inputs).pooler_output
        expected = self.model.audio_projection(found).numpy()
      expected /= np.linalg.norm(expected, axis=1, keepdims=True)
      np.testing.assert_allclose(
          embedder.embed_audio(audio), expected, atol=1e-5
      )
    windows = embedder.embed_audio(self.audio)
    self.assertEqual(windows.shape, (3, 8))
    np.testing.assert_allclose(
        windows[:1], embedder.embed_audio(self.audio[:8000]), atol=1e-5
    )
    self.assertEqual(embedder.identity.sample_rate, 8000)
    self.assertEqual(embedder.identity.window_seconds, 1)

  def test_texts_do_not_depend_on_their_batch(self):
    embedder = clap.load('clap', str(self.folder))
    together = embedder.embed_text(TEXTS)
    alone = np.concatenate([embedder.embed_text([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    cut = embedder.embed_text([TEXTS[2][:30]])
    np.testing.assert_allclose(together[2:], cut, atol=1e-5)

  def test_zero_shot_classes_are_the_softmax_of_similarities(self):
    embedder = clap.load('clap', str(self.folder))
    tagger = clap.ZeroShotTagger(embedder, ['jazz', 'techno', 'opera'])
    found = tagger.tag(self.audio[:8000])
    text = embedder.embed_text(['jazz music', 'techno music', 'opera music'])
    inputs = embedder.embed_audio(self.audio[:8000]) @ text.T
    scale = float(self.model.logit_scale_a.exp())
    expected = torch.softmax(torch.tensor(inputs * scale), dim=1).numpy()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_rejects_missing_weights(self):
    path = self.folder / 'model.safetensors'
    weights = safetensors_torch.load_file(path)
    del weights['text_projection.linear1.weight']
    safetensors_torch.save_file(weights, path, {'format': 'pt'})
    with self.assertRaisesRegex(ValueError, 'lacks 1, such as text_projection'):
      clap.load('clap', str(self.folder))
    path.unlink()
    with self.assertRaisesRegex(FileNotFoundError, 'must hold model.safeten'):
      clap.load('clap', str(self.folder))

  def test_rejects_texts(self):
    embedder = clap.load('clap', str(self.folder))
    for texts in ([], ['music', ' ']):
      with self.assertRaisesRegex(ValueError, 'say something'):
        embedder.embed_text(texts)


if __name__ == '__main__':
  absltest.main()
