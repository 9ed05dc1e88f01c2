"""How well clips keep to their plans, by estimators that know nothing of us.

An estimator errs on true audio, too: the same scores of renders that do what
the plans say are the ceiling, and those of clips against the plans of others
are chance.
"""

from collections.abc import Sequence
import dataclasses
import json
import math
import os
import pathlib

from jaxtyping import Bool, Float, Int
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.metrics import families
from musiclm_jax.metrics import harmony
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import report
from musiclm_jax.metrics import rhythm
from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.sampling import prompt_list
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import terms
import numpy as np

PLANS = pathlib.Path(__file__).with_suffix('.jsonl')  # 200 of them.
TOLERANCES = (0.04, 0.08)  # Shares by which a tempo may differ.
_STEADY = 0.1  # Largest variation of the beats of a tempo.
_PLAYS = 0.25  # Share of the time that a family of a clip plays.
_MOST_PAIRS = 20_000  # Of clips and the targets of others: enough for chance.
_RATES = plan_streams.RATES | {'chord': harmony.CHORD_RATE}

# Scores by name, each from 0 to 1; None where the plan says nothing.
Scores = dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Heard:
  """What estimators hear in a clip.

  Attributes:
    bpm: Beats per minute; None without a rhythm.
    metre: 3 or 4 beats, as in `rhythm`; None without one.
    key: Number of the key in `terms`; None if none is clear.
    chords: [frames] triads at `harmony.CHORD_RATE`.
    families: [families] which of `terms.FAMILIES` play.
    foremost: Number of the family that most likely plays; None if silent.
  """

  bpm: float | None
  metre: int | None
  key: int | None
  chords: Int[np.ndarray, ' frames']
  families: Bool[np.ndarray, ' families']
  foremost: int | None = None


@dataclasses.dataclass(frozen=True)
class Target:
  """What a clip should be; None and ABSENT where that is open.

  Attributes:
    bpm: Beats per minute.
    metre: Beats after which accents return: 3, or 4 for 2, 4 and 6/8 as well.
    key: Number of the key.
    chords: [frames] chords at `harmony.CHORD_RATE`.
    families: [families] which play.
  """

  bpm: float | None
  metre: int | None
  key: int | None
  chords: Int[np.ndarray, ' frames']
  families: Bool[np.ndarray, ' families'] | None

  @classmethod
  def of_plan(cls, plan: plan_lib.Plan, seconds: float) -> 'Target':
    """Returns the target of a clip that is made from a plan.

    Raises:
      UserError: If the plan does not fit the length.
    """
    metre = plan.metre or plan_lib.METRE
    written = terms.find_metre(metre) if plan.bpm is not None else None
    number = list(terms.METRES).index(written[0]) if written else -1
    bpm = None if plan.bpm is None else float(plan.bpm)
    tokens = plan.tokens(seconds, _streams())
    return cls._of_tokens(tokens, bpm, _accents(number))

  @classmethod
  def of_record(cls, record: base.Record, seconds: float) -> 'Target':
    """Returns what a clip of the dataset `music` is known to be.

    Args:
      record: Example of the dataset.
      seconds: Its length.
    """
    tokens = plan_streams.PlanStreams(_RATES, '').tokenize_clips(
        [record], seconds
    )
    beats = np.asarray(record.get('beats', np.zeros((0, 3))))
    beats = beats[beats[:, 0] < seconds]
    gaps = np.diff(beats[:, 0])
    if len(gaps) < 2 or gaps.std() > _STEADY * gaps.mean():
      return cls._of_tokens(tokens, None, None)
    metres = np.unique(beats[:, 2].astype(int))
    metre = _accents(int(metres[0])) if len(metres) == 1 else None
    return cls._of_tokens(tokens, 60 / float(np.median(gaps)), metre)

  @classmethod
  def _of_tokens(
      cls, tokens: streams.Tokens, bpm: float | None, metre: int | None
  ) -> 'Target':
    key = int(tokens['key'][0, 0, 0])
    plays = tokens['arrangement'][0]
    plays = plays[np.all(plays != streams.ABSENT, axis=1)]
    return cls(
        bpm=bpm,
        metre=metre,
        key=None if key == streams.ABSENT else key,
        chords=tokens['chord'][0, :, 0],
        families=(
            np.mean(plays != plan_streams.OFF, axis=0) >= _PLAYS
            if len(plays)
            else None
        ),
    )


def _streams() -> dict[str, streams.Stream]:
  return {stream.name: stream for stream in plan_streams.make_streams(_RATES)}


def _accents(metre: int) -> int | None:
  """Returns the beats after which accents return, as `rhythm` counts them."""
  beats = [m.beats for m in terms.METRES.values()][metre] if metre >= 0 else 0
  return {2: 4, 3: 3, 4: 4}.get(beats)


