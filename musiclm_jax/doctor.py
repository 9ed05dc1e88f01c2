"""Says which part of a run is sick, and why.

It reads what each run has recorded, lets each model learn one batch by heart,
and gives each stage the wrong conditioning, to see whether it listens.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
import sys
from typing import Any

from musiclm_jax import errors
from musiclm_jax.metrics import oracle
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
from musiclm_jax.training import findings
from musiclm_jax.training import health
from musiclm_jax.training import overfit
from musiclm_jax.training import reports
import tqdm

# The part that writes each stream.
TOKENIZERS = {
    base.COARSE: 'soundstream',
    base.FINE: 'soundstream',
    base.SEMANTIC: 'w2v_bert',
    base.MULAN: 'mulan',
    base.MELODY: 'melody',
}


@dataclasses.dataclass
class Verdict:
  """On one run.

  Attributes:
    found: What is wrong with it.
    upstream: Sick tokenizers that it was trained on.
    notes: What else there is to say, e.g. what could not be examined.
  """

  found: list[findings.Finding] = dataclasses.field(default_factory=list)
  upstream: list[str] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)


class Doctor:
  """Examines the runs of a folder, one after the other.

  Attributes:
    runs: The folder of each run, by its name, tokenizers first.
    verdicts: On those that have been examined.
  """

  def __init__(
      self,
      run_dir: str | os.PathLike[str],
      data_dir: str | os.PathLike[str] | None = None,
  ):
    """Finds the runs; see `examine`."""
    self._folder = pathlib.Path(run_dir)
    self.runs = _find_runs(self._folder)
    self._data_dir = data_dir
    self._replacements: dict[str, Any] = {}
    if self._folder not in self.runs.values():  # All of a recipe.
      self._data_dir = data_dir or self._folder / 'data'
      if (self._folder / 'vocab.txt').exists():
        self._replacements['VOCAB'] = str(self._folder / 'vocab.txt')
    if self._data_dir is not None:
      self._replacements['DATA_DIR'] = str(self._data_dir)
    self.verdicts: dict[str, Verdict] = {}

  def run(self) -> None:
    """Examines every run."""
    for name, folder in self.runs.items():
      verdict = self.verdicts[name] = Verdict()
      self._read_records(folder, verdict)
      self._try_one_batch(name, folder, verdict)
      if name in stages.PAPER:
        self._swap(name, verdict)
        self._look_upstream(name, verdict)

  def _read_records(self, folder: pathlib.Path, verdict: Verdict) -> None:
    with _noting(verdict, 'reading of the records'):
      records = reports.read_metrics(folder)
      if not records:
        verdict.notes.append(
            f'{folder / reports.METRICS} holds no records: the run ended before'
            ' its first report'
        )
      verdict.found += health.examine(records)

  def _try_one_batch(
      self, name: str, folder: pathlib.Path, verdict: Verdict
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
    """Adds what comes of another clip's conditioning, if there is a model."""
    model_dir = self._folder / 'model'
    if self._data_dir is None or not model_dir.exists():
      return
    print(f'{name}: oracle swap …', file=sys.stderr, flush=True)
    part = stages.get_stage(name).targets.name
    with _noting(verdict, 'oracle swap'):
      swap = oracle.swap(self._data_dir, model_dir, part)
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
    streams = stages.get_stage(name).streams
    writers = dict.fromkeys(TOKENIZERS[stream] for stream in streams)
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


def _find_runs(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the folder of each run, in the order in which they are trained."""
  is_run = lambda path: any(
      (path / file).exists() for file in (reports.METRICS, 'config.gin')
  )
  if is_run(folder):
    return {folder.resolve().name: folder}
  names = (*dict.fromkeys(TOKENIZERS.values()), *stages.PAPER)
  runs = {name: folder / name for name in names if is_run(folder / name)}
  if not runs:
    raise errors.NotFoundError(
        f"'{folder}' must be the MODEL_DIR of a run, with its"
        f' {reports.METRICS}, or hold such folders named after parts, but does'
        ' not. Give the --output of a recipe, or a MODEL_DIR.'
    )
  return runs


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
    A line for each failure, 'part: sick: what it is, the value seen and what it
    should be - the cause; what to do', or 'part: ok'; and which part is at
    fault.

  Raises:
    NotFoundError: If there is no run.
  """
  doctor = Doctor(run_dir, data_dir)
  doctor.run()
  return str(doctor)
