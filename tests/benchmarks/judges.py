"""How often the judges of obedience are right about true audio.

  python -m tests.campaigns.corpus SOURCES DATA --share 0.2
  python -m tests.benchmarks.judges fit DATA musiclm_jax/metrics/families.json
  python -m tests.benchmarks.judges renders DATA --clips 40
  python -m tests.benchmarks.judges plans --clips 40
  python -m tests.benchmarks.judges write RENDERS

`fit` makes the classifier of families from the training split of DATA and from
plays of other plans than those of the package, alone and mixed in pairs, and
prints how well it tells those of the test split and of further plays.
`renders` measures all judges on clips of the test split, which are real music.
`plans` measures them on the plans of the package, as FluidSynth plays them from
a songbook: steady, plain, and each with all it should have. `write` writes
these, as files named by the ids of the plans: the true audio of `musiclm
evaluate music --benchmark obedience --reference RENDERS`.
"""

import argparse
from concurrent import futures
import dataclasses
import functools
import hashlib
import multiprocessing
import os
import pathlib

from musiclm_jax.audio import io
from musiclm_jax.audio import mixing
from musiclm_jax.metrics import families
from musiclm_jax.metrics import hearing
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import obedience
from musiclm_jax.metrics import report
from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.tokenizers import terms
import numpy as np
from tests import plan_player
from tests.benchmarks import obedience_plans
from tests.campaigns import corpus

RATE = 24000
SECONDS = 10.0
SOUNDFONTS = (
    '/usr/share/sounds/sf2/FluidR3_GM.sf2',
    '/usr/share/sounds/sf2/TimGM6mb.sf2',
)
_MIXTURES = 2  # Of each clip with others.
_LEVELS = (-8.0, 8.0)  # Decibels between the two.
_NOISES = tuple(np.linspace(0, 2, 400))  # Exponents of the fall of power.
_LEAST = 0.3  # Share of a second in which a family is on that counts.
_THRESHOLDS = np.arange(0.15, 0.61, 0.05).round(2)


def read(data_dir, split, count):
  """Yields the work, the audio and the families per second of clips."""
  for record, audio in held_out.read_audio(data_dir, split, count, RATE, split):
    yield record, audio[: round(SECONDS * RATE)]


def clips_of(data_dir, split, count):
  """Returns the audio of clips and the families that play in each second."""
  return [
      (audio, np.asarray(record['families']) > 0)
      for record, audio in read(data_dir, split, count)
      if len(audio) >= 4 * RATE and len(record['families'])
  ]


def play(seed, index):
  """Returns a play of a drawn plan by a SoundFont that corpora are made of.

  Of every third, all rest but the lead.
  """
  from musiclm_jax.data.scores import synthesis

  rng = np.random.default_rng([seed, index])
  line = obedience_plans.draw_plan(int(rng.integers(10_000)), rng)
  plan = plan_lib.Plan.from_json(line['plan'])
  if index % 3 == 0:
    lead = plan.arrange.split()[1]
    plan = dataclasses.replace(plan, arrange=f'0 {lead}')
  score = plan_player.write_score(plan, SECONDS, seed=int(rng.integers(2**31)))
  audio = synthesis.render(score, corpus.FONTS[rng.integers(2)], RATE)
  on = obedience.Target.of_plan(plan, SECONDS).families
  return audio[: round(SECONDS * RATE)], np.tile(on, (round(SECONDS), 1))


def window_rows(audio, on):
  """Returns the features of windows of a clip, and the families in them."""
  x = families.features(hearing.Sound(audio, RATE))
  # Windows of two seconds begin each second.
  return x, np.stack([on[k : k + 2].any(axis=0) for k in range(len(x))])


def examples(clips, rng, pool):
  """Returns windows of clips and of mixtures: features, families, the clip."""
  made = []
  for audio, on in clips:
    made.append((audio, on))
    for _ in range(_MIXTURES):
      made.append(mix(audio, on, *clips[rng.integers(len(clips))], rng))
  found = list(pool.map(window_rows, *zip(*made), chunksize=8))
  noises = list(noise_windows(rng))
  nothing = np.zeros((1, len(terms.FAMILIES)), bool)
  numbers = [np.full(len(x), i) for i, (x, _) in enumerate(found)]
  return (
      np.concatenate([*(x for x, _ in found), *noises]),
      np.concatenate([*(y for _, y in found), *[nothing] * len(noises)]),
      np.concatenate([*numbers, -1 - np.arange(len(noises))]),
  )


def noise_windows(rng):
  """Yields the window of each noise, in which nobody plays."""
  count = round(families.WINDOW_SECONDS * RATE)
  for exponent in _NOISES:
    spectrum = np.fft.rfft(rng.normal(0, 1, count))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (exponent / 2)
    audio = np.fft.irfft(spectrum, count)
    sound = hearing.Sound(mixing.normalize(audio.astype(np.float32)), RATE)
    yield families.features(sound)[:1]


