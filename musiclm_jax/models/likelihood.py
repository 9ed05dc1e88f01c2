"""The likelihood of an example's targets under a stage."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from musiclm_jax import streams


def offsets(stage: streams.Stage, length: int) -> Int[Array, ' length']:
  """Returns the id of code 0 at each of the first `length` target tokens."""
  of_frame = stage.offsets(stage.targets).astype(jnp.int32)
  return jnp.tile(of_frame, length // len(of_frame))


def codes(
    stage: streams.Stage, targets: Int[Array, 'b t']
) -> Int[Array, 'b t']:
  """Converts ids of targets to codes; 0 for padding."""
  return jnp.maximum(targets - offsets(stage, targets.shape[1]), 0)


def nats(
    stage: streams.Stage,
    logits: Float[Array, 'b t c'],
    targets: Int[Array, 'b t'],
) -> tuple[Float[Array, 'b t'], Bool[Array, 'b t']]:
  """Returns the negative log likelihood of targets, and a mask of real ones.

  Args:
    stage: The stage that computed the logits.
    logits: [batch, length, codes] logits of each position.
    targets: [batch, length] ids; 0 is padding.
  """
  index = codes(stage, targets)[..., jnp.newaxis]
  chosen = jnp.take_along_axis(logits, index, axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - chosen, targets != 0
