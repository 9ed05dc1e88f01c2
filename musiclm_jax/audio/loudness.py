"""Integrated loudness after ITU-R BS.1770-4, and its normalization."""

from jaxtyping import Float
import numpy as np

BLOCK_SECONDS = 0.4
HOP_SECONDS = 0.1
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passes the first gate.


def _k_weighting(sample_rate: int, length: int) -> np.ndarray:
  """Returns the [bins] response of the two filters of annex 1.

  The standard tabulates them for 48 kHz; these are the analog prototypes behind
  the table (as in libebur128), by bilinear transform.

  Args:
    sample_rate: In Hz.
    length: Of the transform, in samples.
  """
  delay = np.exp(-2j * np.pi * np.fft.rfftfreq(length))

  def response(hz, q, high, band, low):
    k = np.tan(np.pi * hz / sample_rate)
    numerator = (
        (high + band * k / q + low * k**2)
        + 2 * (low * k**2 - high) * delay
        + (high - band * k / q + low * k**2) * delay**2
    )
    denominator = (
        (1 + k / q + k**2)
        + 2 * (k**2 - 1) * delay
        + (1 - k / q + k**2) * delay**2
    )
    return numerator / denominator

  gain = 10 ** (3.999843853973347 / 20)
  shelf = response(
      1681.974450955533, 0.7071752369554196, gain, gain**0.4996667741545416, 1
  )
  high_pass = response(38.13547087602444, 0.5003270373238773, 1, 0, 0)
  # The table's high-pass has a numerator of 1, not of unit gain.
  k = np.tan(np.pi * 38.13547087602444 / sample_rate)
  return shelf * high_pass * (1 + k / 0.5003270373238773 + k**2)


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


def _lufs(power: np.ndarray) -> np.ndarray:
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
