"""Tests of the gin files of stages and sizes."""

import dataclasses
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
import jax
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.data import datasets
from musiclm_jax.data import examples
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base as tokenizers
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.training import gin_flags
from musiclm_jax.training import stage as stage_lib

# Millions of parameters of the semantic, coarse and fine stage.
SIZES = {
    'tiny': (1.7, 2.4, 2.3),
    'small': (10.5, 12.4, 8.7),
    'base': (96.1, 101.6, 100.8),
    'paper': (417.5, 424.9, 423.8),
}
CASES = [
    (size, name, millions)
    for size, row in SIZES.items()
    for name, millions in zip(('semantic', 'coarse', 'fine'), row, strict=True)
]


# Streams of tokens that the parts of a model for laptops wrote.
FRAMES = [
    stream.to_json()
    for stream in (
        tokenizers.MULAN,
        tokenizers.SEMANTIC,
        *plan_streams.STREAMS.values(),
        streams.Stream('acoustic', 8, 1024, frame_rate=25.0),
    )
]


def parse(size, name, *bindings):
  gin_flags.parse(
      [
          f'--gin_file=stages/{name}.gin',
          f'--gin_file=sizes/{size}.gin',
          "--gin.DATA_DIR='data'",
          "--gin.MODEL_DIR='run'",
          *bindings,
      ]
  )


class StagesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  @parameterized.parameters(*CASES)
  def test_sizes(self, size, name, millions):
    parse(size, name)
    model = gin_flags.value_of('MODEL')
    self.assertIsInstance(model, stage_lib.StageModel)
    self.assertEqual(model.name, name)
    shapes = {
        k: (1, v) for k, v in gin_flags.value_of('TASK_FEATURE_LENGTHS').items()
    }
    variables = jax.eval_shape(
        lambda: model.get_initial_variables(jax.random.key(0), shapes)
    )
    count = sum(p.size for p in jax.tree.leaves(variables['params']))
    self.assertAlmostEqual(count / 1e6, millions, delta=0.1)

  @parameterized.parameters(*CASES)
  def test_lengths_are_those_of_the_task(self, size, name, _):
    parse(size, name)
    model = gin_flags.value_of('MODEL')
    lengths = gin_flags.value_of('TASK_FEATURE_LENGTHS')
    self.assertEqual(lengths, model.stage.feature_lengths)
    self.assertIn(gin_flags.value_of('MIXTURE_OR_TASK_NAME'), examples.TASKS)
    self.assertEqual(gin_flags.value_of('TASK_OPTIONS')['stage'], model.stage)
    if size == 'paper':
      self.assertEqual(model.stage, stages.get_stage(name))

  def test_frames_at_once(self):
    self.enter_context(
        mock.patch.multiple(
            datasets,
            dataset_exists=lambda *args: True,
            read_metadata=lambda *args: {'streams': FRAMES},
        )
    )
    parse('laptop', 'acoustic')
    self.assertEqual(gin_flags.value_of('CODEC'), 'spectral_codec')
    self.assertEqual(gin_flags.value_of('STAGES'), ('semantic', 'acoustic'))
    model = gin_flags.value_of('MODEL')
    stage = model.stage
    shapes = transformer.abstract_params(model.config, stage)
    millions = sum(x.size for x in jax.tree.leaves(shapes)) / 1e6
    self.assertAlmostEqual(millions, 17.2, delta=0.1)
    self.assertEqual((stage.name, stage.pattern), ('acoustic', 'delay'))
    self.assertEqual([s.name for s in stage.prefix], ['mulan'])
    added = [s.name for s in stage.added]
    self.assertEqual(added, ['beat', 'chord', 'key', 'arrangement', 'semantic'])
    parse('laptop', 'semantic')
    self.assertEqual(gin_flags.value_of('MODEL').stage.pattern, 'flat')

  @parameterized.parameters('tiny', 'paper')
  def test_conditioning_is_dropped(self, size):
    parse(size, 'semantic')
    self.assertEqual(gin_flags.value_of('MODEL').conditioning_dropout, 0.1)
    parse(size, 'semantic', '--gin.CONDITIONING_DROPOUT=0.2')
    self.assertEqual(gin_flags.value_of('MODEL').conditioning_dropout, 0.2)

  def test_command_line_wins(self):
    parse('tiny', 'coarse', '--gin.BATCH_SIZE=3', '--gin.TEXT_PROBABILITY=0.5')
    self.assertEqual(gin_flags.value_of('BATCH_SIZE'), 3)
    options = gin_flags.value_of('TASK_OPTIONS')
    self.assertEqual(options['text_probability'], 0.5)

  @parameterized.parameters('semantic', 'coarse')
  def test_conditions_are_those_of_the_tokens(self, name):
    for has_melody in (False, True):
      tokens = [
          s.to_json()
          for s in tokenizers.PAPER
          if has_melody or s.name != 'melody'
      ]
      self.enter_context(
          mock.patch.multiple(
              datasets,
              dataset_exists=lambda *args: True,
              read_metadata=lambda *args, found=tokens: {'streams': found},
          )
      )
      parse('small', name)
      model = gin_flags.value_of('MODEL')
      paper = stages.get_stage(name + '_melody' * has_melody)
      self.assertEqual(model.stage.streams, paper.streams)
      self.assertEqual(model.history_dropout, 0.5 * has_melody)
      parse('small', f'{name}_melody')
      if has_melody:
        self.assertEqual(gin_flags.value_of('MODEL').stage, model.stage)
        continue
      with self.assertRaisesRegex(ValueError, "but names 'melody'"):
        gin_flags.value_of('MODEL')

  @parameterized.parameters('semantic', 'coarse')
  def test_stages_that_follow_a_melody(self, name):
    parse('small', f'{name}_melody', '--gin.MELODY_PROBABILITY=0.25')
    model = gin_flags.value_of('MODEL')
    # It takes the place of the stage without, in its size.
    self.assertEqual(model.name, name)
    self.assertEqual(model.stage.added, (tokenizers.MELODY,))
    self.assertEqual(model.history_dropout, 0.5)
    self.assertEqual(model.config.num_layers, 8)
    self.assertEqual(
        gin_flags.value_of('TASK_FEATURE_LENGTHS'), model.stage.feature_lengths
    )
    self.assertEqual(
        gin_flags.value_of('TASK_OPTIONS'),
        {
            'stage': model.stage,
            'text_probability': 0.5,
            'melody_probability': 0.25,
            'hum_probability': 0.5,
            **{f'{name}_probability': 0.7 for name in plan_streams.NAMES},
        },
    )

  @parameterized.parameters('semantic', 'coarse', 'acoustic', 'fine')
  def test_stages_that_follow_a_plan(self, name):
    acoustic = dataclasses.replace(tokenizers.COARSE, name='acoustic')
    written = (*tokenizers.PAPER, acoustic, *plan_streams.STREAMS.values())
    found = {'streams': [stream.to_json() for stream in written]}
    self.enter_context(
        mock.patch.multiple(
            datasets,
            dataset_exists=lambda *args: True,
            read_metadata=lambda *args: found,
        )
    )
    parse('tiny', name, '--gin.PLAN_PROBABILITY=0.4')
    stage = gin_flags.value_of('MODEL').stage
    reads = [s for s in stage.added if s.name != 'melody']
    expected = [] if name == 'fine' else [*plan_streams.STREAMS.values()]
    self.assertEqual(reads, expected)
    if name != 'fine':
      options = gin_flags.value_of('TASK_OPTIONS')
      self.assertEqual(options['chord_probability'], 0.4)
      self.assertEqual(stage.grid, 1.0)

  def test_learning_rate_is_of_the_stage(self):
    parse('tiny', 'fine')
    optimizer = gin_flags.value_of('MODEL').optimizer_def
    self.assertAlmostEqual(
        float(optimizer.learning_rate(jnp.asarray(49))), 3e-3, places=6
    )


if __name__ == '__main__':
  absltest.main()
