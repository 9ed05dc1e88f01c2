"""Causal convolutions over whole audio, or over a stream in chunks."""

import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax.models import layers

# The collection of the inputs that one chunk of a stream leaves for the next. A
# module applied with it mutable takes its input for the next chunk, otherwise
# for whole audio. It starts at 0, the padding of whole audio.
STREAM = 'stream'


class CausalConv(layers.Conv):
  """A convolution over time whose outputs depend on no later input.

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
    is_chunk = self.is_mutable_collection(STREAM) and not self.is_initializing()
    if not is_chunk or not self.context:
      return self.convolve(x, [(self.context, 0)])
    x = x.astype(self.dtype)
    start = jnp.zeros((x.shape[0], self.context, x.shape[2]), x.dtype)
    x = jnp.concatenate([self.get_variable(STREAM, 'left', start), x], axis=1)
    self.put_variable(STREAM, 'left', x[:, -self.context :])
    return self.convolve(x, [(0, 0)])
