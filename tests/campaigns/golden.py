"""Records the tokens of every kind of generation, and compares them later.

  python -m tests.campaigns.golden --write before.json
  python -m tests.campaigns.golden --check before.json

Both on one machine: other processors round in another way, and a choice that
is nearly even may tip.
"""

import argparse
import hashlib
import json
import pathlib
import sys

import musiclm_jax
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import timeline
import numpy as np

SEEDS = (0, 1, 2)
RATE = 24000


def _song(seconds: float) -> np.ndarray:
  """Returns a tune of plucked tones, the same every time."""
  time = np.arange(round(seconds * RATE)) / RATE
  notes = 220 * 2 ** (np.array([0, 4, 7, 12, 7, 4]) / 12)
  pitch = notes[(time * 2).astype(int) % len(notes)]
  phase = 2 * np.pi * np.cumsum(pitch) / RATE
  return (0.4 * np.sin(phase) * np.exp(-4 * (time % 0.5))).astype(np.float32)


def pieces() -> dict[str, tuple[timeline.Timeline, dict[str, float]]]:
  """Returns a piece of each kind, and how its tokens are chosen."""
  make, song = timeline.Timeline, _song(3.0)
  return {
      'prompt': (make('slow piano waltz', 3), {}),
      'long': (make('a drum groove', 8), {}),
      'story': (make([(0, 'calm piano'), (2, 'a choir')], 4), {}),
      'blend': (
          make([(0, 'calm piano'), (3, 'a choir')], 5, blend_seconds=2),
          {},
      ),
      'goes_on': (make('a guitar solo', 5, audio=song), {}),
      'changed': (make('a guitar solo', audio=song, change=(1, 2)), {}),
      'like': (make(song, 2), {}),
      'loop': (make('a drum groove', 2, loop=True), {}),
      'melody': (make('solo violin', 5, melody=_song(5.0)), {}),
      'guided': (make('a choir', 2), {'guidance_scale': 3.0}),
      'negative': (
          make('a choir', 2, negative_prompt='drums'),
          {'guidance_scale': 3.0},
      ),
      'truncated': (make('a choir', 2), {'top_k': 50, 'top_p': 0.9}),
  }


def digest(tokens: dict[str, np.ndarray]) -> str:
  whole = hashlib.sha256()
  for name in sorted(tokens):
    whole.update(np.ascontiguousarray(tokens[name], '<i4').tobytes())
  return whole.hexdigest()


def record() -> dict[str, str]:
  model = musiclm_jax.MusicLM.from_pretrained(dtype='float32')
  found = {}
  for kind, (piece, choices) in pieces().items():
    for seed in SEEDS:
      config = choosing.GenerationConfig().changed(**choices)
      [take] = model.takes(piece, seed, config)
      found[f'{kind} {seed}'] = digest(take.tokens)
      print(kind, seed, found[f'{kind} {seed}'][:12], flush=True)
  varied = model.vary(take, seed=7, from_second=1.0)
  found['varied'] = digest(varied.tokens)
  return found


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--write', type=pathlib.Path)
  parser.add_argument('--check', type=pathlib.Path)
  args = parser.parse_args()
  found = record()
  if args.write:
    args.write.write_text(json.dumps(found, indent=2))
    return 0
  expected = json.loads(args.check.read_text())
  differ = [name for name in expected if found.get(name) != expected[name]]
  print(f'{len(expected) - len(differ)} of {len(expected)} equal; {differ}')
  return len(differ)


if __name__ == '__main__':
  sys.exit(main())
