"""Timelines: what is to be heard in a piece, and when."""

from collections.abc import Mapping, Sequence
import dataclasses
import math

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.sampling import plan as plan_lib
import numpy as np

MAX_SECONDS = io.MAX_SECONDS
MAX_SECTIONS = 1000
MAX_CHARACTERS = 10_000  # Per prompt.
DEFAULT_SECONDS = 10.0
LOOP_SECONDS = 2.0  # Made beyond the end of a loop, to cut it where it fits.
MELODY = 'melody'  # The condition that has its own field.

Seconds = int | float
# A text, or audio that the music should be like: [samples] in [-1, 1].
Prompt = str | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Timeline:
  """A piece to make. All audio is mono, at the model's sample rate.

    Timeline('slow piano waltz')
    Timeline([(0, 'calm piano'), (15, 'a choir joins')], seconds=30)
    Timeline('a guitar solo', audio=song, change=(20, 24))

  Attributes:
    prompt: A text, or audio that the music should be like; or, for music that
      changes, several of these with their starts in seconds (MusicLM, section
      4.6).
    seconds: Length of the piece; by default that of `audio` if part of it is
      changed, otherwise 10.
    negative_prompt: A text that the music should not be like. It takes effect
      with a guidance scale above 1.
    melody: [samples] of someone who hums, sings or plays the tune that the
      piece should follow, for as long as it lasts (MusicLM, section 4.5).
    audio: [samples] of existing music with which the piece starts.
    change: (start, end) in seconds of the part of `audio` to make anew; by
      default, all of `audio` stays and the piece continues after it.
    context_seconds: Length of the music before a new prompt that is continued
      after it. With 0, the new prompt takes effect at once; with more, the
      transition is smoother, and the music changes less. The paper uses 15.
    blend_seconds: Time over which one prompt turns into the next, centred on
      the start of the next one.
    loop: Whether the end leads back into the start.
    conditions: Further conditioning that the model reads, by the name of its
      stream: either [samples] floats of audio, to be tokenized by the part of
      the model that writes the stream, or [frames, quantizers] integer tokens,
      from the start of the piece on.
    plan: Tempo, key, chords and instruments over time.
    prompt_only: Whether to leave the plan as it is. By default, fields that it
      leaves open are filled from the first prompt, e.g. '120 bpm', if the model
      reads such streams.

  Raises:
    UserError: If fields contradict each other.
  """

  prompt: Prompt | Sequence[tuple[Seconds, Prompt]]
  seconds: Seconds | None = None
  negative_prompt: str | None = None
  melody: Float[np.ndarray, ' melody_samples'] | None = None
  audio: Float[np.ndarray, ' audio_samples'] | None = None
  change: tuple[Seconds, Seconds] | None = None
  context_seconds: Seconds = 0.0
  blend_seconds: Seconds = 0.0
  loop: bool = False
  conditions: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  plan: plan_lib.Plan | None = None
  prompt_only: bool = False

  def __post_init__(self):
    _check_seconds(self.seconds)
    if len(self.sections) > MAX_SECTIONS:
      raise errors.UserError(
          f'a piece must have at most {MAX_SECTIONS} prompts, but has'
          f' {len(self.sections)}.'
      )
    for _, prompt in self.sections:
      _check_prompt(prompt)
    if self.negative_prompt is not None:
      _check_prompt(self.negative_prompt)
    _check_starts([start for start, _ in self.sections])
    for name in ('blend_seconds', 'context_seconds'):
      if not 0 <= getattr(self, name) <= MAX_SECONDS:
        raise errors.UserError(
            f'{name} must be at least 0 and at most {MAX_SECONDS}, but is'
            f' {getattr(self, name)}.'
        )
    if self.change is not None and self.audio is None:
      raise errors.UserError(
          'change must be of audio, but there is none. Pass the music to change'
          ' as audio.'
      )
    if self.loop and self.audio is not None:
      raise errors.UserError(
          'loop must be False if there is audio, which stays as it is. Leave'
          ' one of them out.'
      )
    if self.melody is not None and MELODY in self.conditions:
      raise errors.UserError(
          f"conditions must be without '{MELODY}' where there is a melody, but"
          ' have it, too. Leave one of them out.'
      )
    told = set(self.plan.told if self.plan else ())
    if both := sorted(told.intersection(self.conditions)):
      raise errors.UserError(
          f'conditions must be without {both} where the plan says them, but'
          ' have them, too. Leave one of them out.'
      )

  @property
  def all_conditions(self) -> dict[str, np.ndarray]:
    """All conditions, including the melody."""
    melody = {} if self.melody is None else {MELODY: self.melody}
    return {**melody, **self.conditions}

  @property
  def sections(self) -> list[tuple[float, Prompt]]:
    """The prompts, each with its start in seconds."""
    if isinstance(self.prompt, str | np.ndarray):
      return [(0.0, self.prompt)]
    return [(float(start), prompt) for start, prompt in self.prompt]

  def length(self, sample_rate: int) -> float:
    """Returns the length of the piece in seconds.

    Raises:
      UserError: If it contradicts `audio`, or is less than a sample.
    """
    if self.audio is None:
      seconds = DEFAULT_SECONDS if self.seconds is None else self.seconds
      _check_sample(seconds, sample_rate)
      return float(seconds)
    there = len(self.audio) / sample_rate
    if self.change is None:
      return _check_goes_on(there, self.seconds)
    start, end = self.change
    if not 0 <= start < end <= there + 1e-6:
      raise errors.UserError(
          f'change must be a part of the {there:.2f} s of audio, start before'
          f' end, but is from {start} s to {end} s.'
      )
    if self.seconds is not None and abs(self.seconds - there) > 1e-3:
      raise errors.UserError(
          f'seconds must be those of the audio, {there:.2f}, where a part of it'
          f' is changed, but is {self.seconds}. Leave it out.'
      )
    return there


