"""Tests for resuming."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.training import resuming

ORIGIN = {'batch_size': 8, 'random_seed': 0, 'source': '37 records'}
BEFORE = """
from musiclm_jax.training import trainer

# Macros:
# ======
BATCH_SIZE = %TINY_BATCH_SIZE
TINY_BATCH_SIZE = 8
LENGTHS = \\
    {'inputs': 100,
     'targets': 200}
trainer.train.train_steps = %TRAIN_STEPS
TRAIN_STEPS = 100
unused.x = 3
"""


class PositionTest(parameterized.TestCase):

  @parameterized.parameters((8, 10), (4, 20), (16, 5), (80, 1))
  def test_counts_examples(self, batch_size, expected):
    now = {**ORIGIN, 'batch_size': batch_size}
    saved = {'position': 10, **ORIGIN}
    self.assertEqual(resuming.position(saved, now, 'run'), expected)

  @parameterized.parameters(
      ('batch_size', 12, 'divide the 80 examples .* of 8, but is 12'),
      ('random_seed', 1, 'RANDOM_SEED must stay .* 0, .* but is now 1'),
      ('source', '38 records', 'data must .*37 records.* but .* 38 records'),
  )
  def test_refuses_what_is_not_exact(self, name, value, message):
    saved = {'position': 10, **ORIGIN}
    with self.assertRaisesRegex(errors.UserError, message):
      resuming.position(saved, {**ORIGIN, name: value}, 'run')

  def test_older_checkpoints_hold_the_position_alone(self):
    self.assertEqual(resuming.position({'position': 7}, ORIGIN, 'run'), 7)


class ChangesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('TINY_BATCH_SIZE = 8', 'TINY_BATCH_SIZE = 4', 'BATCH_SIZE 8 -> 4'),
      ('%TINY_BATCH_SIZE', '16', 'BATCH_SIZE 8 -> 16'),
      ('TRAIN_STEPS = 100', 'TRAIN_STEPS = 200', 'TRAIN_STEPS 100 -> 200'),
      ("'targets': 200", "'targets': 300", r'LENGTHS .*200} -> .*300}'),
  )
  def test_are_told(self, old, new, message):
    changed = resuming.changes(BEFORE, BEFORE.replace(old, new))
    self.assertRegex(changed, f'^{message}')

  def test_of_what_both_have(self):
    after = BEFORE.replace('unused.x = 3', 'used.y = 4')
    self.assertEqual(resuming.changes(BEFORE, after), '')
    self.assertEqual(resuming.changes('', BEFORE), '')

  def test_are_a_line_however_many(self):
    before, after = (
        ''.join(f'A{i} = {x}\n' for i in range(20)) for x in (1, 2)
    )
    told = resuming.changes(before, after)
    self.assertTrue(told.endswith('A7 1 -> 2, and 12 more'), told)


if __name__ == '__main__':
  absltest.main()
