"""Tests for planned."""

import dataclasses
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import facts
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import planned
from musiclm_jax.data.scores import synthesis
from musiclm_jax.data.sources import rendered_scores
from musiclm_jax.data.sources import score_files
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import terms
import numpy as np
from tests.data.sources import rendered_scores_test

METRES = [*terms.METRES]
LONE = (notation.Part('', 0),)
MELODY, CHORDS, DRUMS = (
    arranging.Role.MELODY,
    arranging.Role.CHORDS,
    arranging.Role.DRUMS,
)
FLUTE, PIANO = (terms.FAMILIES.index(name) for name in ('flute', 'piano'))


def make_score(notes, parts=LONE, **fields):
  """Returns a score of (start, end, part, velocity)s."""
  start, end, part, velocity = map(np.array, zip(*notes))
  return notation.Score(
      parts=parts,
      start=start.astype(float),
      end=end.astype(float),
      pitch=np.full(len(notes), 60),
      velocity=velocity,
      volume=np.ones(len(notes)),
      part=part,
      **fields,
  )


class BeatsTest(parameterized.TestCase):

  # Two bars of 3/4 at 120, then 6/8 with a dotted quarter of a second.
  SCORE = make_score(
      [(0, 6, 0, 80)],
      tempos=((0.0, 120.0), (3.0, 90.0)),
      metres=((0.0, '3/4'), (3.0, '6/8')),
  )

  def find(self, score=SCORE, **known):
    return planned.find_beats(score, facts.Metadata(**known))

  def test_two_tempos_and_metres(self):
    beats = self.find()
    three, six = METRES.index('3/4'), METRES.index('6/8')
    np.testing.assert_allclose(
        beats[:10],
        [
            *[(0.5 * i, i % 3, three) for i in range(6)],
            *[(3.0 + i, i % 2, six) for i in range(4)],
        ],
    )
    # Beats are counted on while the last notes ring.
    self.assertGreater(beats[-1, 0], 10)

  def test_the_metre_that_is_known_counts(self):
    beats = self.find(metre='4/4')
    np.testing.assert_array_equal(beats[:10, 1], np.arange(10) % 4)
    np.testing.assert_allclose(beats[6:9, 0], [3, 3 + 2 / 3, 3 + 4 / 3])

  @parameterized.parameters('unknown', '')
  def test_beats_without_a_metre(self, metre):
    score = self.SCORE
    if not metre:
      score = dataclasses.replace(score, metres=((0.0, '7/8'),))
    beats = self.find(score, metre=metre)
    np.testing.assert_array_equal(beats[:, 1:], -1)
    np.testing.assert_allclose(beats[:6, 0], 0.5 * np.arange(6))

  def test_before_the_first_metre_there_is_none(self):
    score = dataclasses.replace(self.SCORE, metres=((3.0, '2/4'),))
    beats = self.find(score)
    self.assertEqual(beats[:9, 1].tolist(), [-1] * 6 + [0, 1, 0])

  @parameterized.named_parameters(
      ('no_tempo', {'tempos': ()}, {}),
      ('absurd', {'tempos': ((0.0, 1e6),)}, {}),
      ('another', {'tempos': ((0.0, 120.0),)}, {'tempo': 60.0}),
      ('changing', {}, {'tempo': 120.0}),
  )
  def test_beats_that_are_not_known(self, changes, known):
    score = dataclasses.replace(self.SCORE, **changes)
    self.assertEqual(self.find(score, **known).shape, (0, 3))

  def test_a_written_tempo_that_the_file_has(self):
    score = dataclasses.replace(
        self.SCORE, tempos=((0.0, 90.0),), metres=((0.0, '6/8'),)
    )
    beats = self.find(score, tempo=60.0)
    np.testing.assert_allclose(beats[:3, 0], [0, 1, 2])

  def test_crops_have_a_beat_more_on_both_sides(self):
    beats = planned.crop_beats(self.find(), 0.7, 1.6)
    np.testing.assert_allclose(beats[:, 0], [-0.2, 0.3, 0.8, 1.3], atol=1e-6)
    np.testing.assert_array_equal(beats[:, 1], [1, 2, 0, 1])
    beats = planned.crop_beats(self.find(), 1.0, 2.0)
    np.testing.assert_allclose(beats[:, 0], [0, 0.5, 1], atol=1e-6)
    self.assertEmpty(planned.crop_beats(np.zeros((0, 3)), 0.0, 1.0))


