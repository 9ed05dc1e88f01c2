"""Flips a bit in, or cuts short, files of every format that we write.

  python -m tests.campaigns.bits --trials 600 --seed 0
  expect: 100% refused, told or harmless, each file named, no traceback

What is damaged is loaded as the product does, in a process of its own. A trial
is *refused* (an error in one line that names the file), *told* (a line that
names it says what was left out), *harmless* (what is loaded is the same), or
one of the faults: *another* (it loads as something else), *unnamed* (refused,
but not by name), *traceback*, *crash* or *hang*.
"""

import argparse
import collections
from collections.abc import Sequence
import contextlib
import hashlib
import io
import multiprocessing
import pathlib
import pickle
import shutil
import sys
import tempfile
from typing import Any

from musiclm_jax import errors
import numpy as np
from tests.campaigns import formats

GOOD = ('refused', 'told', 'harmless')
LIMIT = 30.0  # Seconds until a load hangs.
FAR = 120.0  # Seconds in which a process imports what it needs.


def _damage(path: pathlib.Path, rng: np.random.Generator) -> str:
  """Damages a file; returns how."""
  data = bytearray(path.read_bytes())
  place = int(rng.integers(len(data)))
  if rng.random() < 0.25:
    path.write_bytes(data[:place])
    return f'cut off at {place}'
  bit = int(rng.integers(8))
  data[place] ^= 1 << bit
  path.write_bytes(data)
  return f'bit {bit} of byte {place}'


def _digest(loaded: Any) -> str:
  """Returns a hash of what was loaded, however its parts are shared."""
  if isinstance(loaded, dict):
    loaded = sorted((str(k), _digest(v)) for k, v in loaded.items())
  elif isinstance(loaded, (list, tuple)):
    loaded = [_digest(x) for x in loaded]
  elif isinstance(loaded, np.ndarray):
    loaded = [str(loaded.dtype), loaded.shape, loaded.tobytes()]
  return hashlib.sha256(repr(loaded).encode()).hexdigest()


def _try(
    name: str, folder: pathlib.Path, damaged: pathlib.Path, expected: str
) -> tuple[str, str]:
  """Loads a folder; returns the outcome and what was said."""
  told = io.StringIO()
  names = {damaged.name, *damaged.relative_to(folder).parts[:-1]}
  try:
    with contextlib.redirect_stderr(told):
      digest = _digest(formats.FORMATS[name].load(folder))
  except errors.UserError as e:
    is_named = any(part in str(e) for part in names)
    return ('refused' if is_named else 'unnamed'), str(e)
  except Exception as e:  # pylint: disable=broad-except
    return 'traceback', f'{type(e).__name__}: {errors.one_line(e)}'
  if digest == expected:
    return 'harmless', ''
  is_told = damaged.name in told.getvalue()
  return ('told' if is_told else 'another'), told.getvalue()


def _serve(name: str, connection: Any) -> None:
  """Loads one folder after the other, in a process of its own."""
  expected = ''
  while True:
    folder, damaged = pickle.loads(connection.recv_bytes())
    if damaged is None:
      expected = _digest(formats.FORMATS[name].load(folder))
      connection.send(('ready', ''))
    else:
      connection.send(_try(name, folder, damaged, expected))


class _Loader:
  """A process that loads files of one format, started again if it dies."""

  def __init__(self, name: str, whole: pathlib.Path):
    self._name, self._whole = name, whole
    self._start()

  def _start(self) -> None:
    context = multiprocessing.get_context('spawn')
    self._connection, other = context.Pipe()
    self._process = context.Process(
        target=_serve, args=(self._name, other), daemon=True
    )
    self._process.start()
    other.close()
    outcome = self._ask((self._whole, None), FAR)
    if outcome != ('ready', ''):
      raise RuntimeError(f'{self._name}: what is whole does not load')

  def _ask(self, question: Any, limit: float) -> tuple[str, str]:
    self._connection.send_bytes(pickle.dumps(question))
    try:
      return self._connection.recv() if self._connection.poll(limit) else (
          'hang', f'over {limit:.0f} s',
      )  # fmt: skip
    except EOFError:
      return 'crash', f'exit code {self._process.exitcode}'

  def load(
      self, folder: pathlib.Path, damaged: pathlib.Path
  ) -> tuple[str, str]:
    outcome = self._ask((folder, damaged), LIMIT)
    if outcome[0] in ('hang', 'crash'):
      self.close()
      self._start()
    return outcome

  def close(self) -> None:
    self._process.kill()
    self._process.join()


def campaign(
    name: str, trials: int, rng: np.random.Generator
) -> collections.Counter[str]:
  """Damages files of a format; returns how often each outcome came."""
  counts: collections.Counter[str] = collections.Counter()
  with tempfile.TemporaryDirectory() as scratch:
    whole, copy = (pathlib.Path(scratch, x, name) for x in ('whole', 'copy'))
    whole.mkdir(parents=True)
    formats.FORMATS[name].make(whole)
    paths = [
        p
        for p in sorted(whole.glob(formats.FORMATS[name].pattern))
        if p.is_file()
    ]
    paths = [path.relative_to(whole) for path in paths if path.stat().st_size]
    loader = _Loader(name, whole)
    for _ in range(trials):
      shutil.rmtree(copy, ignore_errors=True)
      shutil.copytree(whole, copy)
      damaged = copy / paths[rng.integers(len(paths))]
      how = _damage(damaged, rng)
      outcome, said = loader.load(copy, damaged)
      counts[outcome] += 1
      if outcome not in GOOD:
        print(f'  {outcome}: {damaged.relative_to(copy)}, {how}: {said:.300}')
    loader.close()
  return counts


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the campaign; returns 1 if a trial ended in a fault."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--trials', type=int, default=600, help='in all')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--formats', nargs='*', default=list(formats.FORMATS))
  args = parser.parse_args(argv)
  rng = np.random.default_rng(args.seed)
  total: collections.Counter[str] = collections.Counter()
  for name in args.formats:
    counts = campaign(name, -(-args.trials // len(args.formats)), rng)
    print(f'{name}: {dict(sorted(counts.items()))}', flush=True)
    total += counts
  faults = sum(n for outcome, n in total.items() if outcome not in GOOD)
  print(f'all {total.total()}: {dict(sorted(total.items()))}; {faults} faults')
  return 1 if faults else 0


if __name__ == '__main__':
  sys.exit(main())
