"""Whether the instruments that judge music can be trusted, in tables.

  python -m tests.benchmarks.instruments FOLDER --clips 200

FluidSynth plays the plans of the package twice, with other leads and other
instruments: once to be judged, once as true audio. Then

- order: true audio must be better than what the packaged codec makes of it, and
  that better than noise, by every measure for which more or less is better;
- shuffled: clips must agree with the prompts of others no better than chance;
- plans as tones, and known answers: of the plans as plain tones, of clips whose
  tempo, metre and key leave no doubt, and of solos of each family, at least 95%
  must come out right;
- counts: distances of two sets of true audio of as many clips; Fréchet's
  shrinks as they grow, the others must not.

A difference of less than two standard errors is none. All clips are kept in
FOLDER, and another run goes on. The status is 1 if a check fails.
"""

import argparse
import itertools
import pathlib
import sys

from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.audio import mixing
from musiclm_jax.data.scores import synthesis
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import obedience
from musiclm_jax.metrics import report
from musiclm_jax.metrics import set_distances
from musiclm_jax.metrics import text_agreement
from musiclm_jax.metrics.embedders import table
from musiclm_jax.metrics.music import benchmarks
from musiclm_jax.metrics.music import coding
from musiclm_jax.metrics.music import evaluation
from musiclm_jax.metrics.music import prompts as prompts_lib
from musiclm_jax.metrics.music import reports
from musiclm_jax.metrics.music import sounds
from musiclm_jax.models import parts
from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.tokenizers import table as tokenizers
from musiclm_jax.tokenizers import terms
import numpy as np
from tests import plan_player
from tests.benchmarks import judges
from tests.campaigns import corpus

UNSURE = 'too few clips to tell'
_LEAST_RIGHT = 0.95
_KNOWN = ('tempo within 4%', 'metre', 'key', 'mode')
_KNOWN_OF_SOLOS = ('the only instrument', 'drums')
_SWELLING = ('pad', 'strings', 'voice')  # Without onsets, there is no tempo.
_SHARES = (1 / 4, 1 / 2, 1)  # Of the clips, whose distances are compared.
_SYSTEMS = ('true', 'coded', 'noise')
# Groups in which all measures have a better and a worse; and others that have.
_BETTER = {'obedience': 1, 'text': 1, 'distance': -1}
_OTHERS = {'pulse clarity': 1, 'spectral flatness': -1}
_NOT_ORDERED = ('rank of the prompt',)  # It is an error of what is in 'text'.


def write_renders(folder, count, seed):
  """Plays the plans into a folder, unless that was done."""
  if len(list(folder.glob('*.wav'))) < count:
    for id_, _, _, audio in judges.play_plans(count, seed):
      io.write_audio(folder / f'{id_}.wav', audio, judges.RATE)


def write_noise(folder, prompts):
  """Writes noise as loud as music, of a random colour."""
  rng = np.random.default_rng(0)
  for prompt in prompts.prompts:
    length = round(prompt.seconds * judges.RATE)
    spectrum = np.fft.rfft(rng.normal(0, 1, length))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** rng.uniform(0, 1)
    audio = np.fft.irfft(spectrum, length).astype(np.float32)
    audio = np.clip(mixing.normalize(audio), -1, 1)
    io.write_audio(folder / f'{prompt.id}.wav', audio, judges.RATE)


def make_systems(folder, prompts):
  """Returns true, coded and noisy clips, and other true audio."""
  count = len(prompts.prompts)
  write_renders(folder / 'true', count, 0)
  write_renders(folder / 'reference', count, 1000)
  write_noise(folder / 'noise', prompts)
  ids = [prompt.id for prompt in prompts.prompts]
  codec = tokenizers.Tokenizers(parts.embedded_model()).codec
  true = sounds.match(folder / 'true', ids)
  seconds = {prompt.id: prompt.seconds for prompt in prompts.prompts}
  coding.code_all(codec, true, seconds, folder / 'coded')
  systems = [
      reports.System(name, name, sounds.match(folder / name, ids))
      for name in _SYSTEMS
  ]
  others = sounds.match(folder / 'reference', ids)
  reference = prompts_lib.Reference('reference', [*others.values()], others)
  return systems, reference


def direction(row):
  """Returns 1 if more is better, -1 if less is, and 0 if neither."""
  if row.measure.startswith(_NOT_ORDERED):
    return 0
  return _OTHERS.get(row.measure, _BETTER.get(row.group, 0))


def order_rows(found):
  """Returns the values of each system, and whether they are in order."""
  by_measure = {}
  for row in found.values:
    if direction(row) and row.system in _SYSTEMS:
      by_measure.setdefault(row.measure, {})[row.system] = row
  rows = []
  for measure, own in by_measure.items():
    rows.append(
        {
            'measure': measure,
            **{name: own[name].value for name in _SYSTEMS},
            'error of true': own['true'].standard_error,
            'verdict': order_verdict([own[name] for name in _SYSTEMS]),
        }
    )
  return rows


def order_verdict(rows):
  """Returns whether rows go from better to worse, as far as errors tell."""
  better = direction(rows[0])

  def gap(a, b):
    error = np.hypot(a.standard_error or 0, b.standard_error or 0)
    return better * (a.value - b.value), 2 * error

  for a, b in itertools.pairwise(rows):
    step, error = gap(a, b)
    if step < -error:
      return 'FAILS'
  step, error = gap(rows[0], rows[-1])
  return 'ok' if step > error else UNSURE


