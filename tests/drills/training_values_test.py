"""Drills of training: values of gin that can't be."""

from absl.testing import absltest
from absl.testing import parameterized
import gin
from musiclm_jax import errors
from musiclm_jax.training import gin_flags

VALUES = (
    "BATCH_SIZE='eight'", 'BATCH_SIZE=None', 'TRAIN_STEPS=0', 'TRAIN_STEPS=-1',
    'TRAIN_STEPS=1.5', 'TRAIN_STEPS=True', 'LOG_PERIOD=0', 'EVAL_PERIOD=-3',
    'CHECKPOINT_PERIOD=0', 'trainer.Partitioning.num_microbatches=0',
    'trainer.Partitioning.num_model_partitions=0', 'RANDOM_SEED=-1',
    'trainer.Schedule.eval_steps=0', 'RANDOM_SEED=99999999999',
    "TENSORBOARD='no'", 'FSDP=3', 'MODEL_DIR=3',
    'DATA_DIR=None', 'MODEL=None', 'OPTIMIZER=3', 'TASK_FEATURE_LENGTHS=3',
    "TASK_FEATURE_LENGTHS={'inputs': 'a'}", 'TEXT_PROBABILITY=2',
    'semantic/optimizers.adamw.peak_learning_rate=-0.1',
    'semantic/optimizers.adamw.peak_learning_rate=1e400',
    'semantic/optimizers.adamw.warmup_steps=-1', 'INITIAL_MODEL=4',
    'transformer.TransformerConfig.num_heads=0',
    "transformer.TransformerConfig.num_layers='three'",
    'transformer.TransformerConfig.dropout=-1', 'MIXTURE_OR_TASK_NAME=4',
    "semantic/stages.get_stage.crop_seconds='a'", 'TASK_OPTIONS=3',
)  # fmt: skip


class GinValuesTest(parameterized.TestCase):
  """A value that can't be is refused by its name, before the work."""

  @parameterized.parameters(*VALUES)
  def test_refuses(self, binding):
    self.addCleanup(gin.clear_config)
    name = binding.partition('=')[0]
    flags = ['--gin_file=stages/semantic.gin', '--gin_file=sizes/tiny.gin']
    flags += ["--gin.MODEL_DIR='m'", "--gin.DATA_DIR='d'", f'--gin.{binding}']
    with self.assertRaisesRegex(errors.UserError, f'{name} must be') as caught:
      gin_flags.parse(flags)
    self.assertNotIn('\n', str(caught.exception))


if __name__ == '__main__':
  absltest.main()
