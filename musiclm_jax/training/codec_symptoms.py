"""Symptoms of failing codecs, in their codebooks and discriminators."""

import re
import statistics

from musiclm_jax.training import findings

GRACE = 75  # Steps until codebooks have spread out.
TREND_STEPS = 300  # Steps until a trend can be told from the start.
MIN_PERPLEXITY = 20.0  # Healthy codebooks of 1024 use hundreds.
MIN_HELD_OUT_PERPLEXITY = 2.0  # A batch may use few codes at first.
# Per quantizer and step. Above it, a third of 1024 codes are always dead, as a
# replaced code lives for about 70 steps without use.
MAX_DEAD_CODES = 5.0


def _perplexities(run: findings.Run) -> dict[str, tuple[float, float]]:
  """Returns the perplexity of each codebook, by a name for messages.

  Each is a pair: in training, averaged over a hundred steps, and on held-out
  audio, which reveals a dead codebook sooner; equal before any evaluation.
  """
  held_out = run.evals[-1] if run.evals else {'step': 0}
  found = {}
  for metric in run.train[-1] if run.train else ():
    match = re.fullmatch(r'codebook_perplexity(?:_q(\d+))?', metric)
    if match and (trained := run.recent(metric)) is not None:
      is_known = metric in held_out and held_out['step'] >= GRACE
      name = f'quantizer {int(match[1])}' if match[1] else 'the codebook'
      found[name] = trained, held_out[metric] if is_known else trained
  return found


def collapsed_codebooks(run: findings.Run) -> findings.Finding | None:
  low = [
      f'{name} uses {min(trained, held_out):.1f} codes'
      for name, (trained, held_out) in _perplexities(run).items()
      if trained < MIN_PERPLEXITY or held_out < MIN_HELD_OUT_PERPLEXITY
  ]
  if not low or not run.is_past(GRACE):
    return None
  return findings.Finding(
      'codebook collapse',
      ', '.join(low),
      f'over {MIN_PERPLEXITY:.0f} (perplexity)',
      'codes are not updated, or what they quantize has collapsed',
      'lower peak_learning_rate; look for silence in the data',
  )


def dead_codes(run: findings.Run) -> findings.Finding | None:
  dead = run.recent('dead_codes', TREND_STEPS // 2)
  limit = MAX_DEAD_CODES * len(_perplexities(run))
  if dead is None or not run.is_past(TREND_STEPS) or dead <= limit:
    return None
  return findings.Finding(
      'dead codes',
      f'{dead:.0f} are replaced in every step',
      f'under {limit:.0f}',
      'codes die as fast as they are replaced: there is too little variety for'
      ' so many',
      'take longer crops, a larger batch or more works',
  )


def discriminators_given_up(run: findings.Run) -> findings.Finding | None:
  real, fake = run.recent('logits_real'), run.recent('logits_fake')
  loss = run.recent('discriminator_loss')
  if real is None or fake is None or loss is None:
    return None
  if real - fake > 0.2 or loss < 1.8 or not run.is_past(GRACE):
    return None
  return findings.Finding(
      'discriminators off',
      f'logits are {real:.2f} for real and {fake:.2f} for decoded audio, and'
      f' discriminator_loss is {loss:.2f}',
      'apart, and under 1.8',
      'discriminators are not trained, or have given up',
      'check that the optimizer moves their parameters, and raise their size or'
      ' the learning rate',
  )


def discriminators_won(run: findings.Run) -> findings.Finding | None:
  """They tell all audio apart, and the codec has stopped improving.

  Winning alone is no failure: small codecs' discriminators do from the start.
  """
  loss = run.recent('discriminator_loss')
  mel, rates = run.series('mel_loss'), run.series('learning_rate')
  if not loss or len(mel) < 6 or run.step < TREND_STEPS or loss > 0.1:
    return None  # The loss is 0 before discriminators start.
  if rates and rates[-1] < 0.1 * max(rates):
    return None  # The learning rate is too low for anything to change.
  third = len(mel) // 3
  before, now = (
      statistics.fmean(x) for x in (mel[-2 * third : -third], mel[-third:])
  )
  if now < 0.99 * before:
    return None
  return findings.Finding(
      'discriminators won',
      f'discriminator_loss is {loss:.3f} and mel_loss stays at {now:.4g}',
      'over 0.1, or mel_loss falling',
      'discriminators tell all audio apart, and teach the codec nothing',
      'lower LossWeights.adversarial and .feature, or the learning rate',
  )
