"""Tests for left_out."""

from absl.testing import absltest
from musiclm_jax.data import clips
from musiclm_jax.data import left_out


class AccountTest(absltest.TestCase):

  def test_nothing_is_left_out(self):
    account = left_out.Account()
    account.add('a', 2, [])
    self.assertEqual(account.lines(), ['read 1, left out 0'])

  def test_one_line_for_each_kind(self):
    account = left_out.Account([('a.pdf', 'no audio')])
    account.add('b', 1, [clips.LeftOut('b at 3 s', 'silent')])
    account.add('c', 0, [clips.LeftOut('c', 'silent')])
    account.add('d', 0, [])
    self.assertEqual(
        account.lines(),
        [
            'read 1, left out 4:',
            '  1 no audio: a.pdf',
            '  2 silent: c, b at 3 s',
            f'  1 {left_out.EMPTY}: d',
        ],
    )
    self.assertEqual(account.useless, ['c', 'd'])

  def test_a_few_names(self):
    account = left_out.Account([(f'{i}', 'hidden') for i in range(15)])
    self.assertEqual(
        account.lines(with_read=False),
        ['left out 15:', '  15 hidden: 0, 1, 2 … and 12 more'],
    )

  def test_a_second_reading_counts_nothing_twice(self):
    account = left_out.Account()
    part = [clips.LeftOut('b at 3 s', 'silent')]
    account.add('a', 0, [])
    account.add('b', 1, part)
    account.forget_what_was_read()
    account.add('b', 1, part)
    self.assertEqual(account.lines()[0], 'read 1, left out 2:')

  def test_names_of_works(self):
    self.assertEqual(left_out.work_name('w'), 'w')
    self.assertEqual(left_out.work_name(clips.LeftOut('song', '')), 'song')


if __name__ == '__main__':
  absltest.main()
