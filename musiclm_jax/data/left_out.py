"""Counts the works of a corpus that were read, and those left out."""

from collections.abc import Iterable, Sequence
from typing import Any

from musiclm_jax import progress
from musiclm_jax.data import clips

SKIPPED = 'not readable, as said above'
EMPTY = 'without a usable part'
_NUM_NAMED = 3  # Most names for each kind of reason.


def work_name(work: object) -> str:
  """Returns the name of a work for messages: its `name`, if it has one."""
  return str(getattr(work, 'name', work))


class Account:
  """Counts of works that were read and those left out.

  Attributes:
    num_read: Number of works with examples.
    useless: Works without any examples.
  """

  def __init__(self, left_out: Iterable[tuple[str, str]] = ()):
    """Starts with the files left out before any work was read."""
    self.num_read = 0
    self.useless: list[Any] = []
    self._left_out = [clips.LeftOut(*pair) for pair in left_out]
    self._parts: list[clips.LeftOut] = []  # Parts of works with examples.

  def add(
      self, work: Any, num_examples: int, left_out: Sequence[clips.LeftOut]
  ) -> None:
    """Adds a work.

    Args:
      work: The work.
      num_examples: Number of its examples.
      left_out: The work itself, or parts of it, if they are left out.
    """
    if num_examples:
      self.num_read += 1
      self._parts += left_out
    else:
      self.useless.append(work)
      self._left_out += left_out or [clips.LeftOut(work_name(work), EMPTY)]

  def forget_what_was_read(self) -> None:
    """Starts counting again, without the useless works."""
    self.num_read = 0
    self._parts = []

  @property
  def left_out(self) -> list[clips.LeftOut]:
    return self._left_out + self._parts

  def lines(self, with_read: bool = True) -> list[str]:
    """Returns 'read 8, left out 3:', and a line for each kind of reason.

    Args:
      with_read: Whether to give the number of works that were read.
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
