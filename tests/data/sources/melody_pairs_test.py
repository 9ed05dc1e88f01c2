"""Tests for melody."""

import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import datasets
from musiclm_jax.data.scores import humming
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import synthesis
from musiclm_jax.data.sources import melody_pairs
from musiclm_jax.data.scores import notation
from musiclm_jax.data.sources import rendered_scores
from musiclm_jax.data.sources import score_files
import numpy as np

from tests.data.scores import synthesis_test

TUNE = (72, 74, 76, 77, 79, 77, 76, 74)


def make_score(notes, parts):
  """Returns a score of (start, end, pitch, part)s."""
  start, end, pitch, part = map(np.array, zip(*sorted(notes)))
  return notation.Score(
      parts=tuple(parts),
      start=start.astype(float),
      end=end.astype(float),
      pitch=pitch,
      velocity=np.full(len(pitch), 90),
      volume=np.ones(len(pitch)),
      part=part,
  )


def make_song(beats=48):
  """Returns a tune of half seconds over chords that begin before it."""
  notes = [(0.0, 1.0, 48, 1)]
  for beat in range(beats):
    time = 1.0 + 0.5 * beat
    notes.append((time, time + 0.5, TUNE[beat % len(TUNE)], 0))
    notes += [(time, time + 0.5, pitch, 1) for pitch in (48, 52, 55)]
  return make_score(
      notes, [notation.Part('MELODY', 73), notation.Part('PIANO', 0)]
  )


class FindMelodyTest(parameterized.TestCase):

  def find(self, notes, parts):
    line = melody_pairs.find_melody(make_score(notes, parts))
    return list(zip(line.start, line.end, line.pitch))

  def test_takes_the_melody_parts(self):
    line = melody_pairs.find_melody(make_song(beats=8))
    np.testing.assert_array_equal(line.pitch, TUNE)
    np.testing.assert_array_equal(line.start, 1.0 + 0.5 * np.arange(8))
    self.assertEqual([p.program for p in line.parts], [73])
    np.testing.assert_array_equal(line.part, 0)

  def test_is_the_highest_and_one_note_at_a_time(self):
    notes = [
        (0, 4, 60, 0),  # Cut off by the next, which is higher.
        (1, 2, 72, 0),
        (1, 3, 67, 0),  # Below what begins with it.
        (1.5, 3, 64, 0),  # Below what sounds.
        (2, 3, 65, 0),
    ]
    self.assertEqual(
        self.find(notes, [notation.Part('vocal', 0)]),
        [(0, 1, 60), (1, 2, 72), (2, 3, 65)],
    )

  def test_without_melody_part_all_but_drums_count(self):
    parts = [notation.Part('', 0), notation.Part('', 0, is_drums=True)]
    found = self.find([(0, 1, 60, 0), (0, 1, 64, 0), (0, 1, 90, 1)], parts)
    self.assertEqual(found, [(0, 1, 64)])

  def test_drums_have_none(self):
    found = self.find([(0, 1, 38, 0)], [notation.Part('', 0, is_drums=True)])
    self.assertEqual(found, [])


class ReadPhrasesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.rendered = []
    self.hummed = []

  def render(self, score, soundfont, sample_rate):
    """Stands in for FluidSynth: a click at each note."""
    del soundfont
    self.rendered.append(score)
    audio = np.zeros(round(score.seconds * sample_rate) + 1, np.float32)
    audio[np.round(score.start * sample_rate).astype(int)] = 0.9
    return audio

  def hum(self, line, rng):
    del rng
    self.hummed.append(line)
    return np.full(round(line.seconds * 16000), 0.5, np.float32)

  def read(self, song, **options):
    file = score_files.ScoreFile('a.mid', 'a.mid', 'songs/a', 'here', 'MIT')
    options = {
        'soundfont': 'font.sf2',
        'variations': 4,
        'phrases_per_score': 2,
        'phrase_seconds': 6.0,
        **options,
    }
    with (
        mock.patch.object(rendered_scores, 'load_score', return_value=song),
        mock.patch.object(synthesis, 'render', self.render),
        mock.patch.object(humming, 'hum', self.hum),
    ):
      return list(melody_pairs.read_phrases(file, **options))

  @parameterized.parameters(range(4))
  def test_every_rendition_keeps_the_melody_and_the_key(self, seed):
    phrases = self.read(make_song(), seed=seed)
    self.assertLen(phrases, 2)
    factors = [r.tempo_factor for r in phrases[0].renditions]
    self.assertLen(set(factors), 4)
    self.assertBetween(min(factors), 0.8, 1.25)
    self.assertBetween(max(factors), 0.8, 1.25)
    lines = [melody_pairs.find_melody(score) for score in self.rendered]
    written = lines[0].accelerate(1 / factors[0])
    self.assertEqual(written.start[0], 0)
    for line, factor in zip([*lines, *self.hummed], factors, strict=True):
      np.testing.assert_array_equal(line.pitch, written.pitch)
      np.testing.assert_allclose(line.start, written.start / factor, atol=1e-6)
    pitches = [set(score.pitch % 12) for score in self.rendered]
    self.assertEqual(pitches[0], pitches[1])

  def test_kinds(self):
    first, *_ = self.read(make_song(), variations=6)
    self.assertEqual(
        [r.kind for r in first.renditions],
        ['written', 'arranged', 'solo', 'hum', 'arranged', 'solo'],
    )
    written, arranged, solo = self.rendered[:3]
    self.assertEqual([p.program for p in written.parts], [73, 0])
    self.assertLen(arranged.parts, 2)
    self.assertLen(solo.parts, 1)
    program = solo.parts[0].program
    self.assertNotEqual(program, 73)
    self.assertIn(program, [i.program for i in instruments.MELODY])

  def test_phrases_follow_each_other(self):
    phrases = self.read(make_song())
    for phrase in phrases:
      self.assertEqual((phrase.work, phrase.license), ('songs/a', 'MIT'))
      self.assertLen(phrase.melody, 300)
      for rendition in phrase.renditions:
        expected = 6.0 / rendition.tempo_factor * 16000
        self.assertAlmostEqual(len(rendition.audio), expected, delta=1)
    starts = [float(phrase.id.split('/')[-1]) for phrase in phrases]
    self.assertEqual(starts[1] - starts[0], 6.0)
    self.assertIn((starts[0] - 1.0) % 0.5, (0.0,))
    # The second begins where the first ends: clicks each half second.
    for phrase in phrases:
      first = phrase.renditions[0]
      clicks = np.flatnonzero(first.audio > 0.3) / 16000 * first.tempo_factor
      beats = clicks / 0.5
      np.testing.assert_allclose(beats, np.round(beats), atol=0.01)

  def test_is_a_function_of_the_seed(self):
    factors = [
        [r.tempo_factor for r in self.read(make_song(), seed=s)[0].renditions]
        for s in (1, 1, 2)
    ]
    self.assertEqual(factors[0], factors[1])
    self.assertNotEqual(factors[0], factors[2])

  @parameterized.named_parameters(
      ('one_pitch', [(i, i + 1, 60, 0) for i in range(20)]),
      ('few_notes', [(4 * i, 4 * i + 4, 60 + i, 0) for i in range(10)]),
      ('rests', [(i, i + 0.2, 60 + i % 5, 0) for i in range(20)]),
  )
  def test_leaves_out_what_is_no_melody(self, notes):
    self.assertEqual(self.read(make_score(notes, [notation.Part('', 0)])), [])

  def test_leaves_out_drums(self):
    drums = [notation.Part('', 0, is_drums=True)]
    self.assertEqual(self.read(make_score([(0, 1, 38, 0)], drums)), [])


class BuildTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  @parameterized.parameters(
      {'variations': 1}, {'phrases_per_score': 0}, {'phrase_seconds': 4.0}
  )
  def test_rejects_too_little(self, **options):
    with self.assertRaisesRegex(ValueError, 'variations must be at least 2'):
      melody_pairs.build_melody_pairs('songs', 'data', 'font.sf2', **options)

  @synthesis_test.NEEDS_FLUIDSYNTH
  def test_builds_a_dataset_split_by_work(self):
    (self.folder / 'songs').mkdir()
    for i in range(3):
      song = make_song(beats=13).transpose(i)
      notation.write_midi(song, self.folder / 'songs' / f'{i}.mid')
    melody_pairs.build_melody_pairs(
        [self.folder / 'songs'],
        self.folder / 'data',
        synthesis_test.SOUNDFONT,
        phrases_per_score=1,
        phrase_seconds=6.0,
        num_workers=1,
    )
    works = set()
    for split in ('train', 'validation', 'test'):
      phrases = datasets.open_dataset(
          'melody_pairs', self.folder / 'data', split
      )
      self.assertLen(phrases, 1)
      record = phrases[0]
      works.add(int(record['work_id'][0]))
      self.assertEqual(record['kinds'], list(melody_pairs.KINDS))
      ends = np.cumsum(record['lengths'])
      self.assertLen(record['audio'], ends[-1])
      for rendition in np.split(record['audio'], ends[:-1]):
        self.assertGreater(np.std(rendition), 1000)
    self.assertLen(works, 3)


if __name__ == '__main__':
  absltest.main()
