"""What was found when music was judged: rows, refusals, and clips to hear."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import time
from typing import Any

from musiclm_jax.metrics.music import rows
from musiclm_jax.metrics.music import sounds

FORMAT = 1
EXAMPLES = ('best', 'median', 'worst')


@dataclasses.dataclass(frozen=True)
class System:
  """What made clips.

  Attributes:
    name: Its name, which heads its column.
    source: Where its clips are, for people.
    clips: A clip of each prompt, by the prompt's id.
    takes: All takes of a prompt, by its id, where there are two or more.
    model_sha256: Hash of the model that made them; '' of other systems.
  """

  name: str
  source: str
  clips: Mapping[str, sounds.Sound]
  takes: Mapping[str, tuple[sounds.Sound, ...]] = dataclasses.field(
      default_factory=dict
  )
  model_sha256: str = ''


@dataclasses.dataclass
class Report:
  """All that was found.

  Attributes:
    about: What was measured: prompts, systems, true audio, embedders.
    found: Rows and refusals.
    left_out: Clips that could not be measured, by system and id, and why.
    examples: Of each system, the id, prompt and cosine of the clips that agree
      with their prompt best, at the median, and worst.
    comparable: Published figures that ours can be held beside, with ours.
    others: Those that can't, and why.
    seconds: How long each part took.
  """

  about: dict[str, Any]
  found: rows.Found = dataclasses.field(default_factory=list)
  left_out: list[dict[str, str]] = dataclasses.field(default_factory=list)
  examples: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
  comparable: list[Any] = dataclasses.field(default_factory=list)
  others: list[Any] = dataclasses.field(default_factory=list)
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)

  @property
  def values(self) -> list[rows.Row]:
    """Rows without refusals."""
    return [row for row in self.found if isinstance(row, rows.Row)]

  @property
  def refusals(self) -> list[rows.Refusal]:
    """Measures that were not taken."""
    return [x for x in self.found if isinstance(x, rows.Refusal)]

  @property
  def columns(self) -> list[str]:
    """Names of the systems, and of true audio if there is any."""
    names = dict.fromkeys(self.about['systems'])
    if self.about['reference']:
      names[rows.REFERENCE] = None
    return list(names)

  def to_json(self) -> dict[str, Any]:
    """Returns JSON values."""
    return {
        'format': FORMAT,
        'about': self.about,
        'rows': [row.to_json() for row in self.values],
        'refusals': [dataclasses.asdict(x) for x in self.refusals],
        'left_out': self.left_out,
        'examples': self.examples,
        'published': {
            'comparable': self.comparable,
            'not comparable': self.others,
        },
        'seconds': self.seconds,
    }

  @contextlib.contextmanager
  def timing(self, part: str) -> Iterator[None]:
    """Adds the time that the body takes to that of a part."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    self.seconds[part] = round(self.seconds.get(part, 0.0) + took, 2)
