"""Errors that a user can mend, told in one line; all others are bugs.

A message says what must hold, what came, and what to do about it.
"""

from collections.abc import Iterator
import contextlib
import os


class UserError(ValueError):
  """Input, an option or a machine that a user can put right."""


class NotFoundError(UserError, FileNotFoundError):
  """A file or folder that must exist and does not."""


class WriteError(UserError, OSError):
  """A file that the operating system does not let us write."""


class DivergenceError(UserError, FloatingPointError):
  """Training whose loss or gradients are not finite any more."""


class Interrupted(KeyboardInterrupt):
  """The end of a command by Ctrl-C or a signal, after it has tidied up.

  Attributes:
    signum: Number of the signal.
  """

  def __init__(self, signum: int, message: str = ''):
    """Says, in `message`, what was kept and how to go on."""
    super().__init__(message)
    self.signum = signum


class Preempted(Interrupted):
  """The end of a job that saved its state, and is to be started again."""


def one_line(error: BaseException) -> str:
  """Returns the message of an error in one line, its class if it has none."""
  return ' '.join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def reading(
    path: str | os.PathLike[str],
    kind: str,
    advice: str = 'Replace it or leave it out.',
) -> Iterator[None]:
  """Turns whatever a parser raises on bad input into a `UserError`.

  Parsers of other projects raise errors of many unrelated classes, and none of
  them names the file.

  Args:
    path: Path of the file that is parsed.
    kind: What it must be, e.g. 'a MIDI file'.
    advice: What to do if it is not.

  Raises:
    UserError: If the body raises any error but that of missing memory.
  """
  try:
    yield
  except (UserError, MemoryError):
    raise
  except FileNotFoundError as e:
    raise NotFoundError(f'{path} must be {kind}, but is not there.') from e
  except Exception as e:
    reason = one_line(e)
    if not isinstance(e, OSError):
      reason = f'{type(e).__name__}: {reason}'
    raise UserError(
        f'{path} must be {kind}, but cannot be read: {reason:.300}. {advice}'
    ) from e
