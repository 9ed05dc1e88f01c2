"""How often the instrument that a prompt asks for is the one that is heard.

  musiclm batch tests/benchmarks/prompts.jsonl --output_dir MADE
  python -m tests.benchmarks.asked [MADE …] --data DATA

The id of a prompt begins with the family of instruments that it asks for, one
of twelve; the family that most likely plays is chosen of these twelve. DATA
holds `music`: clips of its test split in which one family plays show how often
the classifier is right about true audio.
"""

import argparse
import functools
import json
import pathlib

from musiclm_jax.audio import io
from musiclm_jax.metrics import estimates
from musiclm_jax.metrics import families
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import report
from musiclm_jax.tokenizers import terms
import numpy as np

PROMPTS = pathlib.Path(__file__).with_name('prompts.jsonl')
RATE = 24000
SECONDS = 10.0
_MOST = 400  # Clips of true audio to search for solos.


@functools.cache
def ids():
  """Returns the ids of the prompts."""
  lines = PROMPTS.read_text(encoding='utf-8').splitlines()
  return [json.loads(line)['id'] for line in lines]


def asked(id_):
  return terms.FAMILIES.index(id_.rpartition('-')[0])


def is_right(audio, family):
  """Returns whether a family is the likeliest of the twelve, or None."""
  classes = sorted({asked(id_) for id_ in ids()})
  if family not in classes:
    return None
  likely = families.load().likely(hearing.Sound(audio, RATE))
  return likely.any() and classes[int(np.argmax(likely[classes]))] == family


def of_folder(folder):
  """Yields whether each clip of a folder is right."""
  for id_ in ids():
    [path] = folder.glob(f'{id_}.*')
    yield is_right(io.read_audio(path, RATE), asked(id_))


def of_data(data):
  """Yields whether each solo of true audio is right."""
  for record, audio in held_out.read_audio(data, 'test', _MOST, RATE, 'true'):
    audio = audio[: round(SECONDS * RATE)]
    plays = np.asarray(record['families'])[: round(SECONDS)] > 0
    if len(plays) and plays.any(axis=0).sum() == 1:
      yield is_right(audio, int(np.argmax(plays.any(axis=0))))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('made', type=pathlib.Path, nargs='*')
  parser.add_argument('--data', type=pathlib.Path)
  args = parser.parse_args()
  found = {str(folder): list(of_folder(folder)) for folder in args.made}
  if args.data:
    found['true solos'] = [x for x in of_data(args.data) if x is not None]
  rows = []
  for name, values in found.items():
    mean = estimates.mean(np.array(values, float))
    rows.append(
        {
            'clips': name,
            'instrument': f'{mean.value:.2f} ± {mean.standard_error:.2f}',
            'number': len(values),
        }
    )
  print(report.render(rows))


if __name__ == '__main__':
  main()
