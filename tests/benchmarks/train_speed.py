"""How fast a stage of 430M parameters trains, beside audiolm-pytorch.

  python tests/benchmarks/train_speed.py --json train_speed.json

A step is what the trainer compiles: loss, gradients, AdamW. There is no
dropout, as audiolm-pytorch has none by default. Operations are counted in the
same way for all: 6 for each token and parameter of a matrix, and 12 * layers *
width for each pair of tokens (PaLM, arXiv 2204.02311, appendix B).

On CPUs, of two cores, see `protocol` for how time is measured; --systems names
those that fit into memory side by side, 8 GB each at 24 layers. Where the
machine has other things to do, --busy gives each one core and counts the
seconds that it got of it. On a GPU or TPU each has the device to itself, in
turn, with batches of crops of the paper's length, and is told its share of the
peak (MFU) where that is known.
audiolm-pytorch is left out where it is not installed, and on TPUs.
"""

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import paper_size
import protocol

STAGE = 'semantic'
# (rows, seconds of the crop): 512 tokens on CPUs, else the paper's crops.
CPU_BATCH = (1, 20.0)
ACCELERATOR_BATCH = (16, 30.0)
PEER = 'audiolm-pytorch'
# By whether the machine is busy.
CLOCKS = {
    False: protocol.Clock(num_threads=2),
    True: protocol.Clock(num_threads=1, now=time.process_time),
}
FIND_BACKEND = 'import jax; print(jax.default_backend())'


def operations(matrices: int, num_layers: int, batch: int, length: int) -> int:
  """Returns the floating-point operations of a step."""
  per_token = 6 * matrices + 12 * num_layers * paper_size.EMBED * length
  return batch * length * per_token


def make_ours(dtype: str, num_layers: int) -> protocol.System:
  """Returns our train step, as the trainer runs it."""
  import jax
  from musiclm_jax.stages import base as stages
  from musiclm_jax.training import devices
  from musiclm_jax.training import optimizers
  from musiclm_jax.training import programs
  from musiclm_jax.training import sharding
  from musiclm_jax.training import stage as stage_lib

  on_cpu = jax.default_backend() == 'cpu'
  batch_size, seconds = CPU_BATCH if on_cpu else ACCELERATOR_BATCH
  config = paper_size.make_config(
      num_layers,
      dropout=0.0,
      remat='none' if on_cpu else 'dots',
      scan_layers=not on_cpu,
      dtype=dtype,
  )
  stage = stages.get_stage(STAGE, seconds)
  model = stage_lib.StageModel(stage, config, optimizers.adamw(1e-4, 10, 1000))
  rng = np.random.default_rng(0)
  batch = {
      name: rng.integers(
          1024, size=(batch_size, stage.feature_lengths[name]), dtype=np.int32
      )
      + np.int32(stage.offsets(stream)[0])
      for name, stream in (
          ('inputs', stage.inputs[0]),
          ('targets', stage.targets),
      )
  }
  program = programs.Program(model, sharding.make_mesh(), batch, 1, 0)
  state = program.initial_state()
  matrices = (
      sum(x.size for x in jax.tree.leaves(state.params) if x.ndim > 1)
      - state.params['token_embed']['embedding'].size
  )

  def step():
    nonlocal state
    state, metrics, _ = program.train_step(state, batch)
    jax.block_until_ready((state, metrics))

  length = sum(x.shape[1] for x in batch.values())
  device = devices.find(jax.devices()[0].device_kind)
  return protocol.System(
      {'step': step},
      {
          'millions': sum(x.size for x in jax.tree.leaves(state.params)) / 1e6,
          'tokens': batch_size * length,
          'operations': operations(matrices, num_layers, batch_size, length),
          'device': jax.devices()[0].device_kind,
          'peak': device and device.flops * jax.device_count(),
      },
  )


