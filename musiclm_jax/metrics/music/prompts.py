"""The prompts that clips are made from, and true audio to hold beside them."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import os
from typing import Any, cast

from musiclm_jax import errors
from musiclm_jax.data import datasets
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import obedience
from musiclm_jax.metrics.music import sounds
from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.sampling import plan_text
from musiclm_jax.sampling import prompt_list

SECONDS = 10.0
_DEFAULTS: Mapping[str, Any] = {'seconds': SECONDS, 'seed': 0}
_MAX_SEED = 2**32


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt.

  Attributes:
    line: How `musiclm batch` makes its clip.
    target: What is known of the clip that it asks for, if anything.
    form: Letters of its sections; '' if none are asked for.
    planned: Streams of which its plan tells.
  """

  line: prompt_list.Line
  target: obedience.Target | None = None
  form: str = ''
  planned: tuple[str, ...] = ()

  @property
  def id(self) -> str:
    """Name of its clip."""
    return self.line.id

  @property
  def text(self) -> str:
    return self._request.prompt

  @property
  def seconds(self) -> float:
    """Length of its clip; what goes on for longer is not heard."""
    return float(dict(self._request.options)['seconds'])

  @property
  def melody(self) -> str:
    """File of the melody that its clip should follow; '' if there is none."""
    text = dict(self._request.options).get('melody')
    return json.loads(text)['file'] if text else ''

  @property
  def _request(self) -> prompt_list.Request:
    # Only valid lines are prompts.
    return cast(prompt_list.Request, self.line.request)

  def take(self, number: int, with_plan: bool = True) -> prompt_list.Line:
    """Returns the line of a take.

    Args:
      number: Its number, from 1, which has the name of the prompt.
      with_plan: Whether it follows the plan, or the prompt alone.
    """
    options = dict(self._request.options)
    options['seed'] = (options['seed'] + number - 1) % _MAX_SEED
    if not with_plan:
      options.pop('plan', None)
    request = prompt_list.Request(self.text, tuple(sorted(options.items())))
    id_ = self.id if number == 1 else f'{self.id}-take{number}'
    return dataclasses.replace(self.line, id=id_, request=request)


@dataclasses.dataclass(frozen=True)
class Reference:
  """True audio.

  Attributes:
    source: Where it is from, for people.
    clips: All of it, each once.
    paired: What belongs to a prompt, by the prompt's id; some may be missing.
    embedded: Folder of the embeddings that were kept of it, if these are all
      that there is.
  """

  source: str
  clips: Sequence[sounds.Sound]
  paired: Mapping[str, sounds.Sound] = dataclasses.field(default_factory=dict)
  embedded: str = ''


@dataclasses.dataclass(frozen=True)
class Prompts:
  """A list of prompts.

  Attributes:
    source: Where they are from, for people.
    prompts: The prompts.
    reference: True audio of the same source, if there is any.
    benchmark: Name of the benchmark, '' if it is none.
    wanted: Prompts that it has in all.
    missing: What it lacks, in words.
  """

  source: str
  prompts: Sequence[Prompt]
  reference: Reference | None = None
  benchmark: str = ''
  wanted: int = 0
  missing: Sequence[str] = ()

  def spread(self, count: int | None) -> 'Prompts':
    """Returns a list of at most `count` prompts, evenly spread over this one.

    Raises:
      UserError: If `count` is not positive.
    """
    if count is None or count >= len(self.prompts):
      return self
    some = [self.prompts[i] for i in held_out.spread(len(self.prompts), count)]
    left_out = f'{len(self.prompts) - count} prompts, by --max_clips'
    missing = (*self.missing, left_out)
    return dataclasses.replace(self, prompts=some, missing=missing)


def of_lines(lines: Sequence[prompt_list.Line], source: str) -> list[Prompt]:
  """Returns the prompts of lines.

  Raises:
    UserError: If a line is invalid, or its plan does not fit its length.
  """
  wrong = [line for line in lines if line.request is None]
  if wrong:
    raise errors.UserError(
        f'{source} must be valid, but {len(wrong)} of {len(lines)} lines are'
        f' not: line {wrong[0].number}: {wrong[0].error}'
    )
  return [_of_line(line) for line in lines]


