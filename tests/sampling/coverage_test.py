"""Tests for coverage."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import streams
from musiclm_jax.sampling import coverage
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np


def cover(name, crop_seconds):
  return coverage.Windows(stages.get_stage(name, crop_seconds))


def unknown(length, *runs):
  frames = np.zeros(length, bool)
  for start, end in runs or [(0, length)]:
    frames[start:end] = True
  return frames


class CoverageTest(parameterized.TestCase):

  def continued(self, name, crop_seconds, frames, borders=()):
    found = cover(name, crop_seconds).continued(frames, borders)
    return [(w.start, w.first, w.end) for w in found]

  @parameterized.named_parameters(
      ('one', 100, (), [(0, 0, 100)]),
      # The last window ends with the piece, and so knows more.
      ('two', 120, (), [(0, 0, 100), (20, 100, 120)]),
      ('many', 230, (), [(0, 0, 100), (50, 100, 150), (100, 150, 200),
                         (130, 200, 230)]),
      ('shorter_than_a_window', 30, (), [(0, 0, 30)]),
      ('other_prompt', 200, (0.0, 2.4), [(0, 0, 60), (60, 60, 160),
                                         (100, 160, 200)]),
      ('prompt_after_the_end', 100, (0.0, 9.0), [(0, 0, 100)]),
  )  # fmt: skip
  def test_windows_of_a_new_piece(self, length, borders, expected):
    found = self.continued('semantic', 4.0, unknown(length), borders)
    self.assertEqual(found, expected)

  @parameterized.parameters((0.0, 60), (0.4, 50), (9.0, 10))
  def test_a_prompt_follows_from_some_music(self, context_seconds, start):
    found = list(
        cover('semantic', 4.0).continued(
            unknown(120), (0.0, 2.4), context_seconds
        )
    )
    self.assertEqual(found[1].start, start)
    self.assertEqual(found[1].first, 60)

  @parameterized.named_parameters(
      ('goes_on', [(260, 300)], [(200, 260, 300)]),
      ('hole', [(140, 180)], [(90, 140, 180)]),
      ('hole_at_start', [(0, 20)], [(0, 0, 20)]),
      ('long_hole', [(140, 260)], [(90, 140, 190), (140, 190, 240),
                                   (190, 240, 260)]),
      ('two_holes', [(10, 20), (290, 300)], [(0, 10, 20), (200, 290, 300)]),
      ('none', [(0, 0)], []),
  )  # fmt: skip
  def test_known_frames_are_left_alone(self, runs, expected):
    found = self.continued('semantic', 4.0, unknown(300, *runs))
    self.assertEqual(found, expected)

  def test_coarse_windows_start_at_semantic_frames(self):
    # Half a window is 25 frames, and a semantic frame is 2 of coarse ones.
    for window in cover('coarse', 1.0).continued(unknown(333), (0.0, 3.3)):
      self.assertEqual(window.start % 2, 0)
      self.assertLessEqual(window.end - window.start, 50)
      self.assertLess(window.start, window.end)

  def test_melody_windows_start_at_seconds(self):
    for window in cover('semantic_melody', 8.0).continued(unknown(777)):
      self.assertEqual(window.start % 25, 0)

  @parameterized.parameters(1.0, 1.5, 2.0)
  def test_windows_go_on_where_the_grid_is_coarse(self, crop_seconds):
    key = streams.Stream('key', 1, 24, 1.0, is_conditioning=True, is_added=True)
    stage = streams.Stage('it', (key,), base.SEMANTIC, crop_seconds)
    windows = list(coverage.Windows(stage).continued(unknown(130)))
    self.assertEqual([w.start % 25 for w in windows], [0] * len(windows))
    starts, ends = [w.first for w in windows], [w.end for w in windows]
    self.assertEqual(starts, [0, *ends[:-1]])
    self.assertEqual(ends[-1], 130)

  def test_independent_windows(self):
    fine = cover('fine', 0.48)
    found = fine.independent(unknown(100), 100)
    self.assertEqual(
        [(w.start, w.first, w.end) for w in found],
        [(0, 0, 24), (24, 24, 48), (48, 48, 72), (72, 72, 96), (76, 96, 100)],
    )
    self.assertLen(fine.independent(unknown(100), 25), 2)
    found = fine.independent(unknown(100, (90, 95)), 100)
    self.assertEqual([(w.start, w.first) for w in found], [(76, 90)])

  def test_inputs_are_of_the_time_of_the_window(self):
    tokens = {
        'mulan': np.zeros((1, 1, 12), int),
        'semantic': np.arange(100)[np.newaxis, :, np.newaxis],
    }
    found = cover('coarse', 1.0).inputs(tokens, start=50)
    self.assertEqual(found['mulan'].shape, (1, 1, 12))
    np.testing.assert_array_equal(
        found['semantic'][0, :, 0], 25 + np.arange(25)
    )

  def test_independent_windows_start_on_the_grid_of_all_streams(self):
    beat = streams.Stream('beat', 1, 4, 12.5, is_conditioning=True)
    stage = streams.Stage('fine', (beat, base.COARSE), base.FINE, 0.48)
    found = coverage.Windows(stage).independent(unknown(102, (7, 102)), 102)
    self.assertEqual(
        [(w.start, w.first, w.end) for w in found],
        [(4, 7, 28), (28, 28, 52), (52, 52, 76), (76, 76, 100),
         (80, 100, 102)],
    )  # fmt: skip
    self.assertEqual(coverage.Windows(stage).whole(102 / 50), 2.08)

  def test_conditions_that_end_are_absent_from_there_on(self):
    beat = streams.Stream('beat', 1, 4, 12.5, is_conditioning=True)
    stage = streams.Stage('fine', (beat, base.COARSE), base.FINE, 0.48)
    tokens = {'beat': np.ones((1, 4, 1)), 'coarse': np.zeros((1, 50, 4))}
    found = coverage.Windows(stage).inputs(tokens, start=8)
    np.testing.assert_array_equal(
        found['beat'][0, :, 0], [1, 1, -1, -1, -1, -1]
    )
    self.assertEqual(found['coarse'].shape, (1, 24, 4))


if __name__ == '__main__':
  absltest.main()
