"""Residual vector quantization."""

import functools

from flax import linen as nn
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from musiclm_jax import errors
from musiclm_jax.models import kmeans
import numpy as np

# Iterations of k-means when the first batch initializes the codebooks.
_INIT_ITERATIONS = 10
# A code is dead if its average assignments fall below this share of those that
# equally used codes would have; it is revived with twice that. Ours: the
# paper's 2 assignments per batch depend on the batch; with EnCodec's 4,800
# frames and 1024 codes they are a share of .43. A share of .1 halves the
# perplexity of the last codebooks, as quiet frames then share few codes.
_DEAD_SHARE = 0.4


def quantize(
    embeddings: Float[Array | np.ndarray, '*batch d'],
    codebooks: Float[Array | np.ndarray, 'q c d'],
) -> Int[Array, '*batch q']:
  """Finds the nearest code of each codebook, coarse to fine.

  Args:
    embeddings: [..., embed] floats; compared in float32.
    codebooks: [quantizers, codes, embed].

  Returns:
    [..., quantizers] int32 tokens.
  """
  codebooks = jnp.asarray(codebooks, jnp.float32)
  residuals = jnp.asarray(embeddings, jnp.float32)
  shape = residuals.shape[:-1]
  residuals = residuals.reshape(-1, residuals.shape[-1])

  def quantize_residual(residual, codebook):
    tokens = kmeans.nearest(residual, codebook)
    return residual - codebook[tokens], tokens

  _, tokens = jax.lax.scan(quantize_residual, residuals, codebooks)
  return jnp.moveaxis(tokens, 0, -1).reshape(*shape, -1)


def dequantize(
    tokens: Int[Array | np.ndarray, '*batch p'],
    codebooks: Float[Array | np.ndarray, 'q c d'],
) -> Float[Array, '*batch d']:
  """Sums the codes of tokens.

  Args:
    tokens: [..., quantizers] ints; may hold only the first quantizers.
    codebooks: [quantizers, codes, embed].

  Returns:
    [..., embed] float32.
  """
  quantizers = jnp.arange(tokens.shape[-1])
  codes = jnp.asarray(codebooks)[quantizers, jnp.asarray(tokens)]
  return jnp.sum(codes, axis=-2)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _fit(embeddings, num_quantizers, codebook_size, key):
  def fit_residual(residual, key):
    codebook = kmeans.cluster(
        residual, codebook_size, key, kmeans.MAX_ITERATIONS
    )
    return residual - codebook[kmeans.nearest(residual, codebook)], codebook

  keys = jax.random.split(key, num_quantizers)
  return jax.lax.scan(fit_residual, embeddings, keys)[1]


def fit_rvq(
    embeddings: Float[Array | np.ndarray, 'n d'],
    num_quantizers: int,
    codebook_size: int,
    seed: int = 0,
) -> Float[Array, 'q c d']:
  """Fits codebooks to fixed embeddings, by k-means of residuals.

  Args:
    embeddings: [n, embed] floats; may be fewer than `codebook_size`.
    num_quantizers: Codebooks in the cascade.
    codebook_size: Codes in each codebook.
    seed: Seed of k-means.

  Returns:
    [num_quantizers, codebook_size, embed] float32 codebooks.

  Raises:
    UserError: If there are no embeddings.
  """
  if embeddings.shape[0] == 0:
    raise errors.UserError(
        'embeddings must hold at least one row, but have shape'
        f' {embeddings.shape}. Fit on at least one clip.'
    )
  return _fit(
      jnp.asarray(embeddings, jnp.float32),
      num_quantizers,
      codebook_size,
      jax.random.key(seed),
  )


def perplexity(counts: Float[Array, '*q c']) -> Float[Array, '*q']:
  """Returns the perplexity of [..., codes] counts: how many are in use."""
  shares = counts / jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), 1e-9)
  return jnp.exp(jnp.sum(jax.scipy.special.entr(shares), axis=-1))


