"""How fast a stage of 430M parameters decodes, beside MusicGen's decoder.

  python tests/benchmarks/decode_speed.py --json decode_speed.json

A step makes one token of each row from a cache of keys and values; a round is
32 steps that end at each length of the cache. Both have 24 layers, width 1024,
16 heads and 4096 hidden units, and random weights; MusicGen attends to 12
vectors of a text, too, and its feed-forward networks have no gates. The limit
is what the machine can read: bytes of weights and cache per step over the
bandwidth, which is measured in the same rounds. Errors are of logits against
float32, same inputs. See `protocol` for how time is measured.

Run it while the machine has nothing else to do. Where that can't be had, --busy
gives each system one core and counts the seconds that it got of it. On a GPU or
TPU, --apart measures one system after the other, as a process holds the
device, and leaves out MusicGen, which needs transformers.
"""

import argparse
from concurrent import futures
import functools
import json
import os
import time

import numpy as np
import paper_size
import protocol

STAGE = 'semantic'
STEPS = 32
DTYPES = ('float32', 'bfloat16', 'int8')
PEER = 'MusicGen'
READING = 'reading'
TEXT_LENGTH = 12


def make_ours(
    dtype: str, batch: int, lengths: list[int], num_layers: int
) -> protocol.System:
  """Returns our decode loop, one verb for each length of the cache."""
  import jax
  import jax.numpy as jnp
  from musiclm_jax.models import caching
  from musiclm_jax.models import decoding
  from musiclm_jax.models import positions
  from musiclm_jax.stages import base as stages

  config = paper_size.make_config(num_layers)
  stage = stages.get_stage(STAGE)
  inputs, targets = stage.feature_lengths.values()
  token_frames = jnp.asarray(positions.frames(stage, inputs, targets))
  rng = np.random.default_rng(0)
  params = paper_size.draw_params(config, stage)
  weights = jax.device_put(decoding.pack(params, config, dtype))
  del params
  room = -(-max(lengths) // caching.LENGTH_STEP) * caching.LENGTH_STEP

  def prefill(weights, ids):
    cache = caching.empty(config, dtype, batch, room)
    ids = ids[..., None]
    return decoding.prefill(weights, config, ids, 0, 64, token_frames, cache)

  def step(weights, ids, position, cache):
    ids, quantizers = ids[:, None], np.zeros(1, int)
    logits, cache = decoding.step(
        weights, config, ids, position, token_frames, quantizers, cache
    )
    return logits[:, 0], cache

  def run(weights, ids, start, cache):
    def body(i, carry):
      logits, cache = step(weights, carry[0], start + i, carry[1])
      return jnp.argmax(logits, axis=-1).astype(jnp.int32), cache

    return jax.lax.fori_loop(0, STEPS, body, (ids, cache))

  options = {'compiler_options': decoding.compiler_options()}
  run = jax.jit(run, donate_argnums=3, **options)
  ids = jnp.asarray(rng.integers(2, stage.vocab_size, (batch, room)), jnp.int32)
  cache = jax.jit(prefill, **options)(weights, ids)
  one, logits = jax.jit(step, donate_argnums=3, **options), []
  for i in range(64, 80):
    row, cache = one(weights, ids[:, i], jnp.int32(i), cache)
    logits.append(np.asarray(row[0]))
  caches = [cache]

  def verb(length):
    found, cache = run(
        weights, ids[:, 0], jnp.int32(length - STEPS), caches.pop()
    )
    caches.append(jax.block_until_ready(cache))
    jax.block_until_ready(found)

  # Logits are of one quantizer.
  size = sum(x.nbytes / len(x) for x in jax.tree.leaves(weights['head']))
  size += sum(x.nbytes for x in jax.tree.leaves(weights['layers']))
  return protocol.System(
      {str(n): functools.partial(verb, n) for n in lengths},
      {
          'bytes': {
              str(n): size
              + n / room * sum(x.nbytes for x in jax.tree.leaves(caches))
              for n in lengths
          },
          'logits': np.stack(logits),
          'device': jax.devices()[0].device_kind,
      },
  )


def make_peer(
    dtype: str, batch: int, lengths: list[int], num_layers: int
) -> protocol.System:
  """Returns MusicGen's decoder, as `generate` steps through it."""
  import torch
  import transformers

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.set_grad_enabled(False)
  torch.manual_seed(0)
  config = transformers.MusicgenDecoderConfig(
      hidden_size=paper_size.EMBED,
      num_hidden_layers=num_layers,
      num_attention_heads=paper_size.HEADS,
      ffn_dim=paper_size.MLP,
  )
  model = transformers.MusicgenForCausalLM(config).eval()
  model = model.to(getattr(torch, dtype))
  text = torch.randn(batch, TEXT_LENGTH, paper_size.EMBED, dtype=model.dtype)
  rows = batch * config.num_codebooks

  def run(ids, cache):
    output = model(
        input_ids=ids,
        encoder_hidden_states=text,
        past_key_values=cache,
        use_cache=True,
    )
    return output.logits[:, -1:].argmax(-1), output.past_key_values

  def prefix(length):
    ids = torch.randint(config.vocab_size, (rows, length - STEPS))
    return run(ids, None)[1]

  caches = {length: prefix(length) for length in lengths}

  def verb(length):
    ids = torch.zeros((rows, 1), dtype=torch.long)
    for _ in range(STEPS):
      ids, caches[length] = run(ids, caches[length])
    caches[length].crop(-STEPS)

  # Keys and values of the text are not computed again.
  crossed = num_layers * 2 * paper_size.EMBED**2
  linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
  matrices = sum(m.weight.numel() for m in linear) - crossed
  width = text.element_size()
  cached = batch * num_layers * 2 * paper_size.EMBED
  return protocol.System(
      {str(n): functools.partial(verb, n) for n in lengths},
      {
          'bytes': {
              str(n): width * (matrices + cached * (n + TEXT_LENGTH))
              for n in lengths
          },
          'device': 'cpu',
      },
  )


def make_reading(lengths: list[int], size: int = 2**28) -> protocol.System:
  """Returns what only reads: on CPUs with NumPy in threads, else with JAX."""
  import jax
  import jax.numpy as jnp

  if jax.default_backend() == 'cpu':
    threads = len(os.sched_getaffinity(0))
    pool = futures.ThreadPoolExecutor(threads)
    shares = np.array_split(np.ones(size // 4, np.int32), 8 * threads)
    read = lambda: list(pool.map(np.max, shares))
  else:
    array, total = jnp.ones(size // 4), jax.jit(jnp.sum)
    read = lambda: total(array).block_until_ready()
  return protocol.System(
      {str(n): read for n in lengths},
      {'bytes': {str(n): size / STEPS for n in lengths}},
  )


def error(logits: np.ndarray, expected: np.ndarray) -> dict[str, float]:
  """Returns the relative rms error, and the divergence from `expected`."""

  def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))

  p, q = log_softmax(expected), log_softmax(logits)
  return {
      'rms_error': float(
          np.sqrt(np.mean((logits - expected) ** 2) / np.mean(expected**2))
      ),
      'kl_nats': float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1))),
  }


