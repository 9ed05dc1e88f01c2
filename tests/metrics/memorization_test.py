"""Tests for memorization."""

import contextlib
import functools
import io
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax import cli
from musiclm_jax import streams
from musiclm_jax.data import datasets
from musiclm_jax.data import token_dataset
from musiclm_jax.metrics import memorization
from musiclm_jax.models import parts
from musiclm_jax.models import transformer
from musiclm_jax.sampling import decode
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
from musiclm_jax.training import programs
from musiclm_jax.training import sharding
from musiclm_jax.training import stage as stage_lib
import numpy as np
import optax

from tests import random_model

MULAN = streams.Stream('mulan', 2, 16, is_conditioning=True)
SEMANTIC = streams.Stream('semantic', 1, 32, 25.0)
STAGE = streams.Stage('semantic', (MULAN,), SEMANTIC, crop_seconds=2.0)
CONFIG = transformer.TransformerConfig(
    num_layers=1, num_heads=2, head_dim=8, embed_dim=32, mlp_dim=64, dropout=0.0
)


def make_records():
  """Returns two clips, each of a work of its own."""
  rng = np.random.default_rng(0)
  return [
      {
          'work': work,
          **{
              s.name: rng.integers(s.codebook_size, size=(n, s.num_quantizers))
              for s, n in ((MULAN, 1), (SEMANTIC, 50))
          },
      }
      for work in ('waltz', 'fugue')
  ]


@functools.cache
def make_decoders():
  """Returns a stage of random weights, and one that has overfitted."""
  model = stage_lib.StageModel(STAGE, CONFIG, optax.adam(1e-2))
  ids = {}
  for stream in STAGE.streams:
    tokens = np.stack([record[stream.name] for record in make_records()])
    ids[stream.name] = STAGE.to_ids(tokens, stream).reshape(2, -1)
  batch = {'inputs': ids['mulan'], 'targets': ids['semantic']}
  batch = {name: x.astype(np.int32) for name, x in batch.items()}
  program = programs.Program(model, sharding.make_mesh(1), batch, 1, 7)
  state, decoders = program.initial_state(), []
  for num_steps in (0, 150):
    for _ in range(num_steps):
      state, _, _ = program.train_step(state, batch)
    with tempfile.TemporaryDirectory() as folder:
      model.export(jax.device_get(state.variables), folder, [], {})
      decoders.append(decode.StageDecoder.from_dir(folder, 'semantic'))
  return decoders


class AuditTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    codes = np.random.default_rng(1).normal(size=(1, 32, 4))
    self.codebooks = codes.astype(np.float32)
    self.crops = memorization.make_crops(STAGE, make_records(), {})

  def test_crops(self):
    self.assertEqual((self.crops.prompts, self.crops.length), ((0, 25), 25))
    for row, record in enumerate(make_records()):
      for stream, tokens in (
          (MULAN, self.crops.inputs['mulan']),
          (SEMANTIC, self.crops.targets),
      ):
        np.testing.assert_array_equal(tokens[row], record[stream.name])

  def test_finds_what_a_stage_has_learned_by_heart(self):
    _, decoder = make_decoders()
    for row in memorization.audit(decoder, self.crops, self.codebooks):
      self.assertEqual(row['exact'], 1)
      self.assertEqual(row['approximate'], 1)
      self.assertEqual(row['same tokens'], 1)
      self.assertEqual(row['cost'], 0)
      self.assertEqual(row['± exact'], 0)
      self.assertEqual((row['clips'], row['pairs']), (2, 4))
      self.assertGreater(row['threshold'], 0)

  def test_finds_nothing_in_random_weights(self):
    decoder, _ = make_decoders()
    for row in memorization.audit(decoder, self.crops, self.codebooks):
      self.assertEqual(row['exact'], 0)
      self.assertLess(row['same tokens'], 0.3)
      self.assertGreater(row['cost'], 0.3)


