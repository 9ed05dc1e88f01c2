"""Mixes channels to one, so that what is heard of them is kept."""

from collections.abc import Sequence
import dataclasses

import numpy as np

SILENCE = 10 ** (-65 / 20)  # RMS of the loudest part, 1 at full scale.

_DEAD = 1e-4  # Of the power of the loudest channel.
_CANCELLED = 0.25  # Of the power that unrelated channels were mixed to.
_CANCELLED_SHARE = 0.2  # Of the parts that are heard.
_PART = 1 << 13  # Samples that are looked at together.
_BULK = 1e-4  # Share of the samples that damage may have made too loud.
_WEIGHTS = {'FC': 2**0.5, 'LFE': 0.0, 'LFE2': 0.0}
_SURROUND = ('B', 'S', 'T')
_STEREO = ('left', 'right')


def weigh(layout: Sequence[str], channels: int) -> np.ndarray:
  """Returns the weight of each channel in the mix.

  A centre is heard from both sides, so that it weighs more than one of them,
  and channels from behind less (ITU-R BS.775).

  Args:
    layout: Names of the channels as FFmpeg has them, e.g. 'FL'; empty if
      unknown.
    channels: How many there are.
  """
  if channels <= 2:
    return np.full(channels, 1 / channels)
  if len(layout) != channels:
    return np.ones(channels)
  rear = 2**-0.5
  return np.array(
      [
          _WEIGHTS.get(name, rear if name.startswith(_SURROUND) else 1.0)
          for name in layout
      ]
  )


@dataclasses.dataclass
class Mixer:
  """Mixes a recording block by block, and notes what its channels do.

  Attributes:
    weights: Of each channel in the mix.
    power: Of each channel, without its mean, summed over parts.
    mixed: Power of the mix, summed over parts.
    loudest: Power of the loudest part of the mix.
    loudest_of: Power of the loudest part of each channel.
    heard: Parts that are no silence.
    cancelled: Those of them that channels cancel each other in.
  """

  weights: np.ndarray
  power: np.ndarray | float = 0.0
  mixed: float = 0.0
  loudest: float = 0.0
  loudest_of: np.ndarray | float = 0.0
  heard: int = 0
  cancelled: int = 0

  def mix(self, block: np.ndarray) -> np.ndarray:
    """Mixes a block.

    Args:
      block: [samples, channels] float32.

    Returns:
      [samples] float32, to be multiplied by `gain` at the end.
    """
    rows = np.ascontiguousarray(block.T)
    with np.errstate(invalid='ignore', over='ignore'):
      for start in range(0, rows.shape[1], _PART):
        self._note(rows[:, start : start + _PART])
      if len(rows) == 1:
        return rows[0]
      if len(rows) == 2:
        return (rows[0] + rows[1]) / 2
      return self.weights.astype(np.float32) @ rows

  def _note(self, rows: np.ndarray) -> None:
    centred = rows - rows.mean(axis=1, keepdims=True)
    gram = (centred @ centred.T).astype(np.float64) / rows.shape[1]
    power = np.diag(gram)
    mixed = float(self.weights @ gram @ self.weights)
    unrelated = float(self.weights**2 @ power)
    self.power += power
    self.mixed += mixed
    self.loudest = max(self.loudest, mixed)
    self.loudest_of = np.maximum(self.loudest_of, power)
    if unrelated > SILENCE**2:
      self.heard += 1
      self.cancelled += mixed < _CANCELLED * unrelated

  @property
  def live(self) -> np.ndarray:
    """Which channels hold more than noise."""
    return self.power >= _DEAD * np.max(self.power)

  @property
  def gain(self) -> float:
    """What the mix is to be multiplied by; 1 for mono and stereo.

    The mix so has the mean power of the channels that are heard, however many
    are silent, and however alike they are.
    """
    heard = np.sum(self.weights[self.live] ** 2)
    if len(self.weights) <= 2 or not heard or not self.mixed:
      return 1.0
    return float(np.sqrt(self._unrelated / heard / self.mixed))

  @property
  def _unrelated(self) -> float:
    """The power of the mix if its channels had nothing in common."""
    return float(self.weights**2 @ self.power)

  @property
  def is_finite(self) -> bool:
    """Whether no sample was NaN or inf."""
    return bool(np.isfinite(self.power).all())

  @property
  def fault(self) -> str:
    """Says why one channel must stand for all; empty if it need not."""
    if len(self.weights) < 2 or not self.is_finite or not np.any(self.power):
      return ''
    if len(self.weights) == 2 and np.sum(self.live) == 1:
      return f'only its {self.name} channel holds sound and is used'
    if (
        self._unrelated < _DEAD * np.max(self.power)
        or self.mixed < _CANCELLED * self._unrelated
        or self.cancelled > _CANCELLED_SHARE * self.heard
    ):
      return f'its channels cancel each other, so that the {self.name} is used'
    return ''

  @property
  def pick(self) -> int:
    """The channel that is loudest."""
    return int(np.argmax(self.power))

  @property
  def level(self) -> float:
    """RMS of the loudest part of what is used."""
    if self.fault:
      return float(np.sqrt(np.max(self.loudest_of)))
    return self.gain * float(np.sqrt(self.loudest))

  @property
  def name(self) -> str:
    """Of the loudest channel."""
    if len(self.weights) == 2:
      return _STEREO[self.pick]
    return f'number {self.pick + 1}'


def is_silent(audio: np.ndarray) -> bool:
  """Returns whether no part of [samples] audio can be heard."""
  parts = range(0, len(audio), _PART)
  return not any(np.std(audio[p : p + _PART]) >= SILENCE for p in parts)


def fit(audio: np.ndarray) -> tuple[np.ndarray, str]:
  """Scales audio to peak at 1 if it is louder.

  Args:
    audio: [samples], finite.

  Returns:
    [samples] in [-1, 1], and a word on what was clipped: some samples of more
    than twice the level of all others are no music, and would silence it.
  """
  peak = max(np.max(np.abs(audio), initial=0.0), 1.0)
  if peak <= 2:
    return audio / peak, ''
  # The first of so many samples, by loudness.
  place = len(audio) - min(len(audio), max(16, round(_BULK * len(audio))))
  bulk = max(float(np.partition(np.abs(audio), place)[place]), 1.0)
  if peak <= 2 * bulk:
    return audio / peak, ''
  clipped = int(np.sum(np.abs(audio) > bulk))
  return np.clip(audio, -bulk, bulk) / np.float32(bulk), (
      f'{clipped} of its samples peak at {peak:.3g}, far above all others, and'
      ' are clipped'
  )
