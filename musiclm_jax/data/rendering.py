"""Audio from scores, by FluidSynth and a SoundFont."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import midi
import numpy as np

_RENDER_RATE = 44100
_RMS = 0.1  # -20 dBFS
_PEAK = 0.95
_SILENCE = 1e-3  # -60 dBFS
_TIMEOUT_SECONDS = 600
_MAX_SECONDS = 3600.0


def check_renderer(soundfont: str | os.PathLike[str]) -> None:
  """Checks that scores can be rendered.

  Args:
    soundfont: Path of a General MIDI SoundFont, sf2 or sf3.

  Raises:
    FileNotFoundError: If FluidSynth or the SoundFont is missing.
    ValueError: If the file is no SoundFont.
  """
  if shutil.which('fluidsynth') is None:
    raise errors.NotFoundError(
        "the program 'fluidsynth' must be on PATH to render scores, but is"
        " not; install it, e.g. with 'apt install fluidsynth'."
    )
  path = pathlib.Path(soundfont)
  if not path.is_file():
    raise errors.NotFoundError(
        f'the SoundFont {path} must be an sf2 or sf3 file, but is not there;'
        " install one, e.g. with 'apt install fluid-soundfont-gm', which"
        ' writes /usr/share/sounds/sf2/FluidR3_GM.sf2.'
    )
  with open(path, 'rb') as file:
    header = file.read(12)
  if header[:4] != b'RIFF' or header[8:] != b'sfbk':
    raise errors.UserError(
        f'{path} must be a SoundFont (RIFF sfbk), but begins with'
        f' {header!r}. Give an sf2 or sf3 file.'
    )


def render(
    score: midi.Score, soundfont: str | os.PathLike[str]
) -> Float[np.ndarray, ' samples']:
  """Renders a score.

  Args:
    score: The notes.
    soundfont: Path of a General MIDI SoundFont; see `check_renderer`.

  Returns:
    [samples] 24 kHz mono audio at -20 dB RMS, less if it would peak over .95,
    that ends where the last note has died away.

  Raises:
    ValueError: If FluidSynth fails, or renders silence, or if the score is
      longer than an hour.
  """
  if score.seconds > _MAX_SECONDS:
    raise errors.UserError(
        f'a score must last at most {_MAX_SECONDS:g} s, but lasts'
        f' {score.seconds:.0f} s. Leave it out, or render an excerpt.'
    )
  with tempfile.TemporaryDirectory() as folder:
    source = os.path.join(folder, 'score.mid')
    target = os.path.join(folder, 'score.wav')
    midi.write_midi(score, source)
    options = ['-ni', '-q', '-g', '0.4', '-r', str(_RENDER_RATE)]
    options += ['-o', 'synth.dynamic-sample-loading=1']
    files = ['-T', 'wav', '-O', 'float', '-F', target, str(soundfont), source]
    result = subprocess.run(
        ['fluidsynth', *options, *files],
        capture_output=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if result.returncode or not os.path.exists(target):
      message = result.stderr.decode(errors='replace').strip()[-200:]
      raise errors.UserError(
          f'fluidsynth must render with {soundfont}, but failed: {message}'
      )
    audio = io.read_audio(target, clips.SAMPLE_RATE)
  return _normalize(_trim(audio))


def _trim(audio: np.ndarray) -> np.ndarray:
  """Drops the silence at the end."""
  sounding = np.flatnonzero(np.abs(audio) > _SILENCE)
  if not len(sounding):
    raise errors.UserError(
        'a score must render to sound, but rendered to silence. Leave it out,'
        ' or use a SoundFont with all instruments of General MIDI.'
    )
  return audio[: sounding[-1] + 1]


def _normalize(audio: np.ndarray) -> np.ndarray:
  """Scales audio to the loudness of all clips, without clipping."""
  gain = _RMS / np.sqrt(np.mean(np.square(audio)))
  peak = np.max(np.abs(audio))
  return (audio * min(gain, _PEAK / peak)).astype(np.float32)
