"""Tests for scores."""

import collections
import json
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import mido
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import chords
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data.scores import effects
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import synthesis
from musiclm_jax.data.scores import wording
from musiclm_jax.data.sources import score_files
from musiclm_jax.data.sources import rendered_scores
import numpy as np

from tests.data.scores import synthesis_test

SOUNDFONT = synthesis_test.SOUNDFONT
FONTS = ('a.sf2', 'b.sf3')
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 11, 12)
XML = """<?xml version="1.0" encoding="UTF-8"?>
<score-partwise version="3.1">
  <part-list><score-part id="P1"><part-name>Piano</part-name></score-part>
  </part-list>
  <part id="P1"><measure number="1">
    <attributes><divisions>1</divisions></attributes>
    <note><pitch><step>A</step><octave>4</octave></pitch>
      <duration>4</duration><type>whole</type></note>
  </measure></part>
</score-partwise>
"""


def write_song(path, beats=24, tonic=57):
  """Writes a melody over chords in A minor, in 3/4 at 100 bpm."""
  midi_file = mido.MidiFile()
  meta = mido.MidiTrack(
      [
          mido.MetaMessage('set_tempo', tempo=600_000),
          mido.MetaMessage('time_signature', numerator=3, denominator=4),
      ]
  )
  midi_file.tracks.append(meta)
  for channel, (name, program) in enumerate((('MELODY', 73), ('PIANO', 0))):
    track = mido.MidiTrack(
        [
            mido.MetaMessage('track_name', name=name),
            mido.Message('program_change', program=program, channel=channel),
        ]
    )
    for beat in range(beats):
      pitches = [tonic + 12 + MINOR_SCALE[beat % 8]]
      if name == 'PIANO':
        pitches = [tonic - 12, tonic - 9, tonic - 5]
      for kind, time in (('note_on', 0), ('note_off', 480)):
        for i, note in enumerate(pitches):
          track.append(
              mido.Message(
                  kind, note=note, channel=channel, time=0 if i else time
              )
          )
    midi_file.tracks.append(track)
  midi_file.save(path)


class ScoresTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'songs'
    )
    self.folder.mkdir()
    self.rendered = []
    self.sounds = []

  def render(self, score, soundfont, sample_rate, sound):
    """Stands in for FluidSynth: noise as long as the score."""
    self.rendered.append(score)
    self.sounds.append((soundfont, sound))
    rng = np.random.default_rng(0)
    samples = round((score.seconds + 1.0) * sample_rate)
    return rng.uniform(-0.1, 0.1, samples).astype(np.float32)

  def read(self, **options):
    (file,), _ = score_files.find_scores(self.folder)
    with mock.patch.object(synthesis, 'render', self.render):
      return list(rendered_scores.read_score(file, FONTS, **options))

  def test_captions_are_true_of_what_is_rendered(self):
    write_song(self.folder / 'a.mid')
    names = set()
    for clip in self.read(variations=30):
      score = self.rendered[int(clip.id.split('/')[-2])]
      playing = [score.parts[p] for p in sorted(set(score.part))]
      played = {
          instruments.DRUMS if p.is_drums else instruments.NAMES[p.program]
          for p in playing
      }
      words = played | {
          word for name in played for word in wording.SYNONYMS.get(name, ())
      }
      names |= played
      for text in clip.captions:
        named = re.search(
            '(?:played by|performed on|featuring) '
            r'(.*?)(?: in [A-G]| at \d|\.)',
            text,
        )
        if named:
          listed = re.split(', | and ', named[1])
          self.assertLen(listed, len(played))
          self.assertContainsSubset(listed, words)
        for key in re.findall(r'[A-G][#b]? (?:major|minor)', text):
          self.assertEqual(key, analysis.estimate_key(score))
        for bpm in re.findall(r'(\d+) bpm', text):
          self.assertAlmostEqual(
              int(bpm), score.tempos[0][1], delta=0.51, msg=text
          )
        for metre in re.findall(r'\d/\d', text):
          self.assertEqual(metre, '3/4')
    self.assertGreater(len(names), 8)
    self.assertIn(instruments.DRUMS, names)

  def test_the_first_variation_is_as_written(self):
    write_song(self.folder / 'a.mid')
    clip = self.read(variations=1)[0]
    self.assertEqual([p.program for p in self.rendered[0].parts], [73, 0])
    self.assertRegex('\n'.join(clip.captions), 'flute')
    self.assertRegex('\n'.join(clip.captions), 'A minor|minor key')
    self.assertEqual(clip.work, 'songs/a')
    self.assertEqual(clip.id, 'songs/a/0/0')
    self.assertEqual(clip.title, 'a')
    # A beat is 30 frames.
    np.testing.assert_array_equal(clip.melody[:60], [69] * 30 + [71] * 30)

  def test_variations_take_turns_with_soundfonts(self):
    write_song(self.folder / 'a.mid')
    read = self.read(variations=4)
    fonts = [font for font, _ in self.sounds]
    self.assertIn(fonts, [[*FONTS, *FONTS], [*FONTS[::-1], *FONTS[::-1]]])
    sources = [f'songs, played by {pathlib.Path(f).stem}' for f in fonts]
    self.assertEqual([clip.source for clip in read], sources)
    # Another seed changes none of them, as a corpus may be made of several.
    self.read(variations=4, seed=1)
    self.assertEqual([font for font, _ in self.sounds[4:]], fonts)

  def test_variations_sound_different(self):
    write_song(self.folder / 'a.mid')
    self.read(variations=3)
    sounds = [sound for _, sound in self.sounds]
    self.assertEqual(sounds[0], effects.PLAIN)
    self.assertLen(set(sounds), 3)

  def test_facts_and_chords_are_of_what_was_rendered(self):
    write_song(self.folder / 'a.mid')
    for clip, score in zip(self.read(variations=3), self.rendered):
      known = json.loads(clip.facts)
      self.assertEqual(known['metre'], '3/4')
      self.assertEqual(
          set(known['instruments']),
          {instruments.NAMES[p.program] for p in score.parts},
      )
      self.assertIn(known['key'] or 'no key', '\n'.join(clip.captions))
      self.assertLen(clip.chords, len(clip.melody))
      expected = chords.chord_frames(score, 0.0, len(clip.chords))
      np.testing.assert_array_equal(clip.chords, expected)
    first = self.read(variations=1)[0]
    a_minor = chords.NAMES.index('A minor')
    self.assertGreater(np.mean(first.chords == a_minor), 0.5)

  def test_melody_follows_the_arrangement(self):
    write_song(self.folder / 'a.mid')
    for clip, score in zip(self.read(variations=5), self.rendered):
      first = score.select(score.part == 0)
      frames = np.flatnonzero(clip.melody != first.pitch[0])[0]
      self.assertAlmostEqual(frames / 50, first.end[0], delta=0.021)
      self.assertEqual(clip.melody[0], first.pitch[0])
      self.assertLen(clip.melody, -(-len(clip.audio) // 480))

  def test_clips_and_excerpts(self):
    write_song(self.folder / 'a.mid', beats=100)  # 60 s
    read = self.read(variations=1, clip_seconds=25.0)
    self.assertEqual([c.start for c in read], [0.0, 25.0, 50.0])
    read = self.read(variations=1, clip_seconds=10.0, max_seconds=20.0)
    self.assertLen(read, 2)
    self.assertGreater(read[0].start, 0.0)
    self.assertAlmostEqual(read[1].start - read[0].start, 10.0)
    self.assertLen(read[1].audio, 10 * clips.SAMPLE_RATE)
    self.assertAlmostEqual(self.rendered[-1].seconds, 20.0)

  @parameterized.parameters(22050, 44100)
  def test_another_sample_rate(self, rate):
    write_song(self.folder / 'a.mid', beats=100)
    options = {'clip_seconds': 10.0, 'max_seconds': 20.0}
    known = self.read(variations=1, **options)
    read = self.read(variations=1, sample_rate=rate, **options)
    self.assertLen(read, 2)
    for clip, other in zip(read, known, strict=True):
      self.assertLen(clip.audio, 10 * rate)
      self.assertEqual(clip.start, other.start)
      np.testing.assert_array_equal(clip.melody, other.melody)
      np.testing.assert_array_equal(clip.chords, other.chords)

  def test_is_a_function_of_the_seed(self):
    write_song(self.folder / 'a.mid')
    first, again, other = (
        [c.captions for c in self.read(variations=3, seed=s)] for s in (1, 1, 2)
    )
    self.assertEqual(first, again)
    self.assertNotEqual(first, other)

  def test_rejects_a_damaged_score(self):
    (self.folder / 'a.mid').write_bytes(b'MThd')
    with self.assertRaisesRegex(ValueError, 'a.mid must be a MIDI file'):
      self.read()

  @synthesis_test.NEEDS_FLUIDSYNTH
  def test_builds_a_corpus_split_by_work(self):
    rows = ['file,work']
    for i in range(6):
      write_song(self.folder / f'{i}.mid', beats=10)
      rows.append(f'{i}.mid,opus {i // 2}')
    (self.folder / 'index.csv').write_text('\n'.join(rows))
    data_dir = self.folder / 'data'
    rendered_scores.build_scores(
        self.folder, data_dir, SOUNDFONT, variations=2, num_workers=1
    )
    works = collections.Counter()
    for split in ('train', 'validation', 'test'):
      examples = datasets.open_dataset('music', data_dir, split)
      # Two scores of a work, each in two variations.
      self.assertLen(examples, 4)
      for example in examples:
        self.assertGreater(np.std(example['audio']), 1000)
        works[split, example['work']] += 1
    self.assertLen(works, 3)


if __name__ == '__main__':
  absltest.main()
