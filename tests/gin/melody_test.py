"""Tests of the gin files of the melody network."""

from absl.testing import absltest
from absl.testing import parameterized
import gin
import jax
from musiclm_jax.data import examples
from musiclm_jax.training import gin_flags
from musiclm_jax.training import melody


class MelodyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  @parameterized.parameters(
      ('tiny', 0.6), ('small', 3.27), ('base', 10.4), ('paper', 23.4)
  )
  def test_sizes(self, size, millions):
    gin_flags.parse(
        [
            '--gin_file=models/melody.gin',
            f'--gin_file=sizes/{size}.gin',
            "--gin.DATA_DIR='data'",
            "--gin.MODEL_DIR='run'",
        ]
    )
    model = gin_flags.value_of('MODEL')
    self.assertIsInstance(model, melody.MelodyModel)
    task = examples.TASKS[gin_flags.value_of('MIXTURE_OR_TASK_NAME')]
    lengths = gin_flags.value_of('TASK_FEATURE_LENGTHS')
    self.assertEqual(lengths.keys(), task.output_features.keys())
    shapes = {name: (1, length) for name, length in lengths.items()}
    variables = jax.eval_shape(
        lambda: model.get_initial_variables(jax.random.key(0), shapes)
    )
    count = sum(p.size for p in jax.tree.leaves(variables['params']))
    self.assertAlmostEqual(count / 1e6, millions, delta=0.02 * millions + 0.05)


if __name__ == '__main__':
  absltest.main()
