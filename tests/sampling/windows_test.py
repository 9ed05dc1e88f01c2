"""Tests for windows."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.sampling import windows
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np


def make_windows(name, crop_seconds):
  return windows.Windows(stages.get_stage(name, crop_seconds))


def count_up(stream, num_frames, batch=1):
  """Returns tokens that tell row and frame."""
  frames = np.arange(num_frames) + 1000 * np.arange(batch)[:, np.newaxis]
  return np.repeat(frames[..., np.newaxis], stream.num_quantizers, axis=-1)


class WindowsTest(parameterized.TestCase):

  @parameterized.parameters(
      (30.0, 1, 1), (30.0, 750, 1), (30.0, 751, 2), (30.0, 1125, 2),
      (30.0, 1126, 3),
  )  # fmt: skip
  def test_paper_windows_start_every_15_s(self, crop_seconds, frames, count):
    cover = make_windows('semantic', crop_seconds)
    self.assertEqual(cover.stride(base.SEMANTIC), 375)
    self.assertEqual(cover.count(frames), count)

  def test_strides_are_of_equal_time_in_all_streams(self):
    # Half of 25 semantic frames is 12, which is 24 coarse ones.
    cover = make_windows('coarse', 1.0)
    self.assertEqual(cover.stride(base.SEMANTIC), 12)
    self.assertEqual(cover.stride(base.COARSE), 24)

  def test_inputs_of_a_continued_window(self):
    cover = make_windows('coarse', 6.0)
    frames = cover.input_frames(451, base.SEMANTIC)
    self.assertEqual(frames, 150 + 2 * 75)
    tokens = {
        'mulan': count_up(base.MULAN, 1),
        'semantic': count_up(base.SEMANTIC, frames),
    }
    inputs = cover.continued_inputs(tokens, 2)
    np.testing.assert_array_equal(inputs['mulan'], tokens['mulan'])
    np.testing.assert_array_equal(
        inputs['semantic'][0, :, 0], np.arange(150, 300)
    )

  def test_windows_of_melody_start_on_whole_seconds(self):
    # Of 10 s crops, three windows of 4 s every 3 s.
    cover = make_windows('coarse_melody', 10.0)
    self.assertEqual(cover.stride_seconds, 5.0)
    tokens = {
        'mulan': np.zeros((1, 1, 12), np.int32),
        'melody': np.arange(13)[np.newaxis, :, np.newaxis].repeat(24, axis=2),
        'semantic': np.zeros((1, 750, 1), np.int32),
    }
    for window, expected in (
        (0, [0, 3, 6]),
        (1, [5, 8, 11]),
        (2, [10, -1, -1]),
    ):
      inputs = cover.continued_inputs(tokens, window)
      np.testing.assert_array_equal(inputs['melody'][0, :, 0], expected)

  def test_last_independent_window_ends_the_piece(self):
    cover = make_windows('fine', 2.0)
    for num_frames, starts in (
        (100, [0]),
        (200, [0, 100]),
        (230, [0, 100, 130]),
    ):
      np.testing.assert_array_equal(
          cover.independent_starts(num_frames), starts
      )

  def test_inputs_of_independent_windows_keep_rows_together(self):
    cover = make_windows('fine', 0.1)
    tokens = {'coarse': count_up(base.COARSE, 8, batch=2)}
    inputs = cover.independent_inputs(tokens, np.asarray([0, 3]))['coarse']
    np.testing.assert_array_equal(
        inputs[..., 0],
        [
            [0, 1, 2, 3, 4],
            [3, 4, 5, 6, 7],
            [1000, 1001, 1002, 1003, 1004],
            [1003, 1004, 1005, 1006, 1007],
        ],
    )


if __name__ == '__main__':
  absltest.main()
