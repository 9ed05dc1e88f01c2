"""Tests for blank; pieces of each kind are made in those of musiclm."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import timeline
from musiclm_jax.tokenizers import table
import numpy as np
from tests import random_model


class BlankTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(folder)
    cls.model = musiclm.MusicLM.from_pretrained(folder)

  def test_holds_the_prompt_and_room_for_the_rest(self):
    [take] = self.model.blank('piano', seed=3, seconds=2.0)
    self.assertEqual(take.seeds, (3, 0, 0))
    self.assertEqual(take.num_samples, 48000)
    shapes = {name: tokens.shape for name, tokens in take.tokens.items()}
    self.assertEqual(
        shapes,
        {'semantic': (1, 50, 1), 'coarse': (1, 100, 4), 'fine': (1, 100, 8),
         'mulan': (1, 1, 12)},
    )  # fmt: skip
    for name, tokens in take.tokens.items():
      self.assertEqual(np.all(tokens == streams.ABSENT), name != 'mulan')
    self.assertEqual([s.name for s in take.given], ['mulan'])

  def test_audio_needs_the_part_that_makes_each_stream_of_it(self):
    directory = self.model._tokenizers.directory
    path = pathlib.Path(directory, 'w2v_bert.json')
    content = path.read_bytes()
    self.addCleanup(path.write_bytes, content)
    path.unlink()
    audio = np.full(24000, 0.5, np.float32)
    with self.assertRaisesRegex(
        errors.UserError, "audio must be for a model with .* for 'semantic'"
    ):
      self.model.blank(timeline.Timeline('piano', audio=audio))

  def test_prompts_need_a_part_that_reads_them(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    with self.assertRaisesRegex(errors.NotFoundError, 'reads prompts.* none'):
      _ = table.Tokenizers(folder).text_embedder


if __name__ == '__main__':
  absltest.main()
