"""Causal convolutions: of whole audio, or of a stream that comes in chunks."""

import jax.numpy as jnp
from jaxtyping import Array, Float
from musiclm_jax.models import layers

# The collection of what a stream's chunks leave for the next. A module that is
# applied with it mutable takes its input as the next chunk; without it, as a
# whole. To begin with, all of it is 0: what whole audio is padded with.
STREAM = 'stream'


class CausalConv(layers.Conv):
  """A convolution over time whose outputs see no later input.

  Output t sees the inputs up to (t + 1) * stride - 1, so that chunks of whole
  strides give the outputs of the whole.
  """

  @property
  def context(self) -> int:
    """Inputs before its own stride that an output sees."""
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
