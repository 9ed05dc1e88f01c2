"""Symptoms of failure in the records of a run, with cause and remedy.

Each symptom looks at the records so far, and has a grace period, so that a
healthy run of any size shows none.
"""

from collections.abc import Callable, Sequence
import math
import statistics

from musiclm_jax.training import codec_symptoms
from musiclm_jax.training import findings

GRACE = 100  # Steps until a loss should be better than chance.
MIN_EFFECTIVE_RANK = 1.2
# Healthy runs of every part are below it by then, those of w2v-BERT only just.
CHANCE_RATIO = 0.993


def _divergence(run: findings.Run) -> findings.Finding | None:
  seen = _how_it_diverges(run)
  if seen is None:
    return None
  return findings.Finding(
      'divergence',
      *seen,
      'the learning rate is too high, or examples are bad',
      'lower peak_learning_rate tenfold, and look at the data if that is not'
      ' it',
  )


def _how_it_diverges(run: findings.Run) -> tuple[str, str] | None:
  """Returns the observed value and the one expected; None if it does not."""
  skipped = run.skipped_steps()
  if skipped >= 3:
    return f'{skipped} steps up to {run.step} were NaN or inf', 'none'
  for record in (*run.train[-1:], *run.evals[-1:]):
    for name, value in record.items():
      if name != 'split' and not math.isfinite(value):
        return f"{record['split']} {name} is {value}", 'finite'
  values = run.series(run.goal)
  if len(values) < 2 or run.step < findings.WINDOW:
    return None
  now, start, best = run.recent(run.goal), values[0], min(values)
  if now is None:
    return None
  # A single batch tells the start less surely than the mean of many.
  limit = (1.5 if run.train[0]['step'] == 1 else 1.1) * start
  if now > limit:
    return (
        f'{run.goal} is {now:.4g}',
        f'under {limit:.4g}: it started at {start:.4g}',
    )
  if max(values) > limit and now > 0.9 * start:  # It has not recovered.
    return (
        f'{run.goal} rose to {max(values):.4g} and is {now:.4g}',
        f'well under {start:.4g}, at which it started',
    )
  if now > 2 * best and now > (start + best) / 2:
    return f'{run.goal} is {now:.4g}', f'near {best:.4g}, its lowest so far'
  norms = run.series('gradient_norm')
  if len(norms) > 3 and norms[-1] > 100 * statistics.median(norms[:-1]):
    usual = statistics.median(norms[:-1])
    return f'gradient_norm is {norms[-1]:.4g}', f'near {usual:.4g}, as before'
  return None


def _chance(run: findings.Run) -> findings.Finding | None:
  ratio, held_out = run.recent_chance_ratio(), run.held_out_chance_ratio()
  if ratio is None or not run.is_past(GRACE):
    return None
  # A training loss barely below chance may be no better on held-out data.
  if ratio < CHANCE_RATIO and not (ratio > 0.98 and held_out > CHANCE_RATIO):
    return None
  norms = run.series('gradient_norm')
  if ratio > 1.01:
    cause = 'it is worse than knowing nothing: the learning rate is too high'
  elif norms and norms[-1] < 1e-2 * max(norms):
    cause = (
        f'gradients have all but vanished ({norms[-1]:.2g}): the learning rate'
        ' is too high'
    )
  else:
    cause = (
        'the learning rate is wrong, or there is nothing to learn: captions or'
        ' tokens that do not belong to the audio'
    )
  kinds = {
      'chance_ratio': 'contrastive ',
      'contrastive_loss': 'contrastive ',
      'loss_over_margin': 'triplet ',
  }
  record = run.train[-1]
  kind = next((k for m, k in kinds.items() if m in record), '')
  if 'accuracy' in record:  # The run trains a stage.
    kind = ''
  return findings.Finding(
      f'{kind}loss at chance',
      f'{ratio:.3f} of chance at step {run.step}',
      f'under {CHANCE_RATIO}',
      cause,
      'try a tenth of peak_learning_rate, then check the data',
  )


