"""Tests for stage_examples."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import streams
from musiclm_jax.data import stage_examples
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import plan_streams
import numpy as np

EMBED = 2
# Codes are on the axes, so that what they quantize can be seen.
CODEBOOKS = np.array(
    [
        [[1, 0], [0, 1], [-1, 0], [0, -1]],
        *[[[0, 0], [0.1, 0], [0, 0.1], [9, 9]]] * 11,
    ]
)
QUANTIZER = stage_examples.Quantizer(CODEBOOKS, window_seconds=1.0)


def make_record(seconds, num_windows=4):
  """Returns tokens that tell their frame and quantizer."""

  def tokens(frame_rate, num_quantizers):
    frames = np.arange(round(seconds * frame_rate))
    return (frames[:, np.newaxis] + np.arange(num_quantizers)).astype(np.int32)

  return {
      'semantic': tokens(25, 1),
      'coarse': tokens(50, 4),
      'fine': tokens(50, 8),
      'melody': tokens(1, 24)[: max(0, int(seconds) - 3)],
      'melody_hum': 100 + tokens(1, 24)[: max(0, int(seconds) - 3)],
      'mulan': np.tile([[1.0, 0.0]], (num_windows, 1)),
      'mulan_text': np.array([[0.0, 1.0]]),
      'captions': ['up'],
  }


def make_example(stage, record, crop_seconds, seed=0, **probabilities):
  made = stages.get_stage(stage, crop_seconds)
  has_mulan = any(s.name == 'mulan' for s in made.inputs)
  hum_probability = probabilities.pop('hum_probability', 0.0)
  melody = {'melody': probabilities.pop('melody_probability', 1.0)}
  return stage_examples.StageExamples()(
      record,
      made.feature_lengths,
      np.random.default_rng(seed),
      stage=made,
      quantizers={'mulan': QUANTIZER} if has_mulan else {},
      hummed=['melody'] if hum_probability else [],
      hum_probability=hum_probability,
      probabilities=melody,
      **probabilities,
  )


class StageExamplesTest(parameterized.TestCase):

  def test_semantic_ids(self):
    example = make_example('semantic', make_record(0.12), 0.12)
    # MuLan: [1, 0] is code 0 of quantizer 1, and leaves nothing. Each of the
    # 12 quantizers has 1024 ids, from 2 on.
    np.testing.assert_array_equal(example['inputs'], 2 + 1024 * np.arange(12))
    semantic = 2 + 12 * 1024
    np.testing.assert_array_equal(
        example['targets'], [semantic, semantic + 1, semantic + 2]
    )

  def test_coarse_ids(self):
    example = make_example('coarse', make_record(0.04), 0.04)
    semantic = 2 + 12 * 1024
    coarse = semantic + 1024
    self.assertEqual(example['inputs'][-1], semantic)
    # Two frames: tokens 0 1 2 3 and 1 2 3 4, of quantizers 1 to 4 each.
    np.testing.assert_array_equal(
        example['targets'] - coarse,
        [0, 1025, 2050, 3075, 1, 1026, 2051, 3076],
    )

  def test_fine_ids(self):
    example = make_example('fine', make_record(0.02), 0.02)
    np.testing.assert_array_equal(
        example['inputs'], 2 + np.array([0, 1025, 2050, 3075])
    )
    np.testing.assert_array_equal(
        example['targets'], 2 + 4 * 1024 + 1025 * np.arange(8)
    )

  @parameterized.parameters(range(8))
  def test_streams_stay_aligned(self, seed):
    example = make_example('coarse', make_record(8), 2.0, seed)
    semantic = example['inputs'][12:] - (2 + 12 * 1024)
    first = example['targets'].reshape(-1, 4)[:, 0] - (2 + 13 * 1024)
    self.assertLen(semantic, 50)
    np.testing.assert_array_equal(first[::2], 2 * semantic)
    np.testing.assert_array_equal(first[1::2], 2 * semantic + 1)

  @parameterized.parameters(*range(4))
  def test_melody_windows_are_of_the_crop(self, seed):
    example = make_example(
        'semantic_melody',
        make_record(20.0, 20),
        10.0,
        seed,
        melody_probability=1,
    )
    first = example['targets'][0] - (2 + 12 * 1024 + 24 * 512)
    self.assertEqual(first % 25, 0)  # Crops start on whole seconds.
    melody = example['inputs'][12:].reshape(7, 24) - 2 - 12 * 1024
    melody -= 512 * np.arange(24)
    expected = first // 25 + np.arange(7)[:, np.newaxis] + np.arange(24)
    np.testing.assert_array_equal(melody, expected)

  def test_melodies_are_given_by_chance(self):
    given = [
        make_example(
            'semantic_melody', make_record(8.0), 8.0, i, melody_probability=0.7
        )['inputs'][12:]
        for i in range(200)
    ]
    absent = [np.all(ids == streams.ABSENT_ID) for ids in given]
    self.assertBetween(np.mean(absent), 0.2, 0.4)
    self.assertTrue(
        all(np.all(ids > 1) for ids, a in zip(given, absent) if not a)
    )

  def test_streams_of_plans_are_given_one_by_one(self):
    known = {**stages.PAPER_STREAMS, **plan_streams.STREAMS}
    inputs = ('mulan', *(f'{name}?' for name in plan_streams.NAMES))
    stage = stages.get_stage('semantic', 4.0, inputs, known=known)
    record = make_record(8.0)
    for i, stream in enumerate(plan_streams.STREAMS.values()):
      shape = stream.num_frames(8.0), stream.num_quantizers
      record[stream.name] = np.full(shape, i % 2, np.int32)
    probabilities = {'beat': 0.2, 'chord': 0.5, 'key': 0.8}
    seen = set()
    for seed in range(200):
      example = stage_examples.StageExamples()(
          record,
          stage.feature_lengths,
          np.random.default_rng(seed),
          stage=stage,
          quantizers={'mulan': QUANTIZER},
          probabilities=probabilities,
      )
      given, start = [], 12
      for stream in plan_streams.STREAMS.values():
        end = start + stage.num_ids(stream)
        absent = example['inputs'][start:end] == streams.ABSENT_ID
        self.assertIn(np.mean(absent), (0, 1))
        given.append(not absent.any())
        start = end
      seen.add(tuple(given))
    # Any subset, but for the arrangement, which is always given.
    self.assertLen(seen, 8)
    self.assertTrue(all(given[3] for given in seen))

  @parameterized.parameters((0.0, 0), (0.4, 0.4), (1.0, 1))
  def test_melodies_are_hummed_by_chance(self, probability, expected):
    make = functools.partial(
        make_example, 'semantic_melody', crop_seconds=8.0,
        hum_probability=probability,
    )  # fmt: skip
    record = make_record(8.0)
    found = [make(record, seed=i)['inputs'][12] for i in range(300)]
    first = 2 + 12 * 1024  # Of the audio; of the hum, a hundred more.
    self.assertContainsSubset(found, {first, first + 100})
    share = np.mean(np.array(found) == first + 100)
    self.assertAlmostEqual(share, expected, delta=0.1)
    # Where nobody knows what to hum, there is the audio.
    record['melody_hum'] = record['melody_hum'][:0]
    self.assertEqual(make(record)['inputs'][12], first)
    del record['melody_hum']
    if probability == 1:
      with self.assertRaisesRegex(ValueError, "'melody_hum'.*tokenize again"):
        make(record)

  def test_crops_reach_both_ends(self):
    starts = {
        int(make_example('fine', make_record(0.1), 0.04, seed)['targets'][0])
        for seed in range(50)
    }
    self.assertEqual(starts, {2 + 4 * 1024 + frame for frame in range(4)})

  def test_short_records_are_padded(self):
    example = make_example('coarse', make_record(0.04), 0.08)
    np.testing.assert_array_equal(example['inputs'][13:], [0])
    self.assertTrue(np.all(example['targets'][:8] > 0))
    np.testing.assert_array_equal(example['targets'][8:], np.zeros(8))

  @parameterized.parameters((0.0, 0), (1.0, 1))
  def test_conditioning_is_audio_or_text(self, text_probability, token):
    example = make_example(
        'semantic', make_record(1), 1.0, text_probability=text_probability
    )
    self.assertEqual(example['inputs'][0], 2 + token)

  def test_texts_are_drawn_by_their_weights(self):
    record = {
        **make_record(1),
        'mulan_text': np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]),
        'caption_weights': np.array([0.0, 3.0, 1.0], np.float32),
    }
    counts = np.zeros(4)
    for seed in range(400):
      example = make_example(
          'semantic', record, 1.0, seed, text_probability=1.0
      )
      counts[example['inputs'][0] - 2] += 1
    self.assertEqual(counts[0], 0)
    self.assertBetween(counts[1] / 400, 0.69, 0.81)  # 3 of 4, within 3 sigma.

  def test_rejects_lengths_of_different_crops(self):
    with self.assertRaisesRegex(ValueError, "'fine'.*inputs of 200.*are 100"):
      stage_examples.StageExamples()(
          make_record(1),
          {'inputs': 100, 'targets': 400},
          np.random.default_rng(0),
          stage=stages.get_stage('fine'),
          quantizers={},
      )


class CropEmbeddingTest(parameterized.TestCase):

  # Windows of 2 s, at 0, 1, 2 and 3 s.
  WINDOWS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])

  @parameterized.named_parameters(
      ('one_inside', 0.5, 3.0, [0, 1]),
      ('two_inside', 0.0, 3.0, [0.5**0.5, 0.5**0.5]),
      ('edges_count', 1.0, 2.0, [0, 1]),
      # Its centre, 2.3 s, is nearest to that of the window at 1 s.
      ('none_fits', 2.0, 0.6, [0, 1]),
      ('crop_beyond_the_last', 6.0, 1.0, [0, -1]),
  )
  def test_averages_windows_inside(self, start, seconds, expected):
    embedding = stage_examples.crop_embedding(self.WINDOWS, start, seconds, 2.0)
    np.testing.assert_allclose(embedding, expected, atol=1e-6)

  def test_opposite_windows_are_finite(self):
    embedding = stage_examples.crop_embedding(self.WINDOWS, 0.0, 5.0, 2.0)
    np.testing.assert_array_equal(embedding, [0, 0])

  def test_quantizes_what_is_left(self):
    tokens = stage_examples.quantize(np.array([0.12, 1.1]), CODEBOOKS[:3])
    # [0, 1] leaves [.12, .1]; then [.1, 0] leaves [.02, .1].
    np.testing.assert_array_equal(tokens, [1, 1, 2])


if __name__ == '__main__':
  absltest.main()
