"""A word about slow work, where nothing else would be said."""

from collections.abc import Iterator
import contextlib
import sys
import threading
import time

PATIENCE = 3.0  # Seconds of silence that a user takes for work.


def say(line: str) -> None:
  """Writes a line of our own to stderr, above a progress bar if any."""
  tqdm = sys.modules.get('tqdm')
  above: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
  if tqdm is not None:
    above = tqdm.tqdm.external_write_mode(file=sys.stderr)
  # Where nobody can hear it, e.g. on a full disk, the work still counts.
  with contextlib.suppress(OSError), above:
    print(f'musiclm: {line}', file=sys.stderr, flush=True)


@contextlib.contextmanager
def telling(what: str, patience: float = PATIENCE) -> Iterator[None]:
  """Names the work of the body once it has taken `patience` seconds.

  Args:
    what: In words, e.g. 'compiling the training step'.
    patience: Seconds until the line; 0 for at once.
  """
  start = time.monotonic()
  timer = threading.Timer(patience, say, [f'{what} …'])
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()
    seconds = time.monotonic() - start
    if seconds > 10 * patience > 0:
      say(f'{what}: {seconds:.0f} s')
