"""Records of a run, and failures that are found in them."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import statistics
from typing import Any

# Values are averaged over at least this many steps, however often they are
# reported.
WINDOW = 25
# Codebook size of every stage, for older records without chance_ratio.
_CODES_OF_BEFORE = 1024

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Finding:
  """A failure that a run shows.

  Attributes:
    name: Name of the failure; a run shows each at most once.
    seen: The observed value.
    expected: The value in a healthy run.
    cause: The most likely cause.
    remedy: Advice.
  """

  name: str
  seen: str
  expected: str
  cause: str
  remedy: str

  def __str__(self) -> str:
    return (
        f'{self.name}: {self.seen}, should be {self.expected} -'
        f' {self.cause}; {self.remedy}'
    )


def goal(records: Sequence[Record]) -> str:
  """Returns the name of the metric that training minimizes."""
  # The loss of a codec rises as its discriminators improve.
  for name in ('mel_loss', 'reconstruction_loss'):
    if any(name in record for record in records):
      return name
  return 'loss'


class Run:
  """The records of a run so far.

  Attributes:
    train: Records of training, in order.
    evals: Records of the validation split, in order.
    step: The last step.
    goal: The metric that training minimizes.
  """

  def __init__(self, records: Sequence[Record]):
    self.train = [r for r in records if r['split'] == 'train']
    self.evals = [r for r in records if r['split'] == 'eval']
    self.step = self.train[-1]['step'] if self.train else 0
    self.goal = goal(self.train)

  def series(self, metric: str) -> list[float]:
    """Returns each value of a metric in training."""
    return [r[metric] for r in self.train if metric in r]

  def recent(self, metric: str, steps: int = WINDOW) -> float | None:
    """Returns the mean of a metric over the last steps; None if unknown."""
    values = [r[metric] for r in self._last(steps) if metric in r]
    return statistics.fmean(values) if values else None

  def recent_chance_ratio(self) -> float | None:
    """Returns the mean of `chance_ratio` over the last steps."""
    ratios = [chance_ratio(record) for record in self._last(WINDOW)]
    known = [ratio for ratio in ratios if ratio is not None]
    return statistics.fmean(known) if known else None

  def held_out_chance_ratio(self) -> float:
    """Returns `chance_ratio` of the last evaluation; 0 if there is none."""
    return (chance_ratio(self.evals[-1]) or 0.0) if self.evals else 0.0

  def skipped_steps(self) -> int:
    """Returns the number of the last steps that were skipped."""
    return int(sum(r.get('skipped_steps', 0) for r in self._last(WINDOW)))

  def is_past(self, steps: int) -> bool:
    """Returns whether `steps` steps, and the warm-up, are over."""
    rates = self.series('learning_rate')
    warming_up = len(rates) > 1 and rates[-1] >= max(rates) > min(rates)
    return self.step >= steps and not warming_up

  def _last(self, steps: int) -> list[Record]:
    return [r for r in self.train if r['step'] > self.step - steps]


def chance_ratio(record: Record) -> float | None:
  """Returns the loss relative to that of chance; None if undefined."""
  if 'chance_ratio' in record:
    return record['chance_ratio']
  if 'loss_over_margin' in record:
    return record['loss_over_margin']
  # Without distractors there is only one choice.
  if record.get('contrastive_chance') and 'contrastive_loss' in record:
    return record['contrastive_loss'] / record['contrastive_chance']
  if 'accuracy' in record and 'loss' in record:
    return record['loss'] / math.log(_CODES_OF_BEFORE)
  return None
