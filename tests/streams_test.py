"""Tests for streams."""

import json

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.stages import base as stages

BEAT = streams.Stream(
    'beat', 2, 8, frame_rate=12.5, is_conditioning=True, is_added=True
)


class StreamTest(parameterized.TestCase):

  @parameterized.parameters(0.0, -25.0, 24000.0, float('nan'))
  def test_frame_rate_is_checked(self, rate):
    with self.assertRaisesRegex(
        errors.UserError, "frame_rate of stream 'a' must be above 0 and at most"
    ):
      streams.Stream('a', 1, 8, frame_rate=rate)

  def test_json_leaves_defaults_out(self):
    self.assertEqual(
        streams.Stream('a', 1, 8).to_json(),
        {'name': 'a', 'num_quantizers': 1, 'codebook_size': 8},
    )
    self.assertEqual(streams.Stream.from_json(BEAT.to_json()), BEAT)


class StageTest(parameterized.TestCase):

  @parameterized.parameters(*stages.PAPER)
  def test_json_round_trip(self, name):
    stage = stages.get_stage(name, 4.0)
    value = json.loads(json.dumps(stage.to_json()))
    self.assertEqual(streams.Stage.from_json(value), stage)
    self.assertEqual(stages.of_part({'stage': value}), stage)

  def test_parts_of_before_name_their_stage(self):
    config = {'stage': 'coarse', 'crop_seconds': 6.0}
    self.assertEqual(stages.of_part(config), stages.get_stage('coarse', 6.0))

  def test_inputs_are_placed_or_added(self):
    stage = stages.get_stage('coarse_melody', 10.0)
    placed = [stream.name for stream in stage.prefix]
    self.assertEqual(placed, ['mulan', 'semantic'])
    self.assertEqual([stream.name for stream in stage.added], ['melody'])
    described = [stream.name for stream in stage.conditioning]
    self.assertEqual(described, ['mulan', 'melody'])

  def test_windows_longer_than_a_crop_are_left_out(self):
    self.assertEmpty(stages.get_stage('coarse_melody', 3.0).added)

  def test_ids_of_streams_follow_each_other(self):
    # Two reserved ids, then 2 quantizers of 8 codes, then 4 of 16.
    targets = streams.Stream('codes', 4, 16, frame_rate=25.0)
    stage = streams.Stage('any', (BEAT,), targets, crop_seconds=2.0)
    self.assertEqual(stage.ids(BEAT), slice(2, 18))
    self.assertEqual(stage.ids(targets), slice(18, 82))
    self.assertEqual(stage.vocab_size, 82)
    self.assertEqual(stage.feature_lengths, {'inputs': 50, 'targets': 200})


if __name__ == '__main__':
  absltest.main()
