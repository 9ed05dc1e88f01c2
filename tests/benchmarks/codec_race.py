"""Compares codecs on held-out clips: what survives, and what can be predicted.

  python -m tests.benchmarks.codec_race --data DATA NAME=MODEL [NAME=MODEL …]
  python -m tests.benchmarks.codec_race --data DATA eight=MODEL:8 --opus 6 12

DATA holds `music`; each MODEL is the directory of a model with a codec, of
which MODEL:N takes the first N quantizers. The table has, for each codec, for
Opus at each bitrate (in kbps), and for the audio itself: frames with a pitch,
polyphony and notes per second that Basic Pitch hears, the likeness to the
original of the pitch classes of half seconds (chroma of a constant-Q transform)
and of the notes of each frame, log-mel distance, SI-SDR, the speed of encoding
and decoding in multiples of real time, and the nats per second of the tokens of
its first quantizers under a small language model that is trained for the same
steps on each. Means over clips, with standard errors; of chroma, over clips
that have a pitch in half of their frames, as drums have none.
"""

import argparse
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import opus
from musiclm_jax.metrics import report
from musiclm_jax.metrics import structure
from musiclm_jax.metrics import transcription
from musiclm_jax.models import transformer
from musiclm_jax.tokenizers import acoustic
from musiclm_jax.tokenizers import table
from musiclm_jax.training import stage as stage_lib
import numpy as np
import optax
import tqdm

SECONDS = 10.0
CROP_SECONDS = 4.0
LEAST_PITCHED = 0.5  # Share of pitched frames of clips that have chroma.
QUANTIZERS = 2  # Of which the language model learns.
LM_STEPS, LM_BATCH = 300, 8
LM = transformer.TransformerConfig(
    num_layers=3, num_heads=4, head_dim=32, embed_dim=128, mlp_dim=384
)


class Clip:
  """A clip, and what is heard in it: once, whatever is compared with it."""

  def __init__(self, audio, rate):
    self.audio, self.rate = audio, rate
    self.sound = hearing.Sound(audio, rate)

  @functools.cached_property
  def pitches(self):
    return transcription.transcribe(self.audio, self.rate)


@functools.cache
def read(data, split, count, rate):
  """Returns evenly spread clips, `SECONDS` of each."""
  source = datasets.open_dataset('music', data, split)
  given = datasets.sample_rate(data)
  indices = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
  audio = [clips.to_float(source[int(i)]['audio']) for i in indices]
  audio = [io.resample(x, given, rate)[: round(SECONDS * rate)] for x in audio]
  return [Clip(x, rate) for x in audio if len(x) == round(SECONDS * rate)]


def measure(made, original):
  """Returns what is kept of a clip."""
  rate, true, heard = original.rate, original.pitches, made.pitches
  pair = original.audio[np.newaxis], made.audio[np.newaxis]
  chroma = notes = np.nan
  if true.pitched >= LEAST_PITCHED:
    chroma = structure.chroma_likeness(made.sound, original.sound)
    notes = transcription.likeness(heard, true)
  return {
      'pitched': heard.pitched,
      'polyphony': heard.polyphony,
      'notes/s': heard.notes_per_second,
      'chroma': chroma,
      'chroma of notes': notes,
      'log-mel dB': float(codec_metrics.mel_distance(*pair, rate)[0]),
      'SI-SDR dB': float(codec_metrics.si_sdr(*pair)[0]),
  }


