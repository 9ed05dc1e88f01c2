"""Integrated loudness after ITU-R BS.1770-4, and its normalization."""

from jaxtyping import Float
import numpy as np

BLOCK_SECONDS = 0.4
HOP_SECONDS = 0.1
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passes the first gate.

# The analog filters behind the tables of annex 1, which are for 48 kHz only;
# frequency in Hz, quality, gains of the shelf (as in libebur128).
SHELF_HZ, SHELF_Q = 1681.974450955533, 0.7071752369554196
SHELF_GAIN = 10 ** (3.999843853973347 / 20)
BAND_GAIN = SHELF_GAIN**0.4996667741545416
HIGH_PASS_HZ, HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773


def _k_weighting(sample_rate: int, length: int) -> np.ndarray:
  """Returns the [bins] response of both filters, by bilinear transform."""
  delay = np.exp(-2j * np.pi * np.fft.rfftfreq(length))

  def polynomial(k, high, band, low):
    return (
        (high + band * k + low * k**2)
        + 2 * (low * k**2 - high) * delay
        + (high - band * k + low * k**2) * delay**2
    )

  k = np.tan(np.pi * SHELF_HZ / sample_rate)
  shelf = polynomial(k, SHELF_GAIN, BAND_GAIN / SHELF_Q, 1)
  shelf /= polynomial(k, 1, 1 / SHELF_Q, 1)
  k = np.tan(np.pi * HIGH_PASS_HZ / sample_rate)
  # The table's high-pass is (1 - z^-1)^2 over a denominator that starts at 1.
  start = 1 + k / HIGH_PASS_Q + k**2
  high_pass = (1 - delay) ** 2 * start / polynomial(k, 1, 1 / HIGH_PASS_Q, 1)
  return shelf * high_pass


def integrated_loudness(
    audio: Float[np.ndarray, ' samples'], sample_rate: int
) -> float:
  """Measures the gated loudness of mono audio.

  Args:
    audio: [samples]; less than 0.4 s counts as one block.
    sample_rate: In Hz.

  Returns:
    LUFS; -inf for silence.
  """
  # A second of zeros, so that the end does not ring into the start.
  length = len(audio) + sample_rate
  spectrum = np.fft.rfft(audio.astype(np.float64), length)
  spectrum *= _k_weighting(sample_rate, length)
  weighted = np.fft.irfft(spectrum, length)[: len(audio)]
  energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
  block = min(round(BLOCK_SECONDS * sample_rate), len(audio))
  starts = np.arange(
      0, len(audio) - block + 1, round(HOP_SECONDS * sample_rate)
  )
  power = (energy[starts + block] - energy[starts]) / max(block, 1)
  power = power[_lufs(power) > ABSOLUTE_GATE]
  if not len(power):
    return -np.inf
  power = power[_lufs(power) > _lufs(np.mean(power)) + RELATIVE_GATE]
  return float(_lufs(np.mean(power)))


def _lufs(power: np.ndarray | np.floating) -> np.ndarray | np.floating:
  return -0.691 + 10 * np.log10(np.maximum(power, 1e-30))


def normalize_loudness(
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    target_lufs: float = -14.0,
) -> Float[np.ndarray, ' samples']:
  """Brings audio to a loudness, or as near as its peaks allow.

  Args:
    audio: [samples] of mono audio.
    sample_rate: In Hz.
    target_lufs: Loudness of the result; -14 is what streaming services play.

  Returns:
    [samples] float32 in [-1, 1]; silence stays silence.
  """
  loudness = integrated_loudness(audio, sample_rate)
  peak = np.max(np.abs(audio), initial=0.0)
  if not np.isfinite(loudness):
    return audio.astype(np.float32) / np.float32(max(peak, 1.0))
  gain = min(10 ** ((target_lufs - loudness) / 20), 1 / peak)
  return np.clip(audio * gain, -1, 1).astype(np.float32)
