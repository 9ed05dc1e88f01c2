"""Reads and writes BERT checkpoints of Hugging Face, without torch.

Such a checkpoint is a folder: config.json, model.safetensors and vocab.txt (or
tokenizer.json). BERT, DistilBERT and ELECTRA have the same architecture, as do
the many models that are fine-tuned from them. To start a small text tower from
a big model:

  hf_bert.shrink('all-MiniLM-L6-v2', 'text_init', texts=captions,
                 num_layers=4, vocab_size=6144)

and bind `mulan.MuLanModel.text_init = 'text_init'`.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

from flax import traverse_util
import ml_dtypes
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.models import bert
from musiclm_jax.models import parts
from musiclm_jax.models import wordpiece
import numpy as np
from safetensors import numpy as safetensors

Params = Mapping[str, Any]

_TOKENS = 'embeddings.word_embeddings.weight'
_POSITIONS = 'embeddings.position_embeddings.weight'
_TYPES = 'embeddings.token_type_embeddings.weight'
_KINDS = ('weight', 'bias')
# The path of each module of a layer, and its name in a checkpoint.
_LAYER = {
    'attention/query': 'attention.self.query',
    'attention/key': 'attention.self.key',
    'attention/value': 'attention.self.value',
    'attention/out': 'attention.output.dense',
    'attention_norm': 'attention.output.LayerNorm',
    'mlp_in': 'intermediate.dense',
    'mlp_out': 'output.dense',
    'mlp_norm': 'output.LayerNorm',
}
# The name of each size, and its name in a checkpoint.
_SIZES = {
    'vocab_size': 'vocab_size',
    'num_layers': 'num_hidden_layers',
    'num_heads': 'num_attention_heads',
    'embed_dim': 'hidden_size',
    'mlp_dim': 'intermediate_size',
    'max_length': 'max_position_embeddings',
    'dropout_rate': 'hidden_dropout_prob',
}
# Settings that `bert.Bert` assumes, and a checkpoint must have.
_REQUIRED = {
    'hidden_act': 'gelu',
    'layer_norm_eps': 1e-12,
    'position_embedding_type': 'absolute',
}
MODEL_TYPES = ('bert', 'distilbert', 'electra')
# Names that differ in DistilBERT: keys of the config, and parts of tensors.
_DISTILBERT_KEYS = {
    'n_layers': 'num_hidden_layers',
    'n_heads': 'num_attention_heads',
    'dim': 'hidden_size',
    'hidden_dim': 'intermediate_size',
    'dropout': 'hidden_dropout_prob',
    'activation': 'hidden_act',
}
_DISTILBERT_NAMES = {
    'transformer.layer': 'encoder.layer',
    'attention.q_lin': 'attention.self.query',
    'attention.k_lin': 'attention.self.key',
    'attention.v_lin': 'attention.self.value',
    'attention.out_lin': 'attention.output.dense',
    'sa_layer_norm': 'attention.output.LayerNorm',
    'ffn.lin1': 'intermediate.dense',
    'ffn.lin2': 'output.dense',
    'output_layer_norm': 'output.LayerNorm',
}
# Names in checkpoints that were converted from TensorFlow.
_TENSORFLOW_NAMES = {
    'LayerNorm.gamma': 'LayerNorm.weight',
    'LayerNorm.beta': 'LayerNorm.bias',
}


def _names(num_layers: int) -> dict[str, str]:
  """Maps the path of each norm and dense layer to its name in checkpoints."""
  names = {'norm': 'embeddings.LayerNorm'}
  for i in range(num_layers):
    for ours, theirs in _LAYER.items():
      names[f'layers_{i}/{ours}'] = f'encoder.layer.{i}.{theirs}'
  return names


def _read_config(path: pathlib.Path) -> bert.BertConfig:
  """Reads the sizes in config.json."""
  given = files.read_json(
      path / 'config.json', 'the config of a BERT', needs_seal=False
  )
  model_type = given.get('model_type', 'bert')
  if model_type not in MODEL_TYPES:
    raise errors.UserError(
        f"{path / 'config.json'} must have a model_type of {MODEL_TYPES}, but"
        f' has {model_type!r}, which has another tokenizer or architecture.'
        ' Choose a checkpoint of these.'
    )
  if model_type == 'distilbert':
    given = {_DISTILBERT_KEYS.get(k, k): value for k, value in given.items()}
  # ELECTRA's small models have a smaller table and a projection.
  required = _REQUIRED | {'embedding_size': given['hidden_size']}
  for key, value in required.items():
    if given.get(key, value) != value:
      raise errors.UserError(
          f"{path / 'config.json'} must have {key} {value!r}, but has"
          f' {given[key]!r}. Choose another checkpoint of {MODEL_TYPES}.'
      )
  return bert.BertConfig(
      **{ours: given[hf] for ours, hf in _SIZES.items() if hf in given}
  )


def _read_vocab(path: pathlib.Path) -> list[str]:
  """Returns the word pieces of a checkpoint, in the order of their ids."""
  options, tokenizer = (
      files.read_json(file, 'that of a BERT', needs_seal=False)
      if file.exists()
      else {}
      for file in (path / 'tokenizer_config.json', path / 'tokenizer.json')
  )
  normalizer = tokenizer.get('normalizer') or {}
  if not options.get('do_lower_case', normalizer.get('lowercase', True)):
    raise errors.UserError(
        f"checkpoint '{path}' must be uncased, but its tokenizer does not lower"
        ' the case. Choose its uncased sibling.'
    )
  if (path / 'vocab.txt').exists():
    return list(wordpiece.WordPiece.from_file(path / 'vocab.txt').vocab)
  if not tokenizer:
    raise errors.NotFoundError(
        f"BERT checkpoint '{path}' must hold vocab.txt or tokenizer.json."
        ' Download one of them.'
    )
  model = tokenizer['model']
  if model.get('type', 'WordPiece') != 'WordPiece':
    raise errors.UserError(
        f"{path / 'tokenizer.json'} must be of type 'WordPiece', but is of"
        f' {model["type"]!r}. Choose another checkpoint of {MODEL_TYPES}.'
    )
  return sorted(model['vocab'], key=model['vocab'].__getitem__)


def _read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads float32 tensors by their names in transformers' BertModel."""
  tensors = {}
  path = path / 'model.safetensors'
  files.check_plain(path, 'the tensors of a BERT', parts.MAX_BYTES)
  with errors.reading(path, 'a safetensors file', 'Download it again.'):
    found = safetensors.load_file(path)
  for name, tensor in found.items():
    for model_type in MODEL_TYPES:
      name = name.removeprefix(f'{model_type}.')
    for theirs, bert_name in (_DISTILBERT_NAMES | _TENSORFLOW_NAMES).items():
      name = name.replace(theirs, bert_name)
    tensors[name] = tensor.astype(np.float32)
  return tensors