def nats_per_second(codec, train, held_out):
  """Returns how surprising the first quantizers are, after equal training."""
  first = codec.streams[0]
  stream = streams.Stream(
      'first', QUANTIZERS, first.codebook_size, first.frame_rate
  )
  stage = streams.Stage('lm', (), stream, CROP_SECONDS)
  model = stage_lib.StageModel(stage, LM, optax.adam(1e-3))

  def ids(some):
    tokens = codec.tokenize(np.stack([x.audio for x in some]))
    codes = acoustic.join(tokens, codec.streams)[..., :QUANTIZERS]
    return stage.to_ids(codes, stream).astype(np.int32)

  def crops(rows, rng):
    length = stream.num_frames(CROP_SECONDS)
    starts = rng.integers(rows.shape[1] - length + 1, size=len(rows))
    cut = [row[s : s + length] for row, s in zip(rows, starts)]
    targets = np.stack(cut).reshape(len(rows), -1)
    return {
        'inputs': jnp.zeros((len(rows), 0), jnp.int32),
        'targets': jnp.asarray(targets),
    }

  @jax.jit
  def step(params, state, batch, key):
    loss, gradient = jax.value_and_grad(
        lambda p: model.loss_fn(p, batch, key)[0]
    )(params)
    updates, state = model.optimizer_def.update(gradient, state)
    return optax.apply_updates(params, updates), state, loss

  rng, known, unknown = np.random.default_rng(0), ids(train), ids(held_out)
  batch = crops(known[:LM_BATCH], rng)
  shapes = {name: x.shape for name, x in batch.items()}
  params = model.get_initial_variables(jax.random.key(0), shapes)['params']
  state = model.optimizer_def.init(params)
  for i in range(LM_STEPS):
    rows = rng.integers(len(known), size=LM_BATCH)
    batch = crops(known[rows], rng)
    params, state, _ = step(params, state, batch, jax.random.key(i))
  loss = jax.jit(model.eval_fn)(params, crops(unknown, rng))[0]
  return float(loss) * QUANTIZERS * stream.num_frames(1.0)


def timed(function, items):
  """Returns what a function makes of each item, and × real time."""
  function(items[0])  # Compiles.
  start = time.perf_counter()
  made = [function(x) for x in items]
  return made, len(items) * SECONDS / (time.perf_counter() - start)


def race(name, model, args):
  """Returns the row of a codec, the clips, and their rate."""
  directory, _, count = model.partition(':')
  count = int(count) if count else None
  codec = table.Tokenizers(directory).codec
  rate = codec.sample_rate
  held_out = read(args.data, args.split, args.clips, rate)
  tokens, encoding = timed(
      lambda x: codec.tokenize(x.audio[np.newaxis], count), held_out
  )
  made, decoding = timed(lambda t: codec.detokenize(t)[0], tokens)
  found = [
      measure(Clip(y[: len(x.audio)], rate), x)
      for x, y in tqdm.tqdm([*zip(held_out, made)], name)
  ]
  row = {
      'codec': name,
      **summary(found),
      'encode × real time': f'{encoding:.0f}',
      'decode × real time': f'{decoding:.0f}',
  }
  if not args.no_language_model:
    train = read(args.data, 'train', args.train_clips, rate)
    row['nats/s'] = f'{nats_per_second(codec, train, held_out):.0f}'
  return row, held_out, rate


def race_opus(kbps, held_out, rate):
  """Returns the row of Opus at a bitrate that it aims at."""
  bar = tqdm.tqdm(held_out, 'Opus')
  coded = [opus.transcode(x.audio, rate, kbps) for x in bar]
  found = [measure(Clip(y, rate), x) for x, (y, _) in zip(held_out, coded)]
  used = 8 * sum(size for _, size in coded) / len(held_out) / SECONDS / 1000
  return {'codec': f'Opus {kbps} ({used:.1f} kbps)', **summary(found)}


def summary(found):
  """Returns 'mean ± standard error' of each measure."""
  values = {k: np.array([row[k] for row in found]) for k in found[0]}
  values = {k: v[~np.isnan(v)] for k, v in values.items()}
  return {
      k: f'{v.mean():.3g} ± {v.std(ddof=1) / len(v) ** 0.5:.2g}'
      for k, v in values.items()
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--split', default='test')
  parser.add_argument('--clips', type=int, default=40)
  parser.add_argument('--train_clips', type=int, default=300)
  parser.add_argument('--no_language_model', action='store_true')
  parser.add_argument('--opus', type=int, nargs='*', default=[], metavar='KBPS')
  parser.add_argument('models', nargs='+', metavar='NAME=MODEL[:N]')
  args = parser.parse_args()
  rows = []
  for model in args.models:
    name, _, directory = model.partition('=')
    row, held_out, rate = race(name, directory, args)
    rows.append(row)
  blank = dict.fromkeys(rows[0], '')
  for kbps in args.opus:
    rows.append({**blank, **race_opus(kbps, held_out, rate)})
  true = summary([measure(x, x) for x in held_out])
  rows.append({**blank, 'codec': 'true audio', **true})
  print(report.render(rows))


if __name__ == '__main__':
  main()
