"""Tasks of several corpora, and mixtures of them, by name.

A module of yours names its corpora, and gin's MIXTURE_OR_TASK_MODULE names the
module:

  mixtures.add_corpus('jamendo', 'gs://bucket/jamendo')
  mixtures.add_mixture('both', {'music_stage': 2, 'jamendo_stage': 1})

`musiclm_jax.tasks.music` registers the same names with seqio.
"""

from collections.abc import Callable, Mapping
import dataclasses
import importlib
import os
import re

from musiclm_jax import errors
from musiclm_jax.data import example_base
from musiclm_jax.data import examples
from musiclm_jax.data import token_dataset

# The corpus of the tasks that are always there.
DEFAULT = 'music'


@dataclasses.dataclass(frozen=True)
class Task:
  """A task of one corpus.

  Attributes:
    make: Makes its examples.
    data_dir: Folder of the datasets of the corpus; None for DATA_DIR.
  """

  make: example_base.Examples
  data_dir: str | None = None


Rates = Mapping[str, int | float]

_tasks = {name: Task(make) for name, make in examples.TASKS.items()}
_mixtures: dict[str, dict[str, float]] = {}
_listeners: list[
    tuple[Callable[[str, Task], None], Callable[[str, Rates], None]]
] = []


def add_corpus(name: str, data_dir: str | os.PathLike[str]) -> list[str]:
  """Adds the tasks of a corpus: `<name>_stage`, `<name>_codec` and so on.

  Args:
    name: Name of the corpus, in small letters, digits and underscores.
    data_dir: Folder of its datasets.

  Returns:
    The names of its tasks: those of `examples.TASKS`, with `name` in place of
    'music'.

  Raises:
    UserError: If the name is invalid, or that of another corpus.
  """
  if not re.fullmatch('[a-z][a-z0-9_]*', name) or name == DEFAULT:
    raise errors.UserError(
        'the name of a corpus must be of small letters, digits and'
        f" underscores, and not '{DEFAULT}', but is '{name}'."
    )
  added = {
      name + task.removeprefix(DEFAULT): Task(make, os.fspath(data_dir))
      for task, make in examples.TASKS.items()
  }
  for task_name, task in added.items():
    _check_free(task_name, task)
  for task_name, task in added.items():
    if task_name not in _tasks:
      _tasks[task_name] = task
      for tell, _ in _listeners:
        tell(task_name, task)
  return list(added)


def add_mixture(name: str, rates: Rates) -> None:
  """Adds a mixture.

  Args:
    name: Its name, for MIXTURE_OR_TASK_NAME.
    rates: How often examples of each task come, relative to the others.

  Raises:
    UserError: If the name is taken, a task is unknown, makes other features
      than the others, or a rate is not positive.
  """
  rates = {task: float(rate) for task, rate in rates.items()}
  _check_free(name, rates)
  if not rates or not all(0 < r < float('inf') for r in rates.values()):
    raise errors.UserError(
        f"mixture '{name}' must have tasks with rates above 0, but has {rates}."
    )
  features = {
      tuple(get_task(task).make.output_features.items()) for task in rates
  }
  if len(features) > 1:
    raise errors.UserError(
        f"the tasks of mixture '{name}' must make the same features, but"
        f' {list(rates)} do not. Mix the same task of several corpora.'
    )
  if name not in _mixtures:
    _mixtures[name] = rates
    for _, tell in _listeners:
      tell(name, rates)


def get_task(name: str) -> Task:
  """Returns a task.

  Raises:
    UserError: If there is none of this name.
  """
  if name not in _tasks:
    known = sorted({*_tasks, *_mixtures})
    raise errors.UserError(
        f"MIXTURE_OR_TASK_NAME must be one of {known}, but is '{name}'. Name"
        ' the module that adds it as MIXTURE_OR_TASK_MODULE; seqio tasks of'
        ' your own need gin/runs/seqio.gin.'
    )
  return _tasks[name]


def get_rates(name: str) -> Rates:
  """Returns the rate of each task of a mixture; a task is a mixture of one.

  Raises:
    UserError: If there is neither a mixture nor a task of this name.
  """
  if name in _mixtures:
    return _mixtures[name]
  get_task(name)
  return {name: 1.0}


def folders(name: str) -> set[str] | None:
  """Returns the folders of the further corpora of a mixture or task.

  Args:
    name: Its name; a task that only seqio knows has None.
  """
  if name not in _tasks and name not in _mixtures:
    return None
  tasks = map(get_task, get_rates(name))
  return {task.data_dir for task in tasks if task.data_dir is not None}


def listen(
    on_task: Callable[[str, Task], None],
    on_mixture: Callable[[str, Rates], None],
) -> None:
  """Calls functions with every task and mixture, present and to come."""
  for name, task in _tasks.items():
    on_task(name, task)
  for name, rates in _mixtures.items():
    on_mixture(name, rates)
  _listeners.append((on_task, on_mixture))


def import_module(name: str | None) -> None:
  """Imports the module that adds corpora and mixtures, if there is one.

  Raises:
    UserError: If there is no such module.
  """
  if name is None:
    return
  try:
    importlib.import_module(name)
  except ModuleNotFoundError as e:
    if e.name is None or not f'{name}.'.startswith(f'{e.name}.'):
      raise
    raise errors.UserError(
        f"MIXTURE_OR_TASK_MODULE must be a module, but there is no '{e.name}'."
        ' Put its folder on PYTHONPATH.'
    ) from e


def check_lineage(name: str, data_dir: str | os.PathLike[str]) -> None:
  """Raises UserError unless all tokens are of the same tokenizers.

  Args:
    name: Name of a mixture or task.
    data_dir: DATA_DIR, whose tokens say what streams there are.
  """
  for task in map(get_task, get_rates(name)):
    if task.data_dir and task.make.dataset == token_dataset.NAME:
      expected = token_dataset.lineage(data_dir)
      absent = dict.fromkeys(token_dataset.lineage(task.data_dir))
      token_dataset.check_lineage(task.data_dir, {**absent, **expected})


def _check_free(name: str, value: Task | Rates) -> None:
  """Raises UserError if something else has this name."""
  taken = _tasks.get(name) or _mixtures.get(name)
  if taken is not None and taken != value:
    raise errors.UserError(
        f"the name '{name}' must be free, but is taken. Choose another."
    )
