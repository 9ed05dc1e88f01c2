"""Contrastive batches larger than memory (GradCache, arXiv 2101.06983)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from musiclm_jax import errors


def map_parts(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    rows: jax.Array,
    num_parts: int,
) -> jax.Array:
  """Applies a function to parts of a batch in turn.

  Only inputs and outputs are kept for the backward pass, in which each part is
  computed again when its turn comes.

  Args:
    function: Takes the index of a part and its [batch / parts, ...] rows.
    rows: [batch, ...].
    num_parts: A divisor of the batch; 1 keeps everything.

  Returns:
    [batch, ...] results of `function`.

  Raises:
    UserError: If the batch cannot be divided evenly.
  """
  if num_parts == 1:
    return function(jnp.int32(0), rows)
  if num_parts < 1 or rows.shape[0] % num_parts:
    raise errors.UserError(
        f'tower_microbatches must divide a batch of {rows.shape[0]}, but is'
        f' {num_parts}. Set TOWER_MICROBATCHES to a divisor.'
    )
  # Row r goes to part r mod n, so that every device has rows of each part.
  parts = jnp.swapaxes(rows.reshape(-1, num_parts, *rows.shape[1:]), 0, 1)
  # In a loop, XLA does not merge the two computations anyway.
  again = jax.checkpoint(function, prevent_cse=False)
  done = jax.lax.map(lambda part: again(*part), (jnp.arange(num_parts), parts))
  return jnp.swapaxes(done, 0, 1).reshape(rows.shape[0], *done.shape[2:])
