"""The rows of a report of music: a value of one system, with its error."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
from typing import Any

from musiclm_jax.metrics import estimates
from musiclm_jax.metrics import report

REFERENCE = 'reference'  # The column of true audio.
CODED = 'codec-passed'  # That of true audio that a codec decoded.


@dataclasses.dataclass(frozen=True)
class Row:
  """A value of one system.

  Attributes:
    group: What it is about, e.g. 'obedience'.
    measure: What was measured.
    system: Whose clips; REFERENCE for true audio, the ceiling of estimators.
    value: The value.
    standard_error: Its standard deviation over sets of other clips; None if
      that can't be told.
    count: Clips or prompts that it was measured on.
    chance: What clips reach that have nothing to do with their prompts; None if
      that is not defined.
    details: What else must be known to compare it with others.
  """

  group: str
  measure: str
  system: str
  value: float
  standard_error: float | None
  count: int
  chance: float | None = None
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def to_json(self) -> dict[str, Any]:
    """Returns JSON values."""
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Refusal:
  """A measure that was not taken, and why.

  Attributes:
    group: What it is about.
    measure: What was to be measured.
    reason: Why it can't be.
  """

  group: str
  measure: str
  reason: str


Found = list[Row | Refusal]


def of_estimate(
    group: str,
    measure: str,
    system: str,
    found: estimates.Estimate,
    chance: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> Row:
  """Makes a row of an estimate."""
  error = found.standard_error
  return Row(
      group,
      measure,
      system,
      found.value,
      None if math.isnan(error) else error,
      found.count,
      chance,
      details or {},
  )


def table(found: Sequence[Row], systems: Sequence[str]) -> list[report.Row]:
  """Lays rows out with a column for each system, and for true audio.

  Args:
    found: Rows of any systems.
    systems: Names of the columns, in order.

  Returns:
    A row for each measure: the values with one standard error, the highest
    chance of all systems, and the clips that the first of them counts.
  """
  named: dict[tuple[str, str], dict[str, Row]] = {}
  for row in found:
    named.setdefault((row.group, row.measure), {})[row.system] = row
  return [
      _table_row(group, measure, by_system, systems)
      for (group, measure), by_system in named.items()
  ]


def _table_row(
    group: str,
    measure: str,
    by_system: Mapping[str, Row],
    systems: Sequence[str],
) -> report.Row:
  cells = {name: _cell(by_system.get(name)) for name in systems}
  chances = _given(row.chance for row in by_system.values())
  return {
      'about': group,
      'measure': measure,
      **cells,
      'chance': f'{max(chances):.3f}' if chances else '',
      'clips': next(iter(by_system.values())).count,
  }


def _given(values: Iterable[float | None]) -> list[float]:
  return [value for value in values if value is not None]


def _cell(row: Row | None) -> str:
  if row is None:
    return ''
  error = row.standard_error
  return f'{row.value:.3f}' + ('' if error is None else f' ± {error:.3f}')
