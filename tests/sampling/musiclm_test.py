"""Tests for musiclm."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import huggingface_hub
import jax
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import sampler
import numpy as np
from tests import random_model


class MusicLMTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(folder)
    cls.model = musiclm.MusicLM.from_pretrained(folder)

  @parameterized.parameters(0.01, 0.5, 3.3)
  def test_length_is_exact(self, seconds):
    audio = self.model.generate('slow piano', seconds=seconds)
    self.assertEqual(audio.shape, (1, round(seconds * 24000)))
    self.assertEqual(audio.dtype, np.float32)
    self.assertTrue(np.all(np.isfinite(audio)))
    self.assertLessEqual(np.abs(audio).max(), 1)
    self.assertEqual(self.model.sample_rate, 24000)

  def test_a_prompt_does_not_depend_on_the_others(self):
    prompts = ['slow piano', 'a waltz', 'slow waltz for two pianos']
    together = self.model.generate(prompts, seconds=0.6, seed=5)
    alone = self.model.generate([prompts[1]], seconds=0.6, seed=5)
    np.testing.assert_array_equal(alone[0], together[1])
    self.assertTrue(np.any(together[0] != together[1]))

  def test_seeds(self):
    first = self.model.generate('piano', seconds=0.6, seed=1)
    again = self.model.generate('piano', seconds=0.6, seed=1)
    other = self.model.generate('piano', seconds=0.6, seed=2)
    np.testing.assert_array_equal(first, again)
    self.assertTrue(np.any(first != other))

  def test_repeated_prompts_are_played_anew(self):
    takes = self.model.generate(['piano', 'piano'], seconds=0.6)
    self.assertTrue(np.any(takes[0] != takes[1]))
    first = self.model.generate('piano', seconds=0.6)
    np.testing.assert_array_equal(takes[0], first[0])

  def test_temperature_0_has_no_chance_in_it(self):
    greedy = sampler.Temperatures(0.0, 0.0, 0.0)
    first, second = (
        self.model.generate('piano', 0.6, seed, greedy) for seed in (1, 2)
    )
    np.testing.assert_array_equal(first, second)

  @parameterized.named_parameters(
      ('negative', 'piano', -1.0, 'seconds must be greater than 0, but is -1'),
      ('zero', 'piano', 0.0, 'seconds must be greater than 0, but is 0'),
      ('nan', 'piano', float('nan'), 'seconds must be greater than 0'),
      ('less_than_a_sample', 'piano', 1e-6, 'at least one sample, 4.2e-05'),
      ('no_prompts', [], 1.0, 'at least one text, but are empty'),
      ('empty', ['piano', ' '], 1.0, "must be a text .* but one is ' '"),
      ('too_long', 'piano ' * 40, 1.0, 'at most 30 word pieces.* has 40'),
  )
  def test_rejects(self, prompts, seconds, message):
    with self.assertRaisesRegex(ValueError, message) as context:
      self.model.generate(prompts, seconds=seconds)
    self.assertNotIn('\n', str(context.exception))

  @parameterized.parameters(-1, 2**32)
  def test_rejects_seeds(self, seed):
    with self.assertRaisesRegex(
        ValueError, rf'in \[0, 2\*\*32\), but is {seed}'
    ):
      self.model.generate('piano', seconds=1.0, seed=seed)


class MelodyTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(folder, has_melody=True)
    cls.model = musiclm.MusicLM.from_pretrained(folder)

  def hum(self, hz, seconds=4.0):
    time = np.arange(seconds * 24000) / 24000
    return (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)

  def test_pieces_follow_the_melody(self):
    greedy = sampler.Temperatures(0.0, 0.0, 0.0)
    pieces = [
        self.model.generate('piano', 3.0, temperatures=greedy, melody=melody)
        for melody in (None, self.hum(220), self.hum(220), self.hum(880))
    ]
    np.testing.assert_array_equal(pieces[1], pieces[2])
    self.assertTrue(np.any(pieces[0] != pieces[1]))
    self.assertTrue(np.any(pieces[1] != pieces[3]))

  def test_all_pieces_of_a_batch_follow_it(self):
    both = self.model.generate(
        ['piano', 'waltz'], seconds=0.6, melody=self.hum(220)
    )
    alone = self.model.generate('waltz', seconds=0.6, melody=self.hum(220))
    np.testing.assert_array_equal(both[1], alone[0])

  def test_melodies_may_be_shorter_or_longer_than_the_piece(self):
    for seconds in (0.5, 5.0, 21.0):
      audio = self.model.generate(
          'piano', seconds=6.0, melody=self.hum(220, seconds)
      )
      self.assertEqual(audio.shape, (1, 144000))
      self.assertTrue(np.all(np.isfinite(audio)))

  def test_rejects_what_is_no_audio(self):
    with self.assertRaisesRegex(ValueError, r'audio must be in \[-1, 1\]'):
      self.model.generate('piano', melody=4 * self.hum(220))

  def test_models_without_melody_say_so(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(folder)
    model = musiclm.MusicLM.from_pretrained(folder)
    with self.assertRaisesRegex(ValueError, "a part 'melody' and stages that"):
      model.generate('piano', melody=self.hum(220))


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

  @parameterized.parameters('soundstream', 'mulan', 'w2v_bert')
  def test_rejects_other_tokenizers(self, part):
    path = self.directory / 'coarse.json'
    description = json.loads(path.read_text())
    description['lineage'][part] = 'f' * 64
    path.write_text(json.dumps(description))
    with self.assertRaisesRegex(
        ValueError, f"'coarse' must be used with the {part} .* ffffffffffff"
    ):
      musiclm.MusicLM.from_pretrained(self.directory)

  def test_rejects_missing_parts(self):
    (self.directory / 'fine.json').unlink()
    with self.assertRaisesRegex(FileNotFoundError, r'must hold fine\.json'):
      musiclm.MusicLM.from_pretrained(self.directory)

  def test_rejects_weights_of_another_size(self):
    path = self.directory / 'fine.json'
    description = json.loads(path.read_text())
    description['config']['transformer']['mlp_dim'] = 33
    path.write_text(json.dumps(description))
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


class ImportTest(absltest.TestCase):

  def test_needs_no_training_stack(self):
    code = (
        'import sys, musiclm_jax.sampling.musiclm\n'
        'import jax\n'
        'print(jax.config.jax_compilation_cache_dir)\n'
        'print(*sys.modules)'
    )
    output = subprocess.run(
        [sys.executable, '-c', code],
        check=True,
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parent.parent.parent,
    ).stdout
    cache, modules = output.splitlines()
    self.assertEqual(cache, 'None')
    for name in (
        'tensorflow', 'seqio', 't5x', 'librosa', 'gin', 'optax', 'clu',
        'orbax', 'apache_beam', 'huggingface_hub',
    ):  # fmt: skip
      self.assertNotIn(name, modules.split())


if __name__ == '__main__':
  absltest.main()
