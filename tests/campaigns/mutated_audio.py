"""Reads audio files with damage in them, in processes that may die of it.

  python -m tests.campaigns.mutated_audio --count 2000 --seed 0

Makes short files of each format, damages each in one of several ways, and
reads it. Every file must be read, or refused in a UserError that names it: no
crash, no other error, no hang, no great hunger for memory. Prints how many
were what, and which fell short; exits with 1 if any did.
"""

import argparse
import collections
from concurrent import futures
import fractions
import io
import multiprocessing
import os
import pathlib
import queue
import re
import resource
import sys
import tempfile
import time

import av
from musiclm_jax import errors
from musiclm_jax.audio import io as audio_io
import numpy as np
import soundfile

MAX_SECONDS = 2.0
MAX_RSS = 1 << 30
_PATIENCE = 20.0  # Seconds until a process that hangs is killed.
_RATE = 24000
# Name: suffix, and what soundfile calls it.
_SOUNDFILE = {
    'wav': ('wav', 'WAV', 'PCM_16'),
    'wav float': ('wav', 'WAV', 'FLOAT'),
    'flac': ('flac', 'FLAC', 'PCM_16'),
    'ogg': ('ogg', 'OGG', 'VORBIS'),
    'opus': ('opus', 'OGG', 'OPUS'),
    'mp3': ('mp3', 'MP3', 'MPEG_LAYER_III'),
    'aiff': ('aiff', 'AIFF', 'PCM_16'),
    'w64': ('w64', 'W64', 'PCM_16'),
    'caf': ('caf', 'CAF', 'PCM_16'),
}
# Name: suffix, and what FFmpeg calls container and codec.
_FFMPEG = {
    'm4a': ('m4a', 'mp4', 'aac'),
    'alac': ('m4a', 'mp4', 'alac'),
    'aac': ('aac', 'adts', 'aac'),
    'webm': ('webm', 'webm', 'libopus'),
    'wma': ('wma', 'asf', 'wmav2'),
}
FORMATS = (*_SOUNDFILE, *_FFMPEG)


def sound(seconds: float = 1.5) -> np.ndarray:
  """Returns [samples, 2] of two tones in noise."""
  time_ = np.arange(round(seconds * _RATE)) / _RATE
  tones = np.sin(2 * np.pi * np.array([[330, 440]]) * time_[:, None])
  noise = np.random.default_rng(0).normal(size=tones.shape)
  return (0.3 * tones + 0.02 * noise).astype(np.float32)


def encode(name: str, audio: np.ndarray, rate: int = _RATE) -> bytes:
  """Returns a file of one of FORMATS with [samples, channels] audio."""
  buffer = io.BytesIO()
  if name in _SOUNDFILE:
    _, container, codec = _SOUNDFILE[name]
    soundfile.write(buffer, audio, rate, codec, format=container)
    return buffer.getvalue()
  _, container_name, codec = _FFMPEG[name]
  layout = {1: 'mono', 2: 'stereo', 6: '5.1'}[audio.shape[1]]
  if codec in ('libopus', 'wmav2'):
    audio, rate = np.repeat(audio, 48000 // rate, axis=0), 48000
  with av.open(buffer, 'w', format=container_name) as container:
    stream = container.add_stream(codec, rate=rate, layout=layout)
    stream.bit_rate = 128000
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(audio.T), 'fltp', layout
    )
    frame.sample_rate = rate
    frame.time_base = fractions.Fraction(1, rate)
    frame.pts = 0
    resampler = av.AudioResampler(
        stream.codec_context.format, layout, rate, frame_size=1024
    )
    for piece in (*resampler.resample(frame), *resampler.resample(None), None):
      container.mux(stream.encode(piece))
  return buffer.getvalue()


def suffix(name: str) -> str:
  """Returns how files of one of FORMATS end."""
  return {**_SOUNDFILE, **_FFMPEG}[name][0]


