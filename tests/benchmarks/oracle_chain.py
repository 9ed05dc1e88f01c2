"""Where music is lost: true tokens up to one stage after another, decoded.

  python -m tests.benchmarks.oracle_chain --data DATA --model MODEL

DATA holds `music`; MODEL is any cascade. Clips of a split are cut to ten
seconds and tokenized with the model's own parts. In each row of the table, the
streams that it names are those of the clip, and the stages of the model write
the rest: the stage between two rows loses the difference. The last rows are the
floor: the conditions of another clip, and another clip.

Means over clips, with standard errors: frames with a pitch, polyphony and notes
per second that Basic Pitch hears; the likeness of pitch classes to the clip;
how often the likeliest family of instruments is that of the clip; log-mel
distance to the clip; and the distance of all clips to other true ones, in an
embedding. Clips in which Basic Pitch hears little, such as drums alone, are
left out. `--json FILE` saves the values of each clip.
"""

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import records
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import estimates
from musiclm_jax.metrics import families
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import report
from musiclm_jax.metrics import set_distances
from musiclm_jax.metrics import transcription
from musiclm_jax.metrics.embedders import base as embedder_base
from musiclm_jax.metrics.embedders import table as embedders
from musiclm_jax.models import mulan
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import pretrained
from musiclm_jax.sampling import sampler as sampler_lib
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import table
import numpy as np
import tqdm

SECONDS = 10.0
LEAST_PITCHED = 0.5  # Share of frames with a pitch in the clips to measure.
CONFIG = choosing.GenerationConfig()
DISTANCES = {'kernel': set_distances.kernel, 'Fréchet': set_distances.frechet}


@dataclasses.dataclass(frozen=True)
class Way:
  """What a cascade is given of a clip; it writes the rest.

  Attributes:
    written: Streams that are the clip's own, though stages could write them.
    told: Conditions that are known, beside the prompt: the clip's embedding.
    swapped: Whether the conditions are those of another clip.
  """

  written: tuple[str, ...]
  told: tuple[str, ...]
  swapped: bool = False

  def __str__(self) -> str:
    own = ', '.join(('prompt', *self.written))
    if not self.told:
      return own
    told = ', '.join(self.told)
    return f"{own}; another clip's {told}" if self.swapped else f'{own}, {told}'


def make_ways(
    sampled: Sequence[str],
    reads: Mapping[str, Collection[str]],
    conditions: Mapping[str, streams.Stream],
    codec: Collection[str],
) -> list[Way]:
  """Returns the ways to begin a cascade, from the most that is true on.

  Args:
    sampled: Streams that stages write, in the order of the cascade.
    reads: Streams that the stage that writes each reads.
    conditions: Streams that stages read and none writes, but the prompts.
    codec: Streams of the codec.
  """
  planned = {n for n, s in conditions.items() if plan_streams.is_planned(s)}
  found = []
  # All sampled streams are all that there is, if they are the whole codec.
  most = len(sampled) - (set(codec) <= set(sampled))
  for count in range(most, -1, -1):
    read = {name for target in sampled[count:] for name in reads[target]}
    for told in (read, read & planned, read if count else set()):
      names = tuple(name for name in conditions if name in told)
      found.append(Way(tuple(sampled[:count]), names))
  if conditions:
    found.append(Way((), tuple(conditions), swapped=True))
  return list(dict.fromkeys(found))


