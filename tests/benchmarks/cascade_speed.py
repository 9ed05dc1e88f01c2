"""How fast a cascade of the paper's size makes music, and each of its stages.

  python tests/benchmarks/cascade_speed.py MODEL --json cascade_speed.json

Three stages of 430M parameters, with random weights and the windows of the
paper, between the tokenizers of MODEL, whose codec must be SoundStream: one of
`musiclm recipe --gin_file=sizes/tiny.gin` does. Clips of 30 s, alone and eight
side by side; the first of each is made to compile and not counted.
The limit of a stage is what the device can read: bytes of weights and cache at
each step over the bandwidth of a sum over an array, measured in the same run.
Where that takes too long, e.g. on CPUs, take fewer --seconds and --batches.
"""

import argparse
from collections.abc import Iterator
import json
import statistics
import time
from typing import Any

import decode_speed
import jax
from musiclm_jax.models import compiled
from musiclm_jax.models import decoding
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import pretrained
from musiclm_jax.sampling import spreading
from musiclm_jax.stages import base as stages
import numpy as np
import paper_size

PROMPT = 'slow piano waltz in A minor'


class TimedDecoder(decode.StageDecoder):
  """A stage that adds up its time.

  Attributes:
    seconds: That `stream` took.
    steps: Positions that it decoded, of all rows at once.
    gigabytes: Of weights and cache that these steps must read.
  """

  def reset(self) -> None:
    self.seconds, self.steps, self.gigabytes = 0.0, 0, 0.0

  def stream(self, tokens, prefix, *args) -> Iterator[np.ndarray]:
    rows, known, quantizers = prefix.shape
    weights = self._weights(spreading.num_devices(rows))
    position = self._prefix_length + known * quantizers
    start = time.perf_counter()
    for piece in super().stream(tokens, prefix, *args):
      self.seconds += time.perf_counter() - start
      steps = piece[0].size
      middle = position + steps / 2
      self.steps += steps
      self.gigabytes += steps * bytes_per_step(weights, rows, middle) / 1e9
      position += steps
      yield piece
      start = time.perf_counter()


def bytes_per_step(
    weights: decoding.Weights, rows: int, position: float
) -> float:
  """Returns what a step must read: weights, and the cache so far."""
  size = sum(x.nbytes for x in jax.tree.leaves(weights['layers']))
  # Logits are of one quantizer.
  size += sum(x.nbytes / len(x) for x in jax.tree.leaves(weights['head']))
  layers = sum(len(group['mlp_norm']) for group in weights['layers'])
  numbers = rows * layers * 2 * paper_size.EMBED * position
  return size + numbers * weights['embed'].dtype.itemsize


def make_model(
    directory: str, num_layers: int, dtype: str
) -> tuple[musiclm.MusicLM, Any]:
  """Returns a model, and its stages by name."""
  compiled.keep()
  tokenizers, _, hashes = pretrained.load(pretrained.find(directory), dtype)
  config = paper_size.make_config(num_layers)
  decoders = {}
  for name in ('semantic', 'coarse', 'fine'):
    stage = stages.get_stage(name)
    params = paper_size.draw_params(config, stage)
    decoders[name] = TimedDecoder(stage, config, params, dtype=dtype)
  return musiclm.MusicLM(tokenizers, decoders, hashes), decoders


def read_gigabytes_per_second(rounds: int = 5) -> float:
  """Returns the bandwidth of a sum over an array."""
  system = decode_speed.make_reading([0])
  seconds = []
  for _ in range(rounds + 1):
    start = time.perf_counter()
    system.verbs['0']()
    seconds.append(time.perf_counter() - start)
  size = system.facts['bytes']['0'] * decode_speed.STEPS
  return size / statistics.median(seconds[1:]) / 1e9


def measure(
    model: musiclm.MusicLM, decoders: Any, batch: int, args: argparse.Namespace
) -> dict[str, Any]:
  """Returns the figures of some clips side by side, medians over rounds."""
  prompts = [f'{PROMPT} {i}' for i in range(batch)]
  times, of_stages = [], []
  for seed in range(args.rounds + 1):
    for decoder in decoders.values():
      decoder.reset()
    start = time.perf_counter()
    model.generate(prompts, seed, seconds=args.seconds, progress=False)
    times.append(time.perf_counter() - start)
    of_stages.append({n: dict(vars(d)) for n, d in decoders.items()})
  bandwidth = read_gigabytes_per_second()

  def of_stage(name):
    median = lambda get: statistics.median(
        get(one[name]) for one in of_stages[1:]
    )
    return {
        'seconds': median(lambda x: x['seconds']),
        'steps_per_second': median(lambda x: x['steps'] / x['seconds']),
        'of_limit': median(lambda x: x['gigabytes'] / x['seconds'] / bandwidth),
    }

  return {
      'batch': batch,
      'real_time_factor': batch * args.seconds / statistics.median(times[1:]),
      'gigabytes_per_second': bandwidth,
      'stages': {name: of_stage(name) for name in decoders},
  }


def describe(row: dict[str, Any]) -> str:
  """Returns the lines about a batch."""
  lines = [
      f'batch {row["batch"]}: {row["real_time_factor"]:.2f} seconds of audio'
      f' per second; reads {row["gigabytes_per_second"]:.0f} GB/s'
  ]
  for name, known in row['stages'].items():
    lines.append(
        f'  {name:9}{known["seconds"]:8.2f} s'
        f'{known["steps_per_second"]:9.1f} steps/s'
        f'  {known["of_limit"]:.2f} of the limit'
    )
  return '\n'.join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('model', help='directory of a model')
  parser.add_argument('--dtype', default='bfloat16')
  parser.add_argument('--batches', default='1,8')
  parser.add_argument('--seconds', type=float, default=30.0)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--layers', type=int, default=paper_size.LAYERS)
  parser.add_argument('--json', help='file to write all figures to')
  args = parser.parse_args()
  model, decoders = make_model(args.model, args.layers, args.dtype)
  rows = []
  for batch in map(int, args.batches.split(',')):
    rows.append(measure(model, decoders, batch, args))
    print(describe(rows[-1]), flush=True)
  if args.json:
    device = jax.devices()[0].device_kind
    with open(args.json, 'w') as f:
      json.dump({**vars(args), 'device': device, 'rows': rows}, f)


if __name__ == '__main__':
  main()