class MeasuresTest(parameterized.TestCase):

  @parameterized.named_parameters(
      # The paper's: prompts of 0 to 250 tokens, a continuation of 125.
      ('paper', 'semantic', 750, (0, 25, 50, 125, 250), 125),
      ('coarse', 'coarse', 500, (0, 50, 100, 250), 250),
      ('short_windows', 'fine', 150, (0, 50), 75),
      ('short_clips', 'semantic', 100, (0, 25, 50), 50),
  )
  def test_lengths(self, name, room, prompts, length):
    found = memorization.lengths(stages.PAPER[name], room)
    self.assertEqual(found, (prompts, length))

  def test_transport_cost(self):
    a = np.array([[0.0], [0.0], [10.0]])
    # The best plan moves 0 to 1, 0 to 0 and 10 to 6.
    b = np.array([[6.0], [1.0], [0.0]])
    self.assertAlmostEqual(memorization.transport_cost(a, b), 5 / 3)
    self.assertEqual(memorization.transport_cost(a, a[::-1]), 0)

  def test_frames_are_sums_of_codes(self):
    codebooks = np.arange(12.0).reshape(2, 3, 2)
    embedded = memorization.embed(np.array([[2, 0], [0, 1]]), codebooks)
    np.testing.assert_array_equal(embedded, [[10, 12], [8, 10]])

  def test_threshold_is_the_least_cost_of_what_cannot_match(self):
    points = np.arange(3.0).reshape(3, 1, 1)
    # Clips 0 and 1 are of one work: the nearest others are 1 apart.
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      limit, pairs = memorization.threshold([points], [points], ['a', 'a', 'b'])
    self.assertEqual((limit, pairs), (1, 4))
    self.assertIn('matches are rough: 4 pairs that can not', stderr.getvalue())

  def test_threshold_needs_two_works(self):
    points = np.zeros((2, 1, 1))
    with self.assertRaisesRegex(ValueError, "two works or .*all are of 'a'"):
      memorization.threshold([points], [points], ['a', 'a'])


class EvaluateTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.dir, cls.model = pathlib.Path(folder), pathlib.Path(folder) / 'model'
    lineage = random_model.write_random_model(cls.model)
    rng = np.random.default_rng(0)

    def example(i):
      tokens = {
          s.name: rng.integers(1024, size=(n, s.num_quantizers), dtype=np.int32)
          for s, n in (
              (base.SEMANTIC, 50),
              (base.COARSE, 100),
              (base.FINE, 100),
          )
      }
      embedding = rng.normal(size=(1, 8)).astype(np.float32)
      return {
          **tokens,
          'mulan': embedding,
          'mulan_text': embedding,
          'captions': ['noise'],
          'caption_weights': np.ones(1, np.float32),
          'id': f'{i}/0',
          'work': f'{i}',
      }

    written = [s for s in base.PAPER if s != base.MELODY]
    datasets.write_dataset(
        token_dataset.NAME,
        cls.dir,
        {'train': [(f'{i}', example(i)) for i in range(3)]},
        token_dataset.features(written, {'mulan': 8}),
        metadata={
            'lineage': lineage,
            'streams': [s.to_json() for s in written],
            'mulan_window_seconds': 4.0,
        },
        arrays={'mulan_codebooks': rng.normal(size=(12, 1024, 8))},
    )

  def run_evaluate(self, *argv):
    out, err = io.StringIO(), io.StringIO()
    argv = [str(x) for x in argv]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      status = cli.main(['evaluate', *argv, '--data', str(self.dir)])
    return status, out.getvalue(), err.getvalue()

  def test_command(self):
    path, drawing = self.dir / 'a.json', self.dir / 'a.png'
    status, out, err = self.run_evaluate(
        'memorization', '--model', self.model, '--stage=semantic',
        '--json', path, '--plot', drawing,
    )  # fmt: skip
    self.assertEqual(status, 0, err)
    self.assertLen(out.splitlines(), 3)
    found = json.loads(path.read_text())
    self.assertEqual(found['split'], 'train')
    self.assertEqual([r['prompt (s)'] for r in found['rows']], [0, 1])
    self.assertEqual([r['clips'] for r in found['rows']], [3, 3])
    self.assertStartsWith(drawing.read_bytes(), b'\x89PNG')

  def test_codebooks_are_those_of_the_stream(self):
    tokenizers = table.Tokenizers(self.model)
    codes = parts.load(self.model, 'soundstream').variables['codebooks']
    codes = codes['quantizer']['codes']
    for stream, expected in ((base.COARSE, codes[:4]), (base.FINE, codes[4:])):
      found = memorization.codebooks_of(tokenizers, stream)
      np.testing.assert_array_equal(found, expected)
    with self.assertRaisesRegex(ValueError, "'beat' must be of a part with"):
      memorization.codebooks_of(tokenizers, streams.Stream('beat', 1, 2, 1.0))

  def test_unknown_stage(self):
    status, _, err = self.run_evaluate(
        'memorization', '--model', self.model, '--stage=tenor'
    )
    self.assertEqual(status, 2)
    self.assertRegex(err, "stage must be one of .*'coarse'.*, but is 'tenor'")

  def test_flags_of_the_audit_are_for_it(self):
    status, _, err = self.run_evaluate('codec', '--plot=a.png')
    self.assertEqual(status, 2)
    self.assertRegex(err, '--plot must be with `musiclm evaluate memorization`')

  def test_the_plot_must_be_a_drawing(self):
    status, _, err = self.run_evaluate(
        'memorization', '--plot', self.dir / 'a.txt'
    )
    self.assertEqual(status, 2)
    self.assertRegex(err, r'--plot must end in one of .*a\.txt')


if __name__ == '__main__':
  absltest.main()
