"""WordPiece tokens of text in lower case, as BERT reads them."""

from collections.abc import Iterable, Sequence
import hashlib
import os
import string
import unicodedata

from jaxtyping import Int
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
import numpy as np
import tokenizers

PADDING, UNKNOWN, START, END = SPECIALS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]')
PADDING_ID = 0
# Part of every trained vocabulary, so that it can spell any English prompt.
ALPHABET = string.ascii_lowercase + string.digits + string.punctuation


class WordPiece:
  """Splits text into pieces of words and numbers them.

  Attributes:
    vocab: The piece of each id; '[PAD]' is 0, and a piece that continues a word
      starts with '##'.
  """

  def __init__(self, vocab: Sequence[str]):
    """Makes a tokenizer.

    Args:
      vocab: The piece of each id.

    Raises:
      UserError: If pieces repeat, or a special one is missing.
    """
    ids = {piece: i for i, piece in enumerate(vocab)}
    if len(ids) != len(vocab):
      repeated = next(p for i, p in enumerate(vocab) if ids[p] != i)
      raise errors.UserError(
          f'a vocabulary must hold each piece once, but {repeated!r} repeats'
          f' in {len(vocab)} pieces. Remove one.'
      )
    missing = [piece for piece in SPECIALS if piece not in ids]
    if missing or ids[PADDING] != PADDING_ID:
      raise errors.UserError(
          f'a vocabulary must start with {PADDING} and hold {SPECIALS}, but'
          f' starts with {list(vocab[:1])} and lacks {missing}. Make one with'
          ' wordpiece.train_wordpiece(texts, size).'
      )
    self.vocab = tuple(vocab)
    self._tokenizer = tokenizers.BertWordPieceTokenizer(
        vocab=ids, lowercase=True
    )

  @classmethod
  def from_file(cls, path: str | os.PathLike[str]) -> 'WordPiece':
    """Reads a vocabulary of one piece per line, as BERT's vocab.txt."""
    path = paths.to_path(path, 'VOCAB')
    if not path.exists():
      raise errors.NotFoundError(
          f"vocabulary '{path}' must exist. Make one of the corpus's captions"
          ' with training.mulan.build_vocab(captions, path, size).'
      )
    data = files.read_bytes(path, 'a vocabulary')
    checksum = _checksum(path)
    if checksum.exists():
      found = files.read_bytes(checksum, 'a sha256').strip()
      if found != hashlib.sha256(data).hexdigest().encode():
        raise errors.UserError(
            f"vocabulary '{path}' must have the sha256 that '{checksum}' says,"
            ' but has another: one of them is damaged, or was edited. Make it'
            ' again with `musiclm vocab`, or remove the sha256.'
        )
    with errors.reading(path, 'a vocabulary'):
      return cls(data.decode('utf-8').split('\n')[:-1])

  def to_file(self, path: str | os.PathLike[str]) -> None:
    """Writes a file that `from_file` reads, and its hash beside it."""
    text = ''.join(f'{p}\n' for p in self.vocab)
    _checksum(path).unlink(missing_ok=True)  # Belongs to an older file.
    files.write_text(path, text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    files.write_text(_checksum(path), f'{sha256}\n')

  def pieces(self, text: str) -> list[str]:
    """Returns the pieces of `text`, without [CLS] and [SEP]."""
    return self._tokenizer.encode(text, add_special_tokens=False).tokens

  def words(self, text: str) -> tuple[list[str], list[str]]:
    """Returns the known and the unknown words of `text`.

    Punctuation does not count as words; other symbols do, e.g. musical ones.
    """
    encoding = self._tokenizer.encode(text, add_special_tokens=False)
    spans: dict[int, list[tuple[int, int]]] = {}
    unknown = set()
    for word, piece, span in zip(
        encoding.word_ids, encoding.tokens, encoding.offsets, strict=True
    ):
      spans.setdefault(word, []).append(span)
      if piece == UNKNOWN:
        unknown.add(word)
    found: tuple[list[str], list[str]] = [], []
    for word, pieces in spans.items():
      spelled = text[pieces[0][0] : pieces[-1][1]]
      if not all(map(_is_mark, spelled)):
        found[word in unknown].append(spelled)
    return found

  def encode(
      self, texts: Sequence[str], max_length: int, truncate: bool = True
  ) -> Int[np.ndarray, 'batch length']:
    """Encodes texts, each between a '[CLS]' and a '[SEP]'.

    Args:
      texts: A batch of texts.
      max_length: Length of each row of ids, [CLS] and [SEP] included.
      truncate: Whether to cut texts that are too long, rather than raise.

    Returns:
      [batch, max_length] int32 ids, padded with 0 on the right.

    Raises:
      UserError: If a text is too long and `truncate` is False.
    """
    end = self._tokenizer.token_to_id(END)
    rows = np.full((len(texts), max_length), PADDING_ID, np.int32)
    encodings = self._tokenizer.encode_batch(list(texts))
    for row, text, encoding in zip(rows, texts, encodings, strict=True):
      ids = encoding.ids
      if len(ids) > max_length:
        if not truncate:
          raise errors.UserError(
              f'a text must have at most {max_length - 2} word pieces, but'
              f' {text[:40]!r}… has {len(ids) - 2}. Shorten it.'
          )
        ids = [*ids[: max_length - 1], end]
      row[: len(ids)] = ids
    return rows


def _checksum(path: str | os.PathLike[str]) -> paths.Path:
  """Returns the path of the checksum file beside a vocabulary."""
  return paths.to_path(f'{os.fspath(path)}.sha256')


def _is_mark(character: str) -> bool:
  """Returns whether a character is punctuation, a space or a control code."""
  category = unicodedata.category(character)
  return category[0] in 'PZC' or character in string.punctuation


def train_wordpiece(texts: Iterable[str], size: int) -> list[str]:
  """Learns a vocabulary.

  Args:
    texts: Texts to learn from.
    size: Size of the vocabulary; smaller if the texts hold fewer pieces, larger
      if they hold more characters.

  Returns:
    The pieces, '[PAD]' first.

  Raises:
    UserError: If there is no text.
  """
  texts = sorted(texts)
  if not any(text.strip() for text in texts):
    raise errors.UserError(
        f'a vocabulary must be learned from text, but all {len(texts)} texts'
        ' are empty. Add captions to the corpus.'
    )
  tokenizer = tokenizers.BertWordPieceTokenizer(lowercase=True)
  seen = set(ALPHABET).union(*map(tokenizer.normalize, texts))
  characters = sorted(c for c in seen if not c.isspace())
  tokenizer.train_from_iterator(
      texts,
      vocab_size=size,
      min_frequency=1,
      show_progress=False,
      # The trainer would number characters, and so break ties, in an order
      # that differs from run to run.
      special_tokens=[*SPECIALS, *characters, *(f'##{c}' for c in characters)],
  )
  ids = tokenizer.get_vocab()
  return sorted(ids, key=ids.__getitem__)