def report(seconds, facts, batch, lengths):
  """Returns a row for each system and length."""
  rows = []
  peer = f'{PEER} float32'
  for name, known in facts.items():
    for length in map(str, lengths):
      times = seconds[name, length] / STEPS
      size = known['bytes'][length]
      row = {
          'system': name,
          'batch': batch,
          'length': int(length),
          'steps_per_second': float(np.median(1 / times)),
          'gigabytes': size / 1e9,
      }
      if name != READING:
        row['of_limit'] = quantiles(
            size / times / (facts[READING]['bytes'][length] * STEPS)
            * seconds[READING, length]
        )  # fmt: skip
      if peer in facts and name not in (peer, READING):
        row['of_peer'] = quantiles(seconds[peer, length] / STEPS / times)
      if int(length) != lengths[0]:
        row['slower_than_first'] = quantiles(
            seconds[name, length] / seconds[name, str(lengths[0])]
        )
      if 'logits' in known and 'float32' in facts:
        row |= error(known['logits'], facts['float32']['logits'])
      rows.append(row)
  return rows


def quantiles(ratios: np.ndarray) -> tuple[float, float, float]:
  return (float(np.median(ratios)), *protocol.interval(ratios))


def show(row) -> str:
  line = (
      f'{row["system"]:18}{row["batch"]:3}{row["length"]:6}'
      f'{row["steps_per_second"]:9.1f} steps/s'
      f'{row["gigabytes"] * row["steps_per_second"]:8.1f} GB/s'
  )
  for key, text in (
      ('of_limit', 'of the limit'),
      ('of_peer', f'x {PEER} float32'),
      ('slower_than_first', 'x time of shorter'),
  ):
    if key in row:
      middle, low, high = row[key]
      line += f'  {middle:.2f} [{low:.2f}, {high:.2f}] {text}'
  if 'rms_error' in row:
    line += f'  error {row["rms_error"]:.2%}, {row["kl_nats"]:.5f} nats'
  return line


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--batches', default='1,4')
  parser.add_argument('--lengths', default='256,1024')
  parser.add_argument('--layers', type=int, default=paper_size.LAYERS)
  parser.add_argument(
      '--systems',
      default=','.join([*DTYPES, f'{PEER} float32', f'{PEER} bfloat16']),
  )
  parser.add_argument(
      '--apart', action='store_true', help='on an accelerator, see above'
  )
  parser.add_argument('--busy', action='store_true')
  parser.add_argument('--json')
  args = parser.parse_args()
  lengths = [int(n) for n in args.lengths.split(',')]
  clock = protocol.Clock(num_threads=None if args.apart else 2)
  if args.busy:
    clock = protocol.Clock(1, time.process_time)
  load = os.getloadavg()[0]
  rows = []
  for batch in map(int, args.batches.split(',')):
    makers = {READING: functools.partial(make_reading, lengths)}
    for name in args.systems.split(','):
      if args.apart and name.startswith(PEER):
        continue
      make = make_peer if name.startswith(PEER) else make_ours
      makers[name] = functools.partial(
          make, name.split()[-1], batch, lengths, args.layers
      )
    groups = [{n: m} for n, m in makers.items()] if args.apart else [makers]
    seconds, facts = {}, {}
    for group in groups:
      measured = protocol.measure(
          group, [str(n) for n in lengths], args.rounds, clock
      )
      seconds |= measured[0]
      facts |= measured[1]
    rows += report(seconds, facts, batch, lengths)
  unit = 'CPU seconds of 1 core' if args.busy else 'seconds'
  print(
      f'{args.rounds} rounds of {STEPS} steps, in {unit}; load average before:'
      f' {load:.2f}'
  )
  for row in rows:
    print(show(row))
  if args.json:
    with open(args.json, 'w') as f:
      json.dump({'load': load, 'rounds': args.rounds, 'rows': rows}, f)


if __name__ == '__main__':
  main()
