"""Tests for voicing."""

from absl.testing import absltest
import mido
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import voicing
import numpy as np

# Second, length and pitch: a melody in half notes over chords in quarters.
NOTES = (
    (0.0, 1.0, 76),
    (0.0, 0.5, 48),
    (0.0, 0.5, 60),
    (0.02, 0.5, 64),
    (0.5, 0.5, 43),
    (0.5, 0.5, 59),
    (1.0, 1.0, 72),
    (1.0, 1.0, 48),
    (1.0, 1.0, 64),
)
PEDAL = mido.Message('control_change', control=64, value=127)
BEND = mido.Message('pitchwheel', pitch=10)


def make_piano():
  start, length, pitch = map(np.array, zip(*NOTES))
  return notation.Score(
      parts=(notation.Part('', 0),),
      start=start,
      end=start + length,
      pitch=pitch,
      velocity=np.full(len(start), 80),
      volume=np.ones(len(start)),
      part=np.zeros(len(start), int),
      controls=((0.0, 0, PEDAL), (0.1, 0, BEND)),
  )


class SeparateTest(absltest.TestCase):

  def test_voices(self):
    score = voicing.separate(make_piano(), 0, ('melody', 'bass'))
    self.assertEqual([p.name for p in score.parts], ['', 'melody', 'bass'])
    pitches = [score.pitch[score.part == p].tolist() for p in range(3)]
    self.assertEqual(pitches, [[60, 64, 59, 64], [76, 72], [48, 43, 48]])

  def test_the_pedal_stays_with_the_chords(self):
    score = voicing.separate(make_piano(), 0, ('melody',))
    self.assertEqual(
        [(p, m.type) for _, p, m in score.controls],
        [(0, 'control_change'), (0, 'pitchwheel'), (1, 'pitchwheel')],
    )

  def test_a_line_is_a_melody_and_no_bass(self):
    line = make_piano().select(np.array([0, 6]))
    score = voicing.separate(line, 0, ('melody', 'bass'))
    np.testing.assert_array_equal(score.part, [1, 1])
    self.assertLen(score.parts, 2)

  def test_other_parts_are_left_alone(self):
    piano = make_piano()
    score = voicing.separate(piano, 1, ('melody', 'bass'))
    np.testing.assert_array_equal(score.part, piano.part)


if __name__ == '__main__':
  absltest.main()
