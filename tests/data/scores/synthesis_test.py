"""Tests for rendering."""

import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from musiclm_jax.data.scores import effects
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import synthesis
import numpy as np

try:
  import pretty_midi

  SOUNDFONT = pathlib.Path(pretty_midi.__file__).parent / 'TimGM6mb.sf2'
except ImportError:
  SOUNDFONT = None
try:
  import fluidsynth
except ImportError:
  fluidsynth = None

RATE = 32000
NEEDS_FLUIDSYNTH = absltest.skipIf(
    fluidsynth is None or SOUNDFONT is None,
    'FluidSynth, or pretty_midi, which has a SoundFont, is missing',
)


def make_score(program=0, pitch=69, seconds=1.0):
  return notation.Score(
      parts=(notation.Part('', program),),
      start=np.array([0.0]),
      end=np.array([seconds]),
      pitch=np.array([pitch]),
      velocity=np.array([100]),
      volume=np.ones(1),
      part=np.array([0]),
  )


class CheckTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_names_the_missing_library(self):
    with mock.patch.dict(sys.modules, {'fluidsynth': None}):
      with self.assertRaisesRegex(FileNotFoundError, 'apt install fluidsynth'):
        synthesis.check_renderer('font.sf2')

  @NEEDS_FLUIDSYNTH
  def test_names_the_missing_soundfont(self):
    with self.assertRaisesRegex(FileNotFoundError, 'no.sf2.*is not there'):
      synthesis.check_renderer(self.folder / 'no.sf2')

  @NEEDS_FLUIDSYNTH
  def test_rejects_what_is_no_soundfont(self):
    path = self.folder / 'font.sf2'
    path.write_bytes(b'RIFF____WAVEfmt ')
    with self.assertRaisesRegex(ValueError, 'must be a SoundFont'):
      synthesis.check_renderer(path)

  @NEEDS_FLUIDSYNTH
  def test_rejects_a_damaged_soundfont(self):
    path = self.folder / 'font.sf2'
    path.write_bytes(SOUNDFONT.read_bytes()[:100_000])
    with self.assertRaisesRegex(ValueError, 'but failed: .*SoundFont'):
      synthesis.check_renderer(path)
    synthesis.check_renderer(SOUNDFONT)


@NEEDS_FLUIDSYNTH
class RenderTest(absltest.TestCase):

  def test_pitch_loudness_and_length(self):
    # An organ's A4, held for a second.
    audio = synthesis.render(make_score(program=19), SOUNDFONT, RATE)
    self.assertEqual(audio.dtype, np.float32)
    self.assertBetween(len(audio) / RATE, 1.0, 3.9)
    self.assertLessEqual(np.max(np.abs(audio)), 0.951)
    self.assertAlmostEqual(np.sqrt(np.mean(audio**2)), 0.1, delta=0.02)
    self.assertGreater(np.abs(audio[-1]), 0.0)
    spectrum = np.abs(np.fft.rfft(audio[RATE // 5 : RATE // 5 + RATE // 2]))
    # Bins are 2 Hz; stops may be tuned an octave apart.
    peak = 2 * np.argmax(spectrum)
    octaves = np.log2(peak / 440)
    self.assertAlmostEqual(octaves, np.round(octaves), delta=0.02)

  def test_onsets_are_where_the_notes_are(self):
    score = make_score(seconds=0.5)
    score = notation.Score(
        **{
            **vars(score),
            'start': np.array([1.0]),
            'end': np.array([1.5]),
        }
    )
    audio = synthesis.render(score, SOUNDFONT, RATE)
    onset = np.flatnonzero(np.abs(audio) > 0.05)[0] / RATE
    self.assertAlmostEqual(onset, 1.0, delta=0.03)

  def test_pieces_before_are_not_heard(self):
    first, _, again = (
        synthesis.render(make_score(program=program), SOUNDFONT, RATE)
        for program in (0, 61, 0)
    )
    np.testing.assert_allclose(again, first, atol=2e-3)

  def test_effects_keep_time_and_do_not_clip(self):
    plain = synthesis.render(make_score(), SOUNDFONT, RATE)
    for seed in range(4):
      sound = effects.draw(np.random.default_rng(seed))
      audio = synthesis.render(make_score(), SOUNDFONT, RATE, sound)
      self.assertLess(np.max(np.abs(audio)), 0.96)
      onsets = [
          np.flatnonzero(np.abs(a) > 0.2 * np.max(a))[0] for a in (audio, plain)
      ]
      self.assertLess(abs(onsets[0] - onsets[1]) / RATE, 0.01)

  def test_a_larger_room_sounds_longer(self):
    lengths = [
        len(
            synthesis.render(
                make_score(program=19, seconds=0.2),
                SOUNDFONT,
                RATE,
                effects.Effects(room_size=size),
            )
        )
        for size in (0.1, 0.8)
    ]
    self.assertGreater(lengths[1], lengths[0] + RATE // 10)

  def test_rejects_hours(self):
    with self.assertRaisesRegex(ValueError, 'at most 3600 s, but lasts 3700'):
      synthesis.render(make_score(seconds=3700.0), SOUNDFONT, RATE)

  def test_rejects_silence(self):
    score = notation.Score(**{**vars(make_score()), 'velocity': np.array([1])})
    with mock.patch.object(synthesis, '_SILENCE', 1.0):
      with self.assertRaisesRegex(ValueError, 'rendered to silence'):
        synthesis.render(score, SOUNDFONT, RATE)


if __name__ == '__main__':
  absltest.main()
