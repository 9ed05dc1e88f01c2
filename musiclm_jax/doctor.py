"""Says which part of a run is sick, and why.

It reads the records of each run, lets each model learn one batch by heart, and
gives each stage the wrong conditioning, to see whether it listens.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import sys
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax import streams
from musiclm_jax.metrics import oracle
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import table
from musiclm_jax.training import findings
from musiclm_jax.training import gin_flags
from musiclm_jax.training import health
from musiclm_jax.training import overfit
from musiclm_jax.training import reports
import tqdm


@dataclasses.dataclass
class Verdict:
  """The verdict on one run.

  Attributes:
    found: Failures that it shows.
    upstream: Sick tokenizers that it was trained on.
    notes: Other remarks, e.g. on an examination that was not possible.
  """

  found: list[findings.Finding] = dataclasses.field(default_factory=list)
  upstream: list[str] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)


class Doctor:
  """Examines the runs of a folder, one after the other.

  Attributes:
    runs: The folder of each run, by its name, each after those it depends on.
    stages: The stage that a run trains, by the name of the run.
    verdicts: The verdict on each run that has been examined.
  """

  def __init__(
      self,
      run_dir: str | os.PathLike[str],
      data_dir: str | os.PathLike[str] | None = None,
  ):
    """Finds the runs; see `examine`."""
    folder = paths.to_path(run_dir)
    self._model_dir = folder / 'model'
    if paths.is_remote(folder) and self._model_dir.exists():
      self._model_dir = caching.local(self._model_dir)
    self._data_dir = data_dir
    self._replacements: dict[str, Any] = {}
    self.verdicts: dict[str, Verdict] = {}
    self.stages: dict[str, streams.Stage] = {}
    is_recipe = not _is_run(folder)
    if is_recipe:
      self._data_dir = data_dir or folder / 'data'
      if (folder / 'vocab.txt').exists():
        self._replacements['VOCAB'] = str(folder / 'vocab.txt')
    if self._data_dir is not None:
      self._replacements['DATA_DIR'] = str(self._data_dir)
    self.runs = {paths.absolute(folder).name: folder}
    if is_recipe:
      self.runs = self._find_runs(folder)

  def _find_runs(self, folder: paths.Path) -> dict[str, paths.Path]:
    """Finds the runs of a recipe, in the order in which they are trained."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {path.name: path for path in paths if _is_run(path)}
    if not found:
      raise errors.NotFoundError(
          f"'{folder}' must be the MODEL_DIR of a run, with its"
          f' {reports.METRICS}, or hold such folders, but does not. Give the'
          ' --output of a recipe, or a MODEL_DIR.'
      )
    tokenizers = [kind.name for kind in table.PARTS if kind.name in found]
    others = [name for name in found if name not in tokenizers]
    for name in others:
      stage = self._find_stage(found[name])
      if stage is not None:
        self.stages[name] = stage
    trained_here = {s.targets.name: s for s in self.stages.values()}
    order = stages.order({**self._exported_stages(), **trained_here})
    trained = sorted(
        self.stages,
        key=lambda name: order.index(self.stages[name].targets.name),
    )
    rest = [name for name in others if name not in self.stages]
    return {name: found[name] for name in (*tokenizers, *trained, *rest)}

  def _find_stage(self, run_dir: paths.Path) -> streams.Stage | None:
    """Returns the stage of a run, as its config or its exported part says."""
    with contextlib.suppress(Exception):  # Told when the run is examined.
      gin_flags.parse_run(run_dir, self._replacements)
      return getattr(gin_flags.value_of('MODEL'), 'stage', None)
    return self._exported_stages().get(run_dir.name)

  def _exported_stages(self) -> dict[str, streams.Stage]:
    with contextlib.suppress(errors.UserError):
      return stages.stages_in(self._model_dir)
    return {}

  def run(self) -> None:
    """Examines every run."""
    for name, folder in self.runs.items():
      verdict = self.verdicts[name] = Verdict()
      self._read_records(folder, verdict)
      self._try_one_batch(name, folder, verdict)
      if name in self.stages:
        self._swap(name, verdict)
        self._look_upstream(name, verdict)

  def _read_records(self, folder: paths.Path, verdict: Verdict) -> None:
    with _noting(verdict, 'reading of the records'):
      records = reports.read_metrics(folder)
      if not records:
        verdict.notes.append(
            f'{folder / reports.METRICS} holds no records: the run ended before'
            ' its first report'
        )
      verdict.found += health.examine(records)

  def _try_one_batch(
      self, name: str, folder: paths.Path, verdict: Verdict
  ) -> None:
    bar = tqdm.tqdm(
        desc=f'{name}: one batch', total=overfit.MAX_STEPS, leave=False
    )
    with contextlib.closing(bar), _noting(verdict, 'one-batch gate'):
      found = overfit.one_batch_gate(
          folder, self._replacements, lambda step: bar.update()
      )
      if found is not None:
        verdict.found.append(found)

  def _swap(self, name: str, verdict: Verdict) -> None:
    """Adds the effect of another clip's conditioning, if there is a model."""
    if self._data_dir is None or not self._model_dir.exists():
      return
    print(f'{name}: oracle swap …', file=sys.stderr, flush=True)
    part = self.stages[name].targets.name
    with _noting(verdict, 'oracle swap'):
      swap = oracle.swap(self._data_dir, self._model_dir, part)
      own, other = swap.nats.mean(axis=1)
      seen = (
          f'{own:.3f} nats per token with its own conditioning,'
          f" {other:.3f} with another clip's (gain {swap.gain:.3f} ±"
          f' {swap.uncertainty:.3f})'
      )
      if swap.decibels is not None:
        own, other = swap.decibels.mean(axis=1)
        seen += f'; decoded, {own:.1f} and {other:.1f} dB from the original'
      if swap.gain < 2 * swap.uncertainty:
        verdict.found.append(_deaf(seen))
      else:
        verdict.notes.append(seen)

  def _look_upstream(self, name: str, verdict: Verdict) -> None:
    """Notes the sick tokenizers that a stage was trained on."""
    read = {stream.name for stream in self.stages[name].streams}
    with _noting(verdict, 'search for what it was trained on'):
      writers = dict.fromkeys(
          kind.name
          for kind, stream in table.streams_in(self._model_dir)
          if stream.name in read
      )
      verdict.upstream = [
          writer
          for writer in writers
          if writer in self.verdicts and self.verdicts[writer].found
      ]
    if verdict.upstream:
      verdict.notes.append(
          f"inherits what is wrong with {' and '.join(verdict.upstream)}, whose"
          ' tokens it was trained on: mend that first, then tokenize and train'
          ' again'
      )

  def __str__(self) -> str:
    lines = []
    for name, verdict in self.verdicts.items():
      told = [f'sick: {finding}' for finding in verdict.found] or ['ok']
      lines += [f'{name}: {line}' for line in told]
      lines += [f'  {note}' for note in verdict.notes]
    at_fault = [
        name
        for name, verdict in self.verdicts.items()
        if verdict.found and not verdict.upstream
    ]
    if len(self.runs) > 1:
      lines.append(f"at fault: {' and '.join(at_fault) or 'no part'}")
    return '\n'.join(lines)


