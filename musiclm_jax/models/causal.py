"""Causal convolutions over whole audio, or over a stream in chunks."""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax.models import layers

# Collection of the inputs that one chunk of a stream leaves for the next. A
# module applied with it mutable treats its input as the next chunk, otherwise
# as whole audio. It starts as 0, like the padding of whole audio.
STREAM = 'stream'


def _is_chunk(module: nn.Module) -> bool:
  return module.is_mutable_collection(STREAM) and not module.is_initializing()


def with_left(
    module: nn.Module, x: Float[Array, 'b t d'], left: int
) -> Float[Array, 'b s d']:
  """Prepends left context: the last chunk's end, or zeros for whole audio.

  Args:
    module: Module that keeps the end of a chunk for the next one.
    x: [batch, steps, channels].
    left: Steps of context.
  """
  start = jnp.zeros((x.shape[0], left, x.shape[2]), x.dtype)
  if _is_chunk(module):
    start = module.get_variable(STREAM, 'left', start)
  x = jnp.concatenate([start, x], axis=1)
  if _is_chunk(module):
    module.put_variable(STREAM, 'left', x[:, x.shape[1] - left :])
  return x


def overlap_add(
    module: nn.Module, audio: Float[Array, 'b t'], tail: int
) -> Float[Array, 'b s']:
  """Returns audio without its tail, which is added to the next chunk.

  Args:
    module: Module that keeps the tail.
    audio: [batch, samples].
    tail: Samples at the end that are still incomplete.
  """
  if not _is_chunk(module):
    return audio[:, :-tail]
  before = jnp.zeros((audio.shape[0], tail), audio.dtype)
  before = module.get_variable(STREAM, 'tail', before)
  audio = audio.at[:, :tail].add(before)
  module.put_variable(STREAM, 'tail', audio[:, -tail:])
  return audio[:, :-tail]


class CausalConv(layers.Conv):
  """A convolution over time whose outputs do not depend on later inputs.

  Output t depends on inputs up to (t + 1) * stride - 1, so that chunks of whole
  strides give the same outputs as the whole.
  """

  @property
  def context(self) -> int:
    """Inputs before its own stride that an output depends on."""
    [kernel], [stride], [dilation] = (
        self.kernel_size,
        self.strides or (1,),
        self.dilation or (1,),
    )
    return (kernel - 1) * dilation + 1 - stride

  def __call__(self, x: Float[Array, 'b t i']) -> Float[Array, 'b s o']:
    if not _is_chunk(self) or not self.context:
      return self.convolve(x, [(self.context, 0)])
    x = with_left(self, x.astype(self.dtype), self.context)
    return self.convolve(x, [(0, 0)])
