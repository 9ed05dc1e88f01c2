"""Spectrograms in jnp, numerically equal to those of librosa."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float
from musiclm_jax import errors
import numpy as np


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
  # The last frame may end within a hop, or the audio go on behind it.
  padding = max(0, num_hops * hop_length - audio.shape[-1])
  audio = jnp.pad(audio, ((0, 0), (0, padding)))[:, : num_hops * hop_length]
  hops = audio.reshape(audio.shape[0], num_hops, hop_length)
  slices = [hops[:, i : i + num_frames] for i in range(hops_per_frame)]
  return jnp.concatenate(slices, axis=-1)[..., :frame_length]


def stft(
    audio: Float[Array, 'batch samples'],
    window_length: int,
    hop_length: int,
    fft_length: int | None = None,
    center: bool = True,
) -> Complex[Array, 'batch frames bins']:
  """Short-time Fourier transform with a periodic Hann window.

  Args:
    audio: [batch, samples].
    window_length: In samples.
    hop_length: Samples from one frame to the next.
    fft_length: At least `window_length`; its next power of two by default.
    center: Whether frame t is centered on sample t * hop_length, with zeros
      beyond the ends: 1 + samples // hop_length frames. Otherwise it starts
      there: 1 + (samples - fft_length) // hop_length frames.

  Returns:
    [batch, frames, fft_length // 2 + 1] complex64.

  Raises:
    UserError: If the window is longer than the transform, or the transform
      longer than audio that is not centered.
  """
  fft_length = fft_length or 1 << (window_length - 1).bit_length()
  if fft_length < window_length:
    raise errors.UserError(
        f'fft_length must be at least window_length {window_length}, but is'
        f' {fft_length}.'
    )
  if center:
    half = fft_length // 2
    audio = jnp.pad(audio, ((0, 0), (half, half)))
  if audio.shape[-1] < fft_length:
    raise errors.UserError(
        f'audio must have at least fft_length {fft_length} samples, but has'
        f' {audio.shape[-1]}. Pad it, or set center=True.'
    )
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
    sample_rate: Of the audio, in Hz.
    fft_length: Of the transform, in samples.
    num_mels: Filters.
    fmin: Lower end of the first, in Hz.
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
    floor: float = 1e-5,
    center: bool = True,
) -> Float[Array, 'batch frames mels']:
  """Natural logarithm of the mel spectrogram of magnitudes.

  Args:
    audio: [batch, samples].
    sample_rate: Of the audio, in Hz.
    window_length: In samples; transformed at its next power of two.
    hop_length: Samples from one frame to the next.
    num_mels: Filters.
    fmin: Lower end of the first, in Hz.
    fmax: Upper end of the last, in Hz; half the sample rate by default.
    floor: What smaller values are raised to before the logarithm.
    center: See `stft`.

  Returns:
    [batch, frames, num_mels] float32.
  """
  spectrum = stft(audio, window_length, hop_length, center=center)
  fft_length = 2 * (spectrum.shape[-1] - 1)
  filters = mel_filterbank(sample_rate, fft_length, num_mels, fmin, fmax)
  # The gradient of a square root is infinite at 0, where silence is.
  power = spectrum.real**2 + spectrum.imag**2
  magnitudes = jnp.sqrt(jnp.maximum(power, 1e-20))
  mel = jnp.einsum('btf,fm->btm', magnitudes, filters, precision='highest')
  return jnp.log(jnp.maximum(mel, floor))
