"""Tests for published."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
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
    details={'figure': FRECHET, 'embedder': 'vggish'},
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
    for name in ('obedience', ''):
      found = published.beside([OURS], prompts(name), 200)
      self.assertEqual(found, ([], []))


if __name__ == '__main__':
  absltest.main()
