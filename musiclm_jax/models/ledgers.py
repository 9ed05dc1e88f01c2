"""The sources of the music that the parts of a model were trained on.

A ledger is a list of rows: source, license, works, clips, hours, and the first
few clips. Parts that older versions wrote have none: theirs are unknown.
"""

from collections.abc import Mapping, Sequence
import json
import os
from typing import Any

from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax.models import parts

NUM_NAMED = 5  # Sources that a summary names.

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]


def add(directory: str | os.PathLike[str], name: str, ledger: Rows) -> None:
  """Adds the ledger of a part's training to its description.

  Args:
    directory: Directory of the model.
    name: Name of the part.
    ledger: Rows as above.
  """
  described = parts.read_description(directory, name)
  sealed = files.sealed({**described, parts.LEDGER: list(ledger)})
  text = json.dumps(sealed, indent=2)
  files.write_text(paths.to_path(directory) / f'{name}.json', text)


def read(directory: str | os.PathLike[str], name: str) -> list[Row] | None:
  """Returns the ledger of a part; None if it has none."""
  return parts.read_description(directory, name).get(parts.LEDGER)


def merge(*ledgers: Rows) -> list[Row]:
  """Returns the rows of several ledgers; of the same source, the longest."""
  found: dict[tuple[str, str], Row] = {}
  for row in (row for rows in ledgers for row in rows):
    key = row['source'], row['license']
    if key not in found or row['hours'] > found[key]['hours']:
      found[key] = dict(row)
  return list(found.values())


def summarize(by_part: Mapping[str, Rows | None]) -> dict[str, Any]:
  """Returns the sources of a model by their licences, in short.

  Args:
    by_part: Ledger of each part.

  Returns:
    'licenses': the hours and sources of each licence; a source that several
    parts were trained on counts once. 'unknown': parts without a ledger.
  """
  rows = merge(*[rows for rows in by_part.values() if rows is not None])
  found: dict[str, dict[str, Any]] = {}
  for row in sorted(rows, key=lambda row: -row['hours']):
    of_license = found.setdefault(row['license'], {'hours': 0.0, 'sources': []})
    of_license['hours'] = round(of_license['hours'] + row['hours'], 3)
    of_license['sources'].append(row['source'])
  for of_license in found.values():
    hidden = len(of_license['sources']) - NUM_NAMED
    if hidden > 0:
      named = of_license['sources'][:NUM_NAMED]
      of_license['sources'] = [*named, f'{hidden} more']
  unknown = sorted(name for name, rows in by_part.items() if rows is None)
  return {'licenses': found, 'unknown': unknown}
