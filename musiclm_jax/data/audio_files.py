"""The audio of a dataset in files beside its records, for short crops.

A record is read, and decompressed, as a whole. For each file of records there
are a file of the int16 samples of its examples, one after the other, and an
index. Samples are read in blocks, each with a checksum.
"""

from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

from etils import epath
import google_crc32c
from musiclm_jax.data import checksums
import numpy as np

FEATURE = 'audio'
# Samples of a block, a third of a second: a crop reads little that it drops.
BLOCK = 8192
_DTYPE = np.dtype('<i2')


def _beside(records: str, kind: str) -> epath.Path:
  """Returns the file of a kind that belongs to a file of records."""
  path = epath.Path(records)
  return path.with_name(path.name.replace('.array_record-', f'.{kind}-'))


def _samples_of(records: str) -> epath.Path:
  return _beside(records, 'audio')


def _index_of(records: str) -> epath.Path:
  return _beside(records, 'audio_index')


def exists(records: str) -> bool:
  """Returns whether there is audio beside a file of records."""
  return _index_of(records).exists()


def write(records: str, examples: Iterable[Any]) -> None:
  """Writes the audio of a file of records beside it.

  Args:
    records: Path of the file.
    examples: Its examples.
  """
  lengths, sums = [], []
  rest = b''
  with _samples_of(records).open('wb') as file:

    def add(data):
      sums.append(google_crc32c.value(data))
      file.write(data)

    size = BLOCK * _DTYPE.itemsize
    for example in examples:
      samples = np.asarray(example[FEATURE], _DTYPE)
      lengths.append(len(samples))
      rest += samples.tobytes()
      whole = len(rest) - len(rest) % size
      for start in range(0, whole, size):
        add(rest[start : start + size])
      rest = rest[whole:]
    if rest:
      add(rest)
  with _index_of(records).open('wb') as file:
    np.savez(
        file,
        ends=np.cumsum(lengths, dtype=np.int64),
        sums=np.array(sums, np.uint32),
    )


class AudioFile:
  """The samples of the examples of a file of records."""

  def __init__(self, records: str):
    """Reads the index."""
    self._path = _samples_of(records)
    index = _index_of(records)
    with checksums.reading(index), index.open('rb') as file:
      arrays = np.load(file)
      self._ends, self._sums = arrays['ends'], arrays['sums']

  def __getitem__(self, index: int) -> 'Audio':
    start = int(self._ends[index - 1]) if index else 0
    return Audio(self, start, int(self._ends[index]))

  def read(self, start: int, stop: int) -> np.ndarray:
    """Reads samples of the file.

    Args:
      start: The first.
      stop: The one after the last.

    Returns:
      [stop - start] int16.

    Raises:
      UserError: If the file is damaged.
    """
    first, last = start // BLOCK, -(-stop // BLOCK)
    size = BLOCK * _DTYPE.itemsize
    with checksums.reading(self._path):
      with open(self._path, 'rb', buffering=0) as file:
        file.seek(first * size)
        data = file.read((last - first) * size)
      for i, block in enumerate(range(first, last)):
        if google_crc32c.value(data[i * size : (i + 1) * size]) != (
            self._sums[block]
        ):
          raise ValueError('its content has changed')
    return np.frombuffer(data, _DTYPE)[start - first * BLOCK :][: stop - start]


class Audio:
  """The audio of an example: [samples] int16, of which slices are read."""

  def __init__(self, file: AudioFile, start: int, stop: int):
    """Reads nothing yet.

    Args:
      file: The file that holds it.
      start: Its first sample in the file.
      stop: The sample after its last.
    """
    self._file = file
    self._range = range(start, stop)

  def __len__(self) -> int:
    return len(self._range)

  def __getitem__(self, part: slice) -> np.ndarray:
    chosen = self._range[part]
    return self._file.read(chosen.start, max(chosen.start, chosen.stop))


class AudioOnly(Sequence[dict[str, Any]]):
  """The examples of a split, with nothing but their audio.

  Attributes:
    records: The same examples as a whole.
  """

  def __init__(
      self, files: Sequence[tuple[str, range]], records: Sequence[Any]
  ):
    """Initializes.

    Args:
      files: Each file of records, and its examples that are in the split.
      records: See above.
    """
    self.records = records
    self._files = [(AudioFile(path), rows) for path, rows in files]
    self._ends = np.cumsum([len(rows) for _, rows in files])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(  # type: ignore[override]
      self, index: SupportsIndex
  ) -> dict[str, Any]:
    i = range(len(self))[index]  # IndexError at the end.
    number = int(np.searchsorted(self._ends, i, side='right'))
    file, rows = self._files[number]
    return {FEATURE: file[rows[i - int(self._ends[number])]]}
