"""Samples the targets of a stage token by token, with a key-value cache."""

from collections.abc import Callable, Iterator
from concurrent import futures
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Int
from musiclm_jax import streams
from musiclm_jax.models import caching
from musiclm_jax.models import decoding
from musiclm_jax.models import parts
from musiclm_jax.models import patterns
from musiclm_jax.models import positions
from musiclm_jax.models import transformer
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import dtypes
from musiclm_jax.sampling import spreading
from musiclm_jax.stages import base as stages
import numpy as np

# Rows that a device decodes at once; more take turns, to bound memory.
MAX_ROWS = 16
REPORT_STEPS = 64  # Steps between reports of progress.


@functools.cache
def _compiler() -> futures.Executor:
  """Returns the thread that compiles; a single one, as each uses a core."""
  return futures.ThreadPoolExecutor(1, 'compiler')


def _round_up(number: int, multiple: int) -> int:
  return -(-number // multiple) * multiple


class StageDecoder:
  """A trained stage, ready to sample from.

  Attributes:
    stage: The streams it reads and writes, and the length of its windows.
    lineage: The sha256 of each tokenizer that it was trained with.
    knows_absence: Whether it was trained with conditioning dropout.
    sha256: The sha256 of the part that holds its weights.
  """

  def __init__(
      self,
      stage: streams.Stage,
      config: transformer.TransformerConfig,
      params: Any,
      lineage: dict[str, str] | None = None,
      dtype: str = 'float32',
      knows_absence: bool = True,
      sha256: str = '',
  ):
    """Makes a decoder.

    Args:
      stage: See above.
      config: Sizes.
      params: Parameters of `transformer.StageTransformer`, layers unstacked.
      lineage: See above.
      dtype: Type of the weights, see `from_dir`; not 'auto'.
      knows_absence: See above.
      sha256: See above.
    """
    self.knows_absence, self.sha256 = knows_absence, sha256
    self.stage, self._pattern = stage, patterns.of_stage(stage)
    self.lineage = dict(lineage or {})
    self._config, self._dtype = config, dtype
    weights = decoding.pack(params, config, dtype)
    self._weights = functools.cache(
        functools.partial(spreading.copy_to_all, weights)
    )
    self._prefix_length = sum(stage.num_ids(s) for s in stage.prefix)
    self._frames = positions.frames(
        stage, self._prefix_length, stage.num_ids(stage.targets)
    )
    # One more than the sequence, as position i reads the ids at i - 1.
    self._length = _round_up(len(self._frames) + 1, caching.LENGTH_STEP)
    self._preparing: list[futures.Future[None]] = []
    self._prepared: set[tuple[Any, ...]] = set()
    self._empty = jax.jit(self._empty_cache, static_argnums=(0, 1))
    self._run = jax.jit(
        self._run_steps,
        static_argnums=(8, 9),
        donate_argnums=2,
        compiler_options=decoding.compiler_options(),
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
      directory: Directory of the model.
      name: Name of the stage.
      dtype: Type of the weights, one of `dtypes.DTYPES`.

    Raises:
      NotFoundError: If the model has no such part.
      UserError: If the part is damaged, or not what its config describes.
    """
    part = parts.load(directory, name)
    dtype = dtypes.resolve(dtype, directory, name)
    lineage = dict(part.lineage)
    with parts.building(directory, name):
      stage = stages.of_part(part.config)
      config = transformer.TransformerConfig(**part.config['transformer'])
      params = part.variables.get('params', {})
      expected = transformer.abstract_params(config, stage)
      parts.check_variables(name, {'params': params}, {'params': expected})
      knows_absence = part.config.get('conditioning_dropout', 0) > 0
      sha256 = part.sha256
      return cls(stage, config, params, lineage, dtype, knows_absence, sha256)

  def sample(
      self,
      tokens: streams.Tokens,
      prefix: Int[np.ndarray, 'rows known quantizers'],
      num_frames: int,
      seeds: Int[np.ndarray, 'rows numbers'],
      starts: Int[np.ndarray, ' rows'],
      config: choosing.SamplingConfig = choosing.DEFAULT,
      negative: streams.Tokens | None = None,
      progress: Callable[[int], Any] = lambda _: None,
  ) -> Int[np.ndarray, 'rows frames quantizers']:
    """Samples the first frames of a window, each row with its own seeds.

    Args:
      tokens: The inputs of the stage, each a whole window.
      prefix: Known frames at the start of the window.
      num_frames: Number of frames to return, the prefix included.
      seeds: [rows, numbers] of 32 bits, which decide the noise of each row.
      starts: [rows] frame of the whole piece at which the window starts. The
        same frame and seed draw the same noise in any window.
      config: How tokens are chosen.
      negative: Inputs that guidance leads away from; by default, the same
        inputs without conditioning.
      progress: Called with the number of new tokens, every few steps.

    Returns:
      [rows, num_frames, quantizers] tokens of the targets.
    """
    size = self.rows_at_once(len(prefix), config)
    outputs = []
    for i in range(0, len(prefix), size):
      # The last row is repeated to fill the batch.
      rows = np.minimum(np.arange(i, i + size), len(prefix) - 1)
      pieces = self.stream(
          {name: x[rows] for name, x in tokens.items()},
          prefix[rows],
          num_frames,
          seeds[rows],
          starts[rows],
          config,
          negative and {name: x[rows] for name, x in negative.items()},
      )
      sampled = [prefix[rows]]
      for piece in pieces:
        sampled.append(piece)
        progress(piece[: len(prefix) - i].size)
      outputs.append(np.concatenate(sampled, axis=1)[: len(prefix) - i])
    return np.concatenate(outputs)

  def stream(
      self,
      tokens: streams.Tokens,
      prefix: Int[np.ndarray, 'rows known quantizers'],
      num_frames: int,
      seeds: Int[np.ndarray, 'rows numbers'],
      starts: Int[np.ndarray, ' rows'],
      config: choosing.SamplingConfig = choosing.DEFAULT,
      negative: streams.Tokens | None = None,
  ) -> Iterator[Int[np.ndarray, 'rows some quantizers']]:
    """Yields the frames that `sample` adds to the prefix, a few at a time.

    All rows are decoded at once, split evenly over as many devices as possible,
    so there should be at most MAX_ROWS per device, or half as many with
    guidance. Arguments are those of `sample`.
    """
    while self._preparing:
      self._preparing.pop().result()
    read, added = self._layout(tokens, prefix, num_frames, config, negative)
    start, pattern, known = self._prefix_length, self._pattern, prefix.shape[1]
    position = start + pattern.first_position(known)
    end = start + pattern.num_positions(num_frames)
    offsets = self.stage.offsets(self.stage.targets).astype(np.int32)
    cache, filled, done = None, 0, known
    while position < end:
      last = pattern.num_frames(position - start + REPORT_STEPS)
      stop = start + pattern.num_positions(min(last, num_frames))
      places = filled, position, stop, known, num_frames
      read, cache = self._advance(
          places, read, cache, added, seeds, starts, config
      )
      filled = position = stop
      ids = np.asarray(read)[0, :, start + 1 : stop + 1]
      frames = np.asarray(pattern.to_frames(ids))
      yield frames[:, done:] - offsets
      done = frames.shape[1]

  def prepare(
      self,
      seeds: Int[np.ndarray, 'rows numbers'],
      config: choosing.SamplingConfig,
  ) -> None:
    """Compiles `stream` for as many rows as `seeds`, in another thread."""
    key = seeds.shape, self._is_guided(config), config.truncates
    if key not in self._prepared:
      self._prepared.add(key)
      self._preparing.append(_compiler().submit(self._compile, seeds, config))

  def _compile(self, seeds, config):
    """Compiles by running 0 steps, on rows in which everything is ABSENT."""
    rows = len(seeds)
    absent = {
        s.name: np.full(
            (rows, s.num_frames(self.stage.crop_seconds), s.num_quantizers),
            streams.ABSENT,
        )
        for s in (*self.stage.inputs, self.stage.targets)
    }
    prefix = absent[self.stage.targets.name][:, :0]
    read, added = self._layout(absent, prefix, 1, config, None)
    self._advance((0,) * 5, read, None, added, seeds, np.zeros(rows), config)

  def _advance(self, places, read, cache, added, seeds, starts, config):
    """Runs `_run_steps`; starts with an empty cache if there is none yet."""
    devices = spreading.num_devices(len(seeds))
    return self._run(
        self._weights(devices),
        read,
        cache or self._empty(len(read) * len(seeds), devices),
        added,
        np.array(places, np.int32),
        seeds.astype(np.uint32),
        starts.astype(np.int32),
        config.numbers,
        config.truncates,
        devices,
    )

  def rows_at_once(self, rows: int, config: choosing.SamplingConfig) -> int:
    """Returns the size, one of few, of batches that split rows evenly."""
    most = MAX_ROWS // 2 if self._is_guided(config) else MAX_ROWS
    devices = min(rows, jax.local_device_count())
    turns = -(-rows // (devices * most))
    share = -(-rows // (turns * devices))
    return devices * (share if share < 8 else _round_up(share, 2))

  def _is_guided(self, config: choosing.SamplingConfig) -> bool:
    return bool(self.stage.guiding) and config.scale != 1.0

  def _layout(self, tokens, prefix, num_frames, config, negative):
    """Lays out the ids that positions read.

    Returns:
      [sides, rows, length, width] ids, 0 where they are to be sampled, and the
      [sides, rows, frames, quantizers] ids of each added stream. With guidance,
      the second side is the one to lead away from.
    """
    stage, start = self.stage, self._prefix_length + 1
    inputs = [tokens]
    if self._is_guided(config):
      inputs.append(negative or _without_guiding(stage, tokens))
    ids = lambda s: stage.to_ids(np.stack([x[s.name] for x in inputs]), s)
    shape = len(inputs), *prefix.shape[:1]
    # Position i reads the ids at position i - 1.
    read = np.zeros((*shape, self._length, self._pattern.width), np.int32)
    if stage.prefix:
      flat = [ids(s).reshape(*shape, -1) for s in stage.prefix]
      read[:, :, 1:start, 0] = np.concatenate(flat, axis=-1)
    missing = [(0, 0), (0, num_frames - prefix.shape[1]), (0, 0)]
    known = np.pad(stage.to_ids(prefix, stage.targets), missing)
    known = self._pattern.to_positions(known)
    read[:, :, start : start + known.shape[1]] = known
    added = {s.name: ids(s).astype(np.int32) for s in stage.added}
    return read, added

  def _empty_cache(self, rows, devices):
    def run():
      return caching.empty(
          self._config, self._dtype, rows // devices, self._length
      )

    cached = spreading.along(caching.BATCH_AXIS)
    return spreading.spread(run, devices, (), cached)()

  def _run_steps(
      self, weights, read, cache, added, places, seeds, starts, numbers,
      truncates, devices,
  ):  # fmt: skip
    """Samples tokens.

    Args:
      weights: From `decoding.pack`.
      read: [sides, rows, length, width] ids, 0 where they are unknown.
      cache: Keys and values so far.
      added: [sides, rows, frames, quantizers] ids of each added stream.
      places: Number of positions in the cache, known, and known afterwards;
        then number of frames known, and to be known.
      seeds: See `sample`.
      starts: [rows] index in the piece of the first frame of the window.
      numbers: `SamplingConfig.numbers`.
      truncates: `SamplingConfig.truncates`.
      devices: Devices that share the rows.

    Returns:
      The ids, sampled ones included, and the cache.
    """
    rows, whole = spreading.along(0), spreading.WHOLE
    sides, cached = spreading.along(1), spreading.along(caching.BATCH_AXIS)
    run = spreading.spread(
        functools.partial(self._sample_rows, truncates=truncates),
        devices,
        (whole, sides, cached, sides, whole, rows, rows, whole),
        (sides, cached),
    )
    return run(weights, read, cache, added, places, seeds, starts, numbers)

  def _sample_rows(
      self, weights, sides, cache, added, places, seeds, starts, numbers,
      truncates,
  ):  # fmt: skip
    """Does the work of `_run_steps` on one device."""
    filled, first, stop, known, num_frames = places
    pattern, token_frames = self._pattern, jnp.asarray(self._frames)
    read, added = _merge_sides(sides), self._add_up(weights, added)
    keys = jnp.repeat(choosing.keys(seeds), pattern.width)
    offsets = jnp.asarray(self.stage.offsets(self.stage.targets), jnp.int32)
    cache = decoding.prefill(
        weights, self._config, read, filled, first, token_frames, cache, added
    )

    def step(carry):
      position, read, cache = carry
      frames, quantizers = pattern.places(position - self._prefix_length)
      logits, cache = decoding.step(
          weights,
          self._config,
          jax.lax.dynamic_index_in_dim(read, position, 1, keepdims=False),
          position,
          token_frames,
          quantizers,
          cache,
          added,
      )
      index = (starts[:, None] + frames) * pattern.num_quantizers + quantizers
      codes = choosing.choose(
          logits.reshape(-1, logits.shape[-1]),
          keys,
          index.reshape(-1),
          numbers,
          truncates,
      )
      ids = codes.reshape(index.shape) + offsets[quantizers]
      ids = jnp.tile(ids, (len(read) // len(ids), 1))
      place = position + 1
      is_new = (frames >= known) & (frames < num_frames)
      old = jax.lax.dynamic_index_in_dim(read, place, 1, keepdims=False)
      ids = jnp.where(is_new, ids, old)[:, None]
      read = jax.lax.dynamic_update_slice_in_dim(read, ids, place, 1)
      return place, read, cache

    carry = first, read, cache
    _, read, cache = jax.lax.while_loop(lambda c: c[0] < stop, step, carry)
    return read.reshape(sides.shape), cache

  def _add_up(self, weights, ids):
    """Returns the [rows, length, embed] to add to positions, None for none."""
    if not ids:
      return None
    room = self._length - len(self._frames)
    frames = np.pad(self._frames, (0, room), constant_values=positions.NO_FRAME)
    ids = {name: _merge_sides(x) for name, x in ids.items()}
    return decoding.add_up(weights, self._config, self.stage, ids, frames)


def _merge_sides(x: jax.Array) -> jax.Array:
  """[sides, rows, ...] -> [sides * rows, ...]."""
  return x.reshape(-1, *x.shape[2:])


def _without_guiding(
    stage: streams.Stage, tokens: streams.Tokens
) -> streams.Tokens:
  """Returns inputs without what guides the stage."""
  absent = lambda x: np.full_like(x, streams.ABSENT)
  unknown = {s.name: absent(tokens[s.name]) for s in stage.guiding}
  return {**tokens, **unknown}
