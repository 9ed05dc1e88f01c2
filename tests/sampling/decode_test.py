"""Tests for decode."""

import contextlib
import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import monitoring
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.models import transformer
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import decode
from musiclm_jax.stages import base as stages
import numpy as np

CROPS = {
    'semantic': 4.0,
    'coarse': 0.8,
    'fine': 0.4,
    'semantic_melody': 7.0,
    'coarse_melody': 4.0,
    'acoustic': 0.8,
}
DELAYED = {
    'acoustic': {
        'inputs': ('mulan', 'semantic+'),
        'targets': 'coarse',
        'pattern': 'delay',
    }
}


@functools.cache
def make_stage(name, frame_bias=True, dtype='float32'):
  """Returns a decoder with random weights, its module and its parameters."""
  stage = stages.get_stage(name, CROPS[name], **DELAYED.get(name, {}))
  config = transformer.TransformerConfig(
      num_layers=2,
      num_heads=2,
      head_dim=8,
      embed_dim=16,
      mlp_dim=32,
      frame_bias=frame_bias,
      dtype=dtype,
  )
  module = transformer.StageTransformer(config, stage)
  lengths = stage.feature_lengths
  shapes = [jnp.zeros((1, lengths[k]), jnp.int32) for k in lengths]
  expected = jax.eval_shape(module.init, jax.random.key(0), *shapes)['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: 0.7 * jnp.asarray(rng.normal(size=x.shape), x.dtype), expected
  )
  decoder = decode.StageDecoder(stage, config, params, dtype=dtype)
  return decoder, module, params


def make_inputs(stage, rows, seed=0):
  rng = np.random.default_rng(seed)
  return {
      s.name: rng.integers(
          s.codebook_size,
          size=(rows, s.num_frames(stage.crop_seconds), s.num_quantizers),
          dtype=np.int32,
      )
      for s in stage.inputs
  }


def make_inputs_of(stream, rows, frames):
  rng = np.random.default_rng(7)
  shape = (rows, frames, stream.num_quantizers)
  return rng.integers(stream.codebook_size, size=shape, dtype=np.int32)


def no_prefix(stage, rows):
  return np.zeros((rows, 0, stage.targets.num_quantizers), np.int32)


def sample(decoder, tokens, num_frames=None, **kwargs):
  stage = decoder.stage
  rows = len(tokens[stage.inputs[0].name])
  defaults = {
      'prefix': no_prefix(stage, rows),
      'seeds': np.arange(2 * rows).reshape(rows, 2),
      'starts': np.zeros(rows, int),
  }
  if 'temperature' in kwargs:
    config = choosing.SamplingConfig(kwargs.pop('temperature'))
    kwargs['config'] = config
  if num_frames is None:
    num_frames = stage.targets.num_frames(stage.crop_seconds)
  return decoder.sample(tokens, num_frames=num_frames, **(defaults | kwargs))


def flat_ids(stage, tokens, streams):
  ids = [
      stage.to_ids(tokens[s.name], s).reshape(len(tokens[s.name]), -1)
      for s in streams
  ]
  return jnp.asarray(np.concatenate(ids, axis=1), jnp.int32)


@contextlib.contextmanager
def count_programs():
  """Yields a list, and adds an event to it for each program that is built."""
  built = []
  listener = lambda event, *_, **__: (
      built.append(event)
      if event.endswith('backend_compile_duration')
      else None
  )
  monitoring.register_event_duration_secs_listener(listener)
  try:
    yield built
  finally:
    monitoring.unregister_event_duration_listener(listener)