class FamiliesTest(absltest.TestCase):

  PARTS = (
      notation.Part('', 73),
      notation.Part('', 0),
      notation.Part('', 0, is_drums=True),
      notation.Part('', 56),
  )

  def families(self, notes, roles, start=0.0, seconds=4):
    score = make_score(notes, self.PARTS)
    arrangement = arranging.Arrangement(score, roles)
    return planned.families(arrangement, start, seconds)

  def test_who_plays_and_who_leads(self):
    notes = [
        (0.0, 1.0, 1, 127),  # The piano alone,
        (1.0, 3.0, 1, 127),
        (1.0, 2.0, 0, 60),  # under a flute with the melody,
        (2.1, 2.101, 2, 120),  # beside a drum,
        (2.0, 3.0, 3, 1),  # and a trumpet that nobody hears.
    ]
    found = self.families(notes, (MELODY, CHORDS, DRUMS, CHORDS))
    self.assertEqual(found.dtype, np.int8)
    expected = np.zeros((4, 16), int)
    expected[[0, 1, 2], PIANO] = [2, 1, 2]
    expected[1, FLUTE] = 2
    expected[2, terms.DRUMS] = 1
    np.testing.assert_array_equal(found, expected)
    later = self.families(notes, (MELODY, CHORDS, DRUMS, CHORDS), 1.0, 2)
    np.testing.assert_array_equal(later, expected[1:3])

  def test_a_hair_of_a_note_in_the_next_second_does_not_count(self):
    notes = [(0.0, 1.01, 0, 80), (1.0, 2.0, 1, 80)]
    found = self.families(notes, (MELODY, CHORDS, DRUMS, CHORDS), seconds=2)
    self.assertEqual(found[:, FLUTE].tolist(), [2, 0])
    self.assertEqual(found[:, PIANO].tolist(), [0, 2])


class RenderedTest(parameterized.TestCase):
  """Rendered clips say what a plan would have, after all changes."""

  def read(self, **options):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    rendered_scores_test.write_song(folder / 'a.mid', beats=100)
    (file,), _ = score_files.find_scores(folder)
    self.scores = []

    def render(score, *unused, **others):
      del unused, others
      self.scores.append(score)
      rng = np.random.default_rng(0)
      samples = round((score.seconds + 1.0) * 24000)
      return rng.uniform(-0.1, 0.1, samples).astype(np.float32)

    with mock.patch.object(synthesis, 'render', render):
      return list(rendered_scores.read_score(file, ['font.sf2'], **options))

  @parameterized.parameters({}, {'clip_seconds': 10.0, 'max_seconds': 15.0})
  def test_beats_are_where_notes_begin(self, **options):
    for clip in self.read(variations=3, **options):
      score = self.scores[int(clip.id.split('/')[-2])]
      start = float(clip.id.split('/')[-1])
      # Drums that were added also play between beats.
      onsets = np.unique(score.start[~score.is_drums]) - start
      inside = onsets[(onsets > 0) & (onsets < len(clip.audio) / 24000)]
      distance = np.abs(inside[:, None] - clip.beats[:, 0]).min(axis=1)
      np.testing.assert_allclose(distance, 0, atol=1e-3)
      np.testing.assert_array_equal(np.diff(clip.beats[:, 1]) % 3, 1)
      np.testing.assert_array_equal(clip.beats[:, 2], METRES.index('3/4'))
      self.assertLessEqual(clip.beats[0, 0], 1e-3)

  def test_bars_begin_where_they_were_written(self):
    clip, *_ = self.read(variations=1, clip_seconds=10.0)
    np.testing.assert_allclose(clip.beats[:3, 0], [0, 0.6, 1.2], atol=1e-3)
    self.assertEqual(clip.beats[:3, 1].tolist(), [0, 1, 2])
    self.assertEqual(clip.key, 'A minor')
    self.assertEqual(clip.families.shape, (10, 16))
    np.testing.assert_array_equal(clip.families[:, FLUTE], 2)
    np.testing.assert_array_equal(clip.families[:, PIANO], 1)
    self.assertEqual(clip.families.sum(), 30)
    self.assertEqual(plan_streams.LEADING, 2)


if __name__ == '__main__':
  absltest.main()
