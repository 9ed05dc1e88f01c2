"""Keeps messages that libraries write past Python from the terminal."""

from collections.abc import Iterator
import contextlib
import os
import sys

_LEVEL = 'TF_CPP_MIN_LOG_LEVEL'


@contextlib.contextmanager
def importing_tensorflow() -> Iterator[None]:
  """Heeds TF_CPP_MIN_LOG_LEVEL in the body, as TensorFlow does only later.

  While it is imported it writes to stderr that there is no CUDA, and the like,
  whatever the level. What Python writes in the meantime stays.
  """
  if os.environ.get(_LEVEL, '0') == '0':
    yield
    return
  with contextlib.ExitStack() as stack:
    kept = os.dup(2)
    stack.callback(os.close, kept)
    if _writes_to_stderr():
      stderr = stack.enter_context(os.fdopen(os.dup(kept), 'w', buffering=1))
      stack.enter_context(contextlib.redirect_stderr(stderr))
    with open(os.devnull, 'w') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    stack.callback(os.dup2, kept, 2)
    yield


def _writes_to_stderr() -> bool:
  try:
    return sys.stderr.fileno() == 2
  except (AttributeError, OSError, ValueError):  # A test's, or a notebook's.
    return False