class ResidualVectorQuantizer(nn.Module):
  """A cascade of codebooks, each quantizing the residual of the one before.

  Codebooks are not trained by gradients: each code is the running mean of the
  residuals assigned to it. Codes and the running number of their assignments
  are in the collection 'codebooks'. All counts are 0 until the first training
  batch, which initializes the codes by k-means. Under jit a sharded batch is
  one global array, so replicas share these statistics.

  Attributes:
    num_quantizers: Codebooks in the cascade, coarse to fine.
    codebook_size: Codes in each codebook.
    embed_dim: Width of a code.
    decay: Decay of the running means, per step.
  """

  num_quantizers: int
  codebook_size: int
  embed_dim: int
  decay: float = 0.99

  def setup(self):
    shape = (self.num_quantizers, self.codebook_size, self.embed_dim)
    self.codes = partitioning.variable_with_axes(
        'codebooks',
        'codes',
        lambda: jnp.zeros(shape, jnp.float32),
        axes=('quantizers', 'codes', 'embed'),
    )
    self.counts = partitioning.variable_with_axes(
        'codebooks',
        'counts',
        lambda: jnp.zeros(shape[:2], jnp.float32),
        axes=('quantizers', 'codes'),
    )

  def quantize(
      self, embeddings: Float[Array, 'batch frames embed']
  ) -> Int[Array, 'batch frames quantizers']:
    """Returns the tokens of embeddings."""
    return quantize(embeddings, self.codes.value)

  def dequantize(
      self, tokens: Int[Array, 'batch frames quantizers']
  ) -> Float[Array, 'batch frames embed']:
    """Returns sums of codes; tokens may hold only the first quantizers."""
    return dequantize(tokens, self.codes.value)

  def __call__(
      self, embeddings: Float[Array, 'batch frames embed'], train: bool = False
  ) -> tuple[
      Float[Array, 'batch frames embed'],
      Int[Array, 'batch frames quantizers'],
      dict[str, Array],
  ]:
    """Quantizes; in training also updates the codebooks.

    Args:
      embeddings: [batch, frames, embed] outputs of an encoder.
      train: Whether to update the codebooks, and to quantize each example with
        a random number of quantizers, drawn from the rng stream 'dropout'.

    Returns:
      quantized: [batch, frames, embed] float32, with a straight-through
        gradient.
      tokens: [batch, frames, quantizers] int32.
      metrics: Scalars 'commitment_loss' and 'dead_codes' (the codes replaced in
        this step), and 'codebook_perplexity', [quantizers].
    """
    batch, frames, dim = embeddings.shape
    points = embeddings.astype(jnp.float32)
    key = self.make_rng('dropout') if train else jax.random.key(0)
    used_key, *keys = jax.random.split(key, 1 + self.num_quantizers)
    used = self._used_quantizers(used_key, batch, train)  # [quantizers, batch]

    def quantize_residual(carry, inputs):
      residual, quantized = carry
      codebook, counts, used, key = inputs
      if train:
        codebook, counts = self._initialize(codebook, counts, residual, key)
      tokens = kmeans.nearest(residual, codebook)
      chosen = codebook[tokens]
      commitment = jnp.mean(
          jnp.square(residual - jax.lax.stop_gradient(chosen))
      )
      assigned = jax.nn.one_hot(tokens, self.codebook_size)
      quantized += jnp.where(jnp.repeat(used, frames)[:, None], chosen, 0)
      dead = jnp.zeros((), jnp.int32)
      if train:
        codebook, counts, dead = self._update(
            codebook, counts, residual, assigned, key
        )
      usage = counts if train else jnp.sum(assigned, axis=0)
      outputs = (tokens, codebook, counts, commitment, dead, perplexity(usage))
      return (residual - chosen, quantized), outputs

    flat = points.reshape(-1, dim)
    (_, quantized), outputs = jax.lax.scan(
        quantize_residual,
        (flat, jnp.zeros_like(flat)),
        (self.codes.value, self.counts.value, used, jnp.stack(keys)),
    )
    tokens, codes, counts, commitment, dead, perplexities = outputs
    if train:
      self.codes.value, self.counts.value = codes, counts
    quantized = quantized.reshape(points.shape)
    straight_through = points + jax.lax.stop_gradient(quantized - points)
    metrics = {
        'commitment_loss': jnp.mean(commitment),
        'dead_codes': jnp.sum(dead).astype(jnp.float32),
        'codebook_perplexity': perplexities,
    }
    return (
        straight_through,
        jnp.moveaxis(tokens, 0, -1).reshape(batch, frames, -1),
        metrics,
    )

  def _used_quantizers(self, key, batch, train):
    """Returns [quantizers, batch] bools: whether an example uses each."""
    quantizers = jnp.arange(self.num_quantizers)[:, None]
    if not train:
      return jnp.broadcast_to(quantizers >= 0, (self.num_quantizers, batch))
    return quantizers < jax.random.randint(
        key, (batch,), 1, self.num_quantizers + 1
    )

  def _initialize(self, codebook, counts, residual, key):
    """Returns codebook and counts, fitted to the batch if it is the first."""
    residual = jax.lax.stop_gradient(residual)
    # With a cluster for each point, the next quantizer would have no residuals:
    # in small batches, codes are drawn around fewer centers.
    num_clusters = min(self.codebook_size, max(1, residual.shape[0] // 4))

    def fit():
      centers = kmeans.cluster(residual, num_clusters, key, _INIT_ITERATIONS)
      nearest = kmeans.nearest(residual, centers)
      spread = jnp.std(residual - centers[nearest], axis=0)
      repeats = -(-self.codebook_size // num_clusters)
      codes = jnp.tile(centers, (repeats, 1))[: self.codebook_size]
      around = codes + spread * jax.random.normal(key, codes.shape)
      is_center = jnp.arange(self.codebook_size) < num_clusters
      codes = jnp.where(is_center[:, None], codes, around)
      assigned = jnp.bincount(
          kmeans.nearest(residual, codes), length=self.codebook_size
      )
      least = 2 * _DEAD_SHARE * residual.shape[0] / self.codebook_size
      return codes, jnp.maximum(assigned.astype(jnp.float32), least)

    return jax.lax.cond(jnp.any(counts > 0), lambda: (codebook, counts), fit)

  def _update(self, codebook, counts, residual, assigned, key):
    """Moves codes towards the residuals assigned to them; revives dead codes.

    Args:
      codebook: [codes, embed].
      counts: [codes] running assignments per batch.
      residual: [n, embed].
      assigned: [n, codes] one-hot.
      key: Key that draws the residuals that replace dead codes.

    Returns:
      The new codebook and counts, and the number of dead codes.
    """
    residual = jax.lax.stop_gradient(residual)
    batch_counts = jnp.sum(assigned, axis=0)
    batch_sums = jnp.einsum(
        'nc,nd->cd', assigned, residual, precision='highest'
    )
    new_counts = self.decay * counts + (1 - self.decay) * batch_counts
    sums = (
        self.decay * counts[:, None] * codebook + (1 - self.decay) * batch_sums
    )
    means = sums / jnp.maximum(new_counts, 1e-9)[:, None]
    share = residual.shape[0] / self.codebook_size
    dead = new_counts < _DEAD_SHARE * share
    replacements = residual[
        jax.random.randint(key, dead.shape, 0, residual.shape[0])
    ]
    codebook = jnp.where(dead[:, None], replacements, means)
    new_counts = jnp.where(dead, 2 * _DEAD_SHARE * share, new_counts)
    return codebook, new_counts, jnp.sum(dead)
