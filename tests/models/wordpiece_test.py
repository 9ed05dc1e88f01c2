"""Tests for wordpiece."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.models import wordpiece
import numpy as np

VOCAB = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'piano', 'waltz', '##es', 'cafe']


class WordPieceTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.wordpiece = wordpiece.WordPiece(VOCAB)

  def test_encodes_lower_cased_without_accents(self):
    ids = self.wordpiece.encode(['Piano WALTZES', 'café bongo'], 6)
    self.assertEqual(ids.dtype, np.int32)
    np.testing.assert_array_equal(ids, [[2, 4, 5, 6, 3, 0], [2, 7, 1, 3, 0, 0]])

  def test_truncation_keeps_the_end_piece(self):
    ids = self.wordpiece.encode(['piano piano waltz'], 4)
    np.testing.assert_array_equal(ids, [[2, 4, 4, 3]])

  def test_too_long_is_an_error_on_request(self):
    with self.assertRaisesRegex(ValueError, 'at most 2.*has 3. Shorten'):
      self.wordpiece.encode(['piano piano waltz'], 4, truncate=False)
    self.wordpiece.encode(['piano waltz'], 4, truncate=False)

  @parameterized.named_parameters(
      ('repeats', [*VOCAB, 'piano'], "once, but 'piano' repeats"),
      ('no_padding', VOCAB[1:], r'start with \[PAD\].*\[UNK\]'),
      ('no_end', [p for p in VOCAB if p != '[SEP]'], r"lacks \['\[SEP\]'\]"),
  )
  def test_rejects_vocabularies(self, vocab, message):
    with self.assertRaisesRegex(ValueError, message):
      wordpiece.WordPiece(vocab)

  def test_file_round_trip(self):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, 'new', 'vocab.txt')
      self.wordpiece.to_file(path)
      self.assertEqual(wordpiece.WordPiece.from_file(path).vocab, tuple(VOCAB))

  def test_missing_file(self):
    with self.assertRaisesRegex(FileNotFoundError, 'none.txt.*build_vocab'):
      wordpiece.WordPiece.from_file('none.txt')


class TrainWordpieceTest(absltest.TestCase):

  def test_frequent_words_become_pieces(self):
    texts = ['slow piano waltz', 'fast piano polka'] * 3
    trained = wordpiece.WordPiece(wordpiece.train_wordpiece(texts, 200))
    self.assertEqual(trained.pieces('Piano waltz'), ['piano', 'waltz'])

  def test_any_english_can_be_spelled(self):
    trained = wordpiece.WordPiece(wordpiece.train_wordpiece(['ab'], 10))
    self.assertNotIn('[UNK]', trained.pieces('Quick, 120-bpm jazz? [yes!]'))

  def test_does_not_depend_on_the_order_of_texts(self):
    texts = ['slow piano waltz', 'fast jazz trio', 'sad violin – café']
    self.assertEqual(
        wordpiece.train_wordpiece(texts, 180),
        wordpiece.train_wordpiece(reversed(texts), 180),
    )

  def test_rejects_no_text(self):
    with self.assertRaisesRegex(ValueError, 'all 1 texts are empty.*captions'):
      wordpiece.train_wordpiece([' '], 100)


if __name__ == '__main__':
  absltest.main()