def _is_run(folder: paths.Path) -> bool:
  names = (reports.METRICS, 'config.gin')
  return any((folder / name).exists() for name in names)


@contextlib.contextmanager
def _noting(verdict: Verdict, what: str) -> Iterator[None]:
  """Notes any error that keeps an examination from being made."""
  try:
    yield
  except Exception as e:  # Whatever is broken, the other parts are examined.
    kind = '' if isinstance(e, errors.UserError) else f'{type(e).__name__}: '
    verdict.notes.append(f'{what} not made: {kind}{errors.one_line(e)}')


def _deaf(seen: str) -> findings.Finding:
  return findings.Finding(
      'conditioning ignored',
      seen,
      'likelier with the true conditioning, by over twice the uncertainty',
      'the stage does not listen to what it is given: too short a training, or'
      ' tokens that say nothing',
      'train longer, then look at the tokenizers it reads',
  )


def examine(
    run_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
) -> str:
  """Examines a run, or all of a recipe; this takes minutes.

  Args:
    run_dir: MODEL_DIR of a part, or the output folder of a recipe.
    data_dir: Folder of the datasets; by default the one of the run.

  Returns:
    A line for each failure, 'part: sick: failure, value seen and value expected
    - cause; remedy', or 'part: ok'; and which part is at fault.

  Raises:
    NotFoundError: If there is no run.
  """
  doctor = Doctor(run_dir, data_dir)
  doctor.run()
  return str(doctor)