def load_hf_bert(
    path: str | os.PathLike[str],
    num_layers: int | None = None,
    max_length: int | None = None,
) -> tuple[bert.BertConfig, dict[str, Any], list[str]]:
  """Reads a checkpoint of the BERT family.

  Args:
    path: Folder of the checkpoint.
    num_layers: Number of layers to keep, from the first; all by default.
    max_length: Number of positions to keep; all by default.

  Returns:
    The sizes, the 'params' of `bert.Bert`, and the word piece of each id.

  Raises:
    NotFoundError: If the folder lacks a file.
    UserError: If the checkpoint has another architecture than `bert.Bert`.
  """
  path = caching.local(path)
  for name in ('config.json', 'model.safetensors'):
    if not (path / name).exists():
      raise errors.NotFoundError(
          f"BERT checkpoint '{path}' must hold {name}. Download the"
          ' safetensors version of the model.'
      )
  tensors = _read_tensors(path)
  with errors.reading(path / 'config.json', 'the config of a BERT'):
    config = _read_config(path)
    parts.check_config(dataclasses.asdict(config), len(tensors))
    config = dataclasses.replace(
        config,
        num_layers=min(num_layers or config.num_layers, config.num_layers),
        max_length=min(max_length or config.max_length, config.max_length),
    )
  names = _names(config.num_layers)
  expected = [f'{n}.{kind}' for n in names.values() for kind in _KINDS]
  missing = {_TOKENS, _POSITIONS, *expected} - set(tensors)
  if missing:
    raise errors.UserError(
        f"{path / 'model.safetensors'} must hold the tensors of BERT, but lacks"
        f' {len(missing)}, e.g. {min(missing)}. Download it again, or choose'
        ' another checkpoint.'
    )
  positions = tensors[_POSITIONS]
  if _TYPES in tensors:  # DistilBERT has none.
    positions = positions + tensors[_TYPES][0]
  flat = {
      'tokens/embedding': _pad_rows(tensors[_TOKENS], config.table_size),
      'positions': positions[: config.max_length],
  }
  for ours, theirs in names.items():
    weight, bias = tensors[f'{theirs}.weight'], tensors[f'{theirs}.bias']
    # Torch stores matrices as [out, in]; the scale of a norm is a vector.
    flat[f'{ours}/kernel' if weight.ndim == 2 else f'{ours}/scale'] = weight.T
    flat[f'{ours}/bias'] = bias
  vocab = _read_vocab(path)
  return config, traverse_util.unflatten_dict(flat, sep='/'), vocab


