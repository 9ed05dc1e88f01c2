"""Tests for plan_streams."""

import json
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.data import clips
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import table
from musiclm_jax.tokenizers import terms
import numpy as np

THREE_FOUR = [*terms.METRES].index('3/4')


def make_record(**fields):
  clip = clips.Clip(
      audio=np.zeros(24000, np.float32),
      captions=('a',),
      id='a/0',
      work='a',
      title='a',
      source='a',
      **fields,
  )
  return clip.to_example()


class PlanStreamsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.model = self.enterContext(tempfile.TemporaryDirectory())
    plan_streams.PlanStreams.write(self.model)
    self.part = table.kind('plan').load(self.model)

  def tokens(self, record, seconds=4.0):
    return {
        name: tokens[0]
        for name, tokens in self.part.tokenize_clips([record], seconds).items()
    }

  def test_beats(self):
    # The third beat of a bar begins 0.4 s before the clip; a beat takes 0.6 s.
    times = 0.6 * np.arange(8) - 0.4
    numbers = np.arange(2, 10) % 3
    beats = np.stack([times, numbers, np.full(8, THREE_FOUR)], axis=1)
    beat = self.tokens(make_record(beats=beats))['beat']
    self.assertEqual(beat.shape, (100, 2))
    # The metre 2/4 has two tokens. Frames are of 40 ms: five, then 15 a beat.
    expected = [4] * 5 + [2] * 15 + [3] * 15 + [4] * 15 + [2] * 15
    np.testing.assert_array_equal(beat[:65, 0], expected)
    # 12 phases in 15 frames.
    phases = [int(12 * (i + 0.5) / 15) for i in range(15)]
    np.testing.assert_array_equal(beat[5:20, 1], phases)
    np.testing.assert_array_equal(beat[:5, 1], phases[10:])
    # The last beat, at 3.8 s, is not known to end.
    self.assertTrue(np.all(beat[:95] >= 0))
    self.assertTrue(np.all(beat[95:] == streams.ABSENT))

  def test_beats_without_a_metre(self):
    beats = [[i / 2, -1, -1] for i in range(9)]
    beat = self.tokens(make_record(beats=np.array(beats)))['beat']
    self.assertTrue(np.all(beat[:, 0] == streams.ABSENT))
    np.testing.assert_array_equal(beat[[0, 13, 25], 1], [0, 0, 0])

  def test_chords_key_and_arrangement(self):
    families = np.zeros((4, 16), np.int8)
    families[:, terms.DRUMS] = plan_streams.LEADING
    families[2, 0] = plan_streams.ON
    chords = np.repeat([9, 12 + 4, -1, -1], 50)
    tokens = self.tokens(
        make_record(chords=chords, key='E minor', families=families)
    )
    # Drums alone have no chord; what the piano plays is not known.
    expected = [9] * 5 + [16] * 5 + [streams.ABSENT] * 5 + [terms.NO_CHORD] * 5
    np.testing.assert_array_equal(tokens['chord'][:, 0], expected)
    np.testing.assert_array_equal(tokens['key'], [[12 + 4]] * 4)
    np.testing.assert_array_equal(tokens['arrangement'], families)

  def test_old_records_know_the_key_and_the_chords(self):
    record = make_record(
        chords=np.zeros(200), facts=json.dumps({'key': 'Bb major'})
    )
    for name in ('beats', 'key', 'families'):
      del record[name]
    tokens = self.tokens(record)
    np.testing.assert_array_equal(tokens['chord'], [[0]] * 20)
    np.testing.assert_array_equal(tokens['key'], [[10]] * 4)
    self.assertTrue(np.all(tokens['arrangement'] == streams.ABSENT))
    self.assertTrue(np.all(tokens['beat'] == streams.ABSENT))

  def test_what_is_not_known_is_absent(self):
    record = make_record()
    self.assertFalse(self.part.knows(record))
    self.assertTrue(self.part.knows(make_record(key='C major')))
    for name, tokens in self.tokens(record, 2.5).items():
      stream = plan_streams.STREAMS[name]
      frames = int(np.ceil(2.5 * stream.frame_rate))
      self.assertEqual(tokens.shape, (frames, stream.num_quantizers))
      self.assertTrue(np.all(tokens == streams.ABSENT))

  def test_the_part_describes_its_streams(self):
    found = dict(
        (stream.name, stream) for _, stream in table.streams_in(self.model)
    )
    self.assertEqual(found, plan_streams.STREAMS)
    self.assertEqual(self.part.streams, tuple(found.values()))
    for stream in found.values():
      self.assertTrue(stream.is_added and stream.is_conditioning)
      self.assertTrue(plan_streams.is_planned(stream))
    self.assertFalse(plan_streams.is_planned(base.MELODY))
    self.assertIsNone(table.kind('melody').clip_tokenizer)

  def test_hears_nothing(self):
    with self.assertRaisesRegex(errors.UserError, "'beat', .* of a plan"):
      self.part.tokenize(np.zeros((1, 8), np.float32))


if __name__ == '__main__':
  absltest.main()
