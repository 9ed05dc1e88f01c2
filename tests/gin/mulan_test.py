"""Tests of the gin files of MuLan."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import gin
import jax
from musiclm_jax.data import examples
from musiclm_jax.models import wordpiece
from musiclm_jax.training import gin_flags
from musiclm_jax.training import mulan


class MuLanTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.vocab = pathlib.Path(folder, 'vocab.txt')
    wordpiece.WordPiece(wordpiece.SPECIALS).to_file(self.vocab)

  def make_model(self, size, *flags):
    gin_flags.parse(
        [
            '--gin_file=models/mulan.gin',
            f'--gin_file=sizes/{size}.gin',
            "--gin.DATA_DIR='data'",
            "--gin.MODEL_DIR='run'",
            f"--gin.VOCAB='{self.vocab}'",
            *flags,
        ]
    )
    model = gin_flags.value_of('MODEL')
    self.assertIsInstance(model, mulan.MuLanModel)
    return model

  # Of the paper: 23.5M of ResNet-50, or 86M of ViT-B, and 85M of BERT-base,
  # which has a table of a single tile here.
  @parameterized.parameters(
      ('tiny', 'resnet.ResNetConfig', 0.28),
      ('small', 'resnet.ResNetConfig', 7.5),
      ('small', 'ast.AstConfig', 7.5),
      ('base', 'resnet.ResNetConfig', 34.6),
      ('paper', 'resnet.ResNetConfig', 109.4),
      ('paper', 'ast.AstConfig', 172.0),
  )
  def test_sizes(self, size, tower, millions):
    model = self.make_model(size, f'--gin.AUDIO_TOWER=@{tower}()')
    task = examples.TASKS[gin_flags.value_of('MIXTURE_OR_TASK_NAME')]
    lengths = gin_flags.value_of('TASK_FEATURE_LENGTHS')
    self.assertEqual(lengths.keys(), task.output_features.keys())
    shapes = {name: (1, length) for name, length in lengths.items()}
    variables = jax.eval_shape(
        lambda: model.get_initial_variables(jax.random.key(0), shapes)
    )
    count = sum(p.size for p in jax.tree.leaves(variables['params']))
    self.assertAlmostEqual(count / 1e6, millions, delta=0.02 * millions)

  def test_towers_may_read_a_batch_in_parts(self):
    self.assertEqual(self.make_model('tiny').tower_microbatches, 1)
    model = self.make_model('tiny', '--gin.TOWER_MICROBATCHES=4')
    self.assertEqual(model.tower_microbatches, 4)


if __name__ == '__main__':
  absltest.main()