def mix(a, a_on, b, b_on, rng):
  """Returns two clips that sound at once, and who plays in them."""
  length, seconds = min(len(a), len(b)), min(len(a_on), len(b_on))
  gain = np.float32(10 ** (rng.uniform(*_LEVELS) / 20))
  audio = mixing.normalize(a)[:length] + gain * mixing.normalize(b)[:length]
  return audio / np.abs(audio).max(), a_on[:seconds] | b_on[:seconds]


def by_clip(classifier, windows, playing, numbers):
  """Returns probabilities and truth of each clip."""
  likely = classifier.probabilities(windows)
  unique = np.unique(numbers[numbers >= 0])
  mean = lambda x: np.stack([x[numbers == n].mean(axis=0) for n in unique])
  return mean(likely), mean(playing) >= _LEAST


def f1(found, true):
  return 2 * np.sum(found & true) / max(1, np.sum(found) + np.sum(true))


def fit(args):
  """Fits on 'train', chooses the threshold on 'validation', tests on 'test'."""
  rng = np.random.default_rng(0)
  context = multiprocessing.get_context('spawn')
  with futures.ProcessPoolExecutor(os.cpu_count(), context) as pool:
    train, validation, test = (
        examples(
            [
                *clips_of(args.data, split, args.clips // share),
                *pool.map(
                    functools.partial(play, seed), range(args.plays // share)
                ),
            ],
            rng,
            pool,
        )
        for seed, (split, share) in enumerate(
            (('train', 1), ('validation', 5), ('test', 5)), start=1
        )
    )
  classifier = families.fit(*train[:2], 0.5, {})
  likely, true = by_clip(classifier, *validation)
  scores = [f1(likely >= t, true) for t in _THRESHOLDS]
  threshold = float(_THRESHOLDS[int(np.argmax(scores))])
  likely, true = by_clip(classifier, *test)
  found = likely >= threshold
  rows = [
      {
          'family': name,
          'clips': int(true[:, i].sum()),
          'F1': float(f1(found[:, i], true[:, i])),
      }
      for i, name in enumerate(terms.FAMILIES)
  ]
  rows.append(
      {'family': 'all', 'clips': int(true.sum()), 'F1': float(f1(found, true))}
  )
  works = sorted(
      {r['work'] for r in held_out.read(args.data, 'train', args.clips)}
  )
  lineage = {
      'works': len(works),
      'works_sha256': hashlib.sha256('\n'.join(works).encode()).hexdigest(),
      'plays': args.plays,
      'windows': len(train[0]),
      'test_clips': len(true),
      'test_f1': {row['family']: round(row['F1'], 3) for row in rows},
  }
  fitted = dataclasses.replace(classifier, threshold=threshold, lineage=lineage)
  fitted.save(args.output)
  print(report.render(rows))


def renders(args):
  """Measures the judges on real music."""
  heard, targets = [], []
  for record, audio in read(args.data, 'test', args.clips):
    heard.append(obedience.hear(audio, RATE))
    targets.append(obedience.Target.of_record(record, len(audio) / RATE))
  print(report.render(obedience.rows(heard, targets)))


def play_plans(count, seed=0):
  """Yields the id, plan, length and audio of plans, by FluidSynth."""
  from musiclm_jax.data.scores import synthesis

  read_plans = list(obedience.read_plans().items())
  for i in held_out.spread(len(read_plans), count):
    id_, (plan, seconds) = read_plans[i]
    score = plan_player.write_score(plan, seconds, seed=int(i) + seed)
    font = SOUNDFONTS[i % len(SOUNDFONTS)]
    audio = synthesis.render(score, font, RATE)[: round(seconds * RATE)]
    yield id_, plan, seconds, audio


def plans(args):
  """Measures the judges on what FluidSynth plays from the plans."""
  heard, targets = [], []
  for _, plan, seconds, audio in play_plans(args.clips):
    heard.append(obedience.hear(audio, RATE))
    targets.append(obedience.Target.of_plan(plan, seconds))
  print(report.render(obedience.rows(heard, targets)))


def write(args):
  """Writes what FluidSynth plays from the plans."""
  for id_, _, _, audio in play_plans(args.clips):
    io.write_audio(args.folder / f'{id_}.wav', audio, RATE)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
  verbs = parser.add_subparsers(required=True)
  for run, clips in ((fit, 1000), (renders, 40), (plans, 40), (write, 200)):
    verb = verbs.add_parser(run.__name__)
    if run in (fit, renders):
      verb.add_argument('data', type=pathlib.Path)
    if run is fit:
      verb.add_argument('output', type=pathlib.Path)
      verb.add_argument('--plays', type=int, default=1500)
    if run is write:
      verb.add_argument('folder', type=pathlib.Path)
    verb.add_argument('--clips', type=int, default=clips)
    verb.set_defaults(run=run)
  args = parser.parse_args()
  args.run(args)


if __name__ == '__main__':
  main()