@dataclasses.dataclass(frozen=True)
class Cascade:
  """A model that writes what is not known of clips.

  Attributes:
    tokenizers: Its parts that write streams from audio.
    sampler: Its stages.
    ways: The rows of its table.
    seconds: Length of the clips.
  """

  tokenizers: table.Tokenizers
  sampler: sampler_lib.Sampler
  ways: Sequence[Way]
  seconds: float = SECONDS

  @classmethod
  def load(cls, directory: pathlib.Path, dtype: str = 'auto') -> 'Cascade':
    """Loads a model; see `pretrained.load`."""
    tokenizers, decoders, _ = pretrained.load(directory, dtype)
    prompts = tokenizers.text_embedder.streams[0]
    codec = tokenizers.codec.streams
    sampler = sampler_lib.Sampler(decoders, prompts, codec)
    ways = make_ways(
        [s.name for s in sampler.sampled],
        {n: [s.name for s in d.stage.inputs] for n, d in decoders.items()},
        sampler.conditions,
        [s.name for s in codec],
    )
    return cls(tokenizers, sampler, ways)

  @property
  def rate(self) -> int:
    """Sample rate of its audio, in Hz."""
    return self.tokenizers.codec.sample_rate

  def tokenize(
      self, found: Sequence[Mapping[str, Any]], sample_rate: int
  ) -> streams.Tokens:
    """Returns [clips, frames, quantizers] of all streams.

    Args:
      found: Examples of the dataset `music`, of equal length.
      sample_rate: Their sample rate, in Hz.
    """
    tokenized = [
        records.tokenize_clips([record], self.tokenizers, sample_rate)[0]
        for record in tqdm.tqdm(found, 'tokenize', unit='clip')
    ]
    written = {s.name for t in self.tokenizers.values() for s in t.streams}
    tokens = {k: np.stack([t[k] for t in tokenized]) for k in written}
    prompts = self.sampler.prompts.name
    means = mulan.pool_windows(tokens[prompts])
    quantized = self.tokenizers.text_embedder.quantize(means)
    return {**tokens, prompts: quantized}

  def blank(
      self,
      true: streams.Tokens,
      way: Way,
      config: choosing.GenerationConfig = CONFIG,
  ) -> list[take_lib.Take]:
    """Returns a take of each clip, ABSENT where the cascade has to write."""
    prompts = self.sampler.prompts.name
    return [
        take_lib.Take(
            description={},
            sample_rate=self.rate,
            num_samples=round(self.seconds * self.rate),
            sections=(0.0,),
            context_seconds=0.0,
            seeds=(0, clip, 0),
            config=config,
            hashes={},
            tokens={
                **self._written(true, way, clip),
                **self._told(true, way, clip),
                prompts: true[prompts][[clip]],
            },
            given=(self.sampler.prompts, *self.sampler.conditions.values()),
            sampled=self.sampler.sampled,
            acoustic=self.sampler.acoustic,
        )
        for clip in range(len(true[prompts]))
    ]

  def _written(self, true, way, clip):
    """Returns the streams of the cascade, with what is true of them."""
    tokens = self.sampler.empty(self.seconds)
    for name in way.written:
      known = true[name][[clip], : tokens[name].shape[1]]
      tokens[name][:, : known.shape[1]] = known
    return tokens

  def _told(self, true, way, clip):
    """Returns the conditions, without frames where they are not known."""
    count = len(true[self.sampler.prompts.name])
    other = (clip + count // 2) % count if way.swapped else clip
    return {
        name: true[name][[other]]
        if name in way.told
        else np.zeros((1, 0, stream.num_quantizers), np.int32)
        for name, stream in self.sampler.conditions.items()
    }

  def decode(self, tokens: streams.Tokens) -> np.ndarray:
    """Returns the [clips, samples] audio of tokens of the codec."""
    codec = self.tokenizers.codec
    names = [s.name for s in codec.streams if s.name in tokens]
    audio = [
        codec.detokenize({name: tokens[name][[clip]] for name in names})[0]
        for clip in range(len(tokens[names[0]]))
    ]
    return np.stack(audio)[:, : round(self.seconds * self.rate)]

  def write(self, takes: Sequence[take_lib.Take]) -> np.ndarray:
    """Samples takes side by side; returns their [clips, samples] audio."""
    with tqdm.tqdm(desc='write', unit=' tokens', unit_scale=True) as bar:
      run = self.sampler.start(takes, bar.update)
      bar.total = run.num_tokens
      finished = run.finish()
    return self.decode(
        {
            name: np.concatenate([take.tokens[name] for take in finished])
            for name in self.sampler.acoustic
        }
    )


class Judges:
  """Compare audio with true clips."""

  def __init__(
      self,
      true: np.ndarray,
      heard: Sequence[transcription.Pitches],
      reference: embedded_sets.EmbeddedSet,
      embedder: embedder_base.Embedder,
      distance: str,
      sample_rate: int,
  ):
    """Makes judges.

    Args:
      true: [clips, samples] of what is to be written.
      heard: Pitches of each.
      reference: Other true clips.
      embedder: What embedded them.
      distance: One of `DISTANCES`.
      sample_rate: Sample rate of all audio, in Hz.
    """
    self._true, self._reference, self._embedder = true, reference, embedder
    self._rate, self._name, self._heard = sample_rate, distance, heard

  def row(self, made: np.ndarray) -> dict[str, list[float]]:
    """Returns the value of each clip, or a distance and its error."""
    found: dict[str, list[float]] = {}
    for x, true, original in zip(made, self._true, self._heard, strict=True):
      for name, value in self._each(x, true, original).items():
        found.setdefault(name, []).append(value)
    pairs = ((x, self._rate) for x in made)
    embedded = embedded_sets.embed(self._embedder, pairs, 'clips')
    distance = DISTANCES[self._name](embedded, self._reference)
    return {**found, self._name: [distance.value, distance.standard_error]}

  def _each(self, made, true, original):
    heard = transcription.transcribe(made, self._rate)
    leading = [_leading(audio, self._rate) for audio in (made, true)]
    pair = true[np.newaxis], made[np.newaxis]
    return {
        'pitched': heard.pitched,
        'polyphony': heard.polyphony,
        'notes/s': heard.notes_per_second,
        'chroma': transcription.likeness(heard, original),
        'instrument': float(leading[0] == leading[1]),
        'log-mel dB': float(codec_metrics.mel_distance(*pair, self._rate)[0]),
    }


def _leading(audio, sample_rate):
  return np.argmax(families.load().likely(hearing.Sound(audio, sample_rate)))


def candidates(
    data: pathlib.Path, split: str
) -> Iterator[tuple[dict[str, Any], np.ndarray, transcription.Pitches]]:
  """Yields clips with pitches, in a random order: example, audio, pitches."""
  dataset = datasets.open_dataset('music', data, split)
  rate = datasets.sample_rate(data)
  length = round(SECONDS * rate)
  for i in np.random.default_rng(0).permutation(len(dataset)):
    record = dataset[int(i)]
    record = {**record, 'audio': record['audio'][:length]}
    audio = clips.to_float(record['audio'])
    if len(audio) < length:
      continue
    heard = transcription.transcribe(audio, rate)
    if heard.pitched >= LEAST_PITCHED:
      yield record, audio, heard


def cells(name: str, values: Mapping[str, list[float]]) -> dict[str, str]:
  """Returns a row of the table: 'mean ± standard error' of each measure."""
  row = {'true': name}
  for measure, found in values.items():
    if measure not in DISTANCES:
      mean = estimates.mean(np.array(found))
      found = [mean.value, mean.standard_error]
    row[measure] = '{:.3g} ± {:.2g}'.format(*found)
  return row


def measure(
    cascade: Cascade,
    tokens: streams.Tokens,
    true: np.ndarray,
    judges: Judges,
    config: choosing.GenerationConfig,
) -> dict[str, dict[str, list[float]]]:
  """Returns the values of each row, by its name.

  Args:
    cascade: The model.
    tokens: All tokens of the clips.
    true: [clips, samples] audio of them.
    judges: What measures.
    config: How stages choose tokens.
  """
  rows = {
      'all: true audio': judges.row(true),
      'all tokens: the codec alone': judges.row(cascade.decode(tokens)),
  }
  for way in cascade.ways:
    made = cascade.write(cascade.blank(tokens, way, config))
    rows[str(way)] = judges.row(made)
  half = len(true) // 2
  rows["none: another clip's audio"] = judges.row(np.roll(true, half, axis=0))
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--model', help='by default the one in the package')
  parser.add_argument('--split', default='test')
  parser.add_argument('--clips', type=int, default=24)
  parser.add_argument('--others', type=int, default=40)
  # Fréchet's needs more windows than embeddings are wide.
  parser.add_argument('--distance', choices=DISTANCES, default='kernel')
  parser.add_argument('--embedder', help="by default the model's own MuLan")
  parser.add_argument(
      '--guidance_scale', type=float, help="by default each stage's own"
  )
  parser.add_argument('--temperature', type=float, default=1.0)
  parser.add_argument('--dtype', default='auto')
  parser.add_argument('--json', type=pathlib.Path)
  args = parser.parse_args()

  directory = pretrained.find(args.model)
  cascade = Cascade.load(directory, args.dtype)
  config = CONFIG.changed(args.temperature, guidance_scale=args.guidance_scale)
  cascade.sampler.check(config, has_negative_prompt=False)
  count, rate = args.clips + args.others, datasets.sample_rate(args.data)
  found = itertools.islice(candidates(args.data, args.split), count)
  found = list(tqdm.tqdm(found, 'choose clips', count))
  if len(found) < args.clips + 2 or args.clips < 2:
    raise errors.UserError(
        f"split '{args.split}' must have --clips, 2 or more, and 2 others to"
        f' compare with, but has {len(found)} clips of {SECONDS:g} s with'
        f' pitches, and --clips is {args.clips}.'
    )
  embedder = embedders.load(args.embedder or f'mulan:{directory}')
  reference = embedded_sets.embed(
      embedder,
      ((audio, rate) for _, audio, _ in found[args.clips :]),
      'other true clips',
  )
  examples, audio, heard = zip(*found[: args.clips])
  true = io.resample(np.stack(audio), rate, cascade.rate)
  judges = Judges(true, heard, reference, embedder, args.distance, cascade.rate)
  tokens = cascade.tokenize(examples, rate)
  rows = measure(cascade, tokens, true, judges, config)
  if args.json:
    args.json.write_text(json.dumps(rows, indent=1), encoding='utf-8')
  print(report.render([cells(*row) for row in rows.items()]))


if __name__ == '__main__':
  main()
