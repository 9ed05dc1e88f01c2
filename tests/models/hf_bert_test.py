"""Tests for hf_bert."""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax.models import bert
from musiclm_jax.models import hf_bert
from musiclm_jax.models import wordpiece
import numpy as np
import tokenizers
import torch
import transformers

TEXTS = ['slow piano waltz in a minor', 'fast jazz, 120 bpm']
VOCAB = [
    *('[PAD]', '[unused0]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'),
    *('the', 'of', 'a', '##a', 'x', '##x', '1', '##2', '##0', ',', 'の'),
    *('slow', 'piano', 'waltz', 'wal', '##tz', 'in', 'minor', 'fast', 'jazz'),
    *('12', 'bp', '##m', 'rare', 'rarest'),
]
CONFIG = bert.BertConfig(
    vocab_size=len(VOCAB),
    num_layers=2,
    num_heads=2,
    embed_dim=16,
    mlp_dim=24,
    max_length=12,
)
SIZES = {
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 24,
}
COMMON = {'vocab_size': len(VOCAB), 'max_position_embeddings': 12}


def make_bert(model):
  return model(transformers.BertConfig(**COMMON, **SIZES))


# Random checkpoints, with a head or without.
FAMILY = {
    'bert': lambda: make_bert(transformers.BertModel),
    'masked_language_model': lambda: make_bert(transformers.BertForMaskedLM),
    'classifier': lambda: make_bert(transformers.BertForSequenceClassification),
    'electra': lambda: transformers.ElectraForPreTraining(
        transformers.ElectraConfig(embedding_size=16, **COMMON, **SIZES)
    ),
    'distilbert': lambda: transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(
            dim=16, n_layers=2, n_heads=2, hidden_dim=24, **COMMON
        )
    ),
}


def make_params():
  ids = jax.ShapeDtypeStruct((1, 4), np.int32)
  shapes = jax.eval_shape(bert.Bert(CONFIG).init, jax.random.key(0), ids)
  rng = np.random.default_rng(0)
  draw = lambda x: rng.standard_normal(x.shape, np.float32) / 2
  return jax.tree.map(draw, shapes['params'])


def encode(config, params, ids):
  apply = functools.partial(bert.Bert(config).apply, method='encode')
  return np.asarray(jax.jit(apply)({'params': params}, ids))


class HfBertTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.path = pathlib.Path(folder.name, 'bert')
    self.params = make_params()

  def save(self, dtype='float32'):
    hf_bert.save_hf_bert(self.path, CONFIG, self.params, VOCAB, dtype)

  def test_save_and_load(self):
    self.save()
    config, params, vocab = hf_bert.load_hf_bert(self.path)
    self.assertEqual(config, CONFIG)
    self.assertEqual(vocab, VOCAB)
    ids = wordpiece.WordPiece(vocab).encode(TEXTS, 12)
    np.testing.assert_array_equal(
        encode(config, params, ids), encode(CONFIG, self.params, ids)
    )

  def test_keeps_the_first_layers_and_positions(self):
    self.save()
    config, params, _ = hf_bert.load_hf_bert(self.path, 1, 8)
    self.assertEqual((config.num_layers, config.max_length), (1, 8))
    self.assertNotIn('layers_1', params)
    self.assertEqual(params['positions'].shape, (8, 16))

  def test_prune_vocab_keeps_encodings_of_the_texts(self):
    params, vocab = hf_bert.prune_vocab(self.params, VOCAB, TEXTS, size=22)
    before, after = wordpiece.WordPiece(VOCAB), wordpiece.WordPiece(vocab)
    for text in TEXTS:
      self.assertEqual(before.pieces(text), after.pieces(text))
    config = dataclasses.replace(CONFIG, vocab_size=len(vocab))
    np.testing.assert_allclose(
        encode(config, params, after.encode(TEXTS, 12)),
        encode(CONFIG, self.params, before.encode(TEXTS, 12)),
        atol=1e-6,
    )

  def test_prune_vocab_fills_up_with_the_first_words(self):
    _, least = hf_bert.prune_vocab(self.params, VOCAB, TEXTS, size=0)
    self.assertContainsSubset(['[PAD]', 'x', '##x', 'waltz'], least)
    _, vocab = hf_bert.prune_vocab(self.params, VOCAB, TEXTS, len(least) + 2)
    self.assertEqual(set(vocab) - set(least), {'the', 'of'})
    _, everything = hf_bert.prune_vocab(self.params, VOCAB, TEXTS, size=999)
    self.assertEqual(
        set(VOCAB) - set(everything), {'[unused0]', '[MASK]', 'の'}
    )

  def test_shrink(self):
    self.save()
    small = self.path.parent / 'small'
    hf_bert.shrink(self.path, small, TEXTS, num_layers=1, vocab_size=20)
    config, params, vocab = hf_bert.load_hf_bert(small)
    self.assertEqual(config.num_layers, 1)
    self.assertEqual(config.vocab_size, len(vocab))
    ids = wordpiece.WordPiece(vocab).encode(TEXTS, 12)
    self.assertTrue(np.isfinite(encode(config, params, ids)).all())

  @parameterized.named_parameters(
      ('family', {'model_type': 'roberta'}, "distilbert.*has 'roberta'"),
      (
          'projection',
          {'model_type': 'electra', 'embedding_size': 8},
          'embedding_size 16, but has 8',
      ),
      ('activation', {'hidden_act': 'relu'}, "hidden_act 'gelu'.*'relu'"),
  )
  def test_rejects_other_models(self, change, message):
    self.save()
    path = self.path / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with self.assertRaisesRegex(ValueError, message):
      hf_bert.load_hf_bert(self.path)

  def test_rejects_cased_checkpoints(self):
    self.save()
    options = self.path / 'tokenizer_config.json'
    options.write_text('{"do_lower_case": false}')
    with self.assertRaisesRegex(ValueError, 'must be uncased'):
      hf_bert.load_hf_bert(self.path)

  def test_missing_weights(self):
    self.save()
    (self.path / 'model.safetensors').unlink()
    with self.assertRaisesRegex(FileNotFoundError, 'hold model.safetensors'):
      hf_bert.load_hf_bert(self.path)

  def test_names_the_tensors_that_are_missing(self):
    self.save()
    path = self.path / 'config.json'
    sizes = json.loads(path.read_text()) | {'num_hidden_layers': 3}
    path.write_text(json.dumps(sizes))
    with self.assertRaisesRegex(ValueError, r'lacks 16, e.g. encoder.layer.2'):
      hf_bert.load_hf_bert(self.path)

  @parameterized.parameters(True, False)
  def test_reads_the_vocabulary_of_tokenizer_json(self, lowercase):
    self.save()
    (self.path / 'vocab.txt').unlink()
    ids = {piece: i for i, piece in enumerate(VOCAB)}
    tokenizers.BertWordPieceTokenizer(vocab=ids, lowercase=lowercase).save(
        str(self.path / 'tokenizer.json')
    )
    if lowercase:
      _, _, vocab = hf_bert.load_hf_bert(self.path)
      self.assertEqual(vocab, VOCAB)
    else:
      with self.assertRaisesRegex(ValueError, 'must be uncased'):
        hf_bert.load_hf_bert(self.path)

  def test_rejects_other_tokenizers(self):
    self.save()
    (self.path / 'vocab.txt').unlink()
    with self.assertRaisesRegex(FileNotFoundError, 'vocab.txt or tokenizer'):
      hf_bert.load_hf_bert(self.path)
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(
        str(self.path / 'tokenizer.json')
    )
    with self.assertRaisesRegex(ValueError, "'WordPiece', but is of 'BPE'"):
      hf_bert.load_hf_bert(self.path)

  def test_needs_no_torch(self):
    self.save()
    script = (
        "import sys; sys.modules['torch'] = None; from musiclm_jax.models"
        f' import hf_bert; hf_bert.load_hf_bert({str(self.path)!r})'
    )
    subprocess.run([sys.executable, '-c', script], check=True)

  @parameterized.parameters(*FAMILY)
  def test_equals_transformers(self, name):
    theirs = FAMILY[name]()
    # Fresh weights are too small to tell one activation from another.
    torch.manual_seed(0)
    with torch.no_grad():
      for parameter in theirs.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.eval().save_pretrained(self.path)
    wordpiece.WordPiece(VOCAB).to_file(self.path / 'vocab.txt')

    config, params, vocab = hf_bert.load_hf_bert(self.path)
    ids = wordpiece.WordPiece(vocab).encode(TEXTS, 12)
    with torch.no_grad():
      expected = theirs.base_model(
          torch.tensor(ids).long(), attention_mask=torch.tensor(ids != 0)
      )
    expected = expected.last_hidden_state.numpy()
    np.testing.assert_allclose(
        encode(config, params, ids)[ids != 0], expected[ids != 0], atol=1e-5
    )

  def test_pieces_are_those_of_transformers(self):
    self.save()
    theirs = transformers.BertTokenizer.from_pretrained(self.path)
    texts = [*TEXTS, 'Añejo, WALTZ-of 120bpm の x1 rarest?', 'the ' * 20]
    expected = theirs(
        texts, max_length=12, padding='max_length', truncation=True
    )
    np.testing.assert_array_equal(
        wordpiece.WordPiece(VOCAB).encode(texts, 12), expected['input_ids']
    )


if __name__ == '__main__':
  absltest.main()
