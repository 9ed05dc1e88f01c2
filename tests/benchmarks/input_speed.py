"""Examples per CPU second of every task, and of Grain as the loader.

  python tests/benchmarks/input_speed.py --rounds 5
  python tests/benchmarks/input_speed.py --grain  # Needs pip install grain.

The corpus is noise: clips of 30 s at 24 kHz, phrases, and tokens. Each task is
read as whole records, as it would be from an older dataset, and as it is now,
in turn; ratios are of neighbours. One thread reads: what it takes it takes on
any number of cores.
"""

import argparse
import functools
import os
import pathlib
import statistics
import tempfile
import time

from musiclm_jax.data import batches
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.data import examples
from musiclm_jax.data import renditions
from musiclm_jax.data import token_dataset
from musiclm_jax.stages import base as stages
import numpy as np

NUM_CLIPS, SECONDS, RATE = 48, 30, clips.SAMPLE_RATE
WORDS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a', 'slow', 'waltz', 'piano')


def write(data_dir: str) -> None:
  """Writes the three datasets."""
  rng = np.random.default_rng(0)
  noise = lambda seconds, rate: rng.uniform(-1, 1, seconds * rate).astype('f4')

  def keyed(make):
    some = lambda start, stop: ((f'{i}', make(i)) for i in range(start, stop))
    return {'train': some(1, NUM_CLIPS + 1), 'test': some(0, 1)}

  def clip(i):
    audio, captions = noise(SECONDS, RATE), ('a slow waltz', 'piano')
    return clips.Clip(audio, captions, f'{i}', f'{i}', '', '').to_example()

  def phrase(i):
    made = [renditions.Rendition('sine', 1.0, noise(10, 16000))] * 6
    melody = np.full(500, 60, np.int8)
    return renditions.Phrase(made, melody, f'{i}', f'{i}').to_example()

  streams = list(stages.PAPER_STREAMS.values())
  sequences = [s for s in streams if s.name != 'mulan']

  def tokens(i):
    embeddings = rng.normal(size=(SECONDS, 128)).astype(np.float32)
    return {
        **{
            s.name: rng.integers(
                s.codebook_size, size=(s.num_frames(SECONDS), s.num_quantizers)
            ).astype(np.int32)
            for s in sequences
        },
        'mulan': embeddings,
        'mulan_text': embeddings[:2],
        'captions': ['a slow waltz', 'piano'],
        'caption_weights': np.ones(2, np.float32),
        'id': f'{i}',
        'work': f'{i}',
    }

  datasets.write_dataset(
      'music', data_dir, keyed(clip), corpora.features(),
      metadata={'sample_rate': RATE}, is_cropped=True,
  )  # fmt: skip
  datasets.write_dataset(
      renditions.NAME, data_dir, keyed(phrase), renditions.features()
  )
  datasets.write_dataset(
      token_dataset.NAME,
      data_dir,
      keyed(tokens),
      token_dataset.features(streams, {'mulan': 128}),
      metadata={
          'streams': [s.to_json() for s in streams],
          'mulan_window_seconds': 10.0,
          'hummed': [],
          'lineage': {},
      },
      arrays={'mulan_codebooks': rng.normal(size=(12, 1024, 128))},
  )
  pathlib.Path(data_dir, 'vocab.txt').write_text('\n'.join(WORDS))


def tasks(data_dir: str) -> dict[str, tuple[dict[str, int], dict[str, str]]]:
  """Returns the feature lengths of the paper and the options of each task."""
  vocab = {'vocab': os.path.join(data_dir, 'vocab.txt')}
  found = {
      'music_soundstream': ({'audio': RATE}, {}),
      'music_w2v_bert': ({'audio': 16000 * 10}, {}),
      'music_mulan': ({'audio': 16000 * 10, 'text_ids': 64}, vocab),
      'music_melody': ({'anchor': 16000 * 4, 'positive': 16000 * 4}, {}),
  }
  for name in ('semantic', 'coarse', 'fine'):
    lengths = dict(stages.get_stage(name).feature_lengths)
    found[f'music_{name}'] = lengths, {}
  return found


def rate(made: batches.Batches, start: int, count: int) -> float:
  """Returns examples per CPU second of `count` batches from `start` on."""
  begin = time.process_time()
  for position in range(start, start + count):
    made.batch_at(position)
  return count * made.batch_size / (time.process_time() - begin)


def measure(data_dir: str, num_rounds: int, num_batches: int) -> None:
  """Prints the rates of each task."""
  for task, (lengths, options) in tasks(data_dir).items():
    now = batches.task_batches(
        task, lengths, 'train', 8, data_dir, options=options
    )
    make, context = examples.TASKS[task], {}
    context = make.context(data_dir, **options)
    before = batches.Batches(
        datasets.open_dataset(make.dataset, data_dir, 'train'),
        functools.partial(_example, make, lengths, context),
        8,
    )
    np.testing.assert_equal(now.batch_at(0), before.batch_at(0))
    found = []
    for i in range(num_rounds):
      pair = [rate(x, i * num_batches, num_batches) for x in (before, now)]
      found.append((*pair, pair[1] / pair[0]))
    whole, crops, ratio = (statistics.median(x) for x in zip(*found))
    print(
        f'{task:18} {whole:8.0f} -> {crops:8.0f} examples per CPU second:'
        f' x {ratio:.1f} [{min(r for *_, r in found):.1f},'
        f' {max(r for *_, r in found):.1f}]',
        flush=True,
    )


def _example(make, lengths, context, record, rng):
  return make(record, lengths, rng, **context)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--batches', type=int, default=4, help='of 8, per round')
  parser.add_argument('--grain', action='store_true')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as data_dir:
    write(data_dir)
    if args.grain:
      from tests.benchmarks import grain_loader

      grain_loader.measure(data_dir)
    else:
      measure(data_dir, args.rounds, args.batches)


if __name__ == '__main__':
  main()
