"""Tests for spectral_codec."""

import dataclasses
import functools
import json

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import causal
from musiclm_jax.models import spectral_codec
import numpy as np

CONFIG = spectral_codec.SpectralCodecConfig(
    hop=8,
    stride=2,
    channels=6,
    wide_channels=8,
    encoder_blocks=(1, 2),
    decoder_blocks=(2, 1),
    embed_dim=4,
    num_quantizers=3,
    codebook_size=16,
)
FRAMES = 40
MODULE = spectral_codec.SpectralCodec(CONFIG)


# Operation by operation, each would be compiled alone.
encode = jax.jit(functools.partial(MODULE.apply, method='encode'))
decode = jax.jit(functools.partial(MODULE.apply, method='decode'))


@functools.cache
def make_variables():
  audio = jnp.zeros((1, CONFIG.hop_length))
  variables = MODULE.init(jax.random.key(0), audio)
  rng = np.random.default_rng(0)
  draw = lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32)
  return {
      'params': jax.tree.map(draw, variables['params']),
      'codebooks': jax.tree.map(draw, variables['codebooks']),
  }


def make_audio(frames=FRAMES, batch=2):
  rng = np.random.default_rng(1)
  shape = batch, frames * CONFIG.hop_length
  return jnp.asarray(rng.normal(0, 0.2, shape), jnp.float32)


def ahead(audio):
  return jnp.pad(audio, ((0, 0), (0, CONFIG.lookahead)))


class SpectraTest(parameterized.TestCase):

  @parameterized.parameters((240, 4), (8, 2), (10, 3))
  def test_synthesis_undoes_analysis(self, hop, overlap):
    config = dataclasses.replace(CONFIG, hop=hop, overlap=overlap)
    audio = np.random.default_rng(0).normal(size=(2, 40 * hop))
    audio = jnp.asarray(audio, jnp.float32)
    padded = jnp.pad(audio, ((0, 0), (0, config.lookahead)))
    spectra = spectral_codec.analyze(padded, config)
    self.assertEqual(spectra.shape, (2, 40, hop * overlap // 2 + 1))
    found = spectral_codec.synthesize(spectra, config)
    # Before, spectra are missing that would reach into the audio.
    first = config.lookahead
    np.testing.assert_allclose(
        found[:, first : 40 * hop], audio[:, first:], atol=1e-5
    )

  def test_compression_can_be_undone(self):
    rng = np.random.default_rng(0)
    spectra = rng.normal(size=(1, 3, 5)) + 1j * rng.normal(size=(1, 3, 5))
    spectra = jnp.asarray(spectra, jnp.complex64)
    values = spectral_codec._compress(spectra)
    np.testing.assert_allclose(
        jnp.abs(jax.lax.complex(*jnp.split(values, 2, -1))),
        np.abs(spectra) ** 0.5,
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        spectral_codec._expand(values), spectra, rtol=1e-4, atol=1e-5
    )


class SpectralCodecTest(parameterized.TestCase):

  def test_shapes(self):
    audio, variables = make_audio(), make_variables()
    tokens = encode(variables, ahead(audio))
    self.assertEqual(tokens.shape, (2, FRAMES, 3))
    found = decode(variables, tokens)
    self.assertEqual(found.shape, audio.shape)
    first = decode(variables, tokens[..., :1])
    self.assertGreater(float(jnp.abs(found - first).max()), 0)

  def test_call_is_encode_and_decode(self):
    audio, variables = make_audio(), make_variables()
    found, metrics = jax.jit(MODULE.apply)(variables, audio)
    tokens = encode(variables, ahead(audio))
    expected = decode(variables, tokens)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    self.assertEqual(metrics['codebook_perplexity'].shape, (3,))

  @parameterized.parameters(1, 3, 20)
  def test_streams_give_the_whole(self, chunk):
    audio, variables = ahead(make_audio()), make_variables()
    tokens = encode(variables, audio)
    whole = decode(variables, tokens)
    found, made = [], []
    states = [{}, {}]
    step = jax.jit(
        functools.partial(MODULE.apply, mutable=[causal.STREAM]),
        static_argnames='method',
    )
    hop = CONFIG.hop_length
    for i in range(0, FRAMES, chunk):
      piece = audio[:, i * hop : (i + chunk) * hop + CONFIG.lookahead]
      codes, states[0] = step({**variables, **states[0]}, piece,
                              method='encode')  # fmt: skip
      sound, states[1] = step({**variables, **states[1]}, codes,
                              method='decode')  # fmt: skip
      found.append(codes)
      made.append(sound)
    np.testing.assert_array_equal(np.concatenate(found, axis=1), tokens)
    np.testing.assert_allclose(np.concatenate(made, axis=1), whole, atol=1e-5)

  def test_tokens_depend_on_their_past_and_the_lookahead(self):
    audio, variables = ahead(make_audio(batch=1)), make_variables()
    tokens = encode(variables, audio)
    frame = 20
    end = (frame + 1) * CONFIG.hop_length + CONFIG.lookahead
    changed = audio.at[:, end:].set(1.0)
    other = encode(variables, changed)
    np.testing.assert_array_equal(other[:, : frame + 1], tokens[:, : frame + 1])
    self.assertFalse(np.array_equal(other, tokens))

  def test_context_is_what_it_says(self):
    variables = make_variables()
    rng = np.random.default_rng(0)
    shape = 1, 2 * CONFIG.context_frames, 3
    tokens = jnp.asarray(rng.integers(16, size=shape), jnp.int32)
    other = tokens.at[:, : CONFIG.context_frames].set(0)
    sound, last = (decode(variables, x) for x in (tokens, other))
    after = CONFIG.context_frames * CONFIG.hop_length
    first = after + CONFIG.context_frames * CONFIG.hop_length - CONFIG.hop
    np.testing.assert_allclose(sound[:, first:], last[:, first:], atol=1e-5)
    self.assertGreater(float(jnp.abs(sound - last)[:, after:].max()), 1e-3)

  def test_config_as_json(self):
    values = json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    found = spectral_codec.SpectralCodecConfig.from_json(values)
    self.assertEqual(found, CONFIG)
    self.assertEqual(CONFIG.hop_length, 16)

  def test_rejects_spectra_that_do_not_overlap(self):
    with self.assertRaisesRegex(ValueError, 'overlap.*at least 2.*is 1'):
      dataclasses.replace(CONFIG, overlap=1)


if __name__ == '__main__':
  absltest.main()