def make_peer(num_layers: int) -> protocol.System:
  """Returns the train step of audiolm-pytorch's semantic transformer."""
  from audiolm_pytorch import audiolm_pytorch
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  if device == 'cpu':
    torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.manual_seed(0)
  # It would ask the hub for the width of texts, of which there are none here.
  audiolm_pytorch.get_encoded_dim = lambda name: paper_size.EMBED
  model = audiolm_pytorch.SemanticTransformer(
      num_semantic_tokens=1024,
      dim=paper_size.EMBED,
      depth=num_layers,
      heads=paper_size.HEADS,
  ).to(device)
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
  batch_size, seconds = CPU_BATCH if device == 'cpu' else ACCELERATOR_BATCH
  length = 12 + round(seconds * 25)  # As many tokens as ours.
  ids = torch.randint(1024, (batch_size, length), device=device)

  def step():
    # It puts a start token in front.
    logits = model(ids=ids[:, :-1])
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids.flatten()
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if device == 'cuda':
      torch.cuda.synchronize()

  matrices = sum(
      m.weight.numel()
      for m in model.transformer.modules()
      if isinstance(m, torch.nn.Linear)
  )
  matrices += model.to_logits.weight.numel()
  return protocol.System(
      {'step': step},
      {
          'millions': sum(p.numel() for p in model.parameters()) / 1e6,
          'tokens': batch_size * length,
          'operations': operations(matrices, num_layers, batch_size, length),
          'device': device,
      },
  )


def report(
    seconds: dict[tuple[str, str], np.ndarray],
    facts: dict[str, dict[str, object]],
) -> list[dict[str, object]]:
  """Returns a row for each system."""
  rows = []
  for name, known in facts.items():
    times = seconds[name, 'step']
    row = {
        'system': name,
        **known,
        'seconds': float(np.median(times)),
        'gflop_per_second': known['operations'] / np.median(times) / 1e9,
        'tokens_per_second': known['tokens'] / np.median(times),
    }
    if known.get('peak'):
      row['mfu'] = 1e9 * row['gflop_per_second'] / known['peak']
    if PEER in facts and name != PEER:
      ratios = (known['operations'] / times) / (
          facts[PEER]['operations'] / seconds[PEER, 'step']
      )
      row |= {
          'ratio': float(np.median(ratios)),
          'interval': protocol.interval(ratios),
      }
    rows.append(row)
  return rows


def describe(row: dict[str, object]) -> str:
  """Returns a line about a system."""
  line = (
      f'{row["system"]:16}{row["millions"]:7.1f}M {row["seconds"]:8.3f} s'
      f'{row["gflop_per_second"]:8.1f} GFLOP/s'
      f'{row["tokens_per_second"]:8.0f} tokens/s'
  )
  if 'mfu' in row:
    line += f'  MFU {row["mfu"]:.1%}'
  if 'ratio' in row:
    low, high = row['interval']
    line += f'{row["ratio"]:7.2f} x {PEER}  [{low:.2f}, {high:.2f}]'
  return line


def find_makers(systems: list[str], num_layers: int) -> dict[str, Any]:
  """Returns what makes each system that is installed."""
  makers = {}
  for name in systems:
    if name != PEER:
      makers[name] = functools.partial(make_ours, name, num_layers)
    elif importlib.util.find_spec('audiolm_pytorch'):
      makers[name] = functools.partial(make_peer, num_layers)
    else:
      print(f'{PEER} is not installed: left out')
  return makers


def measure(makers: dict[str, Any], num_rounds: int, busy: bool) -> Any:
  """Measures side by side on CPUs, in turn on other devices."""
  # This process must not take the device.
  backend = subprocess.check_output(
      [sys.executable, '-c', FIND_BACKEND], text=True
  ).split()[-1]
  run = functools.partial(
      protocol.measure, verbs=['step'], num_rounds=num_rounds
  )
  if backend == 'cpu':
    return run(makers, clock=CLOCKS[busy])
  seconds, facts = {}, {}
  for name, make in makers.items():
    if backend == 'gpu' or name != PEER:
      found = run({name: make}, clock=protocol.Clock())
      seconds |= found[0]
      facts |= found[1]
  return seconds, facts


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--layers', type=int, default=paper_size.LAYERS)
  parser.add_argument('--systems', default=f'float32,bfloat16,{PEER}')
  parser.add_argument('--busy', action='store_true')
  parser.add_argument('--json')
  args = parser.parse_args()
  load = os.getloadavg()[0]
  makers = find_makers(args.systems.split(','), args.layers)
  rows = report(*measure(makers, args.rounds, args.busy))
  unit = 'CPU seconds of 1 core' if args.busy else 'seconds'
  print(f'{args.rounds} rounds, in {unit}; load average before: {load:.2f}')
  for row in rows:
    print(describe(row))
  if args.json:
    with open(args.json, 'w') as f:
      json.dump({'load': load, 'rounds': args.rounds, 'rows': rows}, f)


if __name__ == '__main__':
  main()
