"""Tests for export: which sources a part is of, and whether it may be given."""

import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from musiclm_jax.data import datasets
from musiclm_jax.data import mixtures
from musiclm_jax.data import token_dataset
from musiclm_jax.models import ledgers
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import base
from musiclm_jax.training import checkpoints
from musiclm_jax.training import export
from musiclm_jax.training import t5x_checkpoints
import numpy as np
import optax

from tests.data import ledger_test
from tests.training import fake

ROW = ledger_test.ALLOWED[0]
FORBIDDEN = {
    'source': 'a shop',
    'license': 'CC-BY-NC-4.0',
    'works': 1,
    'clips': 1,
    'hours': 0.01,
    'first': ['hit/3'],
}


def write_tokens(data_dir, rows):
  """Writes tokens that are enough to ask for their sources."""
  example = {'captions': ['a'], 'id': '0', 'work': '0'}
  example['caption_weights'] = np.ones(1, np.float32)
  example[base.SEMANTIC.name] = np.zeros((4, 1), np.int32)
  metadata = {'lineage': {}} | ({'ledger': {'train': rows}} if rows else {})
  datasets.write_dataset(
      token_dataset.NAME,
      data_dir,
      {'train': [('0', example)]},
      token_dataset.features([base.SEMANTIC], {}),
      metadata=metadata,
  )


class ExportTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.model = fake.FakeModel(optax.sgd(0.1))
    self.model.sample_rate = None  # It learns from tokens.
    variables = {'params': {'w': np.ones(2, np.float32)}}
    self.enterContext(
        mock.patch.object(
            checkpoints, 'restore_variables', return_value=variables
        )
    )

  def export(self, **options):
    output = self.dir / 'model'
    export.export(self.model, 'run', self.dir, output, 'float32', **options)
    return ledgers.read(output, self.model.name)

  def test_a_part_says_what_it_was_trained_on(self):
    write_tokens(self.dir, [ROW, FORBIDDEN])
    self.assertEqual(self.export(), [ROW, FORBIDDEN])
    parts.load(self.dir / 'model', self.model.name)

  def test_release(self):
    write_tokens(self.dir, [ROW])
    self.assertEqual(self.export(release=True), [ROW])

  def test_one_clip_forbids_a_release(self):
    write_tokens(self.dir, [ROW, FORBIDDEN])
    with self.assertRaisesRegex(
        ValueError, r"1 clip of a shop \(hit/3\) under 'CC-BY-NC-4.0'"
    ):
      self.export(release=True)
    self.assertFalse((self.dir / 'model').exists())

  def test_tokens_of_before_are_of_unknown_sources(self):
    write_tokens(self.dir, None)
    self.assertIsNone(self.export())
    with self.assertRaisesRegex(ValueError, 'must be of known sources'):
      self.export(release=True)

  def test_what_training_began_from_counts(self):
    write_tokens(self.dir, [ROW])
    before = self.dir / 'before'
    parts.save(before, self.model.name, {}, {})
    self.assertIsNone(self.export(initial_model=before))
    ledgers.add(before, self.model.name, [FORBIDDEN])
    self.assertEqual(self.export(initial_model=before), [ROW, FORBIDDEN])

  def test_a_run_of_t5x_says_no_sources(self):
    write_tokens(self.dir, [ROW])
    t5x_checkpoints.write(self.dir / 't5x', {'params': {'x': np.zeros(1)}})
    self.assertIsNone(self.export(initial_model=self.dir / 't5x'))

  def test_every_corpus_of_a_mixture_counts(self):
    write_tokens(self.dir, [ROW])
    write_tokens(self.dir / 'elsewhere', [FORBIDDEN])
    name = 'elsewhere_of_export'
    mixtures.add_corpus(name, self.dir / 'elsewhere')
    mixtures.add_mixture(f'with_{name}', {'music_stage': 1, f'{name}_stage': 1})
    sources = lambda task: export.sources_of(self.model, self.dir, task=task)
    self.assertEqual(sources(f'with_{name}'), [ROW, FORBIDDEN])
    self.assertEqual(sources('music_stage'), [ROW])
    self.assertIsNone(sources('a_task_of_seqio'))

  def test_sources_of_a_model_of_audio(self):
    ledger_test.write_corpus(self.dir)
    self.model.sample_rate = 16000
    found = export.sources_of(self.model, self.dir)
    self.assertEqual(found, ledger_test.ALLOWED)
    self.model.name = 'melody'  # It learns from renditions, too.
    self.assertIsNone(export.sources_of(self.model, self.dir))


if __name__ == '__main__':
  absltest.main()
