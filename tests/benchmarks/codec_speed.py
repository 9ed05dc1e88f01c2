"""How fast the codec is beside EnCodec, both at 6 kbps, on two CPU cores.

  python tests/benchmarks/codec_speed.py

Each system lives in a process of its own, of two threads, and only one of them
works at a time: encodes 10 s of noise, or decodes its tokens. Rounds go through
all of them, every other round backwards. What counts is the median over rounds
of the ratio within a round, as the machine's own speed differs between rounds;
run it while the machine has nothing else to do. Where that can't be had, --busy
gives each one core and counts the seconds that it got of it. Weights are
random. Needs torch and transformers.
"""

import argparse
from collections.abc import Callable
import multiprocessing
from multiprocessing import connection
import os
import time

import numpy as np

SIZES = ('tiny', 'small', 'paper')
PEER = 'EnCodec'
VERBS = ('encode', 'decode')
SAMPLE_RATE = 24000
SECONDS = 10
KBPS = 6.0
# (threads, what counts their seconds), by whether the machine is busy.
CLOCKS = {False: (2, time.perf_counter), True: (1, time.process_time)}

Verbs = dict[str, Callable[[], object]]


def make_ours(size: str, audio: np.ndarray) -> Verbs:
  """Returns our codec's verbs, in a size of gin/sizes."""
  import jax
  from musiclm_jax.models import soundstream as network
  from musiclm_jax.tokenizers import soundstream
  from musiclm_jax.training import gin_flags

  files = ('models/soundstream.gin', f'sizes/{size}.gin')
  gin_flags.parse(
      [f'--gin_file={file}' for file in files]
      + ["--gin.DATA_DIR='data'", "--gin.MODEL_DIR='run'"]
  )
  config = gin_flags.value_of('MODEL').config
  module = network.SoundStream(config)
  frame = jax.ShapeDtypeStruct((1, config.hop_length), np.float32)
  shapes = jax.eval_shape(module.init, jax.random.key(0), frame)
  rng = np.random.default_rng(0)

  def draw(x):
    scale = max(1, np.prod(x.shape[:-1])) ** -0.5
    return rng.normal(scale=scale, size=x.shape).astype(np.float32)

  variables = {
      n: jax.tree.map(draw, shapes[n]) for n in ('params', 'codebooks')
  }
  codec = soundstream.SoundStream(config, variables)
  tokens = codec.tokenize(audio)
  kbps = config.kbps(sum(t.shape[-1] for t in tokens.values()))
  if kbps != KBPS:
    raise ValueError(f'the codec must write {KBPS} kbps, but writes {kbps}.')
  return {
      'encode': lambda: codec.tokenize(audio),
      'decode': lambda: codec.detokenize(tokens),
  }


def make_encodec(audio: np.ndarray, num_threads: int) -> Verbs:
  """Returns the verbs of EnCodec at 24 kHz, its weight norms folded away."""
  import torch
  from torch.nn.utils import parametrize
  import transformers

  torch.set_num_threads(num_threads)
  torch.set_grad_enabled(False)
  config = transformers.EncodecConfig(sampling_rate=SAMPLE_RATE)
  model = transformers.EncodecModel(config).eval()
  for module in model.modules():
    if parametrize.is_parametrized(module):
      parametrize.remove_parametrizations(module, 'weight')
  samples = torch.from_numpy(audio)[:, None]
  encode = lambda: model.encode(samples, bandwidth=KBPS)
  codes = encode()
  return {
      'encode': encode,
      'decode': lambda: model.decode(codes.audio_codes, codes.audio_scales),
  }


def serve(name: str, pipe: connection.Connection, busy: bool) -> None:
  """Times one call of each verb that is asked for, until None is."""
  num_threads, clock = CLOCKS[busy]
  # Before JAX and torch count the cores.
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_threads])
  rng = np.random.default_rng(0)
  audio = rng.uniform(-0.5, 0.5, (1, SECONDS * SAMPLE_RATE))
  audio = audio.astype(np.float32)
  verbs = (
      make_encodec(audio, num_threads)
      if name == PEER
      else make_ours(name, audio)
  )
  for verb in verbs.values():  # Compiles, and fills the caches.
    verb()
    verb()
  pipe.send('ready')
  while (verb := pipe.recv()) is not None:
    start = clock()
    verbs[verb]()
    pipe.send(clock() - start)


def measure(num_rounds: int, busy: bool) -> dict[tuple[str, str], np.ndarray]:
  """Returns the seconds of each round, for each (system, verb)."""
  context = multiprocessing.get_context('spawn')
  pipes = {}
  for name in (*SIZES, PEER):
    pipes[name], theirs = context.Pipe()
    context.Process(
        target=serve, args=(name, theirs, busy), daemon=True
    ).start()
    theirs.close()
    pipes[name].recv()
  order = [(name, verb) for verb in VERBS for name in pipes]
  seconds: dict[tuple[str, str], list[float]] = {key: [] for key in order}
  for i in range(num_rounds):
    for name, verb in order if i % 2 else reversed(order):
      pipes[name].send(verb)
      seconds[name, verb].append(pipes[name].recv())
  for pipe in pipes.values():
    pipe.send(None)
  return {key: np.array(values) for key, values in seconds.items()}


def interval(ratios: np.ndarray) -> tuple[float, float]:
  """Returns the 95% bootstrap interval of the median."""
  rng = np.random.default_rng(0)
  draws = rng.choice(ratios, (10000, len(ratios)))
  low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
  return float(low), float(high)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=11)
  parser.add_argument('--busy', action='store_true')
  args = parser.parse_args()
  load = os.getloadavg()[0]
  seconds = measure(args.rounds, args.busy)
  unit = 'CPU seconds of 1 core' if args.busy else 'seconds of 2 cores'
  print(f'{args.rounds} rounds, in {unit}; load average before: {load:.2f}')
  for name in (*SIZES, PEER):
    for verb in VERBS:
      factor = SECONDS / np.median(seconds[name, verb])
      line = f'{name:8}{verb:8}{factor:7.1f} x real time'
      if name != PEER:
        ratios = seconds[PEER, verb] / seconds[name, verb]
        low, high = interval(ratios)
        line += f'{np.median(ratios):7.2f} x EnCodec  [{low:.2f}, {high:.2f}]'
      print(line)


if __name__ == '__main__':
  main()