def _mismatch(run: findings.Run) -> findings.Finding | None:
  """Held-out captions are matched no better than by chance (MuLan)."""
  ways = ('audio_to_text_accuracy', 'text_to_audio_accuracy')
  record = run.evals[-1] if run.evals else {'step': 0}
  if record['step'] < GRACE or any(way not in record for way in ways):
    return None
  ratio, trained = record.get('chance_ratio'), run.recent_chance_ratio()
  # Repeated captions are not negatives: held-out chance may be below 1, and is
  # 0 if there is only one clip.
  if ratio is None or not ratio >= 0.95:
    return None
  chance = math.exp(-record['loss'] / ratio)  # About 1 / batch size.
  accuracy = statistics.fmean(record[way] for way in ways)
  if accuracy >= 2.5 * chance:
    return None
  return findings.Finding(
      'captions that do not match the audio',
      f'held-out accuracy is {accuracy:.3f} with chance {chance:.3f}, and the'
      f' loss {ratio:.2f} of chance ({trained or math.nan:.2f} in training)',
      'over twice chance, and under .95',
      'captions belong to other clips, or there are too few works and they are'
      ' learned by heart',
      'listen to some clips beside their captions, then add works or take fewer'
      ' steps',
  )


def _collapsed_embeddings(run: findings.Run) -> findings.Finding | None:
  ranks = {
      name: run.recent(name)
      for name in (run.train[-1] if run.train else ())
      if name.endswith('effective_rank')
  }
  low = [
      f'{name} is {rank:.2f}'
      for name, rank in ranks.items()
      if rank is not None and rank < MIN_EFFECTIVE_RANK
  ]
  if not low or not run.is_past(GRACE):
    return None
  return findings.Finding(
      'embedding collapse',
      ' and '.join(low),
      f'over {MIN_EFFECTIVE_RANK}',
      'all inputs are mapped to a line or a point: the learning rate is too'
      ' high, or all inputs are alike',
      'lower peak_learning_rate, or take a larger batch of more works',
  )


def _overfitting(run: findings.Run) -> findings.Finding | None:
  goal, now = run.goal, run.recent(run.goal)
  evals = [record for record in run.evals if goal in record]
  if not evals or now is None or _mismatch(run):
    return None
  last, best = evals[-1], min(evals, key=lambda record: record[goal])
  before = [r for r in run.train if r['step'] <= best['step']]
  trained = [r[goal] for r in before if goal in r]
  ratio, held_out = run.recent_chance_ratio(), run.held_out_chance_ratio()
  if last[goal] > 1.15 * best[goal] and trained and now < trained[-1]:
    expected = f'near {best[goal]:.4g}, as at step {best["step"]}'
  elif ratio is not None and ratio < 0.9 and held_out > 1.02:
    expected = f'under {last[goal] / held_out:.4g}, that of chance'
  else:
    return None
  return findings.Finding(
      'overfitting',
      f'held-out {goal} is {last[goal]:.4g} ({now:.4g} in training)',
      expected,
      'it learns its examples by heart',
      'take fewer steps, a smaller model, more dropout or more works',
  )


def _nothing_to_tell_apart(run: findings.Run) -> findings.Finding | None:
  """No example has a negative in its batch."""
  is_contrastive = any(
      findings.chance_ratio(r) is not None for r in run.train[-1:]
  )
  losses = run.series('loss')
  if not is_contrastive or len(losses) < 2 or any(losses):
    return None
  return findings.Finding(
      'nothing to tell apart',
      f'the loss has been 0 in all steps up to {run.step}',
      'over 0 at first',
      'all examples of a batch have the same caption, or are of the same work',
      'add works, or captions that differ',
  )


SYMPTOMS: tuple[Callable[[findings.Run], findings.Finding | None], ...] = (
    _divergence,
    _nothing_to_tell_apart,
    codec_symptoms.collapsed_codebooks,
    codec_symptoms.dead_codes,
    codec_symptoms.discriminators_given_up,
    codec_symptoms.discriminators_won,
    _mismatch,
    _collapsed_embeddings,
    _chance,
    _overfitting,
)


def examine(records: Sequence[findings.Record]) -> list[findings.Finding]:
  """Looks for every known failure in a run.

  Args:
    records: The records so far, from `reports.read_metrics`.

  Returns:
    Findings, causes before their effects; if the run diverges, only that, as it
    explains all others.
  """
  run = findings.Run(records)
  found = [f for symptom in SYMPTOMS if (f := symptom(run)) is not None]
  if found and found[0].name == 'divergence':
    return found[:1]
  return found
