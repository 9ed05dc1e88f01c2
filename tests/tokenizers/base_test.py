"""Tests for base."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import streams
from musiclm_jax.tokenizers import base
import numpy as np


class StreamTest(parameterized.TestCase):

  @parameterized.parameters(
      (base.MULAN, 10.0, 1),
      (base.SEMANTIC, 10.0, 250),
      (base.FINE, 0.5, 25),
      (base.MELODY, 3.9, 0),
      (base.MELODY, 4.0, 1),
      (base.MELODY, 4.9, 1),
      (base.MELODY, 5.0, 2),
      (base.MELODY, 30.0, 27),
  )
  def test_frames_that_a_stage_reads(self, stream, seconds, expected):
    self.assertEqual(stream.num_frames(seconds), expected)

  def test_crop_of_frames(self):
    tokens = np.arange(100)[:, np.newaxis]
    np.testing.assert_array_equal(
        base.SEMANTIC.crop(tokens, 1.0, 0.12)[:, 0], [25, 26, 27]
    )
    self.assertLen(base.SEMANTIC.crop(tokens, 3.96, 1.0), 1)
    self.assertIs(base.MULAN.crop(tokens, 1.0, 1.0), tokens)

  def test_crop_of_windows_is_of_those_that_fit(self):
    tokens = np.arange(8)[np.newaxis, :, np.newaxis]
    crop = base.MELODY.crop(tokens, 1.0, 6.0)
    np.testing.assert_array_equal(crop[0, :, 0], [1, 2, 3])

  def test_windows_that_are_not_there_are_absent(self):
    tokens = np.arange(4)[np.newaxis, :, np.newaxis]
    crop = base.MELODY.crop(tokens, 2.0, 7.0)
    np.testing.assert_array_equal(crop[0, :, 0], [2, 3, *[streams.ABSENT] * 2])
    none = base.MELODY.crop(tokens[:, :0], 0.0, 7.0)
    np.testing.assert_array_equal(none[0, :, 0], [streams.ABSENT] * 4)


if __name__ == '__main__':
  absltest.main()
