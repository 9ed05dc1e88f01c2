"""Makes stages from the names of their streams; defines the paper's stages."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any, cast

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base as tokenizers

Streams = Mapping[str, streams.Stream]

OPTIONAL = '?'  # Suffix of an input that a stage can do without.
# Fields that have defaults in a stage that is not the paper's.
_OPTIONS = ('is_independent', 'temperature', 'pattern', 'guidance_scale')
ADDED = '+'  # Suffix of an input that is added to positions.
PAPER_STREAMS = {s.name: s for s in tokenizers.PAPER}


@dataclasses.dataclass(frozen=True)
class _Input:
  """An input of a stage, as written in config files."""

  name: str
  is_optional: bool
  is_added: bool

  @classmethod
  def parse(cls, text: str) -> '_Input':
    name = text.removesuffix(ADDED)
    is_added = name != text
    return cls(name.removesuffix(OPTIONAL), name.endswith(OPTIONAL), is_added)

  def of(self, known: Streams) -> streams.Stream:
    stream = known[self.name]
    is_added = stream.is_added or self.is_added
    return dataclasses.replace(stream, is_added=is_added)


def make(
    name: str,
    inputs: Sequence[str],
    targets: str,
    known: Streams | None,
    crop_seconds: float,
    is_independent: bool = False,
    temperature: float = 1.0,
    pattern: str = 'flat',
    guidance_scale: float = 1.0,
) -> streams.Stage:
  """Makes a stage from the names of its streams.

  Args:
    name: Name of the stage.
    inputs: Names of the streams it reads, in order. A name that ends with '?'
      is left out if there is no such stream; one that ends with '+', or '?+',
      is added to positions, even if other stages place it in the sequence.
    targets: Name of the stream it writes.
    known: The available streams, by name; None if they are not known yet, which
      means those of the paper, and no optional ones.
    crop_seconds: See `streams.Stage`.
    is_independent: See `streams.Stage`.
    temperature: See `streams.Stage`.
    pattern: See `streams.Stage`.
    guidance_scale: See `streams.Stage`.

  Raises:
    UserError: If a named stream does not exist.
  """
  named = [_Input.parse(x) for x in inputs]
  there = known or {}
  needed = [x for x in named if not x.is_optional or x.name in there]
  known = PAPER_STREAMS if known is None else known
  for missing in {*(x.name for x in needed), targets} - set(known):
    raise errors.UserError(
        f"stage '{name}' must read and write existing streams,"
        f" {sorted(known)}, but names '{missing}'. Tokenize with a model that"
        ' writes it, or change the inputs or targets of the stage.'
    )
  return streams.Stage(
      name,
      tuple(x.of(known) for x in needed),
      known[targets],
      crop_seconds,
      is_independent,
      temperature,
      pattern,
      guidance_scale,
  )


def _paper(name, inputs, targets, crop_seconds, **options) -> streams.Stage:
  return make(name, inputs, targets, PAPER_STREAMS, crop_seconds, **options)


# MusicLM 3.2, AudioLM 3.3, and section 4.5 for melodies; temperatures of 4.1.
PAPER = {
    stage.name: stage
    for stage in (
        _paper('semantic', ('mulan',), 'semantic', 30.0),
        _paper('semantic_melody', ('mulan', 'melody'), 'semantic', 30.0),
        _paper(
            'coarse', ('mulan', 'semantic'), 'coarse', 10.0, temperature=0.95
        ),
        _paper(
            'coarse_melody',
            ('mulan', 'melody', 'semantic'),
            'coarse',
            10.0,
            temperature=0.95,
        ),
        _paper(
            'fine',
            ('coarse',),
            'fine',
            3.0,
            is_independent=True,
            temperature=0.4,
        ),
    )
}


def get_stage(
    name: str,
    crop_seconds: float | None = None,
    inputs: Sequence[str] | None = None,
    targets: str | None = None,
    known: Streams | None = None,
    **options: Any,
) -> streams.Stage:
  """Returns a stage of the paper, with any changes, or another stage.

  Args:
    name: Name of the stage. A stage of the paper keeps the paper's values for
      all arguments that are not given; for another, all must be given.
    crop_seconds: Length of a training example.
    inputs: See `make`.
    targets: See `make`.
    known: See `make`.
    **options: Other fields of `streams.Stage`.

  Raises:
    UserError: If there is no such stage or stream.
  """
  paper = PAPER.get(name)
  if paper is None and None in (crop_seconds, inputs, targets):
    raise errors.UserError(
        f'stage must be one of {list(PAPER)}, or have crop_seconds, inputs and'
        f" targets of its own, but is '{name}'."
    )
  if paper is not None:
    crop_seconds = crop_seconds or paper.crop_seconds
    inputs = inputs or [s.name for s in paper.inputs]
    targets = targets or paper.targets.name
    own = {k: getattr(paper, k) for k in _OPTIONS}
    options = {**own, **options}
  return make(
      name,
      cast(Sequence[str], inputs),
      cast(str, targets),
      known,
      cast(float, crop_seconds),
      **options,
  )


def of_part(config: Mapping[str, Any]) -> streams.Stage:
  """Returns the stage that the config of a part describes.

  Args:
    config: Config whose 'stage' is from `Stage.to_json` or, in older parts, the
      name of a stage of the paper.

  Raises:
    UserError: If there is no stage of that name.
  """
  if isinstance(config['stage'], str):
    return get_stage(config['stage'], config['crop_seconds'])
  return streams.Stage.from_json(config['stage'])


def stages_in(
    directory: str | os.PathLike[str],
) -> dict[str, streams.Stage]:
  """Returns a model's stages in cascade order, by the streams they write.

  Raises:
    UserError: If the description of a part is damaged.
  """
  found = {}
  for path in sorted(pathlib.Path(directory).glob('*.safetensors')):
    if path.with_suffix('.json').exists():
      config = parts.read_description(directory, path.stem)['config']
      if 'stage' in config:
        found[path.stem] = of_part(config)
  return {name: found[name] for name in order(found)}


def order(stages: Mapping[str, streams.Stage]) -> tuple[str, ...]:
  """Returns the keys of `stages`, each after the streams that it reads.

  Args:
    stages: Stages by the names of the streams they write.

  Raises:
    UserError: If two stages read each other's targets.
  """
  placed: list[str] = []
  while len(placed) < len(stages):
    ready = [
        name
        for name, stage in stages.items()
        if name not in placed
        and all(s.name not in stages or s.name in placed for s in stage.inputs)
    ]
    if not ready:
      raise errors.UserError(
          'stages must read the targets of stages before them, but'
          f' {sorted(set(stages) - set(placed))} read each other.'
      )
    placed += ready
  return tuple(placed)
