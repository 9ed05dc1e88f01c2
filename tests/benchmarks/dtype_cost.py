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
from musiclm_jax import streams
from musiclm_jax.models import decoding
from musiclm_jax.models import parts
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import musiclm
from musiclm_jax.stages import base as stages
import numpy as np

PROMPTS = (
    'slow piano waltz in A minor', 'a drum groove', 'a string quartet',
    'a church organ', 'solo flute', 'fast folk tune on a violin',
    'a choir', 'jazz guitar and double bass',
)  # fmt: skip
SECONDS = 4
KNOWN = 0.25  # Share of the frames that are read at once, before predictions.


def predictions(
    decoder: decode.StageDecoder, tokens: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  """Predicts the targets of the first window of some clips, frame by frame.

  Args:
    decoder: Decoder of a stage.
    tokens: [rows, frames, quantizers] of each stream of the stage.

  Returns:
    [rows, tokens, codes] log probabilities, and the [rows, tokens] codes.
  """
  stage, pattern = decoder.stage, decoder._pattern
  targets = tokens[stage.targets.name]
  num_frames = targets.shape[1]
  read, added = decoder._layout(
      tokens, targets, num_frames, choosing.SamplingConfig(), None
  )
  read, weights = read[0], decoder._weights(1)
  added = decoder._add_up(weights, added)
  token_frames = jnp.asarray(decoder._frames)
  shared = {'weights': weights, 'config': decoder._config}
  start = decoder._prefix_length
  first = start + pattern.first_position(round(KNOWN * num_frames))
  options = {'compiler_options': decoding.compiler_options()}
  cache = jax.jit(
      lambda read, cache: decoding.prefill(
          **shared, ids=read, first=0, stop=first, token_frames=token_frames,
          cache=cache, added=added,
      ),
      **options,
  )(read, decoder._empty(len(read), 1))  # fmt: skip
  step = jax.jit(
      lambda ids, position, quantizers, cache: decoding.step(
          **shared, ids=ids, position=position, token_frames=token_frames,
          quantizers=quantizers, cache=cache, added=added,
      ),
      donate_argnums=3,
      **options,
  )  # fmt: skip
  logs, codes = [], []
  for position in range(first, start + pattern.num_positions(num_frames)):
    frames, quantizers = pattern.places(np.array(position - start))
    logits, cache = step(
        read[:, position], jnp.int32(position), jnp.asarray(quantizers), cache
    )
    is_token = np.broadcast_to(frames, quantizers.shape)
    is_token = (is_token >= 0) & (is_token < num_frames)
    logs.append(np.asarray(jax.nn.log_softmax(logits))[:, is_token])
    ids = read[:, position + 1] - stage.offsets(stage.targets)[quantizers]
    codes.append(ids[:, is_token])
  return np.concatenate(logs, axis=1), np.concatenate(codes, axis=1)


def first_window(stage, takes) -> dict[str, np.ndarray]:
  """Returns the tokens of the first window of pieces."""

  def of(stream):
    count = stream.num_frames(stage.crop_seconds)
    absent = np.full((len(takes), count, stream.num_quantizers), streams.ABSENT)
    if stream.name not in takes[0].tokens:
      return absent
    tokens = np.concatenate([take.tokens[stream.name] for take in takes])
    tokens = stream.crop(tokens, 0.0, stage.crop_seconds)
    if stream == stage.targets:
      return tokens
    return np.concatenate([tokens, absent[:, tokens.shape[1] :]], axis=1)

  return {s.name: of(s) for s in stage.streams}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', default=parts.embedded_model())
  directory = parser.parse_args().model
  model = musiclm.MusicLM.from_pretrained(directory, 'float32')
  takes = model.takes(list(PROMPTS), seconds=SECONDS)
  print('stage     dtype      nats    KL       agreement')
  for name, stage in stages.stages_in(directory).items():
    tokens = first_window(stage, takes)
    for dtype in parts.DTYPES:
      decoder = decode.StageDecoder.from_dir(directory, name, dtype)
      logs, codes = predictions(decoder, tokens)
      if dtype == 'float32':
        exact = logs
      nats = -np.take_along_axis(logs, codes[..., None], axis=-1).mean()
      kl = np.sum(np.exp(exact) * (exact - logs), axis=-1).mean()
      same = np.mean(logs.argmax(axis=-1) == exact.argmax(axis=-1))
      print(f'{name:9} {dtype:9} {nats:6.3f}  {kl:7.5f}  {same:.3f}')


if __name__ == '__main__':
  main()
