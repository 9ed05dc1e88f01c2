"""Zero-shot tags: classes of clips that no part was taught to tell apart.

Prompts in the words of captions stand for a class; the truth is in the facts of
rendered clips.
"""

from collections.abc import Callable, Iterable
import dataclasses
import json
from typing import Any

from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import facts as facts_lib
from musiclm_jax.data.scores import wording


@dataclasses.dataclass(frozen=True)
class Tag:
  """A question with one answer.

  Attributes:
    name: Name of the question.
    label: Returns the class of a clip; '' where it is not known.
    prompts: Returns the texts whose average embedding stands for a class.
    classes: All classes; if empty, those that the clips have.
  """

  name: str
  label: Callable[[facts_lib.Facts], str]
  prompts: Callable[[str], list[str]]
  classes: tuple[str, ...] = ()

  def find_classes(self, labels: Iterable[str]) -> list[str]:
    """Returns the classes to choose from, given the known ones of all clips."""
    return list(self.classes) or sorted(set(labels))


def read_facts(text: str) -> facts_lib.Facts | None:
  """Reads the feature 'facts' of an example; None where nothing is known."""
  if not text:
    return None
  values: dict[str, Any] = {
      key: tuple(value) if isinstance(value, list) else value
      for key, value in json.loads(text).items()
  }
  return facts_lib.Facts(**values)


def instrument_prompts(name: str) -> list[str]:
  """Returns texts that stand for music of an instrument."""
  return [
      name,
      f'piece for {name}',
      f'music played by {name}',
      f'A piece featuring {name}.',
      f'The main instrument is {name}.',
  ]


def _tempo_prompts(tempo: str) -> list[str]:
  words = wording.TEMPO_WORDS[tempo]
  return [f'{word} {noun}' for word in words for noun in ('piece', 'music')]


def _mode(facts: facts_lib.Facts) -> str:
  return facts.key.split()[1] if facts.key else ''


def _mode_prompts(mode: str) -> list[str]:
  keys = [f'{tonic} {mode}' for tonic in analysis.TONICS[mode]]
  return [f'{mode} key', *(f'piece in {key}' for key in keys)]


def _loudest(facts: facts_lib.Facts) -> str:
  return facts.instruments[0]


def _style_prompts(style: str) -> list[str]:
  return [style, f'{style} piece', f'{style} music']


TAGS = (
    Tag('loudest instrument', _loudest, instrument_prompts),
    Tag('mode', _mode, _mode_prompts, analysis.MODES),
    Tag(
        'tempo class',
        lambda facts: wording.tempo_class(facts) or '',
        _tempo_prompts,
        tuple(wording.TEMPO_WORDS),
    ),
    Tag('genre', lambda facts: facts.genre, _style_prompts),
    Tag('form', lambda facts: facts.form, lambda form: [form, f'a {form}']),
)