def damage(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
  """Returns the name of a kind of damage, and a file that has it."""
  kinds = ('flips', 'cut', 'head cut', 'zeros', 'insertion', 'header', 'swap')
  kind = kinds[rng.integers(len(kinds))]
  found = bytearray(data)
  place, length = int(rng.integers(len(data))), int(2 ** rng.uniform(0, 13))
  if kind == 'flips':
    for _ in range(int(2 ** rng.uniform(0, 6))):
      found[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
  elif kind == 'cut':
    del found[place:]
  elif kind == 'head cut':
    del found[: min(place, length)]
  elif kind == 'zeros':
    found[place : place + length] = bytes(len(found[place : place + length]))
  elif kind == 'insertion':
    found[place:place] = rng.bytes(length)
  elif kind == 'header':
    at, width = int(rng.integers(200)), int(rng.choice([1, 2, 4, 8]))
    value = rng.choice([b'\0', b'\xff', b'\x7f', b'\x80', b''])
    found[at : at + width] = (bytes(value) or rng.bytes(1)) * width
  else:
    found[place : place + length], found[-length:] = (
        found[-length:],
        found[place : place + length],
    )
  return kind, bytes(found)


def _read_all(connection) -> None:
  """Reads each file that a connection names, and answers how it went."""
  sys.stderr = open(os.devnull, 'w')
  while True:
    path = connection.recv()
    start = time.monotonic()
    try:
      audio = audio_io.read_audio(path, _RATE)
      audio_io.read_tags(path)
      sane = np.isfinite(audio).all() and np.max(np.abs(audio)) <= 1
      outcome = 'read' if sane else 'not in [-1, 1]'
    except errors.UserError as e:
      outcome = (
          'refused' if os.path.basename(path) in str(e) else f'nameless: {e}'
      )
    except BaseException as e:  # pylint: disable=broad-exception-caught
      outcome = f'{type(e).__name__}: {errors.one_line(e):.100}'
    connection.send((outcome, time.monotonic() - start, _peak()))


def _peak() -> int:
  """Returns the most bytes of memory that this program has had."""
  status = pathlib.Path('/proc/self/status')
  if status.exists():  # What getrusage knows may be the peak of its parent.
    found = re.search(r'VmHWM:\s*(\d+) kB', status.read_text())
    if found:
      return 1024 * int(found[1])
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _Reader:
  """A process that reads files, and is replaced when it dies."""

  def __init__(self):
    context = multiprocessing.get_context('spawn')
    self._connection, theirs = context.Pipe()
    self._process = context.Process(
        target=_read_all, args=[theirs], daemon=True
    )
    self._process.start()
    theirs.close()
    self._is_ready = False

  def read(self, path: str) -> tuple[str, float, int]:
    """Returns how reading went, seconds, and the peak of memory so far."""
    try:
      self._connection.send(path)
      # The first has the imports to wait for.
      patience = _PATIENCE if self._is_ready else 120
      if not self._connection.poll(patience):
        self.end()
        return 'hang', patience, 0
      self._is_ready = True
      return self._connection.recv()
    except (EOFError, OSError):
      self._process.join(5)
      return f'crash: {self._process.exitcode}', 0.0, 0

  def is_alive(self) -> bool:
    return self._process.is_alive()

  def end(self) -> None:
    self._process.kill()
    self._process.join()


def run(count: int, seed: int) -> dict[str, int]:
  """Reads damaged files and prints what came of it.

  Returns:
    How many files had each outcome.
  """
  originals = {name: encode(name, sound()) for name in FORMATS}
  outcomes: dict[str, collections.Counter] = {
      name: collections.Counter() for name in FORMATS
  }
  bad: list[str] = []
  slowest, peak = 0.0, 0
  readers: queue.Queue[_Reader] = queue.Queue()
  num_readers = min(2, os.cpu_count() or 1)
  for _ in range(num_readers):
    readers.put(_Reader())
  with tempfile.TemporaryDirectory() as folder:

    def attempt(i):
      name = FORMATS[i % len(FORMATS)]
      rng = np.random.default_rng([seed, i])
      kind, data = damage(originals[name], rng)
      path = pathlib.Path(folder) / f'{i:06d}.{suffix(name)}'
      path.write_bytes(data)
      reader = readers.get()
      result = reader.read(str(path))
      readers.put(reader if reader.is_alive() else _Reader())
      path.unlink()
      return i, name, kind, result

    with futures.ThreadPoolExecutor(num_readers) as pool:
      for i, name, kind, (outcome, seconds, rss) in pool.map(
          attempt, range(count)
      ):
        slowest, peak = max(slowest, seconds), max(peak, rss)
        if outcome in ('read', 'refused') and seconds > MAX_SECONDS:
          outcome = 'slow'
        outcomes[name][
            outcome if len(outcome) < 8 else outcome.split(':')[0]
        ] += 1
        if outcome not in ('read', 'refused'):
          bad.append(f'{i} {name}, {kind}: {outcome}, {seconds:.1f} s')
  while not readers.empty():
    readers.get().end()
  for name, counter in outcomes.items():
    print(f'{name:10}', dict(counter))
  for line in bad[:50]:
    print(line)
  total = sum(outcomes.values(), collections.Counter())
  print(
      f'{count} files: {dict(total)}; the slowest took {slowest:.2f} s; peak'
      f' RSS {peak / 2**20:.0f} MiB'
  )
  if peak > MAX_RSS:
    total['memory'] += 1
  return dict(total)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--count', type=int, default=2000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  total = run(args.count, args.seed)
  sys.exit(bool(set(total) - {'read', 'refused'}))


if __name__ == '__main__':
  main()
