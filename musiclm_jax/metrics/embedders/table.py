"""The table of embedders and taggers that music is judged by.

A new one is a function in a file of its own and one line in `KINDS`. Weights
are read when one is loaded, from a path or from the hub's cache; nothing is
downloaded.
"""

import collections
from collections.abc import Callable, Sequence
import dataclasses
import importlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax.metrics.embedders import base


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of embedder.

  Attributes:
    name: Its name.
    path: Module and function that loads it, 'module:function'.
    tagger: The same of the tagger that it also is; '' if it is none.
    source: Where its weights are, unless said; '' if that must be said.
    needs: What may follow the name, for people.
  """

  name: str
  path: str
  tagger: str = ''
  source: str = ''
  needs: str = 'a folder, or a model in the hub cache'


_ONNX_FILE = 'an ONNX file'
KINDS = (
    Kind('mulan', 'mulan:load', needs='the directory of a model of ours'),
    Kind('vggish', 'vggish:load', needs='an ONNX or a safetensors file'),
    Kind('clap', 'clap:load', 'clap:load_tagger', 'laion/clap-htsat-unfused'),
    Kind(
        'clap-music', 'clap:load', 'clap:load_tagger', 'laion/larger_clap_music'
    ),
    Kind('mert', 'mert:load', source='m-a-p/MERT-v1-95M'),
    Kind(
        'musicnn',
        'onnx:load_musicnn',
        'onnx:load_musicnn_tagger',
        needs=_ONNX_FILE,
    ),
    Kind('onnx', 'onnx:load', 'onnx:load_tagger', needs=_ONNX_FILE),
)


def _find(spec: str, kinds: dict[str, Kind]) -> tuple[Kind, str]:
  """Returns the kind that a user named, and the source of its weights."""
  name, _, source = spec.partition(':')
  if name not in kinds:
    known = ', '.join(f'{k.name}[:{k.needs}]' for k in kinds.values())
    raise errors.NotFoundError(
        f'an embedder must be one of {known}; but is {spec!r:.100}.'
    )
  return kinds[name], source or kinds[name].source


def _call(path: str, name: str, source: str) -> Any:
  module, _, function = path.partition(':')
  found = importlib.import_module(f'{__package__}.{module}')
  load_it: Callable[[str, str], Any] = getattr(found, function)
  return load_it(name, source)


def load(spec: str) -> base.Embedder:
  """Loads an embedder.

  Args:
    spec: The name of a kind, or 'NAME:SOURCE', e.g. 'mulan:MODEL_DIR',
      'vggish:vggish.onnx', 'clap', 'clap:owner/name', 'onnx:mine.onnx'.

  Raises:
    NotFoundError: If there is no such kind, or its weights are not there.
    UserError: If its weights are damaged.
  """
  kind, source = _find(spec, {k.name: k for k in KINDS})
  return _call(kind.path, kind.name, source)


def name_apart(
    judges: Sequence[base.Embedder | base.Tagger], specs: Sequence[str]
) -> None:
  """Names what shares a name with another after its spec, and a number.

  Args:
    judges: What judges music; those that need it are renamed.
    specs: What each was loaded from.
  """
  counts = collections.Counter(judge.identity.name for judge in judges)
  for i, (judge, spec) in enumerate(zip(judges, specs, strict=True), start=1):
    if counts[judge.identity.name] > 1:
      name = f'{i}: {spec}'
      judge.identity = dataclasses.replace(judge.identity, name=name)


def load_joint(spec: str) -> base.JointEmbedder:
  """Loads an embedder of audio and text; see `load`.

  Raises:
    UserError: If it embeds no text.
  """
  embedder = load(spec)
  if not isinstance(embedder, base.JointEmbedder):
    raise errors.UserError(
        f"an embedder of prompts must embed text, but '{spec:.100}' does not."
        " Use 'mulan' or 'clap'."
    )
  return embedder


def load_tagger(spec: str) -> base.Tagger:
  """Loads a tagger; see `load`."""
  kind, source = _find(spec, {k.name: k for k in KINDS if k.tagger})
  return _call(kind.tagger, kind.name, source)
