"""Tests for quantizer."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import quantizer
import numpy as np


def reference_rvq(embeddings, codebooks):
  """Returns tokens and reconstructions of [n, embed], one at a time."""
  tokens, reconstructions = [], []
  for embedding in embeddings:
    residual, row = embedding.copy(), []
    for codebook in codebooks:
      code = min(
          range(len(codebook)),
          key=lambda c: float(np.sum((residual - codebook[c]) ** 2)),
      )
      row.append(code)
      residual = residual - codebook[code]
    tokens.append(row)
    reconstructions.append(embedding - residual)
  return np.array(tokens), np.array(reconstructions)


def random_codebooks(shape=(3, 16, 4), seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class FunctionsTest(parameterized.TestCase):

  def test_matches_the_reference(self):
    codebooks = random_codebooks()
    embeddings = random_codebooks((2, 9, 4), seed=1)
    tokens, reconstructions = reference_rvq(embeddings[0], codebooks)
    np.testing.assert_array_equal(
        quantizer.quantize(embeddings, codebooks)[0], tokens
    )
    np.testing.assert_allclose(
        quantizer.dequantize(tokens, codebooks), reconstructions, atol=1e-5
    )

  def test_dequantize_takes_the_first_quantizers(self):
    codebooks = random_codebooks()
    tokens = np.asarray([[[5, 6]]])
    np.testing.assert_allclose(
        quantizer.dequantize(tokens, codebooks)[0, 0],
        codebooks[0, 5] + codebooks[1, 6],
        rtol=1e-6,
    )

  def test_perplexity(self):
    counts = jnp.asarray([[5.0, 5.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        quantizer.perplexity(counts), [2.0, 1.0, 1.0], rtol=1e-5
    )

  def test_fit_rvq_lowers_the_error_with_each_quantizer(self):
    embeddings = random_codebooks((1, 300, 4))[0]
    codebooks = quantizer.fit_rvq(embeddings, 3, 16)
    tokens = quantizer.quantize(embeddings, codebooks)
    errors = [
        float(
            jnp.mean(
                (embeddings - quantizer.dequantize(tokens[:, :n], codebooks))
                ** 2
            )
        )
        for n in (1, 2, 3)
    ]
    self.assertLess(errors[0], 0.5)
    self.assertLess(errors[1], 0.5 * errors[0])
    self.assertLess(errors[2], 0.5 * errors[1])

  def test_fit_rvq_of_few_embeddings_is_exact_and_finite(self):
    embeddings = random_codebooks((1, 5, 4))[0]
    codebooks = quantizer.fit_rvq(embeddings, 2, 16)
    self.assertTrue(np.isfinite(codebooks).all())
    tokens = quantizer.quantize(embeddings, codebooks)
    np.testing.assert_allclose(
        quantizer.dequantize(tokens, codebooks), embeddings, atol=1e-5
    )

  def test_fit_rvq_rejects_nothing(self):
    with self.assertRaisesRegex(ValueError, r'at least one row.*\(0, 4\)'):
      quantizer.fit_rvq(np.zeros((0, 4), np.float32), 2, 16)


class ResidualVectorQuantizerTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.rvq = quantizer.ResidualVectorQuantizer(
        num_quantizers=3, codebook_size=16, embed_dim=4
    )
    self.embeddings = jax.random.normal(jax.random.key(0), (4, 25, 4))

  def make_variables(self, codes=None, counts=None):
    codes = random_codebooks() if codes is None else codes
    counts = np.full((3, 16), 6.25, np.float32) if counts is None else counts
    return {'codebooks': {'codes': codes, 'counts': counts}}

  def train(self, variables, embeddings=None, seed=0):
    embeddings = self.embeddings if embeddings is None else embeddings
    apply = jax.jit(
        functools.partial(self.rvq.apply, train=True, mutable=['codebooks'])
    )
    (quantized, tokens, metrics), updated = apply(
        variables, embeddings, rngs={'dropout': jax.random.key(seed)}
    )
    return quantized, tokens, metrics, updated['codebooks']

  def test_axes_are_declared(self):
    variables = self.rvq.init(jax.random.key(0), self.embeddings)
    axes = variables['codebooks_axes']
    self.assertEqual(axes['codes_axes'].names, ('quantizers', 'codes', 'embed'))
    self.assertEqual(axes['counts_axes'].names, ('quantizers', 'codes'))

  def test_evaluation_uses_every_quantizer(self):
    variables = self.make_variables()
    quantized, tokens, metrics = self.rvq.apply(variables, self.embeddings)
    expected, reconstructions = reference_rvq(
        np.asarray(self.embeddings[0]), variables['codebooks']['codes']
    )
    np.testing.assert_array_equal(tokens[0], expected)
    np.testing.assert_allclose(quantized[0], reconstructions, atol=1e-5)
    self.assertEqual(metrics['dead_codes'], 0)

  def test_bfloat16_embeddings_are_compared_in_float32(self):
    embeddings = self.embeddings.astype(jnp.bfloat16)
    variables = self.make_variables()
    _, tokens, _ = self.rvq.apply(variables, embeddings)
    expected, _ = reference_rvq(
        np.asarray(embeddings[0], np.float32), variables['codebooks']['codes']
    )
    np.testing.assert_array_equal(tokens[0], expected)

  def test_gradient_passes_straight_through(self):
    variables = self.make_variables()
    weights = jax.random.normal(jax.random.key(1), self.embeddings.shape)
    gradient = jax.grad(
        lambda x: jnp.sum(weights * self.rvq.apply(variables, x)[0])
    )(self.embeddings)
    np.testing.assert_allclose(gradient, weights, rtol=1e-6)

  def test_codes_are_running_means(self):
    variables = self.make_variables()
    old = variables['codebooks']
    _, tokens, _, new = self.train(variables)
    points = np.asarray(self.embeddings).reshape(-1, 4)
    codes = np.asarray(tokens).reshape(-1, 3)[:, 0]
    for code in range(16):
      assigned = points[codes == code]
      count = 0.99 * old['counts'][0, code] + 0.01 * len(assigned)
      total = 0.99 * old['counts'][0, code] * old['codes'][0, code]
      total = total + 0.01 * assigned.sum(axis=0)
      np.testing.assert_allclose(new['counts'][0, code], count, rtol=1e-5)
      np.testing.assert_allclose(
          new['codes'][0, code], total / count, rtol=1e-4, atol=1e-5
      )

  def test_first_batch_initializes_the_codebooks(self):
    variables = self.make_variables(
        np.zeros((3, 16, 4), np.float32), np.zeros((3, 16), np.float32)
    )
    _, _, metrics, new = self.train(variables)
    # k-means of 100 normal points: well under their variance of 1, and each
    # cascade step lower still.
    errors = []
    for n in (1, 2, 3):
      tokens = quantizer.quantize(self.embeddings, new['codes'])[..., :n]
      difference = self.embeddings - quantizer.dequantize(tokens, new['codes'])
      errors.append(float(jnp.mean(difference**2)))
    self.assertLess(errors[0], 0.5)
    self.assertLess(errors[2], errors[1])
    self.assertLess(errors[1], errors[0])
    self.assertGreater(float(metrics['codebook_perplexity'].min()), 8)

  def test_a_first_batch_smaller_than_the_codebook_leaves_residuals(self):
    variables = self.make_variables(
        np.zeros((3, 16, 4), np.float32), np.zeros((3, 16), np.float32)
    )
    _, _, _, new = self.train(variables, self.embeddings[:1, :10])
    for codebook in new['codes']:
      self.assertLen(np.unique(np.round(codebook, 6), axis=0), 16)
    self.assertTrue(np.isfinite(new['codes']).all())

  def test_later_batches_do_not_initialize(self):
    variables = self.make_variables()
    _, _, _, new = self.train(variables)
    moved = np.abs(new['codes'] - variables['codebooks']['codes'])
    self.assertLess(moved[0].max(), 0.1)

  def test_dead_codes_restart_at_residuals(self):
    # 100 points over 16 codes are 6.25 each; dead is less than .4 of it.
    counts = np.full((3, 16), 6.25, np.float32)
    counts[0, 7] = 0.5
    codes = random_codebooks()
    codes[0, 7] = 100.0
    _, _, metrics, new = self.train(self.make_variables(codes, counts))
    self.assertEqual(metrics['dead_codes'], 1)
    points = np.asarray(self.embeddings).reshape(-1, 4)
    nearest = np.abs(points - new['codes'][0, 7]).max(axis=-1).min()
    self.assertEqual(nearest, 0)
    self.assertAlmostEqual(float(new['counts'][0, 7]), 5.0, places=5)

  def test_training_drops_quantizers_per_example(self):
    variables = self.make_variables()
    embeddings = jnp.repeat(self.embeddings[:1], 64, axis=0)
    quantized, tokens, _, _ = self.train(variables, embeddings)
    codes = variables['codebooks']['codes']
    used = []
    for i in range(64):
      matches = [
          np.allclose(
              quantized[i],
              quantizer.dequantize(tokens[i, :, :n], codes),
              atol=1e-5,
          )
          for n in (1, 2, 3)
      ]
      self.assertEqual(sum(matches), 1)
      used.append(matches.index(True) + 1)
    # Each number has probability 1/3: fewer than 8 of 64 has 1 in 10,000.
    self.assertGreaterEqual(min(np.bincount(used)[1:]), 8)


if __name__ == '__main__':
  absltest.main()
