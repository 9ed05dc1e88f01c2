"""Features that published networks hear instead of audio."""

from collections.abc import Callable
import dataclasses

from jaxtyping import Float
import jax.numpy as jnp
from musiclm_jax.audio import dsp
from musiclm_jax.tokenizers import base as tokenizers
import numpy as np


@dataclasses.dataclass(frozen=True)
class FrontEnd:
  """How audio becomes the windows that a network hears.

  Attributes:
    name: Name in descriptions of networks.
    sample_rate: Sample rate of the audio, in Hz.
    window_seconds: Audio of a window.
    compute: Returns [windows, …] features of [samples] audio.
  """

  name: str
  sample_rate: int
  window_seconds: float
  compute: Callable[[np.ndarray], np.ndarray]


def cut(
    audio: Float[np.ndarray, ' samples'], window: int
) -> Float[np.ndarray, 'windows window']:
  """Cuts a clip into as many windows as it is long, evenly spread over it.

  A clip that is shorter than a window is padded with silence.
  """
  audio = np.pad(audio, (0, max(0, window - len(audio)))).astype(np.float32)
  count = max(1, round(len(audio) / window))
  starts = np.linspace(0, len(audio) - window, count).astype(int)
  return np.stack([audio[start : start + window] for start in starts])


def waveform(sample_rate: int, window_seconds: float) -> FrontEnd:
  """Returns the front end of networks that hear audio as it is."""
  window = round(sample_rate * window_seconds)
  return FrontEnd(
      'audio', sample_rate, window_seconds, lambda audio: cut(audio, window)
  )


def _patches(frames: np.ndarray, length: int) -> np.ndarray:
  """Cuts [frames, bands] into whole [patches, length, bands]."""
  count = len(frames) // length
  return frames[: count * length].reshape(count, length, -1)


def _mel_by_htk(hz: np.ndarray) -> np.ndarray:
  return 1127 * np.log1p(hz / 700)


def vggish_filters() -> Float[np.ndarray, '257 64']:
  """Returns the filters of VGGish: triangles on HTK's scale, not over Hz."""
  first, last = _mel_by_htk(np.array([125.0, 7500.0]))
  edges = np.linspace(first, last, 66)
  bins = _mel_by_htk(np.linspace(0, 8000, 257))[:, np.newaxis]
  low, middle, high = edges[:-2], edges[1:-1], edges[2:]
  rising = (bins - low) / (middle - low)
  return np.maximum(0, np.minimum(rising, (high - bins) / (high - middle)))


def vggish_log_mel(
    audio: Float[np.ndarray, ' samples'],
) -> Float[np.ndarray, 'windows 96 64']:
  """Log-mel spectrogram of VGGish (Hershey et al., arXiv 1609.09430).

  Windows of 25 ms, periodic Hann, 10 ms apart and none beyond the ends;
  magnitudes of 512 points; 64 bands from 125 to 7500 Hz; log(x + .01); cut
  into patches of .96 s. A clip too short for one is padded with silence.

  Args:
    audio: [samples] at 16 kHz.
  """
  missing = 95 * 160 + 400 - len(audio)
  audio = np.pad(audio, (0, max(0, missing))).astype(np.float64)
  frames = np.lib.stride_tricks.sliding_window_view(audio, 400)[::160]
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
  magnitudes = np.abs(np.fft.rfft(frames * hann, 512))
  log_mel = np.log(magnitudes @ vggish_filters() + 0.01)
  return _patches(log_mel.astype(np.float32), 96)


def musicnn_log_mel(
    audio: Float[np.ndarray, ' samples'],
) -> Float[np.ndarray, 'windows 187 96']:
  """Log-mel spectrogram of musicnn (Pons and Serra, arXiv 1909.06654).

  Power of 512 points, 256 apart; 96 bands on Slaney's scale; log10(1 + 10⁴x);
  cut into patches of 187 frames, 3 s. A clip too short for one is padded with
  silence.

  Args:
    audio: [samples] at 16 kHz.
  """
  audio = np.pad(audio, (0, max(0, 186 * 256 - len(audio))))
  spectrum = np.asarray(dsp.stft(jnp.asarray(audio[np.newaxis]), 512, 256))[0]
  power = np.abs(spectrum) ** 2
  mel = power @ dsp.mel_filterbank(16000, 512, 96)
  return _patches(np.log10(1 + 10000 * mel).astype(np.float32), 187)


VGGISH = FrontEnd('vggish', 16000, 0.96, vggish_log_mel)
MUSICNN = FrontEnd('musicnn', 16000, 187 * 256 / 16000, musicnn_log_mel)
NAMED = {front_end.name: front_end for front_end in (VGGISH, MUSICNN)}


def windows(
    front_end: FrontEnd, audio: Float[np.ndarray, ' samples']
) -> np.ndarray:
  """Returns the [windows, …] features of a clip.

  Raises:
    UserError: If `audio` is not mono floats in [-1, 1].
  """
  tokenizers.check_audio(audio[np.newaxis], front_end.sample_rate)
  return front_end.compute(audio)
