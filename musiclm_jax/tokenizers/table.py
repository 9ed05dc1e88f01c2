"""The table of parts: everything in a model that writes streams.

A new codec or condition is a `base.Tokenizer` in a file of its own and one line
in `PARTS`. Loading, tokenizing, recipes, reports and the command read the
table; none of them knows a part by its name. Stages describe themselves, see
`streams.Stage`, and need no line.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import importlib
import os
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of part.

  Attributes:
    name: Name of the part, of its run's folder and of its gin file.
    path: Module and class of its tokenizer, 'package.module:Class'; it is
      imported when it is first asked for.
    purpose: What its training is good for, in a few words for people.
    report: Module of `metrics` that measures it in depth; '' if none does.
    is_optional: Whether a model may do without.
    dataset: Dataset that it is trained on, beside `music`; '' for none.
  """

  name: str
  path: str
  purpose: str
  report: str = ''
  is_optional: bool = False
  dataset: str = ''

  @property
  def tokenizer(self) -> type[base.Tokenizer]:
    """The class of its tokenizer."""
    module, _, name = self.path.partition(':')
    return getattr(importlib.import_module(module), name)

  @property
  def clip_tokenizer(self) -> type[base.ClipTokenizer] | None:
    """The class of its tokenizer, if there is nothing to train."""
    found = self.tokenizer
    return found if issubclass(found, base.ClipTokenizer) else None

  @property
  def is_codec(self) -> bool:
    """Whether it is a codec: a model has one of those in the table."""
    return issubclass(self.tokenizer, base.Codec)

  def load(self, directory: str | os.PathLike[str]) -> base.Tokenizer:
    """Loads the part of a model; see `base.Tokenizer.from_dir`."""
    return self.tokenizer.from_dir(directory)

  def is_in(self, directory: str | os.PathLike[str]) -> bool:
    """Returns whether a model holds the part."""
    return (pathlib.Path(directory) / f'{self.name}.json').exists()


_HERE = 'musiclm_jax.tokenizers'
# In the order in which they are trained.
PARTS = (
    Kind(
        'soundstream',
        f'{_HERE}.soundstream:SoundStream',
        'trains the codec',
        report='codec_report',
    ),
    Kind(
        'spectral_codec',
        f'{_HERE}.spectral_codec:SpectralCodec',
        'trains the codec',
        report='codec_report',
    ),
    Kind(
        'w2v_bert',
        f'{_HERE}.w2v_bert:W2vBert',
        'trains the network behind semantic tokens',
        report='semantic_report',
    ),
    Kind(
        'mulan',
        f'{_HERE}.mulan:MuLan',
        'trains the comparison of texts with sound',
        report='mulan_report',
    ),
    Kind(
        'melody',
        f'{_HERE}.melody:Melody',
        'trains the network that hears melodies',
        report='melody_report',
        is_optional=True,
        dataset='melody_pairs',
    ),
    Kind(
        'plan',
        f'{_HERE}.plan_streams:PlanStreams',
        'tells beats, chords, key and arrangement',
        is_optional=True,
    ),
)


def kind(name: str) -> Kind:
  """Returns the line of the table with a name.

  Raises:
    NotFoundError: If there is none.
  """
  for found in PARTS:
    if found.name == name:
      return found
  raise errors.NotFoundError(
      f'part must be one of {[p.name for p in PARTS]}, but is {name!r:.100}.'
  )


def kinds_in(directory: str | os.PathLike[str]) -> tuple[Kind, ...]:
  """Returns the kinds of the parts that a model holds."""
  return tuple(kind for kind in PARTS if kind.is_in(directory))


def codec_in(directory: str | os.PathLike[str]) -> Kind:
  """Returns the kind of a model's codec.

  Raises:
    NotFoundError: If it has none, or more than one.
  """
  codecs = [kind for kind in PARTS if kind.is_codec]
  found = [kind for kind in codecs if kind.is_in(directory)]
  if len(found) != 1:
    files = ' or '.join(f'{kind.name}.json' for kind in codecs)
    raise errors.NotFoundError(
        f"model '{directory}' must hold one codec, {files}, but holds"
        f" {' and '.join(kind.name for kind in found) or 'none'}. Train and"
        ' export one first.'
    )
  return found[0]


def streams_in(
    directory: str | os.PathLike[str],
) -> Iterator[tuple[Kind, streams.Stream]]:
  """Yields each stream that the parts of a model write, after its kind."""
  for found in kinds_in(directory):
    config = parts.read_description(directory, found.name)['config']
    with parts.building(directory, found.name):
      written = found.tokenizer.streams_of(config)
    for stream in written:
      yield found, stream


class Tokenizers(Mapping[str, base.Tokenizer]):
  """The tokenizers of a model, by the names of their parts, loaded when used.

  Attributes:
    directory: Directory of the model.
  """

  def __init__(self, directory: str | os.PathLike[str]):
    self.directory = pathlib.Path(directory)
    self._kinds = {kind.name: kind for kind in kinds_in(directory)}
    self._load = functools.cache(lambda name: self._kinds[name].load(directory))

  def __getitem__(self, name: str) -> base.Tokenizer:
    if name not in self._kinds:
      raise KeyError(name)
    return self._load(name)

  def __iter__(self) -> Iterator[str]:
    return iter(self._kinds)

  def __len__(self) -> int:
    return len(self._kinds)

  @property
  def codec(self) -> base.Codec:
    """The codec; see `codec_in`."""
    return self[codec_in(self.directory).name]  # type: ignore[return-value]

  @functools.cached_property
  def text_embedder(self) -> base.TextEmbedder:
    """The part that reads prompts.

    Raises:
      NotFoundError: If there is none, or more than one.
    """
    found = self.of_kind(base.TextEmbedder)
    if len(found) != 1:
      raise errors.NotFoundError(
          f"model '{self.directory}' must hold one part that reads prompts,"
          f" such as mulan.json, but holds {' and '.join(found) or 'none'}."
          ' Train and export one first.'
      )
    return next(iter(found.values()))

  def writer_of(self, stream: str) -> str | None:
    """Returns the name of the part that writes a stream, if there is one."""
    return self._writers.get(stream)

  @functools.cached_property
  def _writers(self) -> dict[str, str]:
    return {s.name: kind.name for kind, s in streams_in(self.directory)}

  def of_kind(self, cls: type[Any]) -> dict[str, Any]:
    """Returns the tokenizers of a class, by name, without loading others."""
    return {
        name: self[name]
        for name, kind in self._kinds.items()
        if issubclass(kind.tokenizer, cls)
    }

  @property
  def hashes(self) -> dict[str, str]:
    """The sha256 of each part."""
    return {
        name: parts.read_description(self.directory, name)['sha256']
        for name in self._kinds
    }


def whole(directory: str | os.PathLike[str]) -> Tokenizers:
  """Returns the tokenizers of a model that must be able to tokenize a corpus.

  Raises:
    NotFoundError: If it has no codec, or lacks a part that is not optional.
  """
  tokenizers = Tokenizers(directory)
  codec_in(directory)
  for kind in PARTS:
    if not kind.is_optional and not kind.is_codec:
      parts.read_description(directory, kind.name)
  return tokenizers
