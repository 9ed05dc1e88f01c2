"""Tests for timeline."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.sampling import plan
from musiclm_jax.sampling import timeline
import numpy as np

AUDIO = np.zeros(24000, np.float32)  # One second.


class TimelineTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('default', {}, 10.0),
      ('seconds', {'seconds': 3}, 3.0),
      ('goes_on', {'audio': AUDIO}, 11.0),
      ('goes_on_for', {'audio': AUDIO, 'seconds': 4.0}, 4.0),
      ('change', {'audio': AUDIO, 'change': (0.2, 1.0)}, 1.0),
      ('same', {'audio': AUDIO, 'change': (0, 0.5), 'seconds': 1.0}, 1.0),
  )
  def test_length(self, fields, seconds):
    piece = timeline.Timeline('piano', **fields)
    self.assertEqual(piece.length(24000), seconds)

  def test_the_melody_is_a_condition(self):
    piece = timeline.Timeline('a', melody=AUDIO, conditions={'beat': AUDIO})
    self.assertEqual(list(piece.all_conditions), ['melody', 'beat'])
    self.assertEmpty(timeline.Timeline('a').all_conditions)

  def test_sections(self):
    self.assertEqual(timeline.Timeline('piano').sections, [(0.0, 'piano')])
    story = timeline.Timeline([(0, 'piano'), (5, AUDIO)])
    self.assertEqual([start for start, _ in story.sections], [0.0, 5.0])
    self.assertIs(story.sections[1][1], AUDIO)
    self.assertEqual(timeline.Timeline(AUDIO).sections[0][0], 0.0)

  @parameterized.named_parameters(
      ('negative', {'seconds': -1.0}, 'seconds must be greater than 0.* -1'),
      ('zero', {'seconds': 0}, 'seconds must be greater than 0, but is 0'),
      ('nan', {'seconds': float('nan')}, 'seconds must be greater than 0'),
      ('blend', {'blend_seconds': -1.0}, 'blend_seconds must be at least 0'),
      ('no_audio', {'change': (0, 1)}, 'change must be of audio, but there is'),
      ('loop', {'audio': AUDIO, 'loop': True}, 'loop must be False if'),
      (
          'melody',
          {'melody': AUDIO, 'conditions': {'melody': AUDIO}},
          "without 'melody' where there is a melody",
      ),
      (
          'plan',
          {'plan': plan.Plan(key='C'), 'conditions': {'key': AUDIO}},
          r"without \['key'\] where the plan says them",
      ),
      ('negative_prompt', {'negative_prompt': ' '}, "a text .* one is ' '"),
  )
  def test_rejects(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      timeline.Timeline('piano', **fields)

  @parameterized.parameters(
      ([(1, 'piano')],),
      ([(0, 'piano'), (0, 'drums')],),
      ([(0, 'piano'), (4, 'drums'), (3, 'flute')],),
      ([(0, 'piano'), (float('nan'), 'drums')],),
      ([],),
  )
  def test_rejects_starts(self, prompts):
    with self.assertRaisesRegex(ValueError, 'prompts of a piece must start at'):
      timeline.Timeline(prompts)

  @parameterized.named_parameters(
      ('outside', {'change': (0.5, 2.0)}, 'part of the 1.00 s.* to 2.0 s'),
      ('backwards', {'change': (0.5, 0.4)}, 'start before end'),
      ('other', {'change': (0, 1), 'seconds': 2.0}, 'those of the audio, 1.00'),
      ('short', {'seconds': 0.5}, 'more than the 1.00 of audio'),
  )
  def test_rejects_lengths(self, fields, message):
    piece = timeline.Timeline('piano', audio=AUDIO, **fields)
    with self.assertRaisesRegex(ValueError, message):
      piece.length(24000)

  def test_rejects_less_than_a_sample(self):
    with self.assertRaisesRegex(ValueError, 'at least one sample, 4.2e-05'):
      timeline.Timeline('piano', seconds=1e-6).length(24000)


if __name__ == '__main__':
  absltest.main()
