"""Spectrograms in jnp, numerically equal to those of librosa."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float
import numpy as np

_FLOOR = 1e-5  # Least magnitude, so that silence has a logarithm.


def _hann(window_length: int, fft_length: int) -> np.ndarray:
  """Returns a periodic Hann window in the middle of `fft_length` samples."""
  phase = 2 * np.pi * np.arange(window_length) / window_length
  window = 0.5 - 0.5 * np.cos(phase)
  before = (fft_length - window_length) // 2
  after = fft_length - window_length - before
  return np.pad(window, (before, after)).astype(np.float32)


def _frames(
    audio: Float[Array, 'batch samples'], frame_length: int, hop_length: int
) -> Float[Array, 'batch frames frame_length']:
  """Cuts audio into overlapping frames, from shifted slices of its hops."""
  num_frames = 1 + (audio.shape[-1] - frame_length) // hop_length
  hops_per_frame = -(-frame_length // hop_length)
  num_hops = num_frames + hops_per_frame - 1
  # The last frame may end inside a hop, and audio may follow it.
  padding = max(0, num_hops * hop_length - audio.shape[-1])
  audio = jnp.pad(audio, ((0, 0), (0, padding)))[:, : num_hops * hop_length]
  hops = audio.reshape(audio.shape[0], num_hops, hop_length)
  slices = [hops[:, i : i + num_frames] for i in range(hops_per_frame)]
  return jnp.concatenate(slices, axis=-1)[..., :frame_length]


def stft(
    audio: Float[Array, 'batch samples'],
    window_length: int,
    hop_length: int,
) -> Complex[Array, 'batch frames bins']:
  """Short-time Fourier transform with a periodic Hann window.

  Frame t is centered on sample t * hop_length, with zeros beyond the ends.

  Args:
    audio: [batch, samples].
    window_length: Samples in a window, which is transformed at its next power
      of two, the FFT length.
    hop_length: Samples from one frame to the next.

  Returns:
    [batch, 1 + samples // hop_length, fft_length // 2 + 1] complex64.
  """
  fft_length = 1 << (window_length - 1).bit_length()
  half = fft_length // 2
  audio = jnp.pad(audio, ((0, 0), (half, half)))
  frames = _frames(audio.astype(jnp.float32), fft_length, hop_length)
  return jnp.fft.rfft(frames * _hann(window_length, fft_length))


def _hz_to_mel(hz: np.ndarray) -> np.ndarray:
  """Slaney's scale: linear to 1 kHz, then 27 logarithmic steps to 6.4 kHz."""
  logarithmic = 15 + 27 * np.log(np.maximum(hz, 1e-6) / 1000) / np.log(6.4)
  return np.where(hz < 1000, hz * 3 / 200, logarithmic)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
  return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


@functools.lru_cache
def mel_filterbank(
    sample_rate: int,
    fft_length: int,
    num_mels: int,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> Float[np.ndarray, 'bins mels']:
  """Triangular filters of equal area, evenly spaced on Slaney's mel scale.

  Args:
    sample_rate: Sample rate of the audio, in Hz.
    fft_length: Samples in a transform.
    num_mels: Number of filters.
    fmin: Lower end of the first filter, in Hz.
    fmax: Upper end of the last, in Hz; half the sample rate by default.

  Returns:
    [fft_length // 2 + 1, num_mels] float32; read only, as calls share it.
  """
  first, last = _hz_to_mel(np.array([fmin, fmax or sample_rate / 2]))
  edges = _mel_to_hz(np.linspace(first, last, num_mels + 2))
  bins = np.linspace(0, sample_rate / 2, fft_length // 2 + 1)[:, np.newaxis]
  low, middle, high = edges[:-2], edges[1:-1], edges[2:]
  rising = (bins - low) / (middle - low)
  falling = (high - bins) / (high - middle)
  filters = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
  filters = filters.astype(np.float32)
  filters.setflags(write=False)
  return filters


def log_mel(
    audio: Float[Array, 'batch samples'],
    sample_rate: int,
    window_length: int,
    hop_length: int,
    num_mels: int,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> Float[Array, 'batch frames mels']:
  """Natural logarithm of the mel spectrogram of magnitudes.

  Args:
    audio: [batch, samples].
    sample_rate: Sample rate of the audio, in Hz.
    window_length: Samples in a window; see `stft`.
    hop_length: Samples from one frame to the next.
    num_mels: Number of mel filters.
    fmin: See `mel_filterbank`.
    fmax: See `mel_filterbank`.

  Returns:
    [batch, frames, num_mels] float32, at least the logarithm of 1e-5.
  """
  spectrum = stft(audio, window_length, hop_length)
  fft_length = 2 * (spectrum.shape[-1] - 1)
  filters = mel_filterbank(sample_rate, fft_length, num_mels, fmin, fmax)
  # The gradient of a square root is infinite at 0, where silence is.
  power = spectrum.real**2 + spectrum.imag**2
  magnitudes = jnp.sqrt(jnp.maximum(power, 1e-20))
  mel = jnp.einsum('btf,fm->btm', magnitudes, filters, precision='highest')
  return jnp.log(jnp.maximum(mel, _FLOOR))