def _check_seconds(seconds: Seconds | None) -> None:
  if seconds is not None and not 0 < seconds < float('inf'):
    raise errors.UserError(
        f'seconds must be greater than 0, but is {seconds}. Ask for as many'
        ' seconds of music as you want to hear.'
    )
  if seconds is not None and seconds > MAX_SECONDS:
    raise errors.UserError(
        f'seconds must be at most {MAX_SECONDS}, which memory holds, but is'
        f' {seconds:g}. Make several pieces, each going on from the one before.'
    )


def _check_sample(seconds: Seconds, sample_rate: int) -> None:
  if not round(seconds * sample_rate):
    raise errors.UserError(
        f'seconds must be at least one sample, {1 / sample_rate:.2g}, but is'
        f' {seconds}.'
    )


def _check_goes_on(there: float, seconds: Seconds | None) -> float:
  seconds = there + DEFAULT_SECONDS if seconds is None else seconds
  if seconds <= there:
    raise errors.UserError(
        f'seconds must be more than the {there:.2f} of audio, which the piece'
        f' starts with, but is {seconds}. Ask for more, or say which part to'
        ' change.'
    )
  _check_seconds(seconds)
  return float(seconds)


def _check_prompt(prompt: Prompt) -> None:
  if isinstance(prompt, np.ndarray):
    return
  if not isinstance(prompt, str) or not prompt.strip():
    raise errors.UserError(
        'each prompt must be a text that describes music, but one is'
        f' {prompt!r:.100}.'
    )
  check_text(prompt)


def check_text(prompt: str) -> None:
  """Raises UserError unless a prompt is valid Unicode and not too long."""
  if len(prompt) > MAX_CHARACTERS:
    raise errors.UserError(
        f'a prompt must have at most {MAX_CHARACTERS} characters, but'
        f' {prompt[:40]!r}… has {len(prompt)}. Shorten it.'
    )
  try:
    prompt.encode('utf-8')
  except UnicodeEncodeError as e:
    raise errors.UserError(
        f'a prompt must be Unicode, but {prompt[:40]!r} holds half a character:'
        f' {e.reason}. Write it in UTF-8.'
    ) from e


def _check_starts(starts: Sequence[float]) -> None:
  rises = all(a < b for a, b in zip(starts, starts[1:]))
  if not starts or starts[0] != 0 or not rises or not math.isfinite(starts[-1]):
    raise errors.UserError(
        'the prompts of a piece must start at second 0, and each after the one'
        f' before, but start at {list(starts)}.'
    )
