"""Samples the targets of a stage, one token after the other, with a cache."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt
from musiclm_jax.models import parts
from musiclm_jax.models import positions
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np

MAX_ROWS = 16  # Decoded at once; more take turns, to bound memory.
CACHE_STEP = 512  # The cache grows by so many positions: few programs to build.
PREFILL_STEP = 256
REPORT_STEPS = 128  # Between reports of progress.

# On CPUs XLA else copies the whole cache at every step.
_CPU_OPTIONS = {'xla_cpu_copy_insertion_use_region_analysis': True}


@functools.cache
def _compiler_options() -> dict[str, Any] | None:
  return _CPU_OPTIONS if jax.default_backend() == 'cpu' else None


def _round_up(number: int, multiple: int) -> int:
  return -(-number // multiple) * multiple


def _cast(params: Any, dtype: str) -> Any:
  """Casts matrices to the dtype of the arithmetic, once; norms stay float32."""
  cast = lambda x: jnp.asarray(x, dtype if np.ndim(x) > 1 else jnp.float32)
  return jax.tree.map(cast, params)


class StageDecoder:
  """A trained stage, ready to sample from.

  Attributes:
    stage: What it reads and writes, and the length of its windows.
    lineage: The sha256 of each tokenizer it was trained with.
  """

  def __init__(
      self,
      stage: stages.Stage,
      config: transformer.TransformerConfig,
      params: Any,
      lineage: dict[str, str] | None = None,
  ):
    self.stage = stage
    self.lineage = dict(lineage or {})
    self._module = transformer.StageTransformer(config, stage)
    self._params = _cast(params, config.dtype)
    lengths = stage.feature_lengths
    self._input_length = lengths['inputs']
    self._frames = positions.frames(
        stage, lengths['inputs'], lengths['targets']
    )
    self._prefill = jax.jit(self._prefill_positions)
    self._run = jax.jit(
        self._run_steps,
        donate_argnums=(1, 2),
        compiler_options=_compiler_options(),
    )

  @classmethod
  def from_dir(
      cls,
      directory: str | os.PathLike[str],
      name: str,
      dtype: str = 'float32',
  ) -> 'StageDecoder':
    """Loads the part of a stage.

    Args:
      directory: Of the model.
      name: Of the stage.
      dtype: Of weights and arithmetic, 'float32' or 'bfloat16'.

    Raises:
      FileNotFoundError: If the model has no such part.
      ValueError: If the part is damaged, or not what its config describes.
    """
    part = parts.load(directory, name)
    stage = stages.get_stage(part.config['stage'], part.config['crop_seconds'])
    config = transformer.TransformerConfig(**part.config['transformer'])
    config = dataclasses.replace(config, dtype=dtype)
    module = transformer.StageTransformer(config, stage)
    lengths = stage.feature_lengths
    expected = jax.eval_shape(
        module.init,
        jax.random.key(0),
        *(jnp.zeros((1, lengths[k]), jnp.int32) for k in lengths),
    )
    params = part.variables.get('params', {})
    parts.check_variables(
        name, {'params': params}, {'params': expected['params']}
    )
    return cls(stage, config, params, dict(part.lineage))

  def sample(
      self,
      tokens: base.Tokens,
      prefix: Int[np.ndarray, 'rows known quantizers'],
      num_frames: int,
      seeds: Int[np.ndarray, 'rows numbers'],
      starts: Int[np.ndarray, ' rows'],
      temperature: float,
      progress: Callable[[int], Any] = lambda _: None,
  ) -> Int[np.ndarray, 'rows frames quantizers']:
    """Samples the first frames of a window, each row from its own seeds.

    Args:
      tokens: The inputs of the stage, each a whole window.
      prefix: Known frames at the start of the window.
      num_frames: To return, those of the prefix included.
      seeds: [rows, numbers] of 32 bits; a row's noise depends on all its own.
      starts: [rows] frame of the whole piece at which the window starts. The
        same frame and seed draw the same noise in any window.
      temperature: Of the logits; 0 takes the likeliest code.
      progress: Is told how many more tokens are sampled.

    Returns:
      [rows, num_frames, quantizers] tokens of the targets.
    """
    size = _rows_at_once(len(prefix))
    outputs = []
    for i in range(0, len(prefix), size):
      # The last rows are repeated until there are as many as before.
      rows = np.minimum(np.arange(i, i + size), len(prefix) - 1)
      sampled = self._sample_rows(
          {s.name: tokens[s.name][rows] for s in self.stage.inputs},
          prefix[rows],
          num_frames,
          seeds[rows],
          starts[rows],
          temperature,
          lambda n, i=i: progress(n * min(size, len(prefix) - i)),
      )
      outputs.append(sampled[: len(prefix) - i])
    return np.concatenate(outputs)

  def _sample_rows(
      self, tokens, prefix, num_frames, seeds, starts, temperature, progress
  ):
    """Samples few enough rows to be decoded at once; see `sample`."""
    stage = self.stage
    rows, quantizers = len(prefix), stage.targets.num_quantizers
    streams = [(tokens[s.name], s) for s in stage.inputs]
    streams.append((prefix, stage.targets))
    ids = np.concatenate(
        [stage.to_ids(t, s).reshape(rows, -1) for t, s in streams], axis=1
    )
    start = ids.shape[1]
    end = self._input_length + num_frames * quantizers
    # Position i reads token i - 1.
    length = _round_up(len(self._frames) + 1, CACHE_STEP)
    read = np.zeros((rows, length), np.int32)
    read[:, 1 : start + 1] = ids
    cache = self._prefill(
        self._params, read[:, : _round_up(start, PREFILL_STEP)]
    )
    position = start
    while position < end:
      size = _round_up(position + 1, CACHE_STEP)
      cache = _resize(cache, size)
      stop = min(end, size, position + REPORT_STEPS)
      read, cache = self._run(
          self._params,
          read,
          cache,
          position,
          stop,
          seeds.astype(np.uint32),
          starts.astype(np.int32) * quantizers,
          np.float32(temperature),
      )
      jax.block_until_ready(read)
      progress(stop - position)
      position = stop
    targets = np.asarray(read)[:, self._input_length + 1 : end + 1]
    targets = targets.reshape(rows, num_frames, quantizers)
    return targets - stage.offsets(stage.targets).astype(np.int32)

  def _prefill_positions(self, params, read):
    return self._module.apply(
        {'params': params}, read, jnp.asarray(self._frames), method='prefill'
    )

  def _run_steps(
      self, params, read, cache, position, stop, seeds, firsts, temperature
  ):
    """Samples the tokens of positions [position, stop)."""
    keys = _keys(seeds)
    quantizers = self.stage.targets.num_quantizers
    offsets = jnp.asarray(self.stage.offsets(self.stage.targets), jnp.int32)

    def step(carry):
      position, read, cache = carry
      index = position - self._input_length
      logits, cache = self._module.apply(
          {'params': params},
          jax.lax.dynamic_index_in_dim(read, position, 1, keepdims=False),
          position,
          jnp.asarray(self._frames),
          index % quantizers,
          cache,
          method='step',
      )
      codes = _pick(logits, keys, firsts + index, temperature)
      ids = codes + offsets[index % quantizers]
      read = jax.lax.dynamic_update_slice_in_dim(
          read, ids[:, None], position + 1, 1
      )
      return position + 1, read, cache

    carry = jnp.int32(position), read, cache
    _, read, cache = jax.lax.while_loop(lambda c: c[0] < stop, step, carry)
    return read, cache


def _rows_at_once(rows: int) -> int:
  """Shares out rows evenly, in one of few sizes: each is compiled for."""
  share = -(-rows // -(-rows // MAX_ROWS))
  return share if share < 8 else _round_up(share, 2)


@functools.partial(jax.jit, static_argnums=1)
def _resize(
    cache: Sequence[transformer.KeyValues], size: int
) -> Sequence[transformer.KeyValues]:
  """Makes room for `size` positions."""
  resize = lambda x: jax.lax.pad(
      x,
      jnp.zeros((), x.dtype),
      [(0, 0, 0)] * 2 + [(0, size - x.shape[2], 0), (0, 0, 0)],
  )
  return jax.tree.map(resize, cache)


def _keys(seeds: UInt[Array, 'rows numbers']) -> Array:
  """Returns a random key for each row."""
  fold = lambda row: functools.reduce(
      jax.random.fold_in, row, jax.random.key(0)
  )
  return jax.vmap(fold)(seeds)


def _pick(
    logits: Float[Array, 'rows codes'],
    keys: Array,
    indices: Int[Array, ' rows'],
    temperature: Float[Array, ''],
) -> Int[Array, ' rows']:
  """Samples a code for each row, with noise that only key and index decide."""
  noise = jax.vmap(
      lambda key, i: jax.random.gumbel(
          jax.random.fold_in(key, i), logits.shape[1:]
      )
  )(keys, indices)
  return jnp.argmax(logits + temperature * noise, axis=-1).astype(jnp.int32)
