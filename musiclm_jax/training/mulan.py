"""Contrastive training of MuLan."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from musiclm_jax import errors
from musiclm_jax.data import datasets
from musiclm_jax.models import hf_bert
from musiclm_jax.models import mulan
from musiclm_jax.models import wordpiece
from musiclm_jax.training import embeddings
from musiclm_jax.training import gradient_cache
from musiclm_jax.training import model as model_lib
import numpy as np
import optax


def same_text(
    text_ids: Int[Array, 'batch length'],
) -> Bool[Array, 'batch batch']:
  """Returns which other rows have the same text: not negatives (ours)."""
  same = jnp.all(text_ids[:, jnp.newaxis] == text_ids, axis=-1)
  return same & ~jnp.eye(text_ids.shape[0], dtype=bool)


def contrastive_logits(
    audio: Float[Array, 'batch embed'],
    text: Float[Array, 'batch embed'],
    temperature: Float[Array, ''] | float,
    excluded: Bool[Array, 'batch batch'],
) -> Float[Array, 'batch batch']:
  """Compares every audio to every text.

  Args:
    audio: [batch, embed] unit vectors.
    text: [batch, embed] unit vectors; row i belongs to row i of `audio`.
    temperature: Divides the cosine similarities.
    excluded: [batch, batch], True for pairs that are not negatives.

  Returns:
    [audio, text] logits, very low where excluded.
  """
  similarities = jnp.einsum('be,ce->bc', audio, text, precision='highest')
  return jnp.where(excluded, -1e9, similarities / temperature)


def contrastive_loss(logits: Float[Array, 'batch batch']) -> Float[Array, '']:
  """Symmetric cross-entropy (section 2.2): row i and column i belong together.

  Args:
    logits: [audio, text] of the whole global batch.

  Returns:
    The mean of the losses for finding the text of an audio, and the audio of a
    text; ln(batch) at chance.
  """
  labels = jnp.arange(logits.shape[0])
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels
  both = cross_entropy(logits, labels) + cross_entropy(logits.T, labels)
  return jnp.mean(both) / 2


class MuLanModel(embeddings.EmbeddingModel):
  """MuLan (arXiv 2208.12415, section 2).

  Batches hold 'audio': [batch, samples] floats at 16 kHz, and 'text_ids':
  [batch, length] word pieces of one caption each, 0 where padded.

  Metrics reveal failure: chance_ratio, the loss over ln(batch), stays at 1 if
  nothing is learned; effective ranks near 1 mean that embeddings collapsed.

  Attributes:
    vocab: The word piece of each id.
    tower_microbatches: Parts of a batch that each tower processes in turn, for
      batches that do not fit in memory.
  """

  name = 'mulan'
  sample_rate = mulan.SAMPLE_RATE

  def __init__(
      self,
      config: mulan.MuLanConfig,
      optimizer_def: optax.GradientTransformation,
      vocab: str | os.PathLike[str],
      text_init: str | os.PathLike[str] | None = None,
      tower_microbatches: int = 1,
  ):
    """Makes the module.

    Args:
      config: The architecture; its text.vocab_size is replaced by `vocab`'s.
      optimizer_def: See TrainableModel.
      vocab: File of the vocabulary, one word piece per line.
      text_init: Folder of a checkpoint of the BERT family that the text tower
        starts from (see models.hf_bert).
      tower_microbatches: Parts of a batch that each tower processes in turn;
        the loss is over the whole batch. More than 1 takes less memory and a
        third more time.
    """
    super().__init__(optimizer_def)
    self.vocab = wordpiece.WordPiece.from_file(vocab).vocab
    text = dataclasses.replace(config.text, vocab_size=len(self.vocab))
    self.config = dataclasses.replace(config, text=text)
    self.module = mulan.MuLan(self.config)
    self.text_init = text_init
    self.tower_microbatches = tower_microbatches

  def get_initial_variables(
      self,
      rng: jax.Array,
      input_shapes: Mapping[str, tuple[int, ...]],
      input_types: Mapping[str, Any] | None = None,
  ) -> model_lib.Variables:
    del input_types
    audio = jnp.zeros(input_shapes['audio'])
    text_ids = jnp.zeros(input_shapes['text_ids'], jnp.int32)
    variables = self.module.init(rng, audio, text_ids)
    if self.text_init is None:
      return variables
    text = self._load_text(self.text_init, variables['params']['text'])
    return {**variables, 'params': {**variables['params'], 'text': text}}

  def _load_text(
      self, path: str | os.PathLike[str], expected: Mapping[str, Any]
  ) -> Mapping[str, Any]:
    """Reads the params of the text tower from a checkpoint."""
    sizes = self.config.text
    found, params, vocab = hf_bert.load_hf_bert(
        path, sizes.num_layers, sizes.max_length
    )
    if tuple(vocab) != self.vocab:
      raise errors.UserError(
          'vocab must be that of text_init, but its'
          f" {len(self.vocab)} word pieces are not the {len(vocab)} of '"
          f"{path}'. Set VOCAB to the vocab.txt of that folder."
      )
    shapes = lambda tree: jax.tree.map(np.shape, tree)
    if shapes(params) != shapes(dict(expected)):
      raise errors.UserError(
          f"text_init '{path}' must have the sizes {sizes}, but has"
          f' {found}. Set those of mulan.MuLanConfig.text to what it has.'
      )
    return jax.tree.map(jnp.asarray, params)

  def _embed(
      self,
      tower: str,
      params: model_lib.Variables,
      rows: jax.Array,
      dropout_rng: jax.Array | None,
  ) -> jax.Array:
    """Returns the [batch, embed] outputs of a tower, 'audio' or 'text'."""

    def embed(index, part):
      rng = dropout_rng
      if rng is not None and self.tower_microbatches > 1:
        rng = jax.random.fold_in(rng, index)
      return self.module.apply(
          {'params': params},
          part,
          deterministic=rng is None,
          rngs=None if rng is None else {'dropout': rng},
          method=f'embed_{tower}',
      )

    return gradient_cache.map_parts(embed, rows, self.tower_microbatches)

  def compute_loss(
      self,
      params: model_lib.Variables,
      batch: model_lib.Batch,
      dropout_rng: jax.Array | None,
  ) -> tuple[jax.Array, model_lib.Metrics]:
    """Returns loss and metrics; without dropout if `dropout_rng` is None."""
    batch_size = batch['audio'].shape[0]
    embeddings.check_batch_size(batch_size)
    audio = self._embed('audio', params, batch['audio'], dropout_rng)
    text = self._embed('text', params, batch['text_ids'], dropout_rng)
    temperature: Any = self.module.apply(
        {'params': params}, method='temperature'
    )
    excluded = same_text(batch['text_ids'])
    logits = contrastive_logits(audio, text, temperature, excluded)
    loss = contrastive_loss(logits)
    labels = jnp.arange(batch_size)
    return loss, model_lib.average(
        loss=loss,
        chance_ratio=loss / np.log(batch_size),
        temperature=temperature,
        audio_to_text_accuracy=jnp.mean(jnp.argmax(logits, 1) == labels),
        text_to_audio_accuracy=jnp.mean(jnp.argmax(logits, 0) == labels),
        audio_effective_rank=embeddings.effective_rank(audio),
        text_effective_rank=embeddings.effective_rank(text),
    )

  def describe(self) -> dict[str, Any]:
    return {'config': self.config.to_json(), 'vocab': list(self.vocab)}

  def embed_clips(
      self, params: Mapping[str, Any], clips: Iterable[np.ndarray]
  ) -> Iterator[Float[np.ndarray, '_ embed']]:
    """Yields each clip's windows, which short crops have, and their mean."""
    embedder = mulan.Embedder(self.config, params, self.vocab)
    for clip in clips:
      windows = embedder.audio(clip[np.newaxis])[0]
      yield np.concatenate([windows, mulan.pool_windows(windows)[np.newaxis]])


def build_vocab(
    captions: Iterable[str], path: str | os.PathLike[str], size: int = 4096
) -> int:
  """Learns a vocabulary from captions and writes it.

  Args:
    captions: Captions of the training split.
    path: File to write, one word piece per line.
    size: Size of the vocabulary; smaller if the captions hold fewer pieces.

  Returns:
    The number of word pieces.
  """
  vocab = wordpiece.train_wordpiece(captions, size)
  wordpiece.WordPiece(vocab).to_file(path)
  return len(vocab)


def build_corpus_vocab(
    data_dir: str | os.PathLike[str], path: str | os.PathLike[str]
) -> int:
  """Learns a vocabulary from the training captions; see `build_vocab`."""
  train = datasets.open_dataset('music', data_dir, 'train')
  return build_vocab(
      [text for clip in train for text in clip['captions']], path
  )
