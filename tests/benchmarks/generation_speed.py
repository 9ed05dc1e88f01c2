"""How soon and how fast a model makes music, and in how much memory.

  python tests/benchmarks/generation_speed.py --json speed.json --plot speed.png

Measures the model in the package, or another: the time of the command from
start to end without and with programs that were compiled before; seconds of
audio per second, for pieces side by side too; when the first audio comes of a
piece that is streamed; and the time and the memory that three minutes take.
Medians of several runs; run it while the machine has nothing else to do.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
from musiclm_jax.sampling import musiclm
import numpy as np

PROMPT = 'slow piano waltz in A minor'
LONG_SECONDS = 180.0


def start_seconds(model: str | None, dtype: str) -> dict[str, float]:
  """Returns the seconds of two commands, the first of which compiles."""
  with tempfile.TemporaryDirectory() as folder:
    command = [
        sys.executable, '-m', 'musiclm_jax.cli', 'generate', PROMPT,
        '--seconds', '2', '--dtype', dtype,
        '--output', str(pathlib.Path(folder) / 'music.wav'),
    ]  # fmt: skip
    command += ['--model', model] if model else []
    environment = {**os.environ, 'XDG_CACHE_HOME': folder}
    seconds = []
    for _ in range(4):
      start = time.perf_counter()
      subprocess.run(
          command, check=True, env=environment, stdout=subprocess.DEVNULL
      )
      seconds.append(time.perf_counter() - start)
  return {'cold': seconds[0], 'warm': statistics.median(seconds[1:])}


def real_time_factor(
    model: musiclm.MusicLM, seconds: float, batch: int, rounds: int
) -> float:
  """Returns the seconds of audio made in a second."""
  prompts = [f'{PROMPT} {i}' for i in range(batch)]
  times = []
  for seed in range(rounds + 1):  # The first one compiles.
    start = time.perf_counter()
    model.generate(prompts, seed, seconds=seconds, progress=False)
    times.append(time.perf_counter() - start)
  return batch * seconds / statistics.median(times[1:])


def first_audio_seconds(model: musiclm.MusicLM, rounds: int) -> float:
  """Returns when the first chunk of a stream comes."""
  times = []
  for seed in range(rounds + 1):
    start = time.perf_counter()
    next(model.stream(PROMPT, seed, seconds=10.0))
    times.append(time.perf_counter() - start)
  return statistics.median(times[1:])


def long_form(model: musiclm.MusicLM, seconds: float) -> dict[str, Any]:
  """Returns time and peak memory at each second of a long stream."""
  list(model.stream(PROMPT, seconds=25.0))  # Compiles all programs.
  start, audio = time.perf_counter(), 0.0
  points: dict[str, list[float]] = {'audio': [], 'time': [], 'megabytes': []}
  for chunk in model.stream(PROMPT, seconds=seconds):
    audio += len(chunk) / model.sample_rate
    points['audio'].append(audio)
    points['time'].append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    points['megabytes'].append(peak)
  third = len(points['audio']) // 3
  slope = lambda part: float(
      np.polyfit(points['audio'][part], points['time'][part], 1)[0]
  )
  return {
      **points,
      'seconds_per_second_first_third': slope(slice(third)),
      'seconds_per_second_last_third': slope(slice(-third, None)),
      'growth_megabytes': points['megabytes'][-1] - points['megabytes'][third],
  }


def plot(result: dict[str, Any], path: str) -> None:
  """Draws time and memory over the length of the music."""
  from matplotlib import pyplot

  points = result['long_form']
  figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3))
  left.plot(points['audio'], points['time'])
  left.plot(points['audio'], points['audio'], ':', label='real time')
  left.set_ylabel('seconds until it is there')
  left.legend()
  right.plot(points['audio'], points['megabytes'])
  right.set_ylim(bottom=0)
  right.set_ylabel('peak memory (MB)')
  for axes in (left, right):
    axes.set_xlabel('seconds of music')
  figure.tight_layout()
  figure.savefig(path, dpi=80)


def measure(args: argparse.Namespace) -> dict[str, Any]:
  """Returns all figures; see the module."""
  load = os.getloadavg()[0]
  result: dict[str, Any] = {
      'device': jax.devices()[0].device_kind,
      'cores': os.cpu_count(),
      'load_before': load,
      'dtype': args.dtype,
      'command_seconds': start_seconds(args.model, args.dtype),
  }
  model = musiclm.MusicLM.from_pretrained(args.model, args.dtype)
  if args.long_seconds:  # First: what is told is the peak of all so far.
    result['long_form'] = long_form(model, args.long_seconds)
  result['first_audio_seconds'] = first_audio_seconds(model, args.rounds)
  for batch in (1, 8):
    result[f'real_time_factor_batch_{batch}'] = real_time_factor(
        model, args.seconds, batch, args.rounds if batch == 1 else 1
    )
  return result


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', help='default: the one in the package')
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--seconds', type=float, default=30.0)
  parser.add_argument('--long_seconds', type=float, default=LONG_SECONDS)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--json', help='file to write all figures to')
  parser.add_argument('--plot', help='picture of time and memory to write')
  args = parser.parse_args()
  result = measure(args)
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(result))
  if args.plot:
    plot(result, args.plot)
  lists = ('audio', 'time', 'megabytes')
  long = result.pop('long_form', {})
  result |= {k: v for k, v in long.items() if k not in lists}
  for name, value in result.items():
    print(f'{name:32}', value)


if __name__ == '__main__':
  main()
