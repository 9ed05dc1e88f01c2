"""Tests for pretrained: what `MusicLM.from_pretrained` loads and refuses."""

import json
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import huggingface_hub
import jax
from musiclm_jax import files
from musiclm_jax.data import records
from musiclm_jax.models import parts
from musiclm_jax.sampling import musiclm
from musiclm_jax.tokenizers import table
from tests import random_model


class FromPretrainedTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.intact = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(cls.intact)

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.directory = pathlib.Path(folder) / 'model'
    shutil.copytree(self.intact, self.directory)

  def write(self, path, description):
    """Writes a description with a hash of what it says now."""
    del description[files.SEAL]
    path.write_text(json.dumps(files.sealed(description)))

  @parameterized.parameters('soundstream', 'mulan', 'w2v_bert')
  def test_rejects_other_tokenizers(self, part):
    path = self.directory / 'coarse.json'
    description = json.loads(path.read_text())
    description['lineage'][part] = 'f' * 64
    self.write(path, description)
    with self.assertRaisesRegex(
        ValueError, f"'coarse' must be used with the {part} .* ffffffffffff"
    ):
      musiclm.MusicLM.from_pretrained(self.directory)

  def test_a_codec_whose_decoder_was_trained_further(self):
    part = parts.load(self.directory, 'soundstream')
    params = jax.tree.map(lambda x: x * 1.01, part.variables['params'])
    parts.save(
        self.directory,
        'soundstream',
        part.config,
        {**part.variables, 'params': params},
        {'soundstream': part.sha256},
    )
    musiclm.MusicLM.from_pretrained(self.directory)
    further = parts.load(self.directory, 'soundstream')
    self.assertNotEqual(further.sha256, part.sha256)
    lineage = records.lineage_of(table.Tokenizers(self.directory))
    self.assertEqual(lineage['soundstream'], part.sha256)

  def test_rejects_missing_parts(self):
    (self.directory / 'fine.json').unlink()
    with self.assertRaisesRegex(FileNotFoundError, r'must hold fine\.json'):
      musiclm.MusicLM.from_pretrained(self.directory)

  def test_rejects_weights_of_another_size(self):
    path = self.directory / 'fine.json'
    description = json.loads(path.read_text())
    description['config']['transformer']['mlp_dim'] = 33
    self.write(path, description)
    with self.assertRaisesRegex(ValueError, "'fine' must hold .* of shape"):
      musiclm.MusicLM.from_pretrained(self.directory)

  def test_rejects_dtypes(self):
    with self.assertRaisesRegex(ValueError, "dtype must be .* but is 'int3'"):
      musiclm.MusicLM.from_pretrained(self.directory, dtype='int3')

  @parameterized.parameters('./nowhere', 'nowhere', 'a/b/c')
  def test_rejects_folders_that_are_not_there(self, name):
    with self.assertRaisesRegex(FileNotFoundError, f"no directory '{name}'"):
      musiclm.MusicLM.from_pretrained(name)

  def test_hub(self):
    with mock.patch.object(
        huggingface_hub, 'snapshot_download', return_value=str(self.directory)
    ) as download:
      model = musiclm.MusicLM.from_pretrained('someone/some_model')
    self.assertEqual(download.call_args.args, ('someone/some_model',))
    self.assertEqual(model.sample_rate, 24000)

  def test_hub_out_of_reach(self):
    with mock.patch.object(
        huggingface_hub, 'snapshot_download', side_effect=OSError('no route\nx')
    ):
      with self.assertRaisesRegex(
          FileNotFoundError, "model 'a/b' must be a directory, or .* no route"
      ) as context:
        musiclm.MusicLM.from_pretrained('a/b')
    self.assertNotIn('\n', str(context.exception))

  def test_compiled_programs_are_kept(self):
    before = jax.config.jax_compilation_cache_dir
    self.addCleanup(jax.config.update, 'jax_compilation_cache_dir', before)
    jax.config.update('jax_compilation_cache_dir', None)
    folder = self.enterContext(tempfile.TemporaryDirectory())
    with mock.patch.dict('os.environ', XDG_CACHE_HOME=folder):
      musiclm.MusicLM.from_pretrained(self.directory)
    self.assertStartsWith(jax.config.jax_compilation_cache_dir, folder)


if __name__ == '__main__':
  absltest.main()
