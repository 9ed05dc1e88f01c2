"""What is measured of each clip alone, by as many processes as there are CPUs.

Nothing here knows our models.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import machine
from musiclm_jax.audio import io
from musiclm_jax.data import workers
from musiclm_jax.metrics import musicality
from musiclm_jax.metrics import obedience
from musiclm_jax.metrics import structure
from musiclm_jax.metrics import transcription
from musiclm_jax.metrics import tunes
from musiclm_jax.metrics.music import sounds
import numpy as np
import tqdm

SAMPLE_RATE = 24000
_DRIFT_SECONDS = 3.0  # Least length of a clip whose drift can be heard.
_POOLED = 8  # Clips from which on it pays to start processes.

Key = tuple[str, str]  # Names of a system and of one of its clips.


@dataclasses.dataclass(frozen=True)
class Task:
  """A clip to measure.

  Attributes:
    name: What it is called in messages.
    takes: The clip; or the takes of a prompt, whose diversity is measured.
    seconds: How much of it is heard.
    form: Letters of the sections that it should have; '' if none.
    melody: File of the melody that it should follow; '' if none.
  """

  name: str
  takes: tuple[sounds.Sound, ...]
  seconds: float
  form: str = ''
  melody: str = ''


@dataclasses.dataclass(frozen=True)
class Measured:
  """What was measured of a clip.

  Attributes:
    heard: What estimators of music hear in it.
    musicality: See `musicality.measure`.
    structure: How far it drifts, and its form; what can't be told is missing.
    melody: How well it keeps to its melody, see `tunes.likeness`; empty if it
      has none.
  """

  heard: obedience.Heard
  musicality: Mapping[str, float]
  structure: Mapping[str, float]
  melody: Mapping[str, float] = dataclasses.field(default_factory=dict)


def measure(task: Task) -> Measured | str:
  """Measures a clip; returns the reason, if it can't be."""
  try:
    [sound] = task.takes
    audio = sounds.read_first(sound, task.seconds, SAMPLE_RATE)
    return Measured(
        obedience.hear(audio, SAMPLE_RATE),
        musicality.measure(audio, SAMPLE_RATE),
        structure_of(audio, task.form),
        _keeps_to(audio, task.melody),
    )
  except errors.UserError as e:
    return errors.one_line(e)


def _keeps_to(
    audio: Float[np.ndarray, ' samples'], melody: str
) -> dict[str, float]:
  if not melody:
    return {}
  hum = io.read_audio(melody, SAMPLE_RATE)
  return tunes.likeness(audio, SAMPLE_RATE, hum, SAMPLE_RATE)


def structure_of(
    audio: Float[np.ndarray, ' samples'], form: str
) -> dict[str, float]:
  """Measures the structure of a clip.

  Args:
    audio: [samples] mono audio at SAMPLE_RATE.
    form: Letters of the sections that it should have; '' if none.

  Returns:
    How far it drifts from the first third to the last; and by how much sections
    of one letter are more alike than others. What can't be told is missing.
  """
  found = {}
  if len(audio) >= _DRIFT_SECONDS * SAMPLE_RATE:
    drifts = structure.drift(audio, SAMPLE_RATE)
    found = {
        f'drift of {name}': abs(value)
        for name, value in drifts.items()
        if value is not None
    }
  seconds = len(audio) / SAMPLE_RATE
  returns = 1 < len({*form}) < len(form)
  if returns and seconds >= len(form) * structure.STEP_SECONDS:
    likeness = structure.form_likeness(audio, SAMPLE_RATE, form)
    found['contrast of form'] = likeness['contrast']
  return found


def diversity(task: Task) -> dict[str, float] | str:
  """Measures how different takes are; returns the reason, if it can't."""
  try:
    takes = [
        sounds.read_first(sound, task.seconds, SAMPLE_RATE)
        for sound in task.takes
    ]
    return structure.diversity(takes, SAMPLE_RATE)
  except errors.UserError as e:
    return errors.one_line(e)


def measure_all(
    clips: Mapping[Key, Task], takes: Mapping[Key, Task]
) -> tuple[dict[Key, Measured | str], dict[Key, dict[str, float] | str]]:
  """Measures clips, and takes; see `measure` and `diversity`.

  Raises:
    UserError: If a process was killed.
    NotFoundError: If Basic Pitch is missing.
  """
  transcription.find_model()
  tasks = [*clips.values(), *takes.values()]
  found = _map(tasks)
  return (
      dict(zip(clips, found[: len(clips)])),
      dict(zip(takes, found[len(clips) :])),
  )


def _either(task: Task) -> Any:
  return measure(task) if len(task.takes) == 1 else diversity(task)


def _name(task: Task) -> str:
  return task.name


def _map(tasks: Sequence[Task]) -> list[Any]:
  def bar(results):
    return [*tqdm.tqdm(results, 'listen', len(tasks), unit='clip')]

  count = min(machine.num_cpus(), len(tasks) // _POOLED)
  if count < 2:
    return bar(map(_either, tasks))
  with workers.pool(count) as pool:
    return bar(workers.ordered_map(pool, count, _name, _either, tasks))
