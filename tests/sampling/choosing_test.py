"""Tests for choosing."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.sampling import choosing
from musiclm_jax.stages import base as stages
import numpy as np

CHANCES = np.array([[0.1, 0.5, 0.15, 0.25], [0.4, 0.1, 0.3, 0.2]], np.float32)


def kept(**fields):
  config = choosing.SamplingConfig(**fields)
  logits = choosing.truncate(jnp.log(CHANCES), config.numbers)
  return np.isfinite(np.asarray(logits)).tolist()


class ChoosingTest(parameterized.TestCase):

  def test_top_k(self):
    self.assertEqual(
        kept(top_k=2), [[False, True, False, True], [True, False, True, False]]
    )
    self.assertEqual(kept(top_k=4), [[True] * 4] * 2)

  def test_top_p(self):
    # The likeliest until their sum is .6 or more: .5 + .25, and .4 + .3.
    self.assertEqual(
        kept(top_p=0.6),
        [[False, True, False, True], [True, False, True, False]],
    )
    self.assertEqual(kept(top_p=1e-6), [[0, 1, 0, 0], [1, 0, 0, 0]])
    # At half the temperature chances are squared: .25 of .335 is .75 already.
    self.assertEqual(kept(top_p=0.7, temperature=0.5)[0], [0, 1, 0, 0])

  def test_guidance_goes_on_from_unwanted_through_wanted(self):
    wanted = jnp.array([[1.0, 0.8, 0.0]])
    unwanted = jnp.array([[1.0, 0.1, 0.0]])
    for scale, code in ((1.0, 0), (1.2, 0), (2.0, 1)):
      numbers = choosing.SamplingConfig(0.0, guidance_scale=scale).numbers
      chosen = choosing.choose(
          jnp.concatenate([wanted, unwanted]),
          choosing.keys(jnp.zeros((1, 1), jnp.uint32)),
          jnp.zeros(1, jnp.int32),
          numbers,
          truncates=False,
      )
      self.assertEqual(chosen.tolist(), [code])

  def test_draws_only_from_what_is_kept_in_its_proportions(self):
    rows = 4000
    config = choosing.SamplingConfig(top_k=3)
    codes = jax.jit(choosing.choose, static_argnums=4)(
        jnp.log(jnp.repeat(CHANCES[:1], rows, axis=0)),
        choosing.keys(jnp.arange(rows, dtype=jnp.uint32)[:, None]),
        jnp.zeros(rows, jnp.int32),
        config.numbers,
        True,
    )
    shares = np.bincount(codes, minlength=4) / rows
    # Standard errors are below .008.
    np.testing.assert_allclose(
        shares, np.array([0, 0.5, 0.15, 0.25]) / 0.9, atol=0.04
    )
    self.assertEqual(shares[0], 0)

  @parameterized.parameters(
      ({'temperature': -0.1}, 'temperature must be at least 0.* is -0.1'),
      ({'temperature': float('nan')}, 'temperature must be at least 0'),
      ({'temperature': float('inf')}, 'temperature must be at least 0'),
      ({'top_k': -1}, 'top_k must be at least 1, or 0'),
      ({'top_p': 0.0}, 'top_p must be above 0 and at most 1'),
      ({'top_p': 1.5}, 'top_p must be above 0 and at most 1'),
      ({'guidance_scale': -2.0}, 'guidance_scale must be at least 0'),
      ({'guidance_scale': float('inf')}, 'guidance_scale must be at least 0'),
  )
  def test_rejects(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      choosing.SamplingConfig(**fields)


class GenerationConfigTest(parameterized.TestCase):

  def test_stages_that_are_not_named_have_their_own_temperature(self):
    config = choosing.GenerationConfig(
        semantic=choosing.SamplingConfig(0.9, top_k=7)
    )
    self.assertEqual(config.of(stages.get_stage('semantic')).top_k, 7)
    for name, temperature in (
        ('semantic', 0.9),
        ('coarse', 0.95),
        ('fine', 0.4),
    ):
      stage = stages.get_stage(name)
      self.assertEqual(config.of(stage).temperature, temperature)

  @parameterized.parameters(
      ({}, 3.0),
      ({'guidance_scale': 1.5}, 1.5),
      ({'guidance_scale': 1.0}, 1.0),
  )
  def test_guidance_is_that_of_the_stage_unless_it_is_given(self, given, scale):
    stage = stages.get_stage('coarse', guidance_scale=3.0)
    config = choosing.GenerationConfig()
    named = choosing.GenerationConfig(coarse=choosing.SamplingConfig(0.9))
    for found in (config, named):
      self.assertEqual(found.changed(**given).of(stage).guidance_scale, scale)

  def test_guidance_of_no_stage_is_none(self):
    found = choosing.SamplingConfig()
    self.assertEqual(found.scale, 1.0)
    self.assertEqual(found.numbers['guidance_scale'], 1.0)

  def test_all_stages_are_changed(self):
    config = choosing.GenerationConfig(semantic=choosing.SamplingConfig(0.9))
    config = config.changed(temperature=2.0, top_k=5)
    for name, temperature in (
        ('semantic', 1.8),
        ('coarse', 1.9),
        ('fine', 0.8),
    ):
      found = config.of(stages.get_stage(name))
      expected = choosing.SamplingConfig(temperature, 5, guidance_scale=1.0)
      self.assertEqual(found, expected)

  def test_is_a_mapping(self):
    config = choosing.GenerationConfig(coarse=choosing.SamplingConfig(0.9))
    self.assertEqual(choosing.GenerationConfig(**config), config)
    self.assertEqual(hash(choosing.GenerationConfig(**config)), hash(config))
    self.assertEqual(config['coarse'].temperature, 0.9)
    self.assertNotEqual(config, choosing.GenerationConfig())
    self.assertEqual(eval(repr(config), vars(choosing)), config)


if __name__ == '__main__':
  absltest.main()
