"""Tests for published."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics.embedders import vggish
from musiclm_jax.metrics.music import prompts as prompts_lib
from musiclm_jax.metrics.music import published
from musiclm_jax.metrics.music import rows

FRECHET = 'Fréchet distance'
OURS = rows.Row(
    'distance',
    'x',
    'model',
    5.0,
    0.1,
    5521,
    details={
        'figure': FRECHET,
        'embedder': 'vggish',
        'variant': vggish.RELEASE,
    },
)


def prompts(benchmark):
  return prompts_lib.Prompts('x', [], benchmark=benchmark)


def of_musiclm(found):
  return [
      x
      for x in found
      if x['system'] == 'MusicLM' and x['measure'] == f'{FRECHET} (vggish)'
  ]


class PublishedTest(parameterized.TestCase):

  def test_equal_protocols_can_be_compared(self):
    fitting, _ = published.beside([OURS], prompts('musiccaps'), 5521)
    [found] = of_musiclm(fitting)
    self.assertEqual((found['published'], found['ours']), (4.0, 5.0))
    self.assertEqual(found['of'], 'model')

  @parameterized.parameters(
      ({'count': 64}, 'musiccaps', 5521, 'of 5521 clips, ours of 64'),
      ({}, 'musiccaps', 64, 'true audio is of 5521 clips, ours of 64'),
      ({}, 'musiccaps-eval', 5521, 'not those of musiccaps'),
      (
          {'details': {'figure': FRECHET, 'embedder': 'mulan'}},
          'musiccaps',
          5521,
          'by vggish, ours by mulan',
      ),
      (
          {'details': {'figure': FRECHET, 'embedder': 'vggish'}},
          'musiccaps',
          5521,
          'the weights of vggish may be others',
      ),
      ({'system': rows.REFERENCE}, 'musiccaps', 5521, 'ours was not measured'),
      ({'system': rows.CODED}, 'musiccaps', 5521, 'ours was not measured'),
  )
  def test_others_say_why_not(self, change, benchmark, count, reason):
    row = dataclasses.replace(OURS, **change)
    fitting, others = published.beside([row], prompts(benchmark), count)
    self.assertEmpty(fitting)
    [found] = of_musiclm(others)
    self.assertIn(reason, found['reason'])

  def test_figures_nobody_can_measure_are_never_comparable(self):
    hidden = [x for x in published.read() if x.benchmark == 'attm']
    self.assertNotEmpty(hidden)
    for figure in hidden:
      details = {'figure': figure.figure, 'embedder': figure.embedder}
      row = dataclasses.replace(OURS, count=figure.clips, details=details)
      reasons = published.reasons(figure, prompts('attm'), figure.clips, row)
      self.assertIn('not public', reasons[0])

  def test_other_benchmarks_are_not_mentioned(self):
    found = published.beside([OURS], prompts(''), 200)
    self.assertEqual(found, ([], []))

  def test_obedience_of_others_is_not_comparable(self):
    ours = rows.Row('obedience', 'key', 'model', 0.3, 0.1, 200)
    fitting, others = published.beside([ours], prompts('obedience'), 200)
    self.assertEmpty(fitting)
    reasons = {x['measure'].partition(' (')[0]: x['reason'] for x in others}
    self.assertIn('prompts and estimators are others', reasons['key'])
    self.assertIn('not measured', reasons['tempo within 4%'])


if __name__ == '__main__':
  absltest.main()
