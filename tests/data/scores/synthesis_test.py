"""Tests for rendering."""

import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import synthesis
import numpy as np

try:
  import pretty_midi

  SOUNDFONT = pathlib.Path(pretty_midi.__file__).parent / 'TimGM6mb.sf2'
except ImportError:
  SOUNDFONT = None

RATE = 32000


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

  def test_names_the_missing_program(self):
    with mock.patch.object(shutil, 'which', return_value=None):
      with self.assertRaisesRegex(FileNotFoundError, 'apt install fluidsynth'):
        synthesis.check_renderer('font.sf2')

  def test_names_the_missing_soundfont(self):
    with mock.patch.object(shutil, 'which', return_value='fluidsynth'):
      with self.assertRaisesRegex(FileNotFoundError, 'no.sf2.*is not there'):
        synthesis.check_renderer(self.folder / 'no.sf2')

  def test_rejects_what_is_no_soundfont(self):
    path = self.folder / 'font.sf2'
    path.write_bytes(b'RIFF____WAVEfmt ')
    with mock.patch.object(shutil, 'which', return_value='fluidsynth'):
      with self.assertRaisesRegex(ValueError, 'must be a SoundFont'):
        synthesis.check_renderer(path)


@absltest.skipIf(
    shutil.which('fluidsynth') is None, 'the program fluidsynth is missing'
)
@absltest.skipIf(SOUNDFONT is None, 'pretty_midi, which has one, is missing')
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