def read_plans(
    path: str | os.PathLike[str] = PLANS,
) -> dict[str, tuple[plan_lib.Plan, float]]:
  """Reads the plans of a list that `musiclm batch` reads, too.

  Args:
    path: A .jsonl file; by default the 200 plans of the package.

  Returns:
    The plan of each line and the seconds of its clip, by the line's id, which
    names the file of the clip.

  Raises:
    UserError: If a line is wrong, or has no plan or length.
  """
  plans = {}
  for line in prompt_list.read(path, {}):
    options = dict(line.request.options) if line.request else {}
    if 'plan' not in options or 'seconds' not in options:
      raise errors.UserError(
          f'{path} must have a plan and seconds in each line, but line'
          f' {line.number} has not. {line.error}'
      )
    plan = plan_lib.Plan.from_json(json.loads(options['plan']))
    plans[line.id] = plan, options['seconds']
  return plans


def hear(
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    classifier: families.Classifier | None = None,
) -> Heard:
  """Estimates tempo, metre, key, chords and instruments of a clip.

  Args:
    audio: [samples] mono audio in [-1, 1], of at least a second.
    sample_rate: Sample rate, in Hz.
    classifier: Tells families of instruments; by default, that of the package.

  Raises:
    UserError: If the audio is too short or not finite.
  """
  sound = hearing.Sound(audio, sample_rate)
  found = rhythm.find_rhythm(sound)
  classifier = classifier or families.load()
  likely = classifier.likely(sound)
  return Heard(
      bpm=found.bpm if found else None,
      metre=found.metre if found else None,
      key=harmony.find_key(sound),
      chords=harmony.find_chords(sound),
      families=likely >= classifier.threshold,
      foremost=int(np.argmax(likely)) if likely.any() else None,
  )


def compare(heard: Heard, target: Target) -> Scores:
  """Scores what was heard of a clip against what it should be."""
  scores: Scores = {}
  for tolerance in TOLERANCES:
    name = f'tempo within {100 * tolerance:.0f}%'
    scores[name] = _tempo_score(heard.bpm, target.bpm, tolerance)
  known = target.key
  scores['metre'] = _same(heard.metre, target.metre)
  scores['key'] = _same(heard.key, known)
  scores['mode'] = _same(_mode(heard.key), _mode(known))
  scores['key as MIREX weighs'] = (
      None if known is None else harmony.key_score(heard.key, known)
  )
  scores['chords'] = harmony.chord_overlap(heard.chords, target.chords)
  playing = target.families
  scores['families (F1)'] = None if playing is None else _f1(heard, playing)
  scores['the only instrument'] = _same(heard.foremost, _only(playing))
  scores['drums'] = (
      None
      if playing is None
      else float(heard.families[terms.DRUMS] == playing[terms.DRUMS])
  )
  return scores


def score(
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    plan: plan_lib.Plan,
) -> Scores:
  """Scores a clip against its plan; see `hear` and `compare`.

  Raises:
    UserError: If the audio is too short or not finite, or the plan does not fit
      its length.
  """
  target = Target.of_plan(plan, len(audio) / sample_rate)
  return compare(hear(audio, sample_rate), target)


def _tempo_score(
    found: float | None, true: float | None, tolerance: float
) -> float | None:
  if true is None:
    return None
  return float(found is not None and abs(found / true - 1) <= tolerance)


def _same(found: int | None, true: int | None) -> float | None:
  return None if true is None else float(found == true)


def _mode(key: int | None) -> int | None:
  return None if key is None else key // 12


def _only(playing: Bool[np.ndarray, ' families'] | None) -> int | None:
  """Returns the number of the family that alone plays, if one does."""
  if playing is None or playing.sum() != 1:
    return None
  return int(np.argmax(playing))


def _f1(heard: Heard, true: Bool[np.ndarray, ' families']) -> float:
  total = heard.families.sum() + true.sum()
  return float(2 * np.sum(heard.families & true) / total) if total else 1.0


def rows(heard: Sequence[Heard], targets: Sequence[Target]) -> list[report.Row]:
  """Returns a table of the scores of clips against their targets.

  Args:
    heard: What was heard in each clip.
    targets: What each of them should be.

  Returns:
    For each score its mean over the clips, the standard error of that, the
    mean of clips against the targets of others (all of them, or some 20,000
    pairs), and the number of clips that count; None where there are none.
  """
  own = [compare(h, t) for h, t in zip(heard, targets, strict=True)]
  count = len(heard)
  others = [
      compare(heard[i], targets[(i + k) % count])
      for k in range(1, min(count, 1 + math.ceil(_MOST_PAIRS / max(count, 1))))
      for i in range(count)
  ]
  return [_row(name, own, others) for name in (own[0] if own else ())]


def _row(
    name: str, own: Sequence[Scores], others: Sequence[Scores]
) -> report.Row:
  values, chance = (
      np.array([s[name] for s in scores if s[name] is not None], float)
      for scores in (own, others)
  )
  count = len(values)
  return {
      'score': name,
      'mean': float(np.mean(values)) if count else None,
      'error': (
          float(np.std(values, ddof=1) / np.sqrt(count)) if count > 1 else None
      ),
      'chance': float(np.mean(chance)) if len(chance) else None,
      'clips': count,
  }
