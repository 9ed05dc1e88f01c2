"""Tests for health."""

import json
import math
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.training import findings
from musiclm_jax.training import health

# Logs of the size tiny: healthy runs, and one that learns 33 recordings by
# heart.
RUNS = json.loads(
    pathlib.Path(__file__).with_name('health_runs.json').read_text()
)


def train(steps, **metrics):
  """Returns records of training; callables are told the step."""
  return [
      {'step': step, 'split': 'train'}
      | {k: v(step) if callable(v) else v for k, v in metrics.items()}
      for step in steps
  ]


def codec(steps=range(50, 401, 50), **changes):
  """Returns records of a healthy codec, but for what is changed."""
  metrics = {
      'loss': lambda step: 20 + 500 / step,
      'mel_loss': lambda step: 12 + 400 / step,
      'gradient_norm': 40.0,
      'codebook_perplexity_q01': 400.0,
      'codebook_perplexity_q02': 300.0,
      'dead_codes': 3.0,
      'discriminator_loss': 0.6,
      'logits_real': 2.0,
      'logits_fake': -1.0,
      'learning_rate': lambda step: 1e-3 / step,
  }
  return train(steps, **metrics | changes)


def mulan(**changes):
  """Returns records of a healthy MuLan, but for what is changed."""
  ratio = changes.pop('chance_ratio', lambda step: 30 / (30 + step))
  metrics = {
      'loss': lambda step: math.log(16) * ratio(step),
      'chance_ratio': ratio,
      'gradient_norm': 10.0,
      'audio_effective_rank': 2.5,
      'text_effective_rank': 2.5,
  }
  return train(range(50, 301, 50), **metrics | changes)


def mulan_eval(step, ratio, accuracy):
  return {
      'step': step,
      'split': 'eval',
      'loss': math.log(16) * ratio,
      'chance_ratio': ratio,
      'audio_to_text_accuracy': accuracy,
      'text_to_audio_accuracy': accuracy,
  }


def names(records):
  return [finding.name for finding in health.examine(records)]


class HealthyRunsTest(parameterized.TestCase):

  @parameterized.parameters(*RUNS['healthy'])
  def test_show_nothing_at_any_time(self, run):
    records = RUNS['healthy'][run]
    for i in range(len(records) + 1):
      self.assertEqual(names(records[:i]), [], records[:i][-1:])

  def test_made_up_ones_show_nothing(self):
    self.assertEqual(names(codec()), [])
    self.assertEqual(names(mulan() + [mulan_eval(300, 0.7, 0.3)]), [])

  def test_discriminators_may_win_while_mel_falls(self):
    winning = {
        'discriminator_loss': 0.02,
        'logits_real': 13.0,
        'logits_fake': -4.0,
        'learning_rate': 1e-3,
    }
    self.assertEqual(names(codec(**winning)), [])

  def test_a_run_may_recover(self):
    up_and_down = lambda step: 40.0 if step == 200 else 8 + 400 / step
    records = codec(mel_loss=up_and_down)
    self.assertEqual(names(records[:4]), ['divergence'])
    self.assertEqual(names(records), [])


class SymptomsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('skipped', {'skipped_steps': 5.0}, '5 steps up to 400 were NaN'),
      ('nan', {'logits_real': math.nan}, 'train logits_real is nan'),
      (
          'rising',
          {'mel_loss': lambda step: 10 + step / 50},
          r'mel_loss is 18, should be under 12.1: it started at 11',
      ),
      (
          'risen',
          {'mel_loss': lambda step: 18.0 if step > 300 else 1000 / step},
          r'mel_loss is 18, should be near 3.3',
      ),
      (
          'not_recovered',
          {'mel_loss': lambda step: 99.0 if step == 100 else 20.0},
          r'mel_loss rose to 99 and is 20, should be well under 20, at which',
      ),
      (
          'gradients',
          {'gradient_norm': lambda step: 1e6 if step == 400 else 40.0},
          r'gradient_norm is 1e\+06, should be near 40',
      ),
  )
  def test_divergence(self, changes, message):
    [finding] = health.examine(codec(**changes))
    self.assertEqual(finding.name, 'divergence')
    self.assertRegex(str(finding), message)
    self.assertRegex(str(finding), 'learning rate is too high.*; lower')

  def test_divergence_is_told_alone(self):
    collapsed = codec(skipped_steps=5.0, codebook_perplexity_q02=1.0)
    self.assertEqual(names(collapsed), ['divergence'])

  def test_codebook_collapse_names_the_quantizer(self):
    [finding] = health.examine(codec(codebook_perplexity_q02=1.5))
    self.assertEqual(finding.name, 'codebook collapse')
    self.assertRegex(finding.seen, r'^quantizer 2 uses 1.5 codes$')

  def test_held_out_codebook_collapse(self):
    held_out = {'step': 100, 'split': 'eval', 'codebook_perplexity_q01': 1.0}
    [finding] = health.examine(codec([50, 100]) + [held_out])
    self.assertEqual(finding.seen, 'quantizer 1 uses 1.0 codes')

  def test_codebooks_have_time_to_spread(self):
    collapsed = codec([25, 50, 75], codebook_perplexity_q02=9.0)
    self.assertEqual(names(collapsed[:2]), [])
    self.assertEqual(names(collapsed), ['codebook collapse'])

  def test_dead_codes(self):
    # 2 quantizers may lose 5 each.
    self.assertEqual(names(codec(dead_codes=9.0)), [])
    [finding] = health.examine(codec(dead_codes=30.0))
    self.assertEqual(finding.name, 'dead codes')
    self.assertIn('30 are replaced in every step', str(finding))

  def test_discriminators_off(self):
    off = {
        'logits_real': 0.01,
        'logits_fake': 0.02,
        'discriminator_loss': 2.0,
    }
    [finding] = health.examine(codec(**off))
    self.assertEqual(finding.name, 'discriminators off')
    self.assertIn('0.01 for real and 0.02 for decoded', str(finding))

  def test_discriminators_won(self):
    won = {
        'discriminator_loss': 0.02,
        'logits_real': 13.0,
        'mel_loss': 14.0,
        'learning_rate': 1e-3,
    }
    self.assertEqual(names(codec(**won)), ['discriminators won'])
    # At the end of its schedule no run falls any more.
    won['learning_rate'] = lambda step: 1e-5 if step == 400 else 1e-3
    self.assertEqual(names(codec(**won)), [])

  @parameterized.named_parameters(
      ('mulan', mulan(chance_ratio=lambda step: 0.999), 'contrastive loss'),
      (
          'w2v_bert',
          train(
              [50, 100],
              loss=11.0,
              contrastive_loss=4.61,
              contrastive_chance=4.615,
          ),
          'contrastive loss',
      ),
      (
          'melody',
          train([50, 100], loss=0.2, loss_over_margin=1.0),
          'triplet loss',
      ),
      # As runs of before told it, all with 1024 codes; and with 64.
      ('stage', train([50, 100], loss=6.92, accuracy=0.001), 'loss'),
      (
          'small_codebook',
          train([50, 100], loss=4.15, accuracy=0.016, chance_ratio=0.998),
          'loss',
      ),
  )
  def test_chance(self, records, kind):
    self.assertEqual(names(records[:1]), [])
    [finding] = health.examine(records)
    self.assertEqual(finding.name, f'{kind} at chance')
    self.assertIn('nothing to learn: captions or tokens', finding.cause)

  def test_chance_of_vanished_gradients(self):
    stuck = mulan(
        chance_ratio=lambda step: 1.0,
        gradient_norm=lambda step: 1.0 if step == 50 else 1e-4,
    )
    [finding] = health.examine(stuck)
    self.assertRegex(finding.cause, 'vanished.*learning rate is too high')

  def test_chance_waits_for_the_warm_up(self):
    rate = lambda step: min(step, 250) / 250
    stuck = mulan(chance_ratio=lambda step: 1.0, learning_rate=rate)
    self.assertEqual(names(stuck[:5]), [])
    decaying = lambda step: rate(step) * (0.5 if step > 250 else 1)
    stuck = mulan(chance_ratio=lambda step: 1.0, learning_rate=decaying)
    self.assertEqual(names(stuck), ['contrastive loss at chance'])

  @parameterized.named_parameters(
      ('learned_by_heart', lambda step: 0.4),
      ('hardly_learned', lambda step: 0.97),
  )
  def test_captions_that_do_not_match(self, ratio):
    records = mulan(chance_ratio=ratio) + [mulan_eval(300, 1.1, 0.07)]
    [finding] = health.examine(records)
    self.assertEqual(finding.name, 'captions that do not match the audio')
    self.assertIn('accuracy is 0.070 with chance 0.062', finding.seen)

  def test_embedding_collapse(self):
    [finding] = health.examine(mulan(text_effective_rank=1.05))
    self.assertEqual(finding.name, 'embedding collapse')
    self.assertEqual(finding.seen, 'text_effective_rank is 1.05')

  def test_overfitting_by_the_held_out_loss(self):
    evals = [
        {'step': step, 'split': 'eval', 'mel_loss': mel}
        for step, mel in ((100, 14.0), (200, 12.0), (400, 15.0))
    ]
    [finding] = health.examine(codec() + evals)
    self.assertEqual(finding.name, 'overfitting')
    self.assertIn('mel_loss is 15 (13 in training)', finding.seen)
    self.assertEqual(finding.expected, 'near 12, as at step 200')
    self.assertEqual(names(codec() + evals[:2]), [])

  def test_overfitting_by_chance(self):
    records = RUNS['overfitted']['mulan_of_33_recordings']
    self.assertEqual(names(records[:-1]), [])
    [finding] = health.examine(records)
    self.assertEqual(finding.name, 'overfitting')
    self.assertEqual(finding.expected, 'under 2.774, that of chance')


class RunTest(absltest.TestCase):

  def test_recent_values_cover_the_window_however_often_they_are_told(self):
    run = findings.Run(train(range(1, 101), loss=float))
    self.assertEqual(run.recent('loss'), (76 + 100) / 2)
    run = findings.Run(train([50, 100], loss=float))
    self.assertEqual(run.recent('loss'), 100)
    self.assertIsNone(run.recent('accuracy'))


if __name__ == '__main__':
  absltest.main()
