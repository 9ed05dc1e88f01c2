"""VGGish (Hershey et al., arXiv 1609.09430), from weights that a user has."""

from collections.abc import Mapping
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax import errors
from musiclm_jax.metrics.embedders import base
from musiclm_jax.metrics.embedders import front_ends
from musiclm_jax.metrics.embedders import onnx
from musiclm_jax.metrics.embedders import sources
import numpy as np
from safetensors import numpy as safetensors_numpy

# Positions of convolutions and of poolings in the sequence of layers, as
# PyTorch numbers them; and of the three dense layers that follow.
_CONVOLUTIONS = (0, 3, 6, 8, 11, 13)
_POOLED_AFTER = (0, 3, 8, 13)
_DENSE = (0, 2, 4)
_WINDOWS_PER_CALL = 16
# In the variant of an embedder with the weights that AudioSet released.
RELEASE = 'release of AudioSet'
# Mean and deviation of its embeddings of three seconds of 1 kHz at full scale,
# by the smoke test in tensorflow/models (July 2023), and how exact they are.
_MEAN, _DEVIATION, _ERROR = 0.000657, 0.343, 0.01

Weights = Mapping[str, np.ndarray | Array]


def network(
    weights: Weights, log_mel: Float[Array, 'windows 96 64']
) -> Float[Array, 'windows width']:
  """Embeds patches of a log-mel spectrogram.

  Args:
    weights: 'features.N.weight' and '.bias' of convolutions, 'embeddings.N.…'
      of dense layers: PyTorch's layout, but maps are flattened channels last.
    log_mel: [windows, 96, 64]; see `front_ends.vggish_log_mel`.

  Returns:
    [windows, width] before the last activation, as TensorFlow's VGGish has it.
  """
  x = log_mel[:, np.newaxis]
  for i in _CONVOLUTIONS:
    kernel = jnp.asarray(weights[f'features.{i}.weight'])
    x = jax.lax.conv(x, kernel, (1, 1), 'SAME')
    x = jax.nn.relu(x + weights[f'features.{i}.bias'][:, None, None])
    if i in _POOLED_AFTER:
      shape = (1, 1, 2, 2)
      x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, shape, shape, 'VALID')
  x = jnp.moveaxis(x, 1, -1).reshape(len(x), -1)
  for i in _DENSE:  # The first follows maps that are not negative.
    x = jax.nn.relu(x) @ weights[f'embeddings.{i}.weight'].T
    x = x + weights[f'embeddings.{i}.bias']
  return x


def check_weights(path: pathlib.Path, weights: Weights) -> None:
  """Raises UserError unless the layers of VGGish are there, one on another."""
  names = [f'features.{i}' for i in _CONVOLUTIONS]
  names += [f'embeddings.{i}' for i in _DENSE]
  channels = 1
  for name in names:
    found = [
        np.shape(weights.get(f'{name}.{x}', 0)) for x in ('weight', 'bias')
    ]
    kernel = (3, 3) if name.startswith('features') else ()
    if name == 'embeddings.0':
      channels *= 6 * 4  # Frames and bands that four poolings leave.
    out = found[0][:1]
    if found != [(*out, channels, *kernel), out] or not out:
      raise errors.UserError(
          f"'{path}' must hold the layers of VGGish, as torchvggish names them,"
          f' but has {name} of shapes {found} for {channels} channels. Convert'
          ' it again.'
      )
    channels = out[0]


class VGGish(base.Embedder):
  """VGGish in JAX, of a safetensors file."""

  def __init__(self, name: str, path: pathlib.Path):
    with errors.reading(path, 'a safetensors file'):
      weights = safetensors_numpy.load_file(path)
    check_weights(path, weights)
    self._network = jax.jit(network)
    self._weights = jax.device_put(weights)
    self.identity = base.Identity(
        name,
        sources.sha256(path),
        front_ends.VGGISH.sample_rate,
        front_ends.VGGISH.window_seconds,
        len(weights[f'embeddings.{_DENSE[-1]}.bias']),
    )

  def embed_audio(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, 'windows width']:
    windows = front_ends.windows(front_ends.VGGISH, audio)
    embeddings = []
    for start in range(0, len(windows), _WINDOWS_PER_CALL):
      chunk = windows[start : start + _WINDOWS_PER_CALL]
      padding = ((0, _WINDOWS_PER_CALL - len(chunk)), (0, 0), (0, 0))
      found = self._network(self._weights, np.pad(chunk, padding))
      embeddings.append(np.asarray(found)[: len(chunk)])
    return np.concatenate(embeddings)


def _is_release(embedder: base.Embedder) -> bool:
  """Returns whether an embedder has the weights that AudioSet released."""
  rate = front_ends.VGGISH.sample_rate
  sine = np.sin(2 * np.pi * 1000 * np.arange(3 * rate) / rate)
  found = embedder.embed_audio(sine.astype(np.float32))
  error = abs(found.mean() - _MEAN), abs(found.std() - _DEVIATION)
  return found.shape[1] == 128 and bool(max(error) < _ERROR)


def load(name: str, source: str) -> base.Embedder:
  """Loads VGGish from an ONNX or a safetensors file.

  Its identity says so if the weights are those that AudioSet released.
  """
  path = sources.find_file(source, ('.onnx', '.safetensors'), name)
  if path.suffix == '.safetensors':
    embedder: base.Embedder = VGGish(name, path)
  else:
    output = onnx.describe(path).get('output', '')
    network = onnx.Network(path, front_ends.VGGISH, output)
    embedder = onnx.OnnxEmbedder(name, network)
  if _is_release(embedder):
    identity = embedder.identity
    variant = f'{identity.variant} {RELEASE}'.strip()
    embedder.identity = dataclasses.replace(identity, variant=variant)
  return embedder