def shuffled_rows(embedder, made, prompts):
  """Returns how well clips agree with their own and with shuffled prompts."""
  texts = [prompt.text for prompt in prompts.prompts]
  rows = []
  for name, order in {
      'own': np.arange(len(texts)),
      'shuffled': np.roll(np.random.default_rng(0).permutation(len(texts)), 1),
  }.items():
    found = text_agreement.measure(embedder, made, [texts[i] for i in order])
    margin, error = found.margin.value, found.margin.standard_error
    is_more = margin > 3 * error
    verdict = 'FAILS' if is_more else 'ok'
    if name == 'own':
      verdict = 'ok' if is_more else UNSURE
    rows.append(
        {
            'prompts': name,
            'cosine': found.score.value,
            'more than others': margin,
            'error': error,
            'verdict': verdict,
        }
    )
  return rows


def known_clips(count, leads, others):
  """Yields plans and audio that leave no doubt about the answer.

  Such as a flute's waltz of 96 bpm in A minor: cadences in all keys, in three
  and in four, neither so slow nor so fast that twice or half the tempo would be
  as good, from the SoundFont that half of the classifier's clips are of.

  Args:
    count: Number of clips.
    leads: Families that lead, in turn.
    others: What plays beside them, as in an arrangement.
  """
  names = terms.TONICS['major']
  for i in range(count):
    number = i * len(terms.KEYS) // count
    tonic, mode = terms.KEYS[number].split()
    minor = 'm' * (mode == 'minor')
    fourth, fifth = names[(number + 5) % 12], names[(number + 7) % 12]
    plan = plan_lib.Plan(
        bpm=88 + 4 * (i % 9),
        metre=('3/4', '4/4')[i % 2],
        key=terms.KEYS[number],
        chords=f'{tonic}{minor} {fourth}{minor} {fifth} {tonic}{minor}',
        arrange=f'0 {leads[i % len(leads)]} {others}'.rstrip(),
    )
    score = plan_player.write_score(
        plan, judges.SECONDS, seed=i, first_program=True
    )
    audio = synthesis.render(score, corpus.FONTS[0], judges.RATE)
    yield plan, audio[: round(judges.SECONDS * judges.RATE)]


def _verdicts(heard, targets, scores):
  return [
      {**row, 'verdict': 'ok' if row['mean'] >= _LEAST_RIGHT else 'FAILS'}
      for row in obedience.rows(heard, targets)
      if row['score'] in scores
  ]


def tone_rows(count):
  """Returns how often estimators are right on plans played by plain tones."""
  heard, targets = [], []
  plans = list(obedience.read_plans().values())
  for i in np.linspace(0, len(plans) - 1, count).astype(int):
    plan, seconds = plans[i]
    score = plan_player.write_score(plan, seconds, seed=int(i))
    audio = plan_player.synthesize(score, judges.RATE, seconds)
    heard.append(obedience.hear(audio, judges.RATE))
    targets.append(obedience.Target.of_plan(plan, seconds))
  return _verdicts(heard, targets, ('tempo within 8%', *_KNOWN[1:]))


def known_rows(count):
  """Returns how often estimators are right where there is no doubt."""
  plans = [plan for plan, _ in obedience.read_plans().values()]
  leads = sorted({plan.arrange.split()[1] for plan in plans})
  plucked = [lead for lead in leads if lead not in _SWELLING]
  rows = []
  for clips, scores in (
      (known_clips(count, plucked, 'bass'), _KNOWN),
      (known_clips(count, leads, ''), _KNOWN_OF_SOLOS),
  ):
    heard, targets = [], []
    for plan, audio in clips:
      heard.append(obedience.hear(audio, judges.RATE))
      targets.append(obedience.Target.of_plan(plan, judges.SECONDS))
    rows += _verdicts(heard, targets, scores)
  return rows


def count_rows(made, reference):
  """Returns distances of sets of true audio of several sizes."""
  rows = []
  for measure, distance in set_distances.MEASURES.items():
    for share in _SHARES:
      count = round(share * len(made))
      try:
        some = made.take(np.arange(count)), reference.take(np.arange(count))
        found = distance(*some)
      except errors.UserError as e:
        rows.append(_count_row(measure, count, str(e)[:60]))
        continue
      unbiased = measure == set_distances.FRECHET or found.low <= 0
      verdict = 'ok' if unbiased else 'above 0'
      rows.append(
          _count_row(measure, count, verdict, found.value, found.standard_error)
      )
  return rows


def _count_row(measure, count, verdict, value=None, error=None):
  return {
      'distance of true audio': measure,
      'clips': count,
      'value': value,
      'error': error,
      'verdict': verdict,
  }


def embed(embedder, clips, prompts):
  audio = (
      (sounds.read_first(clips[p.id], p.seconds, embedder.sample_rate),
       embedder.sample_rate)
      for p in prompts.prompts
  )  # fmt: skip
  return embedded_sets.embed(embedder, audio, 'clips')


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--clips', type=int, default=200)
  parser.add_argument('--embedder', default='mulan')
  args = parser.parse_args()
  embedder = table.load_joint(args.embedder)
  prompts = benchmarks.read('obedience', None).spread(args.clips)
  systems, reference = make_systems(args.folder, prompts)
  found = evaluation.evaluate(prompts, systems, reference, [embedder])
  made = embed(embedder, systems[0].clips, prompts)
  others = embed(embedder, reference.paired, prompts)
  tables = {
      'order': order_rows(found),
      'shuffled': shuffled_rows(embedder, made, prompts),
      'plans as tones': tone_rows(args.clips),
      'known answers': known_rows(args.clips),
      'counts': count_rows(made, others),
  }
  for title, rows in tables.items():
    print(f'\n{title}\n{report.render(rows)}')
  verdicts = [row['verdict'] for rows in tables.values() for row in rows]
  sys.exit(int('FAILS' in verdicts))


if __name__ == '__main__':
  main()
