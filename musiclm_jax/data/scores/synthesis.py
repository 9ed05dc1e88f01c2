"""Audio from scores, by FluidSynth and a SoundFont."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.audio import io
from musiclm_jax.audio import mixing
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import notation
import numpy as np
import soundfile

_RENDER_RATE = 44100
_SILENCE = 1e-3  # -60 dBFS
_TIMEOUT_SECONDS = 600.0
_CHECK_SECONDS = 60.0  # Time for one note, with a SoundFont of gigabytes.
_MAX_SECONDS = 3600.0
_BLOCK = 1 << 16  # Frames read at once.
# FluidSynth's message about a missing instrument.
_MISSING = (
    r'(?:Instrument not|No preset) found on channel (\d+) \[bank=\d+ prog=(\d+)'
)
_A_NOTE = notation.Score(
    parts=(notation.Part('', 0),),
    start=np.array([0.0]),
    end=np.array([0.1]),
    pitch=np.array([60]),
    velocity=np.array([100]),
    volume=np.ones(1),
    part=np.array([0]),
)


def check_renderer(soundfont: str | os.PathLike[str]) -> None:
  """Checks that scores can be rendered.

  Args:
    soundfont: Path of a General MIDI SoundFont, sf2 or sf3.

  Raises:
    NotFoundError: If FluidSynth or the SoundFont is missing.
    UserError: If FluidSynth cannot play a note with it.
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
  with errors.reading(path, 'a SoundFont'), open(path, 'rb') as file:
    header = file.read(12)
  if header[:4] != b'RIFF' or header[8:] != b'sfbk':
    raise errors.UserError(
        f'{path} must be a SoundFont (RIFF sfbk), but begins with'
        f' {header!r}. Give an sf2 or sf3 file.'
    )
  with progress.telling(f'loading {path}'):
    _synthesize(_A_NOTE, path, _CHECK_SECONDS)


def render(
    score: notation.Score, soundfont: str | os.PathLike[str], sample_rate: int
) -> Float[np.ndarray, ' samples']:
  """Renders a score.

  Args:
    score: The notes.
    soundfont: Path of a General MIDI SoundFont; see `check_renderer`.
    sample_rate: Sample rate of the result.

  Returns:
    [samples] mono audio at -20 dB RMS, less if it would peak over .95. It ends
    when the last note has died away.

  Raises:
    UserError: If FluidSynth fails, or renders silence, or if the score is
      longer than an hour.
  """
  if score.seconds > _MAX_SECONDS:
    raise errors.UserError(
        f'a score must last at most {_MAX_SECONDS:g} s, but lasts'
        f' {score.seconds:.0f} s. Leave it out, or render an excerpt.'
    )
  audio, log = _synthesize(score, soundfont, _TIMEOUT_SECONDS)
  audio = io.resample(audio, _RENDER_RATE, sample_rate)
  _check_instruments(score, soundfont, log)
  return mixing.normalize(_trim(audio))


def _synthesize(
    score: notation.Score, soundfont: str | os.PathLike[str], timeout: float
) -> tuple[Float[np.ndarray, ' samples'], str]:
  """Returns audio of a score at `_RENDER_RATE`, and FluidSynth's log."""
  with tempfile.TemporaryDirectory() as folder:
    source = os.path.join(folder, 'score.mid')
    target = os.path.join(folder, 'score.wav')
    notation.write_midi(score, source)
    options = ['-ni', '-q', '-g', '0.4', '-r', str(_RENDER_RATE)]
    options += ['-o', 'synth.dynamic-sample-loading=1']
    font = os.path.abspath(soundfont)  # A name may begin with a dash.
    files = ['-T', 'wav', '-O', 'float', '-F', target, font, source]
    try:
      result = subprocess.run(
          [*tied(), 'fluidsynth', *options, *files],
          stdin=subprocess.DEVNULL,
          capture_output=True,
          check=False,
          timeout=timeout,
      )
    except subprocess.TimeoutExpired as e:
      raise errors.UserError(
          f'fluidsynth must render a score within {timeout:g} s, but did not.'
          ' Leave the score out, or try another SoundFont.'
      ) from e
    log = result.stderr.decode(errors='replace')
    # Its status is 0 even if it failed to load the SoundFont.
    if (
        result.returncode
        or 'Failed to load' in log
        or not os.path.exists(target)
    ):
      said = re.findall(r'fluidsynth: error: (.*)', log) or [log.strip()[-200:]]
      raise errors.UserError(
          f'fluidsynth must render with {soundfont}, but failed (exit status'
          f' {result.returncode}): {said[0]}. Try another SoundFont.'
      )
    blocks = soundfile.blocks(target, _BLOCK, dtype='float32', always_2d=True)
    audio = np.concatenate([block.mean(axis=1) for block in blocks])
  return audio, log


def tied() -> list[str]:
  """Returns a command that ends a program with the process that started it."""
  # Else it would outlive a worker that is killed. Only Linux has the command.
  return ['setpriv', '--pdeathsig', 'KILL'] if shutil.which('setpriv') else []


def _check_instruments(
    score: notation.Score, soundfont: str | os.PathLike[str], log: str
) -> None:
  """Raises UserError if FluidSynth lacked an instrument of the score."""
  parts = [score.parts[i] for i in set(score.part.tolist())]
  played = {part.program for part in parts if not part.is_drums}
  missing = {
      instruments.NAMES[int(program)]
      for channel, program in re.findall(_MISSING, log)
      if int(channel) != notation.DRUM_CHANNEL and int(program) in played
  }
  # Drums may be replaced by other drums, but must not be silent.
  has_drums = any(part.is_drums for part in parts)
  if has_drums and f'No preset found on channel {notation.DRUM_CHANNEL}' in log:
    missing.add(instruments.DRUMS)
  if missing:
    raise errors.UserError(
        f'{soundfont} must have every instrument that is played, but has no'
        f' {", ".join(sorted(missing))}. Use a SoundFont of all General MIDI.'
    )


def _trim(audio: np.ndarray) -> np.ndarray:
  """Drops the silence at the end."""
  sounding = np.flatnonzero(np.abs(audio) > _SILENCE)
  if not len(sounding):
    raise errors.UserError(
        'a score must render to sound, but rendered to silence. Leave it out,'
        ' or use a SoundFont with all instruments of General MIDI.'
    )
  return audio[: sounding[-1] + 1]
