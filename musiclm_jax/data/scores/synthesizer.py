"""FluidSynth in a process of its own, which keeps the SoundFonts it has read.

A piece can crash it, or hang it, and nothing else. What a piece sounds like
does not depend on the pieces before: each gets a new synthesizer, which shares
the samples of one that stays.
"""

from collections.abc import Callable, Mapping
import contextlib
import ctypes
import multiprocessing
from multiprocessing import connection
import os
import signal
import threading
import time

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.data import workers
import numpy as np

RENDER_RATE = 44100
_GAIN = 0.4
_BLOCK = 1 << 12  # Frames that are rendered at once.
_WARNING = 2  # FluidSynth's number of the least of the messages that are kept.
_PLAYING = 1  # FluidSynth's status of a player that has not reached the end.
_END_SECONDS = 5.0  # Time to end by itself.

# Values of FluidSynth's settings, by their names.
Settings = Mapping[str, float]


class Synthesizer:
  """Renders MIDI files; its process is started by the first."""

  def __init__(self) -> None:
    self._process: multiprocessing.process.BaseProcess | None = None
    self._pipe: connection.Connection | None = None
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
      UserError: If FluidSynth cannot read the SoundFont, crashes or takes too
        long.
    """
    with self._lock:
      try:
        return self._play(path, os.path.abspath(soundfont), settings, timeout)
      except TimeoutError as e:
        raise errors.UserError(
            f'FluidSynth must render a score within {timeout:g} s, but did not.'
            ' Leave the score out, or try another SoundFont.'
        ) from e
      except (EOFError, ConnectionError) as e:
        raise errors.UserError(
            f'FluidSynth must render with {soundfont}, but crashed (exit status'
            f' {self._status()}). Try another SoundFont, or leave the score'
            ' out.'
        ) from e

  def end(self) -> None:
    """Ends the process, if it runs; the next piece starts another."""
    if self._process is not None:
      self._process.kill()
      self._process.join()
    if self._pipe is not None:
      self._pipe.close()
    self._process = self._pipe = None

  def _play(self, path, soundfont, settings, timeout):
    """Like `play`; whatever ends it early ends the process, too."""
    deadline = time.monotonic() + timeout
    try:
      pipe = self._started()
      pipe.send((path, soundfont, dict(settings)))
      blocks = []
      while pipe.poll(max(0.0, deadline - time.monotonic())):
        received = pipe.recv()
        if isinstance(received, list):
          return np.concatenate([np.zeros(0, np.float32), *blocks]), received
        blocks.append(received)
      raise TimeoutError
    except (EOFError, ConnectionError):
      raise
    except BaseException:  # Also an interrupt: it is amid a piece.
      self.end()
      raise

  def _started(self) -> connection.Connection:
    """Returns the pipe to the process, which is started if need be."""
    if self._pipe is None:
      # A fork of a process with JAX's threads may hang.
      context = multiprocessing.get_context('spawn')
      self._pipe, far_end = context.Pipe()
      self._process = context.Process(
          target=serve, args=(far_end,), daemon=True
      )
      with far_end, workers.without_interrupts():
        self._process.start()
    return self._pipe

  def _status(self) -> int | None:
    """Returns the exit status of a process that has crashed; forgets it."""
    process = self._process
    if process is None:
      return None
    process.join(_END_SECONDS)
    status = process.exitcode
    self.end()
    return status


def serve(pipe: connection.Connection) -> None:
  """Renders what a `Synthesizer` asks for until its end of the pipe closes.

  Args:
    pipe: Receives tuples of `Synthesizer.play`'s path, soundfont and settings;
      sends blocks of audio, and then a list of messages.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Its parent decides.
  library = _Library()
  stay = {}
  with contextlib.suppress(EOFError, BrokenPipeError):
    while True:
      path, soundfont, settings = pipe.recv()
      library.log.clear()
      if soundfont not in stay:
        stay[soundfont] = library.synthesizer(soundfont, {})
      synth = library.synthesizer(soundfont, settings)
      library.play(synth, path, pipe.send)
      synth.delete()
      pipe.send(list(library.log))


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

  def play(self, synth, path: str, send: Callable[[np.ndarray], None]) -> None:
    """Sends a MIDI file as [_BLOCK] blocks of mono audio."""
    library = self._fluidsynth
    player = library.new_fluid_player(synth.synth)
    library.fluid_player_add(player, os.fsencode(path))
    library.fluid_player_play(player)
    sides = np.zeros((2, _BLOCK), np.float32)
    left, right = (side.ctypes.data for side in sides)
    while library.fluid_player_get_status(player) == _PLAYING:
      self._write(synth.synth, _BLOCK, left, 0, 1, right, 0, 1)
      send(sides.mean(axis=0))
    library.delete_fluid_player(player)
