"""Audio from scores, by FluidSynth and a SoundFont."""

import os
import pathlib
import re
import tempfile

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.audio import io
from musiclm_jax.data.scores import effects
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import synthesizer
import numpy as np

_SILENCE = 1e-3  # -60 dBFS
_TIMEOUT_SECONDS = 600.0
_CHECK_SECONDS = 60.0  # Time for one note, with a SoundFont of gigabytes.
_MAX_SECONDS = 3600.0
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
_SYNTHESIZER = synthesizer.Synthesizer()


def check_renderer(soundfont: str | os.PathLike[str]) -> None:
  """Checks that scores can be rendered.

  Args:
    soundfont: Path of a General MIDI SoundFont, sf2 or sf3.

  Raises:
    NotFoundError: If FluidSynth or the SoundFont is missing.
    UserError: If FluidSynth cannot play a note with it.
  """
  try:
    import fluidsynth  # Needs the library, and only rendering does.

    del fluidsynth
  except ImportError as e:
    raise errors.NotFoundError(
        'FluidSynth and pyfluidsynth must be installed to render scores, but'
        f" are not ({e}); install them, e.g. with 'apt install fluidsynth' and"
        " 'pip install pyfluidsynth'."
    ) from e
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
    _synthesize(_A_NOTE, path, {}, _CHECK_SECONDS)


def render(
    score: notation.Score,
    soundfont: str | os.PathLike[str],
    sample_rate: int,
    sound: effects.Effects = effects.PLAIN,
) -> Float[np.ndarray, ' samples']:
  """Renders a score.

  Args:
    score: The notes.
    soundfont: Path of a General MIDI SoundFont; see `check_renderer`.
    sample_rate: Sample rate of the result.
    sound: Room, tone and level.

  Returns:
    [samples] mono audio; see `effects.apply` for its level. It ends when the
    last note has died away.

  Raises:
    UserError: If FluidSynth fails, or renders silence, or if the score is
      longer than an hour.
  """
  if score.seconds > _MAX_SECONDS:
    raise errors.UserError(
        f'a score must last at most {_MAX_SECONDS:g} s, but lasts'
        f' {score.seconds:.0f} s. Leave it out, or render an excerpt.'
    )
  audio, log = _synthesize(score, soundfont, sound.settings, _TIMEOUT_SECONDS)
  audio = io.resample(audio, synthesizer.RENDER_RATE, sample_rate)
  _check_instruments(score, soundfont, log)
  return effects.apply(_trim(audio), sample_rate, sound)


def _synthesize(
    score: notation.Score,
    soundfont: str | os.PathLike[str],
    settings: synthesizer.Settings,
    timeout: float,
) -> tuple[Float[np.ndarray, ' samples'], str]:
  """Returns audio of a score at RENDER_RATE, and FluidSynth's warnings."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'score.mid')
    notation.write_midi(score, path)
    audio, messages = _SYNTHESIZER.play(path, soundfont, settings, timeout)
  log = '\n'.join(messages)
  if 'Failed to load' in log:
    raise errors.UserError(
        f'FluidSynth must render with {soundfont}, but failed:'
        f' {messages[0].strip()}. Try another SoundFont.'
    )
  return audio, log


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
