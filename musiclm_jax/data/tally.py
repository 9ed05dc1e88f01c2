"""Counts works, clips and hours of each source and licence of a corpus."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import json
from typing import Any

from etils import epath
from musiclm_jax.data import licenses

KEY = 'ledger'  # Of the counts in the metadata of a dataset.
NUM_NAMED = 5  # Clips that a row names.

# The counts of a source under a licence, as JSON: see `_Count.to_json`.
Row = dict[str, Any]


@dataclasses.dataclass
class _Count:
  """What a source gave under a licence.

  Attributes:
    works: Names of the works.
    clips: Number of clips.
    samples: Length of them all, in samples.
    first: Ids of the first few clips.
  """

  works: set[str] = dataclasses.field(default_factory=set)
  clips: int = 0
  samples: int = 0
  first: list[str] = dataclasses.field(default_factory=list)

  def add(self, example: Mapping[str, Any]) -> None:
    self.works.add(example['work'])
    self.clips += 1
    self.samples += len(example['audio'])
    if len(self.first) < NUM_NAMED:
      self.first.append(example['id'])

  def to_json(self, source: str, license_: str, sample_rate: int) -> Row:
    return {
        'source': source,
        'license': license_,
        'works': len(self.works),
        'clips': self.clips,
        'hours': round(self.samples / sample_rate / 3600, 5),
        'first': self.first,
    }


class Tally:
  """Counts the clips of a dataset while they pass."""

  def __init__(self, sample_rate: int):
    """Begins at nothing.

    Args:
      sample_rate: Sample rate of the clips, in Hz.
    """
    self._sample_rate = sample_rate
    self._counts: dict[str, dict[tuple[str, str], _Count]] = {}

  def add(self, split: str, example: Mapping[str, Any]) -> None:
    """Counts a clip; an example without audio or licence is none."""
    if 'audio' not in example or 'license' not in example:
      return
    counts = self._counts.setdefault(split, {})
    license_ = licenses.normalize(example['license'])
    key = example.get('source') or licenses.UNKNOWN, license_
    counts.setdefault(key, _Count()).add(example)

  def counted(
      self, split: str, examples: Iterable[tuple[str, Mapping[str, Any]]]
  ) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the same (key, example)s, once they are counted."""
    for key, example in examples:
      self.add(split, example)
      yield key, example

  def to_json(self) -> dict[str, list[Row]]:
    """Returns the rows of each split, the longest first."""
    return {
        split: sorted(
            (x.to_json(*key, self._sample_rate) for key, x in counts.items()),
            key=lambda row: (-row['hours'], row['source'], row['license']),
        )
        for split, counts in self._counts.items()
    }

  def keep(self, folder: epath.Path) -> None:
    """Adds the counts, if there are any, to the metadata of a dataset.

    Args:
      folder: Folder in which the dataset is being written.
    """
    if not self._counts:
      return
    path = folder / 'metadata.json'
    metadata = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**metadata, KEY: self.to_json()}))