class StageDecoderTest(parameterized.TestCase):

  @parameterized.parameters('semantic', 'coarse', 'fine', 'acoustic')
  def test_greedy_takes_the_likeliest(self, name):
    decoder, module, params = make_stage(name)
    stage = decoder.stage
    tokens = make_inputs(stage, rows=2)
    result = sample(decoder, tokens, temperature=0.0)
    tokens[stage.targets.name] = result
    logits = jax.jit(module.apply)(
        {'params': params},
        flat_ids(stage, tokens, stage.inputs),
        flat_ids(stage, tokens, [stage.targets]),
    )
    codes = result.reshape(2, -1)
    chosen = np.take_along_axis(np.asarray(logits), codes[..., None], -1)
    np.testing.assert_allclose(
        chosen[..., 0], logits.max(-1), rtol=1e-3, atol=1e-3
    )
    self.assertGreater(len(np.unique(codes)), 5)

  def test_bfloat16_is_close_to_float32(self):
    tokens = None
    for dtype in ('float32', 'bfloat16'):
      decoder, _, _ = make_stage('semantic', dtype=dtype)
      tokens = tokens or make_inputs(decoder.stage, rows=2)
      result = sample(decoder, tokens, num_frames=8, temperature=0.0)
      if dtype == 'float32':
        expected = result
    self.assertGreater(np.mean(result == expected), 0.5)

  def test_follows_the_softmax(self):
    # Of the first token of very many rows.
    decoder, module, params = make_stage('semantic')
    rows = 1600
    one = make_inputs(decoder.stage, rows=1)
    tokens = {k: np.repeat(v, rows, 0) for k, v in one.items()}
    codes = sample(decoder, tokens, num_frames=1, temperature=0.5)[:, 0, 0]
    logits = jax.jit(module.apply)(
        {'params': params},
        flat_ids(decoder.stage, one, decoder.stage.inputs),
        jnp.zeros((1, 100), jnp.int32),
    )[0, 0]
    chances = jax.nn.softmax(logits / 0.5)
    # Log likelihood of the sample: the entropy of the distribution, within
    # five of its standard errors.
    nats = -np.log(chances)
    entropy = np.sum(chances * nats)
    error = np.sqrt(np.sum(chances * (nats - entropy) ** 2) / rows)
    self.assertLess(entropy, 6.5)  # Of 6.93, if all codes were as likely.
    self.assertAlmostEqual(nats[codes].mean(), entropy, delta=5 * error)

  @parameterized.parameters(
      ('semantic', 'float32'),
      ('coarse', 'float32'),
      ('semantic_melody', 'float32'),
      ('acoustic', 'float32'),
      ('coarse', 'bfloat16'),
  )
  def test_guidance_is_that_of_teacher_forcing(self, name, dtype):
    # The likeliest tokens, with a negative prompt and a prefix.
    decoder, module, params = make_stage(name, dtype=dtype)
    stage, scale = decoder.stage, 2.5
    tokens, others = (make_inputs(stage, 2, seed) for seed in (0, 1))
    negative = {
        **tokens,
        **{s.name: others[s.name] for s in stage.conditioning},
    }
    known = make_inputs_of(stage.targets, rows=2, frames=3)
    whole = stage.targets.num_frames(stage.crop_seconds)
    # Delayed tokens of the last frames read what a longer window would have.
    num_frames = whole if stage.pattern == 'delay' else 9
    result = sample(
        decoder,
        tokens,
        prefix=known,
        num_frames=num_frames,
        config=choosing.SamplingConfig(0.0, guidance_scale=scale),
        negative=negative,
    )
    targets = np.pad(result, ((0, 0), (0, whole - num_frames), (0, 0)))
    wanted, unwanted = (
        jax.jit(module.apply)(
            {'params': params},
            flat_ids(stage, x, stage.inputs),
            flat_ids(stage, {stage.targets.name: targets}, [stage.targets]),
        )
        for x in (tokens, negative)
    )
    logits = np.asarray(unwanted + scale * (wanted - unwanted), np.float32)
    first = 3 * stage.targets.num_quantizers
    codes = targets.reshape(2, -1)[:, first:]
    chosen = np.take_along_axis(logits[:, first:], codes[..., None], -1)
    end = num_frames * stage.targets.num_quantizers - first
    tolerance = 1e-3 if dtype == 'float32' else 0.3
    np.testing.assert_allclose(
        chosen[:, :end, 0],
        logits[:, first:].max(-1)[:, :end],
        rtol=tolerance,
        atol=tolerance,
    )

  def test_guidance_leads_away_from_no_conditioning(self):
    decoder, _, _ = make_stage('semantic')
    tokens = make_inputs(decoder.stage, rows=2)
    config = choosing.SamplingConfig(guidance_scale=3.0)
    absent = {'mulan': np.full_like(tokens['mulan'], streams.ABSENT)}
    guided = sample(decoder, tokens, num_frames=20, config=config)
    again = sample(
        decoder, tokens, num_frames=20, config=config, negative=absent
    )
    np.testing.assert_array_equal(guided, again)
    plain = sample(decoder, tokens, num_frames=20)
    self.assertGreater(np.mean(guided != plain), 0.2)
    # There is nothing to be led away from.
    still = sample(
        decoder, tokens, num_frames=20, config=config, negative=tokens
    )
    np.testing.assert_array_equal(still, plain)

  def test_top_k_of_one_is_greedy(self):
    decoder, _, _ = make_stage('coarse')
    tokens = make_inputs(decoder.stage, rows=2)
    greedy = sample(decoder, tokens, num_frames=6, temperature=0.0)
    config = choosing.SamplingConfig(top_k=1)
    first = sample(decoder, tokens, num_frames=6, config=config)
    np.testing.assert_array_equal(first, greedy)

  @parameterized.parameters('fine', 'acoustic')
  def test_streams_what_it_samples(self, name):
    decoder, _, _ = make_stage(name)
    tokens = make_inputs(decoder.stage, rows=2)
    whole = sample(decoder, tokens)
    seeds = np.arange(4).reshape(2, 2)
    self.enterContext(mock.patch.object(decode, 'REPORT_STEPS', 16))
    pieces = list(
        decoder.stream(
            tokens, whole[:, :3], whole.shape[1], seeds, np.zeros(2, int)
        )
    )
    self.assertGreater(len(pieces), 1)
    np.testing.assert_array_equal(np.concatenate(pieces, 1), whole[:, 3:])

  @parameterized.parameters('semantic', 'coarse', 'acoustic')
  def test_known_tokens_are_kept_and_continued(self, name):
    decoder, _, _ = make_stage(name)
    tokens = make_inputs(decoder.stage, rows=2)
    whole = sample(decoder, tokens)
    known = whole.shape[1] // 2
    again = sample(decoder, tokens, prefix=whole[:, :known])
    np.testing.assert_array_equal(again, whole)
    other = (whole[:, :known] + 1) % 1024
    changed = sample(decoder, tokens, prefix=other)
    np.testing.assert_array_equal(changed[:, :known], other)
    self.assertGreater(np.mean(changed[:, known:] != whole[:, known:]), 0.05)

  def test_fewer_frames_are_the_same_frames(self):
    decoder, _, _ = make_stage('coarse')
    tokens = make_inputs(decoder.stage, rows=2)
    whole = sample(decoder, tokens)
    part = sample(decoder, tokens, num_frames=7)
    np.testing.assert_array_equal(part, whole[:, :7])

  def test_rows_do_not_depend_on_each_other(self):
    decoder, _, _ = make_stage('coarse')
    rows = 7
    tokens = make_inputs(decoder.stage, rows)
    seeds = np.arange(rows)[:, np.newaxis]
    with mock.patch.object(decode, 'MAX_ROWS', 4):
      together = sample(decoder, tokens, num_frames=6, seeds=seeds)
    for row in (0, rows - 1):
      mine = {k: v[row : row + 1] for k, v in tokens.items()}
      alone = sample(decoder, mine, num_frames=6, seeds=seeds[row : row + 1])
      np.testing.assert_array_equal(alone[0], together[row])

  @parameterized.parameters(
      (1, 1), (5, 5), (9, 10), (16, 16), (17, 10), (20, 10), (90, 16)
  )
  def test_rows_are_shared_out(self, rows, size):
    decoder, _, _ = make_stage('semantic')
    self.assertEqual(decoder.rows_at_once(rows, choosing.DEFAULT), size)
    guided = choosing.SamplingConfig(guidance_scale=3.0)
    self.assertLessEqual(decoder.rows_at_once(rows, guided), 8)

  def test_noise_is_of_seed_and_frame(self):
    decoder, _, _ = make_stage('semantic')
    tokens = make_inputs(decoder.stage, rows=2)
    tokens = {k: np.repeat(v[:1], 2, axis=0) for k, v in tokens.items()}
    same = np.full((2, 1), 3)
    first, second = sample(decoder, tokens, seeds=same)
    np.testing.assert_array_equal(first, second)
    first, second = sample(decoder, tokens, seeds=same, starts=np.array([0, 9]))
    self.assertTrue(np.any(first != second))

  def test_known_tokens_of_many_blocks(self):
    # 12 inputs and 530 targets: more than one block of the cache.
    small, _, params = make_stage('semantic')
    stage = stages.get_stage('semantic', 21.2)
    decoder = decode.StageDecoder(stage, small._config, params)
    tokens = make_inputs(stage, rows=1)
    told = []
    whole = sample(decoder, tokens, temperature=0.0, progress=told.append)
    self.assertEqual(sum(told), 530)
    self.assertLess(max(told), 530)
    # Known tokens are read in blocks, the others one by one.
    for known in (230, 520):
      again = sample(decoder, tokens, temperature=0.0, prefix=whole[:, :known])
      np.testing.assert_array_equal(again, whole)

  def test_one_program_for_any_length(self):
    stage = stages.get_stage('semantic', 21.2)
    small, _, params = make_stage('semantic')
    decoder = decode.StageDecoder(stage, small._config, params)
    tokens = make_inputs(stage, rows=1)
    with count_programs() as built:
      first = sample(decoder, tokens, num_frames=10)
    self.assertLen(built, 2)  # An empty cache, and all else.
    with count_programs() as built:
      sample(decoder, tokens, num_frames=300)
      sample(decoder, tokens, num_frames=530, prefix=first, temperature=0.5)
    self.assertEmpty(built)

  def test_compiles_ahead(self):
    decoder, _, params = make_stage('acoustic')
    decoder = decode.StageDecoder(decoder.stage, decoder._config, params)
    tokens = make_inputs(decoder.stage, rows=2)
    seeds = np.arange(4).reshape(2, 2)
    with count_programs() as built:
      decoder.prepare(seeds, choosing.DEFAULT)
      decoder._preparing[0].result()
    self.assertLen(built, 2)
    with count_programs() as built:
      sample(decoder, tokens, seeds=seeds)
    self.assertEmpty(built)
    decoder.prepare(seeds, choosing.DEFAULT)  # Once is enough.
    self.assertEmpty(decoder._preparing)


if __name__ == '__main__':
  absltest.main()
