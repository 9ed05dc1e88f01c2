"""Makes an audio file for every prompt of a list, in any number of processes.

A run may be killed at any moment: another one makes what is missing, and all
files are the same, byte for byte, as without the interruption. Rounding depends
on the number of rows that are computed at once; hence batches are cut from the
whole list, not from what a process has yet to do. Processes share out batches,
an interrupted batch is computed again as a whole, and all batches have the same
number of rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import time
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress as progress_lib
from musiclm_jax.audio import io
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import plan
from musiclm_jax.sampling import prompt_list
from musiclm_jax.sampling import provenance
from musiclm_jax.sampling import timeline
import numpy as np
import tqdm

FORMATS = ('.wav', '.flac', '.mp3')  # No .ogg: it has a random serial number.

MAX_BATCH_SIZE, MAX_SHARDS = 4096, 99_999
_NUM_READERS = 8  # Files that are checked at once.

# Names of unfinished files that older versions left.
_OLD_LEFTOVER = re.compile(r'\.\d+\.(?P<file>.+)', re.DOTALL)
_FAILURES = re.compile(r'failed-\d{5}-of-(?P<shards>\d{5})\.jsonl')


@runtime_checkable
class Model(Protocol):
  """The part of `MusicLM` that batches need."""

  sample_rate: int

  def generate(
      self, pieces: Sequence[Any], *args: Any, **options: Any
  ) -> Float[np.ndarray, 'batch samples']:
    """Makes a piece for each prompt; UserError if one is invalid."""


@dataclasses.dataclass(frozen=True)
class Summary:
  """Result of a run.

  Attributes:
    made: Number of files that were written.
    skipped: Number of files that existed already.
    failed: Number of lines for which no file could be made.
    failures: File that lists these lines.
    audio_seconds: Length of all audio that was made.
    seconds: Duration of the run, without loading the model.
  """

  made: int
  skipped: int
  failed: int
  failures: paths.Path
  audio_seconds: float
  seconds: float

  def __str__(self) -> str:
    speed = self.audio_seconds / max(self.seconds, 1e-9)
    text = f'{self.made} made, {self.skipped} skipped, {self.failed} failed'
    if self.made:
      text += f'; {speed:.2f} s of audio per second'
    if self.failed:
      total = self.made + self.skipped + self.failed
      text += f'\n{self.failed} of {total} failed: {self.failures}'
    return text


class Shard:
  """The part of a list that one process makes."""

  def __init__(
      self,
      lines: Sequence[prompt_list.Line],
      output_dir: str | os.PathLike[str],
      settings: Mapping[str, Any],
      batch_size: int = 8,
      audio_format: str = '.wav',
      shard: int = 0,
      num_shards: int = 1,
      manifest: Mapping[str, Any] | None = None,
      writes_json: bool = False,
  ):
    """Prepares a part of a list.

    Args:
      lines: Lines of the whole list.
      output_dir: Folder of the files, each of which is named by its id.
      settings: Everything besides its request that decides the samples of a
        file, e.g. the model's hash; JSON values.
      batch_size: Number of rows that are computed at once.
      audio_format: One of FORMATS.
      shard: Number of the part, in [0, num_shards).
      num_shards: Processes that share the list.
      manifest: Of the model, see `provenance.manifest`; files keep it.
      writes_json: Whether each file's origin also stands in a JSON file beside
        it.

    Raises:
      UserError: If there is no such shard, batch or format.
    """
    if not 0 <= shard < num_shards:
      raise errors.UserError(
          f'shard must be in [0, num_shards), but is {shard} of {num_shards}.'
      )
    if num_shards > MAX_SHARDS:
      raise errors.UserError(
          f'num_shards must be at most {MAX_SHARDS}, but is {num_shards}.'
      )
    if batch_size < 1:
      raise errors.UserError(
          f'batch_size must be at least 1, but is {batch_size}.'
      )
    if batch_size > MAX_BATCH_SIZE:
      raise errors.UserError(
          f'batch_size must be at most {MAX_BATCH_SIZE}, but is {batch_size}.'
      )
    if audio_format not in FORMATS:
      raise errors.UserError(
          f"format must be one of {FORMATS}, but is '{audio_format}'."
      )
    self._dir = paths.to_path(output_dir, 'output_dir')
    self._settings = {**settings, 'batch_size': batch_size}
    self._batch_size = batch_size
    self._format = audio_format
    self._manifest, self._writes_json = manifest, writes_json
    self._shard, self._num_shards = shard, num_shards
    self._batches = prompt_list.batches(lines, batch_size)[shard::num_shards]
    self._lines: dict[prompt_list.Request, list[prompt_list.Line]] = {
        request: [] for batch in self._batches for request in batch
    }
    for line in lines:
      if line.request in self._lines:
        self._lines[line.request].append(line)
    self._wrong = [x for x in lines if not x.request][shard::num_shards]

  def run(self, load: Callable[[], Model], progress: bool = True) -> Summary:
    """Makes all files that are missing, and lists the lines that fail.

    Args:
      load: Loads the model; called only if a file is missing.
      progress: Whether to show a progress bar.

    Raises:
      UserError: If an existing file was made from something else, or another
        process is making this shard.
      WriteError: If a file can't be written.
    """
    with files.lock(self._dir, 'musiclm batch', self._lock):
      self._check_others()
      self._tidy()
      files.check_writable(self._failures)
      with progress_lib.telling('checking the files that are there'):
        missing = self._missing()
      return self._run(load, missing, progress)

  def _run(
      self, load: Callable[[], Model], missing: set[str], progress: bool
  ) -> Summary:
    total = sum(map(len, self._lines.values()))
    failed, seconds, start = list(self._wrong), 0.0, time.monotonic()
    try:
      if missing:
        model = load()
        start = time.monotonic()
        with tqdm.tqdm(
            total=total, initial=total - len(missing), unit=' prompts',
            desc='batch', disable=not progress, postfix='compiling',
        ) as bar:  # fmt: skip
          for batch in self._batches:
            for line, samples in self._make(model, batch, missing):
              seconds += samples / model.sample_rate
              failed.extend([line] if line.error else [])
              bar.set_postfix_str('', refresh=False)
              bar.update()
    except BaseException:
      # E.g. of a full disk, which the error that ended the run reports.
      with contextlib.suppress(OSError):
        self._list_failures(failed)
      raise
    self._list_failures(failed)
    if self._writes_json:
      self._write_json()
    return Summary(
        made=len(missing) + len(self._wrong) - len(failed),
        skipped=total - len(missing),
        failed=len(failed),
        failures=self._failures,
        audio_seconds=seconds,
        seconds=time.monotonic() - start,
    )

  @property
  def _name(self) -> str:
    return f'{self._shard:05d}-of-{self._num_shards:05d}'

  @property
  def _lock(self) -> str:
    return f'batch-{self._name}'

  @property
  def _failures(self) -> paths.Path:
    return self._dir / f'failed-{self._name}.jsonl'

  def _check_others(self) -> None:
    """Raises UserError if another number of shards is being made here."""
    for path in self._dir.glob('.musiclm-batch-*.lock'):
      name = path.stem.removeprefix('.musiclm-')
      if not name.endswith(f'-of-{self._num_shards:05d}'):
        with files.lock(self._dir, 'musiclm batch', name):
          pass  # Left by a process that was killed.

  def _file(self, line: prompt_list.Line) -> paths.Path:
    return self._dir / f'{line.id}{self._format}'

  def _tidy(self) -> None:
    """Removes unfinished files of this shard, and its list of failures."""
    ids = {line.id for lines in self._lines.values() for line in lines}
    for path in list(self._dir.iterdir()):
      if isinstance(path, pathlib.Path) and not path.is_file():
        continue
      if path.name.startswith('.musiclm-'):
        suffixes = self._format, '.json'
        own = [f'{id_}{suffix}' for id_ in ids for suffix in suffixes]
        own.append(self._failures.name)
        if any(files.is_leftover(path, of=name) for name in own):
          path.unlink(missing_ok=True)
        continue
      leftover = _OLD_LEFTOVER.fullmatch(path.name)
      file = pathlib.Path(leftover['file'] if leftover else path.name)
      failures = _FAILURES.fullmatch(file.name)
      if failures:
        # No process makes files of another number of shards any more.
        is_mine = file.name == self._failures.name or (
            self._shard == 0 and int(failures['shards']) != self._num_shards
        )
      else:
        is_mine = bool(leftover) and file.stem in ids
      if is_mine:
        path.unlink(missing_ok=True)

  def _missing(self) -> set[str]:
    """Returns the ids of files to make; UserError if a file does not match."""
    there = {path.name for path in self._dir.iterdir()}
    missing, wrong, made = set(), [], {}
    for request, lines in self._lines.items():
      expected = provenance.comment(request, self._settings)
      for line in lines:
        file = self._file(line)
        others = [f'{line.id}{x}' for x in io.SUFFIXES if x != self._format]
        if beside := sorted(there.intersection(others)):
          wrong.append(f'{self._dir / beside[0]} is not {self._format}')
        elif file.name not in there:
          missing.add(line.id)
        else:
          made[file] = expected
    # Each file of a bucket takes a while to come.
    with futures.ThreadPoolExecutor(_NUM_READERS) as pool:
      found = pool.map(provenance.difference, made.keys(), made.values())
      for file, difference in zip(made, found, strict=True):
        if difference:
          wrong.append(f'{file} {difference}')
    if wrong:
      raise errors.UserError(
          'existing files must be what the list and the options ask for,'
          f' but {wrong[0]}{f"; and {len(wrong) - 1} more" * (len(wrong) > 1)}.'
          ' Remove or move them to have them made anew, choose another'
          ' output_dir, or go back to the list and options they were made with.'
      )
    return missing

  def _make(
      self,
      model: Model,
      batch: Sequence[prompt_list.Request],
      missing: set[str],
  ) -> Iterator[tuple[prompt_list.Line, int]]:
    """Makes the missing files of a batch.

    Yields:
      Each missing line with the number of samples written; or, if it failed,
      the line with its error, and 0.
    """
    lines = [[x for x in self._lines[r] if x.id in missing] for r in batch]
    if not any(lines):
      return
    try:
      audio = self._generate(model, batch)
    except errors.WriteError:  # Not the fault of a prompt.
      raise
    except errors.UserError as e:
      if len(batch) == 1:
        yield from ((_failed(line, e), 0) for line in lines[0])
        return
      middle = len(batch) // 2  # Bisect until the invalid prompt is alone.
      yield from self._make(model, batch[:middle], missing)
      yield from self._make(model, batch[middle:], missing)
      return
    for request, row, of_request in zip(batch, audio, lines, strict=True):
      comment = provenance.comment(request, self._settings, self._manifest)
      for line in of_request:
        yield self._write(line, row, model.sample_rate, comment)

  def _generate(
      self, model: Model, batch: Sequence[prompt_list.Request]
  ) -> np.ndarray:
    # Always the same number of rows, as rounding depends on it.
    rows = [*batch, *[batch[-1]] * (self._batch_size - len(batch))]
    options = dict(batch[0].options)
    options['seed'] = [dict(request.options)['seed'] for request in rows]
    choices = {k: options.pop(k) for k in choosing.FIELDS if k in options}
    if choices:
      options['config'] = choosing.GenerationConfig().changed(**choices)
    pieces: list[Any] = [request.prompt for request in rows]
    told = [dict(request.options) for request in rows]
    if any(own.get('plan') or own.get('melody') for own in told):
      pieces = _timelines(rows, options, model.sample_rate)
    return model.generate(pieces, progress=False, **options)[: len(batch)]

  def _write(
      self,
      line: prompt_list.Line,
      audio: np.ndarray,
      sample_rate: int,
      comment: str,
  ) -> tuple[prompt_list.Line, int]:
    try:
      io.write_audio(
          self._file(line), audio, sample_rate, comment, provenance.seal
      )
    except errors.WriteError:
      raise
    except errors.UserError as e:  # E.g. the audio is not finite.
      return _failed(line, e), 0
    return line, len(audio)

  def _write_json(self) -> None:
    """Writes the origin of each file that is there beside it."""
    for line in (line for lines in self._lines.values() for line in lines):
      file = self._file(line)
      if file.exists():
        found, _ = provenance.read(file)
        provenance.write_json(self._dir / f'{line.id}.json', found)

  def _list_failures(self, failed: Sequence[prompt_list.Line]) -> None:
    if not failed:
      return
    text = ''.join(
        json.dumps({'id': x.id, 'line': x.number, 'error': x.error}) + '\n'
        for x in sorted(failed, key=lambda x: x.number)
    )
    files.write_text(self._failures, text)


def _timelines(
    requests: Sequence[prompt_list.Request],
    options: dict[str, Any],
    sample_rate: int,
) -> list[timeline.Timeline]:
  """Makes timelines of requests, and removes their fields from the options."""
  names = {field.name for field in dataclasses.fields(timeline.Timeline)}
  fields = {name: options.pop(name) for name in names.intersection(options)}
  found = []
  for request in requests:
    own = dict(request.options)
    text = own.get('plan')
    fields['plan'] = plan.Plan.from_json(json.loads(text)) if text else None
    hum = prompt_list.read_melody(own.get('melody'), sample_rate)
    fields['melody'] = hum
    found.append(timeline.Timeline(request.prompt, **fields))
  return found


def _failed(line: prompt_list.Line, error: ValueError) -> prompt_list.Line:
  return dataclasses.replace(line, error=' '.join(str(error).split()))
