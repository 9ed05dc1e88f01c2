"""Mixes channels to mono without losing any that are audible."""

from collections.abc import Sequence
import dataclasses

import numpy as np

SILENCE = 10 ** (-65 / 20)  # RMS of the loudest part, 1 at full scale.
_RMS = 0.1  # Loudness of synthesized audio: -20 dBFS.
_PEAK = 0.95  # Its greatest peak.

_DEAD = 1e-4  # A channel with less of the loudest one's power is silent.
_CANCELLED = 0.25  # A mix with less of the power of unrelated channels.
_CANCELLED_SHARE = 0.2  # More parts than this, of those heard, are a fault.
_PART = 1 << 13  # Samples in a part.
_BULK = 1e-4  # Share of the samples that may be too loud by damage.
_WEIGHTS = {'FC': 2**0.5, 'LFE': 0.0, 'LFE2': 0.0}
_SURROUND = ('B', 'S', 'T')
_STEREO = ('left', 'right')


def weigh(layout: Sequence[str], channels: int) -> np.ndarray:
  """Returns the weight of each channel in the mix.

  The centre is played on both sides and weighs more than one of them; rear
  channels weigh less (ITU-R BS.775).

  Args:
    layout: FFmpeg's names of the channels, e.g. 'FL'; empty if unknown.
    channels: Number of channels.
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
  """Mixes a recording block by block, and keeps statistics of its channels.

  Attributes:
    weights: [channels] weight of each channel in the mix.
    power: [channels] power of each channel without its mean, summed over parts.
    mixed: Power of the mix, summed over parts.
    loudest: Power of the loudest part of the mix.
    loudest_of: [channels] power of the loudest part of each channel.
    heard: Number of parts that are not silent.
    cancelled: Number of heard parts in which channels cancel each other.
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
    """[channels] bools: which channels hold more than noise."""
    return self.power >= _DEAD * np.max(self.power)

  @property
  def gain(self) -> float:
    """Factor to multiply the mix by; 1 for mono and stereo.

    It gives the mix the mean power of the live channels, however many are
    silent and however alike they are.
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
    """Reason to use the loudest channel alone; empty if the mix is good."""
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
    """Index of the loudest channel."""
    return int(np.argmax(self.power))

  @property
  def level(self) -> float:
    """RMS of the loudest part of the mix, or of the channel used alone."""
    if self.fault:
      return float(np.sqrt(np.max(self.loudest_of)))
    return self.gain * float(np.sqrt(self.loudest))

  @property
  def name(self) -> str:
    """Name of the loudest channel, for messages."""
    if len(self.weights) == 2:
      return _STEREO[self.pick]
    return f'number {self.pick + 1}'


def is_silent(audio: np.ndarray) -> bool:
  """Returns whether no part of [samples] audio can be heard."""
  parts = range(0, len(audio), _PART)
  return not any(np.std(audio[p : p + _PART]) >= SILENCE for p in parts)


def normalize(audio: np.ndarray) -> np.ndarray:
  """Scales [samples] audio to -20 dB RMS, or less so that it peaks at .95."""
  rms = np.sqrt(np.mean(np.square(audio)))
  gain = min(_RMS / max(rms, 1e-6), _PEAK / np.max(np.abs(audio)))
  return (gain * audio).astype(np.float32)


def fit(audio: np.ndarray) -> tuple[np.ndarray, str]:
  """Scales audio to peak at 1 if it is louder.

  Args:
    audio: [samples], finite.

  Returns:
    [samples] in [-1, 1], and a message if samples were clipped: a few that are
    more than twice as loud as all others are damage, and to scale by them would
    silence the music.
  """
  peak = max(np.max(np.abs(audio), initial=0.0), 1.0)
  if peak <= 2:
    return audio / peak, ''
  # The least of the loudest samples that may be damaged.
  place = len(audio) - min(len(audio), max(16, round(_BULK * len(audio))))
  bulk = max(float(np.partition(np.abs(audio), place)[place]), 1.0)
  if peak <= 2 * bulk:
    return audio / peak, ''
  clipped = int(np.sum(np.abs(audio) > bulk))
  return np.clip(audio, -bulk, bulk) / np.float32(bulk), (
      f'{clipped} of its samples peak at {peak:.3g}, far above all others, and'
      ' are clipped'
  )
