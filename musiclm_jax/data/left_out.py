"""The account of what a corpus was read from, and of what was left out."""

from collections.abc import Iterable, Sequence
from typing import Any

from musiclm_jax import progress
from musiclm_jax.data import clips

SKIPPED = 'not readable, as said above'
EMPTY = 'without a part that could be used'
_NUM_NAMED = 3  # Of each kind.


def work_name(work: object) -> str:
  """Returns what a work is called: its `name`, if it has one."""
  return str(getattr(work, 'name', work))


class Account:
  """Counts what is read and what is left out.

  Attributes:
    num_read: Works of which something was read.
    useless: Works of which nothing was.
  """

  def __init__(self, left_out: Iterable[tuple[str, str]] = ()):
    """Begins with what was left out before anything was read."""
    self.num_read = 0
    self.useless: list[Any] = []
    self._left_out = [clips.LeftOut(*pair) for pair in left_out]
    self._parts: list[clips.LeftOut] = []  # Of works that were read.

  def add(
      self, work: Any, num_examples: int, left_out: Sequence[clips.LeftOut]
  ) -> None:
    """Adds a work.

    Args:
      work: That was read.
      num_examples: That were made of it.
      left_out: The work itself, or parts of it.
    """
    if num_examples:
      self.num_read += 1
      self._parts += left_out
    else:
      self.useless.append(work)
      self._left_out += left_out or [clips.LeftOut(work_name(work), EMPTY)]

  def forget_what_was_read(self) -> None:
    """Goes back to a start without the useless works."""
    self.num_read = 0
    self._parts = []

  @property
  def left_out(self) -> list[clips.LeftOut]:
    return self._left_out + self._parts

  def lines(self, with_read: bool = True) -> list[str]:
    """Returns 'read 8, left out 3:', and a line for each kind of reason.

    Args:
      with_read: Whether what was read has been counted.
    """
    left_out = self.left_out
    head = f'left out {len(left_out)}'
    if with_read:
      head = f'read {self.num_read}, {head}'
    if not left_out:
      return [head]
    kinds: dict[str, list[str]] = {}
    for name, kind in left_out:
      kinds.setdefault(kind, []).append(name)
    return [
        f'{head}:',
        *(f'  {len(n)} {kind}: {_few(n)}' for kind, n in kinds.items()),
    ]

  def say(self, with_read: bool = True) -> None:
    for line in self.lines(with_read):
      progress.say(line)


def _few(names: Sequence[str]) -> str:
  more = len(names) - _NUM_NAMED
  few = ', '.join(names[:_NUM_NAMED])
  return f'{few} … and {more} more' if more > 0 else few
