"""Tests for fine_tuning."""

import contextlib
import dataclasses
import functools
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax.data import datasets
from musiclm_jax.data import token_dataset
from musiclm_jax.models import parts
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base as tokenizers
from musiclm_jax.training import fine_tuning
from musiclm_jax.training import programs
from musiclm_jax.training import sharding
from musiclm_jax.training import stage as stage_lib
import numpy as np
import optax

from tests.training import fake

CONFIG = transformer.TransformerConfig(
    num_layers=2, num_heads=2, head_dim=8, embed_dim=16, mlp_dim=32, dropout=0.0
)
LINEAGE = {'mulan': 'a' * 64, 'w2v_bert': 'b' * 64}


@functools.cache
def make_data(mulan=LINEAGE['mulan']):
  """Writes a corpus of tokens, as far as fine-tuning reads it."""
  data_dir = pathlib.Path(tempfile.mkdtemp())
  example = {
      **{
          s.name: np.zeros((4, s.num_quantizers), np.int32)
          for s in (
              tokenizers.SEMANTIC,
              tokenizers.COARSE,
              tokenizers.FINE,
              tokenizers.MELODY,
          )
      },
      'melody_hum': np.zeros((0, 24), np.int32),
      'mulan': np.zeros((1, 8), np.float32),
      'mulan_text': np.zeros((1, 8), np.float32),
      'captions': ['piano'],
      'caption_weights': np.ones(1, np.float32),
      'id': '0',
      'work': '0',
  }
  datasets.write_dataset(
      token_dataset.NAME,
      data_dir,
      {'train': [('0', example)]},
      token_dataset.features(tokenizers.PAPER, {'mulan': 8}, ('melody',)),
      metadata={'lineage': {**LINEAGE, 'mulan': mulan}},
  )
  return data_dir


def make_model(name='semantic', seconds=4.0, **changes):
  config = dataclasses.replace(CONFIG, **changes)
  stage = stages.get_stage(name, seconds)
  return stage_lib.StageModel(stage, config, optax.adam(1e-3))


def make_batch(stage, rows=8):
  rng = np.random.default_rng(0)
  ids = {}
  for stream in stage.streams:
    shape = rows, stream.num_frames(stage.crop_seconds), stream.num_quantizers
    codes = rng.integers(stream.codebook_size, size=shape)
    ids[stream.name] = stage.to_ids(codes, stream).reshape(rows, -1)
  inputs = np.concatenate([ids[s.name] for s in stage.inputs], axis=1)
  return {
      'inputs': inputs.astype(np.int32),
      'targets': ids[stage.targets.name].astype(np.int32),
  }


def start(model):
  """Returns the program of a model, a batch, and its random state."""
  batch = make_batch(model.stage)
  program = programs.Program(model, sharding.make_mesh(1), batch, 1, 7)
  return program, batch, program.initial_state()


def loss_of(program, state, batch):
  return float(program.eval_step(state, batch)['loss'].compute())


@functools.cache
def make_trained():
  """Exports a stage that has learned a batch; returns its folder and loss."""
  model = make_model()
  program, batch, state = start(model)
  for _ in range(30):
    state, _, _ = program.train_step(state, batch)
  directory = pathlib.Path(tempfile.mkdtemp())
  variables = jax.device_get(state.variables)
  model.export(variables, directory, [], LINEAGE)
  return directory, loss_of(program, state, batch), variables['params']


class FineTuningTest(parameterized.TestCase):

  @parameterized.parameters(False, True)
  def test_begins_where_the_part_was(self, scan_layers):
    directory, loss, _ = make_trained()
    model = make_model(scan_layers=scan_layers)
    program, batch, state = start(model)
    self.assertGreater(loss_of(program, state, batch), loss + 0.1)
    state = fine_tuning.begin(model, state, directory, make_data())
    self.assertAlmostEqual(loss_of(program, state, batch), loss, places=4)
    # It can be trained on.
    for _ in range(5):
      state, _, _ = program.train_step(state, batch)
    self.assertLess(loss_of(program, state, batch), loss)

  def test_no_model_leaves_the_state(self):
    model = make_model()
    _, _, state = start(model)
    self.assertIs(fine_tuning.begin(model, state), state)

  def test_a_stage_that_reads_more(self):
    directory, _, known = make_trained()
    model = make_model('semantic_melody', frame_bias=True)
    _, _, state = start(model)
    random = jax.device_get(state.params)
    params = jax.device_get(
        fine_tuning.begin(model, state, directory, make_data()).params
    )
    np.testing.assert_array_equal(params['head'], known['head'])
    np.testing.assert_array_equal(params['frame_bias'], random['frame_bias'])
    rows = params['token_embed']['embedding']
    theirs = known['token_embed']['embedding']
    mulan = slice(0, 2 + 12 * 1024)
    np.testing.assert_array_equal(rows[mulan], theirs[mulan])
    melody = rows[mulan.stop : mulan.stop + 24 * 512]
    semantic = rows[mulan.stop + 24 * 512 :]
    np.testing.assert_array_equal(
        semantic[:1024], theirs[mulan.stop : mulan.stop + 1024]
    )
    # Tokens of melodies are new.
    np.testing.assert_array_equal(
        melody, random['token_embed']['embedding'][mulan.stop :][: len(melody)]
    )

  def test_says_what_is_new(self):
    directory, _, _ = make_trained()
    model = make_model('semantic_melody', frame_bias=True)
    _, _, state = start(model)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      fine_tuning.begin(model, state, directory, make_data())
    self.assertIn('new: params/frame_bias', printed.getvalue())
    self.assertNotIn('params/head', printed.getvalue())
    model = make_model()
    _, _, state = start(model)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      fine_tuning.begin(model, state, directory, make_data())
    self.assertIn('new: nothing', printed.getvalue())

  def test_names_branches_where_all_is_new(self):
    known = [('params', 'generator', 'first')]
    new = [
        ('params', 'generator', 'last'),
        *(('params', 'discriminator', x, 'bias') for x in ('a', 'b')),
        ('step', 'step'),
    ]
    self.assertEqual(
        fine_tuning._branches(new, known),
        ['params/discriminator', 'params/generator/last', 'step'],
    )

  @parameterized.parameters(
      ({'embed_dim': 32}, r'is \(.*32,?\), not \(.*16,?\)'),
      ({'num_layers': 1}, 'has no params/layers_1/'),
  )
  def test_other_sizes(self, changes, message):
    directory, _, _ = make_trained()
    model = make_model(**changes)
    _, _, state = start(model)
    with self.assertRaisesRegex(ValueError, message):
      fine_tuning.begin(model, state, directory, make_data())

  def test_other_tokens(self):
    directory, _, _ = make_trained()
    model = make_model()
    _, _, state = start(model)
    data = make_data('c' * 64)
    with self.assertRaisesRegex(ValueError, "'semantic' must be used with the"):
      fine_tuning.begin(model, state, directory, data)

  def test_only_stages(self):
    part = parts.Part('fake', {}, {}, {}, '')
    with self.assertRaisesRegex(ValueError, "must be None for 'fake'"):
      fake.FakeModel(optax.sgd(1.0)).adopt(part)

  def test_no_such_part(self):
    directory, _, _ = make_trained()
    model = make_model('coarse', 0.24)
    _, _, state = start(model)
    with self.assertRaisesRegex(FileNotFoundError, 'must hold coarse.json'):
      fine_tuning.begin(model, state, directory, make_data())


if __name__ == '__main__':
  absltest.main()
