"""AdamW, Muon and their learning rate schedules."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from musiclm_jax import errors
from musiclm_jax.models import stacking
import optax
from optax import contrib

_LAST_SHARE = 0.2  # Share of the steps in which a trapezoid falls.


class Optimizer(optax.GradientTransformationExtraArgs):
  """An optax transformation that exposes its learning rate.

  Attributes:
    learning_rate: Learning rate of each step, for logging.
  """

  learning_rate: optax.Schedule


def schedule(
    peak_learning_rate: float,
    warmup_steps: int,
    train_steps: int,
    name: str = 'cosine',
) -> optax.Schedule:
  """Returns a linear warm-up to the peak, followed by a decay.

  Args:
    peak_learning_rate: Learning rate at the end of the warm-up.
    warmup_steps: Number of steps from 0 to the peak.
    train_steps: Total number of steps; the warm-up takes at most half of them.
    name: 'cosine' falls to a hundredth of the peak at `train_steps`, 'rsqrt'
      with the square root of the step, 'constant' not at all; 'trapezoid' falls
      to 0 in the last fifth (WSD of MiniCPM, arXiv 2404.06395, section 4), so
      that a run can be made longer until then.

  Raises:
    UserError: If there is no schedule of that name.
  """
  warmup_steps = min(warmup_steps, train_steps // 2)
  after: optax.Schedule
  if name == 'cosine':
    after = optax.cosine_decay_schedule(
        peak_learning_rate, max(train_steps - warmup_steps, 1), alpha=0.01
    )
  elif name == 'rsqrt':
    start = max(warmup_steps, 1)
    after = lambda step: peak_learning_rate * jnp.sqrt(
        start / (start + jnp.maximum(step, 0))
    )
  elif name == 'constant':
    after = optax.constant_schedule(peak_learning_rate)
  elif name == 'trapezoid':
    last = max(round(_LAST_SHARE * train_steps), 1)
    after = optax.linear_schedule(
        peak_learning_rate, 0.0, last, train_steps - warmup_steps - last
    )
  else:
    raise errors.UserError(
        "schedule must be 'cosine', 'rsqrt', 'constant' or 'trapezoid', but is"
        f" '{name}'."
    )
  if not warmup_steps:
    return after
  # The first step already moves, as a step at 0 would be wasted.
  warmup = optax.linear_schedule(
      peak_learning_rate / warmup_steps, peak_learning_rate, warmup_steps - 1
  )
  return optax.join_schedules([warmup, after], [warmup_steps])


def only(
    optimizer: optax.GradientTransformation,
    is_trained: Callable[[tuple[str, ...]], bool],
) -> optax.GradientTransformation:
  """Returns an optimizer that leaves all but some parameters as they are.

  Args:
    optimizer: What the others are trained with.
    is_trained: Whether the parameter of a path of names is trained.
  """

  def label(path, _):
    names = tuple(str(getattr(key, 'key', key)) for key in path)
    return 'trained' if is_trained(names) else 'kept'

  transforms = {'trained': optimizer, 'kept': optax.set_to_zero()}
  labels = lambda params: jax.tree_util.tree_map_with_path(label, params)
  chosen = Optimizer(*optax.multi_transform(transforms, labels))
  chosen.learning_rate = getattr(optimizer, 'learning_rate', None)
  return chosen


def _is_matrix(params):
  def is_matrix(path, param):
    names = [getattr(key, 'key', None) for key in path]
    return param.ndim - (stacking.STACKED in names) > 1

  return jax.tree_util.tree_map_with_path(is_matrix, params)


def _clip_by_global_norm(
    max_norm: float, clip_each: bool
) -> optax.GradientTransformation:
  """Like optax's, but with a single factor, so XLA stores no clipped copy."""

  def clip(updates):
    norm = optax.global_norm(updates)
    factor = jnp.where(norm < max_norm, 1.0, max_norm / norm)
    scale = lambda x: x * factor.astype(x.dtype)
    return jax.tree.map(scale, updates)

  def update(updates, state, params=None):
    del params
    if clip_each:
      # t5x has its trees in FrozenDicts.
      parts = {name: clip(part) for name, part in updates.items()}
      return type(updates)(parts), state
    return clip(updates), state

  return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def adamw(
    peak_learning_rate: float,
    warmup_steps: int,
    train_steps: int,
    schedule_name: str = 'cosine',
    b1: float = 0.9,
    b2: float = 0.98,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
    clip_each: bool = False,
) -> Optimizer:
  """Returns AdamW (arXiv 1711.05101) with a schedule and gradient clipping.

  Args:
    peak_learning_rate: See `schedule`.
    warmup_steps: See `schedule`.
    train_steps: See `schedule`.
    schedule_name: See `schedule`.
    b1: Decay of the running mean of the gradients.
    b2: Decay of the running mean of their squares.
    weight_decay: Decay of matrices; biases, scales and scalars do not decay.
    clip_norm: Largest global norm of the gradients; None for no limit.
    clip_each: Whether each network has a norm of its own, if there are several,
      lest the gradient of one shrink that of another.
  """
  learning_rate = schedule(
      peak_learning_rate, warmup_steps, train_steps, schedule_name
  )
  adam = optax.adamw(
      learning_rate, b1, b2, weight_decay=weight_decay, mask=_is_matrix
  )
  return _optimizer(adam, learning_rate, clip_norm, clip_each)


def muon(
    peak_learning_rate: float,
    warmup_steps: int,
    train_steps: int,
    schedule_name: str = 'cosine',
    b1: float = 0.9,
    b2: float = 0.98,
    beta: float = 0.95,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
) -> Optimizer:
  """Returns Muon for the matrices of layers, and Adam for all else.

  Muon (https://kellerjordan.github.io/posts/muon) takes steps that move all
  directions of a matrix alike. It is scaled so that learning rates of AdamW
  hold for it (arXiv 2502.16982, section 2.2). Both look ahead, as Nesterov's
  momentum does.

  Args:
    peak_learning_rate: See `schedule`.
    warmup_steps: See `schedule`.
    train_steps: See `schedule`.
    schedule_name: See `schedule`.
    b1: As for `adamw`.
    b2: As for `adamw`.
    beta: Decay of the running mean of the gradients of matrices of layers.
    weight_decay: Decay of the matrices of layers; nothing else decays.
    clip_norm: As for `adamw`.
  """
  learning_rate = schedule(
      peak_learning_rate, warmup_steps, train_steps, schedule_name
  )
  mixed = contrib.muon(
      learning_rate,
      beta=beta,
      weight_decay=weight_decay,
      adam_b1=b1,
      adam_b2=b2,
      muon_weight_dimension_numbers=_sides,
      consistent_rms=0.2,
  )
  return _optimizer(mixed, learning_rate, clip_norm)


def _sides(params):
  """Returns the axes of the matrices of layers; None for what else there is."""

  def sides(path, param):
    names = [getattr(key, 'key', None) for key in path]
    stacked = stacking.STACKED in names
    if names[-1] != 'kernel' or param.ndim - stacked != 2:
      return None
    return contrib.MuonDimensionNumbers(stacked, stacked + 1)

  return jax.tree_util.tree_map_with_path(sides, params)


def _optimizer(
    transform: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    clip_norm: float | None,
    clip_each: bool = False,
) -> Optimizer:
  transforms = [transform]
  if clip_norm is not None:
    transforms.insert(0, _clip_by_global_norm(clip_norm, clip_each))
  optimizer = Optimizer(*optax.chain(*transforms))
  optimizer.learning_rate = learning_rate
  return optimizer
