"""Tests for sampler."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import sampler
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np

CROPS = {'semantic': 4.0, 'coarse': 1.0, 'fine': 0.48}


class FakeDecoder(decode.StageDecoder):
  """Writes the number of each frame, and notes what it is asked."""

  def __init__(self, name):
    # Not that of the base class: there are no weights.
    self.stage = stages.get_stage(name, CROPS[name])
    self.calls = []

  def prepare(self, seeds, config):
    """There is nothing to compile."""

  def stream(
      self, tokens, prefix, num_frames, seeds, starts, config, negative=None
  ):
    inputs = {k: v.copy() for k, v in tokens.items()}
    self.calls.append((inputs, prefix.copy(), starts, seeds, config, negative))
    for stream in self.stage.inputs:
      expected = stream.num_frames(self.stage.crop_seconds)
      if tokens[stream.name].shape[1] != expected:
        raise AssertionError(f'{stream.name}: {tokens[stream.name].shape}')
      if stream.name in CROPS and np.any(tokens[stream.name] < 0):
        raise AssertionError(f'{stream.name}: not all sampled')
    frames = starts[:, np.newaxis] + np.arange(num_frames)
    # Rows of different seeds differ, tokens of different windows do not.
    frames = frames + 10000 * seeds[:, -1:]
    quantizers = self.stage.targets.num_quantizers
    written = np.repeat(frames[..., np.newaxis], quantizers, -1)
    written = written.astype(np.int32)
    known = prefix.shape[1]
    np.testing.assert_array_equal(written[:, :known], prefix)
    for start in range(known, num_frames, 10):
      yield written[:, start : start + 10]


class SamplerTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.decoders = {name: FakeDecoder(name) for name in CROPS}
    self.sampler = sampler.Sampler(
        self.decoders, base.MULAN, (base.COARSE, base.FINE)
    )
    self.told = []

  def start(self, seconds, batch=2, known=None, mulan=None, **fields):
    takes = []
    for row in range(batch):
      tokens = self.sampler.empty(seconds)
      for name, (first, last) in (known or {}).items():
        frames = np.arange(tokens[name].shape[1])
        stays = (frames < first) | (frames >= last)
        truth = frames[stays, np.newaxis] + 10000 * row
        tokens[name][0, stays] = truth
      one = np.zeros((1, 1, 12), np.int32)
      tokens['mulan'] = one if mulan is None else mulan
      take = take_lib.Take(
          description={},
          sample_rate=24000,
          num_samples=round(seconds * 24000),
          sections=fields.get('sections', (0.0,)),
          context_seconds=0.0,
          seeds=(7, row),
          config=choosing.GenerationConfig(),
          hashes={},
          tokens=tokens,
          negative=fields.get('negative'),
      )
      takes.append(take)
    return self.sampler.start(takes, self.told.append)

  def assert_whole(self, tokens):
    for name in CROPS:
      for row in range(len(tokens[name])):
        np.testing.assert_array_equal(
            tokens[name][row, :, -1],
            np.arange(tokens[name].shape[1]) + 10000 * row,
        )

  @parameterized.parameters(0.001, 0.5, 1.0, 3.3, 12.7)
  def test_every_frame_is_written_once_in_its_place(self, seconds):
    run = self.start(seconds)
    total = run.num_tokens
    run.finish()
    tokens = run.tokens
    self.assert_whole(tokens)
    heard = int(np.ceil(np.round(seconds * 50, 6)))
    # No more than windows need.
    self.assertEqual(tokens['fine'].shape[1], max(heard, 24))
    self.assertEqual(tokens['coarse'].shape[1], max(heard, 24))
    self.assertEqual(tokens['semantic'].shape[1], max(-(-heard // 2), 25))
    self.assertEqual(run.num_tokens, 0)
    self.assertGreaterEqual(sum(self.told), total)

  def test_windows_continue_the_one_before(self):
    self.start(2.0, batch=1).finish()
    calls = self.decoders['coarse'].calls
    self.assertEqual([call[2][0] for call in calls], [0, 24, 48, 50])
    self.assertEqual([call[1].shape[1] for call in calls], [0, 26, 26, 48])
    for inputs, _, starts, _, config, _ in calls:
      np.testing.assert_array_equal(
          inputs['semantic'][0, :, 0], starts[0] // 2 + np.arange(25)
      )
      self.assertEqual(config.temperature, 0.95)

  def test_fine_windows_are_sampled_together(self):
    self.start(2.0).finish()
    ((inputs, prefix, starts, *_),) = self.decoders['fine'].calls
    np.testing.assert_array_equal(starts, np.repeat([0, 24, 48, 72, 76], 2))
    self.assertEqual(prefix.shape, (10, 0, 8))
    np.testing.assert_array_equal(inputs['coarse'][8, :, 0], 76 + np.arange(24))

  def test_stages_have_seeds_of_their_own(self):
    self.start(0.48, batch=1).finish()
    seeds = [tuple(d.calls[0][3][0]) for d in self.decoders.values()]
    self.assertLen(set(seeds), 3)

  def test_samples_no_further_than_is_asked_for(self):
    run = self.start(12.0)
    run.advance('fine', 24)
    self.assertLess(np.sum(run.tokens['semantic'] >= 0), 2 * 40)
    self.assertLess(np.sum(run.tokens['coarse'] >= 0), 2 * 4 * 40)
    self.assertFalse(np.any(run.tokens['fine'][:, :24] == streams.ABSENT))
    for frame in range(0, 600, 7):
      run.advance('fine', frame)
    run.finish()
    self.assert_whole(run.tokens)

  def test_known_tokens_stay(self):
    known = {'semantic': (50, 75), 'coarse': (100, 150), 'fine': (100, 150)}
    run = self.start(12.0, known=known)
    run.finish()
    self.assert_whole(run.tokens)
    # Nothing else was sampled.
    self.assertEqual(sum(len(d.calls) for d in self.decoders.values()), 5)
    ((_, prefix, starts, *_),) = self.decoders['semantic'].calls
    self.assertEqual((starts[0], prefix.shape[1]), (0, 50))

  def test_sections_have_their_own_prompts(self):
    mulan = np.arange(3)[np.newaxis, :, np.newaxis] + np.zeros((1, 1, 12), int)
    run = self.start(9.0, 1, sections=(0.0, 3.0, 6.5), mulan=mulan)
    run.finish()
    self.assert_whole(run.tokens)
    for name, rate in (('semantic', 25), ('coarse', 50)):
      for inputs, prefix, starts, *_ in self.decoders[name].calls:
        second = (starts[0] + prefix.shape[1]) / rate
        expected = np.searchsorted([3.0, 6.5], second, side='right')
        self.assertEqual(inputs['mulan'][0, 0, 0], expected)

  def test_the_last_section_has_whole_inputs(self):
    mulan = np.zeros((1, 2, 12), np.int32)
    run = self.start(1.2, 1, sections=(0.0, 0.8), mulan=mulan)
    run.finish()
    self.assert_whole(run.tokens)

  def test_negative_prompts_are_passed_on(self):
    negative = np.full((1, 1, 12), 9)
    self.start(1.0, negative=negative).finish()
    for name in ('semantic', 'coarse'):
      *_, found = self.decoders[name].calls[0]
      np.testing.assert_array_equal(found['mulan'], np.full((2, 1, 12), 9))
    *_, found = self.decoders['fine'].calls[0]
    self.assertIsNone(found)

  def test_takes_come_back_in_their_order(self):
    for row, take in enumerate(self.start(0.48).finish()):
      self.assertEqual(take.seeds, (7, row))
      self.assertEqual(take.tokens['semantic'][0, 0, 0], 10000 * row)
      self.assertEqual(set(take.tokens), {'mulan', *CROPS})

  def test_seeds_are_numbered_as_ever(self):
    # Takes of before are sampled anew with the same noise.
    self.start(0.48, batch=1).finish()
    for number, decoder in enumerate(self.decoders.values()):
      np.testing.assert_array_equal(decoder.calls[0][3][0], [number, 7, 0])

  @parameterized.parameters(
      ('coarse', r"must write \['coarse'\], .* but write"),
      ('semantic', r"must write \['semantic'\], .* but write"),
  )
  def test_rejects_cascades_with_a_gap(self, missing, message):
    del self.decoders[missing]
    with self.assertRaisesRegex(errors.NotFoundError, message):
      sampler.Sampler(self.decoders, base.MULAN, (base.COARSE, base.FINE))

  def test_rejects_configs_of_other_stages(self):
    config = choosing.GenerationConfig(sematic=choosing.DEFAULT)
    with self.assertRaisesRegex(
        errors.UserError, r"\['semantic', .*but names \['sematic'\]"
    ):
      self.sampler.check(config, False)


if __name__ == '__main__':
  absltest.main()
