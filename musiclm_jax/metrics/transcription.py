"""Notes that are heard in audio, by a model that knows nothing of ours.

Basic Pitch (Bittner et al., arXiv 2203.09893) estimates which pitches sound in
each frame. From its estimates: how many frames have a pitch, how many pitches
sound at once, how many notes begin, and how like the pitches of two clips are.
"""

import dataclasses
import functools
import importlib.util
import pathlib
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.audio import io
import numpy as np

SAMPLE_RATE = 22050
FRAME_RATE = SAMPLE_RATE / 256
LOWEST = 21  # MIDI pitch of the first of 88.
# Thresholds of the authors.
SOUNDING, BEGINNING = 0.3, 0.5
_WINDOW = 43844  # Samples that the network takes.
_FRAMES = 172  # Frames of a window.
_APART = 5  # Frames between two notes of one pitch, at least: 58 ms.
_MARGIN = 15  # Frames at both ends of a window, which see too little.
_ONSET, _NOTE = 'StatefulPartitionedCall:2', 'StatefulPartitionedCall:1'


@dataclasses.dataclass(frozen=True)
class Pitches:
  """Pitches that sound and begin in each frame.

  Attributes:
    sounding: [frames, 88] how likely a pitch sounds, from A0 on.
    beginning: [frames, 88] how likely it begins.
  """

  sounding: Float[np.ndarray, 'frames 88']
  beginning: Float[np.ndarray, 'frames 88']

  @property
  def pitched(self) -> float:
    """Share of frames in which a pitch sounds."""
    return float(np.mean(np.any(self.sounding >= SOUNDING, axis=1)))

  @property
  def polyphony(self) -> float:
    """Mean number of pitches that sound at once."""
    return float(np.mean(np.sum(self.sounding >= SOUNDING, axis=1)))

  @property
  def notes_per_second(self) -> float:
    """Number of notes that begin in a second."""
    # One of several peaks that are nearer than notes can follow each other.
    x = np.pad(self.beginning, ((_APART, _APART), (0, 0)))
    near = np.lib.stride_tricks.sliding_window_view(x, 2 * _APART + 1, axis=0)
    is_peak = np.argmax(near, axis=-1) == _APART
    # Harmonics begin, too, but the network does not take them for notes.
    y = np.pad(self.sounding, ((0, 2 * _APART), (0, 0)))
    after = np.lib.stride_tricks.sliding_window_view(y, 2 * _APART + 1, axis=0)
    is_note = np.mean(after, axis=-1) >= SOUNDING
    count = np.sum(is_peak & is_note & (self.beginning >= BEGINNING))
    return float(count / len(self.beginning) * FRAME_RATE)

  @property
  def chroma(self) -> Float[np.ndarray, 'frames 12']:
    """How strongly each pitch class sounds in each frame, from C on."""
    loud = np.where(self.sounding >= SOUNDING, self.sounding, 0)
    classes = np.zeros((len(loud), 12))
    for i in range(88):
      classes[:, (LOWEST + i) % 12] += loud[:, i]
    return classes


def likeness(made: Pitches, original: Pitches) -> float:
  """Returns the mean similarity of pitch classes at the same times: -1 to 1.

  Frames in which the original has no pitch do not count.
  """
  frames = min(len(made.sounding), len(original.sounding))
  a, b = made.chroma[:frames], original.chroma[:frames]
  heard = np.any(b > 0, axis=1)
  if not heard.any():
    return 0.0
  a, b = (x[heard] - x[heard].mean(axis=1, keepdims=True) for x in (a, b))
  norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
  return float(np.mean(np.sum(a * b, axis=1) / np.maximum(norm, 1e-9)))


def find_model() -> pathlib.Path:
  """Returns the file of the network in the package basic_pitch.

  Raises:
    NotFoundError: If the package is missing. It is not imported.
  """
  spec = importlib.util.find_spec('basic_pitch')
  for folder in spec.submodule_search_locations or () if spec else ():
    path = pathlib.Path(folder) / 'saved_models/icassp_2022/nmp.onnx'
    if path.exists():
      return path
  raise errors.NotFoundError(
      'the network of Basic Pitch must be installed, but is not. Get its 0.7 MB'
      ' with `pip install --no-deps basic-pitch`.'
  )


@functools.cache
def _session(path: pathlib.Path) -> Any:
  import onnxruntime  # pylint: disable=g-import-not-at-top

  return onnxruntime.InferenceSession(path)


def transcribe(
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    path: pathlib.Path | None = None,
) -> Pitches:
  """Estimates the pitches of audio.

  Args:
    audio: [samples] mono audio.
    sample_rate: Sample rate, in Hz.
    path: File of the network; see `find_model` for the default.

  Raises:
    NotFoundError: If there is no network.
    UserError: If there is no audio.
  """
  if not audio.size:
    raise errors.UserError('audio must have samples to transcribe, but has 0.')
  session = _session(path or find_model())
  audio = io.resample(audio, sample_rate, SAMPLE_RATE)
  total = round(len(audio) / 256)
  hop = (_FRAMES - 2 * _MARGIN) * 256
  count = max(1, -(-len(audio) // hop))
  before = _MARGIN * 256
  padded = np.pad(audio, (before, count * hop + _WINDOW - len(audio)))
  windows = np.stack(
      [padded[i * hop : i * hop + _WINDOW] for i in range(count)]
  )
  name = session.get_inputs()[0].name
  inputs = {name: windows.astype(np.float32)[..., np.newaxis]}
  outputs = session.run([_NOTE, _ONSET], inputs)
  inner = [x[:, _MARGIN:-_MARGIN].reshape(-1, 88)[:total] for x in outputs]
  return Pitches(*inner)
