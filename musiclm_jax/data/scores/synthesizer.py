"""FluidSynth in a process of its own, which keeps the SoundFonts it has read.

A piece that makes it crash or hang affects nothing else. How a piece sounds
does not depend on the pieces before: each gets a new synthesizer, which shares
the samples of one that stays.
"""

from collections.abc import Mapping
import ctypes
import json
import os
import queue
import subprocess
import sys
import threading
from typing import BinaryIO

from jaxtyping import Float
from musiclm_jax import errors
import numpy as np

RENDER_RATE = 44100
_GAIN = 0.4
_BLOCK = 1 << 12  # Frames that are rendered at once.
_WARNING = 2  # FluidSynth's level of the least severe messages that are kept.
_PLAYING = 1  # FluidSynth's status of a player that has not reached the end.
# Run with the paths from which this package was imported.
_PROGRAM = (
    'import json, sys; sys.path = json.loads(sys.argv[1]);'
    f' from {__name__} import serve; serve()'
)

# Values of FluidSynth's settings, by their names.
Settings = Mapping[str, float]


class Synthesizer:
  """Renders MIDI files in a process, which the first one starts."""

  def __init__(self) -> None:
    self._process: subprocess.Popen[bytes] | None = None
    self._lock = threading.Lock()

  def play(
      self,
      path: str,
      soundfont: str | os.PathLike[str],
      settings: Settings,
      timeout: float,
  ) -> tuple[Float[np.ndarray, ' samples'], list[str]]:
    """Renders a MIDI file.

    Args:
      path: Path of the file.
      soundfont: Path of a SoundFont.
      settings: Settings of FluidSynth that differ from its own.
      timeout: Seconds that it may take.

    Returns:
      [samples] mono audio at RENDER_RATE, and FluidSynth's warnings.

    Raises:
      UserError: If FluidSynth crashes or takes too long.
    """
    request = [path, os.path.abspath(soundfont), dict(settings)]
    is_late = threading.Event()
    with self._lock:
      process = self._started()

      def stop() -> None:
        is_late.set()
        process.kill()

      timer = threading.Timer(timeout, stop)
      timer.start()
      try:
        return _ask(process, request)
      except (EOFError, BrokenPipeError) as e:
        status = process.wait()
        self.end()
        if is_late.is_set():
          raise errors.UserError(
              f'FluidSynth must render a score within {timeout:g} s, but did'
              ' not. Leave the score out, or try another SoundFont.'
          ) from e
        raise errors.UserError(
            f'FluidSynth must render with {soundfont}, but crashed (exit status'
            f' {status}). Try another SoundFont, or leave the score out.'
        ) from e
      except BaseException:  # Also an interrupt, in the middle of a piece.
        self.end()
        raise
      finally:
        timer.cancel()

  def end(self) -> None:
    """Ends the process, if it runs; the next piece starts another."""
    if self._process is not None:
      with self._process as process:
        process.kill()
    self._process = None

  def _started(self) -> subprocess.Popen[bytes]:
    """Returns the process, which is started if need be."""
    if self._process is None:
      self._process = subprocess.Popen(
          [sys.executable, '-c', _PROGRAM, json.dumps(sys.path)],
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          stderr=subprocess.DEVNULL,
          start_new_session=True,  # Ctrl-C is meant for the process that asks.
      )
    return self._process


def _ask(
    process: subprocess.Popen[bytes], request: list
) -> tuple[Float[np.ndarray, ' samples'], list[str]]:
  """Sends a request to `serve`; returns the audio and the messages."""
  assert process.stdin is not None and process.stdout is not None
  process.stdin.write(json.dumps(request).encode() + b'\n')
  process.stdin.flush()
  blocks = [np.zeros(0, np.float32)]
  while line := process.stdout.readline():
    answer = json.loads(line)
    if isinstance(answer, list):
      return np.concatenate(blocks), answer
    block = process.stdout.read(answer)
    if len(block) < answer:
      break
    blocks.append(np.frombuffer(block, np.float32))
  raise EOFError


def serve() -> None:
  """Renders what a `Synthesizer` asks for, until it ends.

  A request is a line: the path, the SoundFont and the settings in JSON. The
  answer is blocks of audio, each after a line with its number of bytes, and
  then a line with the messages.
  """
  with os.fdopen(os.dup(1), 'wb') as out:
    os.dup2(2, 1)  # Keeps what libraries print out of the answer.
    requests: queue.SimpleQueue[list] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    library = _Library()
    stay = {}
    while True:
      path, soundfont, settings = requests.get()
      library.log.clear()
      if soundfont not in stay:
        stay[soundfont] = library.synthesizer(soundfont, {})
      synth = library.synthesizer(soundfont, settings)
      library.play(synth, path, out)
      synth.delete()
      out.write(json.dumps(library.log).encode() + b'\n')
      out.flush()


def _listen(requests: queue.SimpleQueue) -> None:
  for line in sys.stdin.buffer:
    requests.put(json.loads(line))
  os._exit(0)  # Nobody asks any more, even in the middle of a piece.


class _Library:
  """FluidSynth's library, with the functions that its bindings lack.

  Attributes:
    log: FluidSynth's warnings and errors.
  """

  def __init__(self) -> None:
    import fluidsynth  # Needs the library, and only rendering does.

    self._fluidsynth = fluidsynth
    self.log: list[str] = []
    self._write = fluidsynth.cfunc(
        'fluid_synth_write_float',
        ctypes.c_int,
        ('synth', ctypes.c_void_p, 1),
        ('frames', ctypes.c_int, 1),
        ('left', ctypes.c_void_p, 1),
        ('left_offset', ctypes.c_int, 1),
        ('left_increment', ctypes.c_int, 1),
        ('right', ctypes.c_void_p, 1),
        ('right_offset', ctypes.c_int, 1),
        ('right_increment', ctypes.c_int, 1),
    )
    kind = ctypes.CFUNCTYPE(
        None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
    )
    self._hear = kind(self._note)  # Kept, as the library calls it.
    set_log = fluidsynth.cfunc(
        'fluid_set_log_function',
        ctypes.c_void_p,
        ('level', ctypes.c_int, 1),
        ('function', kind, 1),
        ('data', ctypes.c_void_p, 1),
    )
    for level in range(5):
      set_log(level, self._hear, None)

  def _note(self, level: int, message: bytes, data: None) -> None:
    del data
    if level <= _WARNING:
      self.log.append(message.decode(errors='replace'))

  def synthesizer(self, soundfont: str, settings: Settings):
    """Returns a new synthesizer that plays a SoundFont, as far as it can."""
    synth = self._fluidsynth.Synth(
        gain=_GAIN,
        samplerate=float(RENDER_RATE),
        channels=16,
        # Time passes as fast as audio is asked for.
        **{'player.timing-source': 'sample', 'synth.lock-memory': 0},
        **settings,
    )
    synth.sfload(soundfont)
    return synth

  def play(self, synth, path: str, out: BinaryIO) -> None:
    """Writes the audio of a MIDI file, mixed to mono; see `serve`."""
    library = self._fluidsynth
    player = library.new_fluid_player(synth.synth)
    library.fluid_player_add(player, os.fsencode(path))
    library.fluid_player_play(player)
    sides = np.zeros((2, _BLOCK), np.float32)
    left, right = (side.ctypes.data for side in sides)
    while library.fluid_player_get_status(player) == _PLAYING:
      self._write(synth.synth, _BLOCK, left, 0, 1, right, 0, 1)
      block = sides.mean(axis=0).tobytes()
      out.write(b'%d\n' % len(block) + block)
    library.delete_fluid_player(player)
