"""What smaller weights cost in quality: how differently each stage predicts.

  python tests/benchmarks/dtype_cost.py

Pieces are sampled in float32. Then each stage of the model predicts their
tokens again, in each dtype, from the same history: nats are the surprise at the
tokens, KL is how far the prediction is from that of float32, and agreement how
often the likeliest code is the same.
"""

import argparse

import jax
import jax.numpy as jnp
from musiclm_jax.models import decoding
from musiclm_jax.models import parts
from musiclm_jax.models import positions
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import musiclm
import numpy as np

PROMPTS = (
    'slow piano waltz in A minor', 'a drum groove', 'a string quartet',
    'a church organ', 'solo flute', 'fast folk tune on a violin',
    'a choir', 'jazz guitar and double bass',
)  # fmt: skip
SECONDS = 4
KNOWN, STEPS = 40, 120  # Tokens of the targets: read at once, and predicted.


def predictions(
    decoder: decode.StageDecoder, sequence: np.ndarray
) -> np.ndarray:
  """Returns the [rows, steps, codes] log probabilities of the next tokens.

  Args:
    decoder: Decoder of a stage.
    sequence: [rows, length] ids of its inputs and targets.
  """
  config, stage = decoder._config, decoder.stage
  weights = decoder._weights(1)
  prefix = sum(stage.num_ids(s) for s in stage.prefix)
  frames = jnp.asarray(
      positions.frames(stage, prefix, stage.num_ids(stage.targets))
  )
  read = np.zeros((len(sequence), decoder._length, 1), np.int32)
  read[:, 1 : sequence.shape[1] + 1, 0] = sequence
  start = prefix + KNOWN
  options = {'compiler_options': decoding.compiler_options()}
  cache = jax.jit(
      lambda read, cache: decoding.prefill(
          weights, config, read, 0, start, frames, cache
      ),
      **options,
  )(read, decoder._empty(len(sequence), 1))
  step = jax.jit(
      lambda cache, ids, position, quantizer: decoding.step(
          weights, config, ids, position, frames, quantizer[None], cache
      ),
      donate_argnums=0,
      **options,
  )
  found = []
  for position in range(start, start + STEPS):
    quantizer = (position - prefix) % stage.targets.num_quantizers
    logits, cache = step(
        cache, read[:, position], jnp.int32(position), jnp.int32(quantizer)
    )
    found.append(jax.nn.log_softmax(logits[:, 0]))
  return np.stack(found, axis=1)


def ids(stage, takes) -> np.ndarray:
  """Returns the ids of the first window of pieces."""

  def of(stream):
    tokens = np.concatenate([take.tokens[stream.name] for take in takes])
    tokens = stream.crop(tokens, 0.0, stage.crop_seconds)
    missing = stream.num_frames(stage.crop_seconds) - tokens.shape[1]
    tokens = np.pad(tokens, ((0, 0), (0, missing), (0, 0)), mode='edge')
    return stage.to_ids(tokens, stream).reshape(len(takes), -1)

  return np.concatenate([of(s) for s in (*stage.prefix, stage.targets)], axis=1)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', default=parts.embedded_model())
  directory = parser.parse_args().model
  model = musiclm.MusicLM.from_pretrained(directory, 'float32')
  takes = model.takes(list(PROMPTS), seconds=SECONDS)
  print('stage     dtype      nats    KL       agreement')
  for name in ('semantic', 'coarse', 'fine'):
    stage = decode.StageDecoder.from_dir(directory, name).stage
    sequence = ids(stage, takes)
    start = sum(stage.num_ids(s) for s in stage.prefix) + KNOWN
    offsets = stage.offsets(stage.targets)
    quantizers = (KNOWN + np.arange(STEPS)) % len(offsets)
    codes = sequence[:, start : start + STEPS] - offsets[quantizers]
    for dtype in parts.DTYPES:
      decoder = decode.StageDecoder.from_dir(directory, name, dtype)
      logs = predictions(decoder, sequence)
      if dtype == 'float32':
        exact = logs
      nats = -np.take_along_axis(logs, codes[..., None], axis=-1).mean()
      kl = np.sum(np.exp(exact) * (exact - logs), axis=-1).mean()
      same = np.mean(logs.argmax(axis=-1) == exact.argmax(axis=-1))
      print(f'{name:9} {dtype:9} {nats:6.3f}  {kl:7.5f}  {same:.3f}')


if __name__ == '__main__':
  main()