def _of_line(line: prompt_list.Line) -> Prompt:
  request = cast(prompt_list.Request, line.request)
  options = dict(request.options)
  if 'plan' in options:
    plan = plan_lib.Plan.from_json(json.loads(options['plan']))
    told = plan.told
  else:  # What its words ask for, of which no model needs to be told.
    plan, told = plan_text.read(request.prompt), ()
    if plan.bpm is None:
      plan = dataclasses.replace(plan, metre='')  # It has no times.
  if plan == plan_lib.Plan():
    return Prompt(line)
  target = obedience.Target.of_plan(plan, options['seconds'])
  if not told and not plan.metre:
    target = dataclasses.replace(target, metre=None)  # Nobody asked for 4/4.
  return Prompt(line, target, plan.form, told)


def of_file(path: str | os.PathLike[str]) -> Prompts:
  """Reads a list of prompts, as `musiclm batch` does.

  Raises:
    UserError: If it can't be read, or a line is invalid.
  """
  source = os.fspath(path)
  found = of_lines(prompt_list.read(path, _DEFAULTS), source)
  return Prompts(source, found, wanted=len(found))


def of_text(id_: str, number: int, text: str) -> Prompt:
  """Makes a prompt of a text."""
  request = prompt_list.Request(text, tuple(sorted(_DEFAULTS.items())))
  return Prompt(prompt_list.Line(number, id_, request))


def of_dataset(
    data_dir: str | os.PathLike[str], split: str, count: int | None
) -> Prompts:
  """Takes the first caption of each clip of the dataset `music` as a prompt.

  The clips are the true audio; what is known of each is what its prompt asks.

  Args:
    data_dir: Folder of the datasets.
    split: Split of the dataset.
    count: Most clips, evenly spread over the split; all if None.

  Raises:
    NotFoundError: If there is no such dataset.
    UserError: If it has no such split.
  """
  directory = os.fspath(data_dir)
  found, paired = [], {}
  for index in _indices(directory, split, count):
    example = sounds.Example(directory, split, index)
    record = sounds.record_of(example)
    prompt = of_text(f'{index:06d}', index + 1, record['captions'][0])
    target = obedience.Target.of_record(record, SECONDS)
    found.append(dataclasses.replace(prompt, target=target))
    paired[prompt.id] = example
  source = f"the split '{split}' of '{directory}'"
  reference = Reference(source, list(paired.values()), paired)
  return Prompts(source, found, reference, wanted=len(found))


def _indices(directory: str, split: str, count: int | None) -> list[int]:
  total = len(datasets.open_dataset('music', directory, split))
  return held_out.spread(total, count or total).tolist()


def read_reference(
    path: str | os.PathLike[str],
    ids: Sequence[str],
    split: str,
    count: int | None,
) -> Reference:
  """Reads what a user names as true audio.

  Args:
    path: Folder of the dataset `music`, of audio files, or of embeddings that
      were kept. Files that are named by the ids of prompts belong to these.
    ids: Ids of the prompts.
    split: Split of a dataset.
    count: Most clips, evenly spread; all if None.

  Raises:
    NotFoundError: If there is no such folder.
    UserError: If it holds no audio.
  """
  source = os.fspath(path)
  if datasets.dataset_exists('music', path):
    example = functools.partial(sounds.Example, source, split)
    return Reference(source, [*map(example, _indices(source, split, count))])
  if embedded_sets.are_in(path):
    return Reference(source, [], embedded=source)
  files = sounds.list_folder(path)
  paired = {id_: files[id_] for id_ in ids if id_ in files}
  some = [*(paired or files).values()]
  indices = held_out.spread(len(some), count or len(some))
  return Reference(source, [some[int(i)] for i in indices], paired)