def save_hf_bert(
    path: str | os.PathLike[str],
    config: bert.BertConfig,
    params: Params,
    vocab: Sequence[str],
    dtype: str = 'bfloat16',
) -> None:
  """Writes a checkpoint that `load_hf_bert` and transformers read."""
  path = pathlib.Path(path)
  path.mkdir(parents=True, exist_ok=True)
  flat = traverse_util.flatten_dict(params, sep='/')
  tensors = {
      _TOKENS: flat['tokens/embedding'][: config.vocab_size],
      _POSITIONS: flat['positions'],
      # These are merged into the positions.
      _TYPES: np.zeros((2, config.embed_dim), np.float32),
  }
  for ours, theirs in _names(config.num_layers).items():
    weight = flat.get(f'{ours}/kernel', flat.get(f'{ours}/scale'))
    tensors[f'{theirs}.weight'] = np.asarray(weight).T
    tensors[f'{theirs}.bias'] = flat[f'{ours}/bias']
  tensors = {
      name: np.ascontiguousarray(tensor, dtype=ml_dtypes.bfloat16)
      if dtype == 'bfloat16'
      else np.ascontiguousarray(tensor, dtype=dtype)
      for name, tensor in tensors.items()
  }
  sizes = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}
  description = (
      _REQUIRED
      | sizes
      | {'model_type': 'bert', 'architectures': ['BertModel']}
      | {'type_vocab_size': 2, 'dtype': dtype}
  )
  data = safetensors.save(tensors, metadata={'format': 'pt'})
  (path / 'model.safetensors').write_bytes(data)
  (path / 'config.json').write_text(json.dumps(description, indent=2))
  wordpiece.WordPiece(vocab).to_file(path / 'vocab.txt')


def _pad_rows(table: np.ndarray, rows: int) -> np.ndarray:
  return np.pad(table, ((0, rows - table.shape[0]), (0, 0)))


def prune_vocab(
    params: Params, vocab: Sequence[str], texts: Iterable[str], size: int
) -> tuple[dict[str, Any], list[str]]:
  """Shrinks the vocabulary without changing how `texts` are encoded.

  Special pieces, single ASCII characters and the pieces of `texts` are kept;
  others fill up to `size` in their order, which in BERT's vocabularies is by
  frequency.

  Args:
    params: Parameters of `bert.Bert`.
    vocab: The word piece of each id.
    texts: Texts whose encoding must not change.
    size: Size of the new vocabulary; larger if more pieces must be kept.

  Returns:
    The new params and vocabulary.
  """
  tokenizer = wordpiece.WordPiece(vocab)
  seen = set().union(*(tokenizer.pieces(text) for text in texts))

  def must_stay(piece):
    character = piece.removeprefix('##')
    return (
        piece in seen
        or piece in wordpiece.SPECIALS
        or (len(character) == 1 and character.isascii())
    )

  def may_stay(piece):
    word = piece.removeprefix('##')  # '[unused1]' and the like are no words.
    return not must_stay(piece) and word.isascii() and word.isalnum()

  stay = [i for i, piece in enumerate(vocab) if must_stay(piece)]
  others = [i for i, piece in enumerate(vocab) if may_stay(piece)]
  kept = sorted(stay + others[: max(0, size - len(stay))])
  table = np.asarray(params['tokens']['embedding'])[kept]
  rows = bert.BertConfig(vocab_size=len(kept)).table_size
  tokens = {'embedding': _pad_rows(table, rows)}
  return {**params, 'tokens': tokens}, [vocab[i] for i in kept]


def shrink(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    texts: Iterable[str],
    num_layers: int,
    vocab_size: int,
) -> bert.BertConfig:
  """Writes a checkpoint with the first layers and fewer word pieces.

  Args:
    source: Folder of a checkpoint of the BERT family.
    destination: Folder to write in bfloat16.
    texts: See `prune_vocab`.
    num_layers: Number of layers to keep.
    vocab_size: Number of word pieces to keep.

  Returns:
    The sizes of the new checkpoint.
  """
  config, params, vocab = load_hf_bert(source, num_layers)
  params, vocab = prune_vocab(params, vocab, texts, vocab_size)
  config = dataclasses.replace(config, vocab_size=len(vocab))
  save_hf_bert(destination, config, params, vocab)
  return config
