"""A discriminator of spectra in patches, which CPUs train, too.

A network of the kind of ConvNeXt (arXiv 2201.03545) judges patches of a
spectrum as Vision Transformers cut pictures (arXiv 2010.11929). All of its work
is large matrix products: XLA for CPUs is slow at convolutions of few channels,
which discriminators otherwise start with.
"""

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax.audio import dsp
from musiclm_jax.models import layers

_FRAMES, _BINS = 2, 8  # Of a patch.
_TAPS = 3, 5  # Patches that a block sees, in time and in frequency.
_POWER = 0.3  # Of magnitudes: quiet harmonics count beside loud ones.
_QUIETEST = 1e-4
_EXPANSION = 2
MULTIPLE = 2 * _BINS  # Of windows.


class PatchBlock(nn.Module):
  """A ConvNeXt block over time and frequency.

  Attributes:
    channels: Channels of input and output.
    dtype: Data type of the products.
  """

  channels: int
  dtype: jnp.dtype

  def setup(self):
    d = self.channels
    times, bands = _TAPS
    self.taps = partitioning.param_with_axes(
        'taps',
        nn.initializers.normal((times * bands) ** -0.5),
        (times, bands, d),
        axes=('kernel', 'kernel_1', 'channels'),
    )
    self.norm = layers.LayerNorm(d, dtype=self.dtype)
    self.up = layers.Dense(
        d, _EXPANSION * d, ('embed', 'mlp'), dtype=self.dtype
    )
    self.down = layers.Dense(
        _EXPANSION * d, d, ('mlp', 'embed'), dtype=self.dtype
    )

  def __call__(self, x: Float[Array, 'b t f d']) -> Float[Array, 'b t f d']:
    times, bands = _TAPS
    t, f = x.shape[1:3]
    edges = ((0, 0), (times // 2,) * 2, (bands // 2,) * 2, (0, 0))
    padded = jnp.pad(x, edges)
    # Shifted sums: XLA's depthwise convolutions are slow on CPUs.
    y: Array = sum(
        padded[:, i : i + t, j : j + f] * self.taps[i, j]
        for i in range(times)
        for j in range(bands)
    )
    y = self.down(jax.nn.leaky_relu(self.up(self.norm(y)), 0.1))
    return x + y.astype(x.dtype)


def cut(
    audio: Float[Array, 'batch samples'], window: int
) -> Float[Array, 'batch times bands values']:
  """Returns patches of a spectrum whose magnitudes are compressed.

  Args:
    audio: [batch, samples].
    window: Window of the STFT, in samples, a multiple of MULTIPLE; its hop is a
      quarter of that.

  Returns:
    [batch, times, bands, values] the real and imaginary parts of 2 frames by 8
    bins; the last frame is left out if they are odd, and so is the highest bin.
  """
  spectrum = dsp.stft(audio, window, window // 4)[..., :-1]
  # As loud in noise as its samples are.
  spectrum = spectrum / (0.375 * window) ** 0.5
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  scale = jnp.maximum(power, _QUIETEST**2) ** ((_POWER - 1) / 2)
  x = jnp.stack([spectrum.real * scale, spectrum.imag * scale], axis=-1)
  batch, frames, bins, _ = x.shape
  times, bands = frames // _FRAMES, bins // _BINS
  x = x[:, : times * _FRAMES].reshape(batch, times, _FRAMES, bands, _BINS, 2)
  return jnp.swapaxes(x, 2, 3).reshape(batch, times, bands, -1)


class PatchDiscriminator(nn.Module):
  """Judges the patches of a spectrum.

  Attributes:
    window: Window of the STFT, in samples.
    channels: Channels of each patch.
    num_blocks: Blocks, each of which sees the patches around.
    dtype: Data type of the products.
  """

  window: int
  channels: int
  num_blocks: int
  dtype: str

  def setup(self):
    dtype = jnp.dtype(self.dtype)
    dense = lambda i, o: layers.Dense(i, o, ('embed', 'mlp'), dtype=dtype)
    self.first = dense(2 * _FRAMES * _BINS, self.channels)
    # Where in the spectrum a patch is counts: no two bands sound alike.
    self.place = partitioning.param_with_axes(
        'place',
        nn.initializers.normal(0.1),
        (self.window // 2 // _BINS, self.channels),
        axes=('kernel', 'channels'),
    )
    self.blocks = [
        PatchBlock(self.channels, dtype) for _ in range(self.num_blocks)
    ]
    self.norm = layers.LayerNorm(self.channels, dtype=dtype)
    self.last = dense(self.channels, 1)

  def __call__(
      self, audio: Float[Array, 'batch samples']
  ) -> tuple[Float[Array, 'batch patches'], list[Float[Array, 'b t f d']]]:
    """Returns the logits of all patches, and the features of each layer."""
    x = self.first(cut(audio, self.window)) + self.place.astype(self.dtype)
    features = [x]
    for block in self.blocks:
      x = block(x)
      features.append(x)
    logits = self.last(self.norm(x))
    return logits.reshape(len(audio), -1).astype(jnp.float32), features
