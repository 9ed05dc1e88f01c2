"""Tests for sampler."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import sampler
from musiclm_jax.stages import base as stages
import numpy as np

CROPS = {'semantic': 4.0, 'coarse': 1.0, 'fine': 0.48}


class FakeDecoder(decode.StageDecoder):
  """Writes the number of each frame, and notes what it is asked."""

  def __init__(self, name):
    # Not that of the base class: there are no weights.
    self.stage = stages.get_stage(name, CROPS[name])
    self.calls = []

  def sample(
      self, tokens, prefix, num_frames, seeds, starts, temperature, progress
  ):
    quantizers = self.stage.targets.num_quantizers
    inputs = {k: v.copy() for k, v in tokens.items()}
    self.calls.append((inputs, prefix, starts, seeds, temperature))
    for stream in self.stage.inputs:
      expected = stream.num_frames(self.stage.crop_seconds)
      if tokens[stream.name].shape[1] != expected:
        raise AssertionError(f'{stream.name}: {tokens[stream.name].shape}')
    frames = starts[:, np.newaxis] + np.arange(num_frames)
    # Rows of different seeds differ, tokens of different windows do not.
    frames = frames + 10000 * seeds[:, -1:]
    written = np.repeat(frames[..., np.newaxis], quantizers, -1)
    np.testing.assert_array_equal(written[:, : prefix.shape[1]], prefix)
    progress(len(prefix) * (num_frames - prefix.shape[1]) * quantizers)
    return written.astype(np.int32)


class SamplerTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.decoders = {name: FakeDecoder(name) for name in sampler.STAGES}
    self.sampler = sampler.Sampler(self.decoders)

  def run_sampler(self, seconds, batch=2):
    told = []
    tokens = self.sampler.sample(
        {'mulan': np.zeros((batch, 1, 12), np.int32)},
        seconds,
        np.arange(2 * batch).reshape(batch, 2),
        sampler.Temperatures(),
        told.append,
    )
    self.assertEqual(sum(told), batch * self.sampler.num_tokens(seconds))
    return tokens

  @parameterized.parameters(0.001, 0.5, 1.0, 3.3, 12.7)
  def test_every_frame_is_written_once_in_its_place(self, seconds):
    tokens = self.run_sampler(seconds)
    heard = int(np.ceil(np.round(seconds * 50, 6)))
    for name in ('semantic', 'coarse', 'fine'):
      frames = tokens[name].shape[1]
      rate = 25 if name == 'semantic' else 50
      self.assertGreaterEqual(frames / rate, heard / 50)
      np.testing.assert_array_equal(
          tokens[name][0, :, 0] % 10000, np.arange(frames)
      )
      # The second row has another seed.
      self.assertTrue(np.all(tokens[name][0] != tokens[name][1]))
    # No more than windows need.
    self.assertEqual(tokens['fine'].shape[1], max(heard, 24))
    self.assertEqual(tokens['coarse'].shape[1], max(heard, 24))

  def test_windows_continue_the_one_before(self):
    self.run_sampler(2.0, batch=1)
    calls = self.decoders['coarse'].calls
    self.assertLen(calls, 4)  # Starts at frames 0, 24, 48 and 72.
    for i, (inputs, prefix, starts, _, temperature) in enumerate(calls):
      self.assertEqual(starts[0], 24 * i)
      np.testing.assert_array_equal(
          inputs['semantic'][0, :, 0] % 10000, 12 * i + np.arange(25)
      )
      self.assertEqual(prefix.shape[1], 26 if i else 0)
      self.assertEqual(temperature, 0.95)

  def test_fine_windows_are_sampled_together(self):
    self.run_sampler(2.0)
    ((inputs, prefix, starts, _, _),) = self.decoders['fine'].calls
    np.testing.assert_array_equal(starts, [0, 24, 48, 72, 76] * 2)
    self.assertEqual(prefix.shape, (10, 0, 8))
    np.testing.assert_array_equal(
        inputs['coarse'][4, :, 0] % 10000, 76 + np.arange(24)
    )

  def test_stages_have_seeds_of_their_own(self):
    self.run_sampler(1.0, batch=1)
    seeds = [tuple(d.calls[0][3][0]) for d in self.decoders.values()]
    self.assertLen(set(seeds), 3)

  @parameterized.parameters(-0.1, float('nan'), float('inf'))
  def test_rejects_temperatures(self, temperature):
    with self.assertRaisesRegex(ValueError, 'temperature of coarse must be at'):
      sampler.Temperatures(coarse=temperature)


if __name__ == '__main__':
  absltest.main()
