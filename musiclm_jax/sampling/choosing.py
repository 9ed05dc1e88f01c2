"""Chooses the next token among the codes of its quantizer."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt
from musiclm_jax import errors
from musiclm_jax import streams
import numpy as np

OTHERS = '*'  # Stands for the stages that a config does not name.

# Upper limits: larger numbers would make float32 logits overflow.
_MOST = {'temperature': 1000, 'guidance_scale': 1000, 'top_k': 1 << 30}
_COLDEST = 1e-6  # Stands for temperature 0, where logits are divided by it.

Numbers = dict[str, np.float32 | Array]


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """How a stage chooses tokens.

  Attributes:
    temperature: Temperature of the logits; 0 always takes the likeliest code.
    top_k: Number of likeliest codes to choose from; 0 for all.
    top_p: Probability of the smallest set of likeliest codes to choose from
      (nucleus sampling, arXiv 1904.09751).
    guidance_scale: Scale of classifier-free guidance (arXiv 2207.12598): 1
      samples as trained; above, logits are extrapolated from those without
      conditioning, or with a negative prompt, through those with conditioning.
      It doubles the work. None is the stage's own, which `GenerationConfig.of`
      fills in; 1 where nothing does.

  Raises:
    UserError: If a value is out of range.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  guidance_scale: float | None = None

  def __post_init__(self):
    if not 0 <= self.temperature < float('inf'):
      raise errors.UserError(
          'temperature must be at least 0, which takes the likeliest tokens,'
          f' but is {self.temperature}.'
      )
    if self.top_k < 0:
      raise errors.UserError(
          'top_k must be at least 1, or 0 for no limit, but is'
          f' {self.top_k}.'
      )
    if not 0 < self.top_p <= 1:
      raise errors.UserError(
          'top_p must be above 0 and at most 1, which is no limit, but is'
          f' {self.top_p}.'
      )
    if not 0 <= self.scale < float('inf'):
      raise errors.UserError(
          'guidance_scale must be at least 0; 1 is no guidance and 3 is strong;'
          f' but is {self.guidance_scale}.'
      )
    for name, most in _MOST.items():
      if (getattr(self, name) or 0) > most:
        raise errors.UserError(
            f'{name} must be at most {most}, but is {getattr(self, name)}.'
        )

  @property
  def truncates(self) -> bool:
    """Whether top_k or top_p leaves codes out, which takes a sort."""
    return self.top_k > 0 or self.top_p < 1

  @property
  def scale(self) -> float:
    """The scale of guidance; 1 if it is not known."""
    return 1.0 if self.guidance_scale is None else self.guidance_scale

  @property
  def numbers(self) -> Numbers:
    """The fields as arguments of a compiled program."""
    known = {**dataclasses.asdict(self), 'guidance_scale': self.scale}
    return {k: np.float32(v) for k, v in known.items()}


DEFAULT = SamplingConfig()
FIELDS = tuple(field.name for field in dataclasses.fields(SamplingConfig))


class GenerationConfig(Mapping[str, SamplingConfig]):
  """How each stage of a cascade chooses tokens, by the stream it writes.

    GenerationConfig(semantic=SamplingConfig(0.9, top_k=50))

  The config of `OTHERS` applies to all stages that are not named; its
  temperature is a factor of each stage's own, so that by default every stage is
  sampled at its own temperature.
  """

  def __init__(self, **configs: SamplingConfig):
    """Takes the config of each named stage."""
    self._configs = {OTHERS: DEFAULT, **configs}

  def __getitem__(self, name: str) -> SamplingConfig:
    return self._configs[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._configs)

  def __len__(self) -> int:
    return len(self._configs)

  def __hash__(self) -> int:
    return hash(frozenset(self.items()))

  def __repr__(self) -> str:
    return f'GenerationConfig(**{self._configs})'

  def of(self, stage: streams.Stage) -> SamplingConfig:
    """Returns the config of a stage."""
    name = stage.targets.name
    found = self[name if name in self else OTHERS]
    if found.guidance_scale is None:
      found = dataclasses.replace(found, guidance_scale=stage.guidance_scale)
    if name in self:
      return found
    return dataclasses.replace(
        found, temperature=found.temperature * stage.temperature
    )

  def changed(
      self, temperature: float = 1.0, **changes: Any
  ) -> 'GenerationConfig':
    """Returns a config with the same changes for every stage.

    Args:
      temperature: Factor of the temperature of every stage.
      **changes: Other fields of `SamplingConfig`.
    """
    configs = {
        name: dataclasses.replace(
            config, temperature=temperature * config.temperature, **changes
        )
        for name, config in self.items()
    }
    return GenerationConfig(**configs)


def keys(seeds: UInt[Array, 'rows numbers']) -> Array:
  """Returns a random key for each row."""
  fold = lambda row: functools.reduce(
      jax.random.fold_in, row, jax.random.key(0)
  )
  return jax.vmap(fold)(seeds)


def choose(
    logits: Float[Array, 'sides codes'],
    keys: Array,
    indices: Int[Array, ' rows'],
    numbers: Numbers,
    truncates: bool,
) -> Int[Array, ' rows']:
  """Samples a code for each row, with noise from only its key and index.

  Args:
    logits: [rows, codes], or with guidance [2 * rows, codes], the second half
      without conditioning or with the negative prompt.
    keys: [rows] random keys.
    indices: [rows] index of the token in its piece.
    numbers: `SamplingConfig.numbers`.
    truncates: `SamplingConfig.truncates`.

  Returns:
    [rows] codes.
  """
  rows = indices.shape[0]
  if logits.shape[0] > rows:
    wanted, unwanted = logits[:rows], logits[rows:]
    logits = unwanted + numbers['guidance_scale'] * (wanted - unwanted)
  if truncates:
    logits = truncate(logits, numbers)
  noise = jax.vmap(
      lambda key, i: jax.random.gumbel(
          jax.random.fold_in(key, i), logits.shape[1:]
      )
  )(keys, indices)
  noisy = logits + numbers['temperature'] * noise
  return jnp.argmax(noisy, axis=-1).astype(jnp.int32)


def truncate(
    logits: Float[Array, 'rows codes'], numbers: Numbers
) -> Float[Array, 'rows codes']:
  """Sets the logits of codes that top_k or top_p leaves out to -inf."""
  ranked = jnp.flip(jnp.sort(logits, axis=-1), axis=-1)
  temperature = jnp.maximum(numbers['temperature'], _COLDEST)
  chances = jax.nn.softmax(ranked / temperature, axis=-1)
  likelier = jnp.cumsum(chances, axis=-1) - chances
  top_k = jnp.where(numbers['top_k'] > 0, numbers['top_k'], jnp.inf)
  kept = (likelier < numbers['top_p']) & (jnp.arange(ranked.shape[1]) < top_k)
  least = jnp.min(ranked, axis=-1, where=kept, initial=jnp.inf, keepdims=True)
  return jnp.where(logits >= least, logits, -jnp.inf)
