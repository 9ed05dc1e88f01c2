"""Extends the model from outside: a condition, a codec, another cascade.

How many existing files each of these has to change: the condition two (its
line in the table of parts, and the inputs of a stage), the codec and the
cascades none.
"""

import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import gin
import musiclm_jax
from musiclm_jax import cli
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import records
from musiclm_jax.data import token_dataset
from musiclm_jax.models import parts
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import timeline
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np
import pytest
import soundfile
from tests import beats
from tests import headline_test
from tests import random_model

LINE = table.Kind(
    'beat', 'tests.beats:Beats', 'hears how loud it is', is_optional=True
)
STEPS = 150


def run(*argv):
  with contextlib.redirect_stdout(io.StringIO()):
    assert cli.main(list(map(str, argv))) == 0, argv


class ConditionTest(absltest.TestCase):
  """A stream of 12.5 Hz, added to the positions that it is about."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.model, self.data = self.folder / 'model', self.folder / 'data'
    self.enter_context(mock.patch.object(table, 'PARTS', (*table.PARTS, LINE)))
    self.addCleanup(gin.clear_config)
    random_model.write_random_model(self.model)
    parts.save(self.model, 'beat', {}, {})

  def write_tokens(self):
    """Writes tokens in which each beat says what the semantic tokens are."""
    tokenizers = table.Tokenizers(self.model)
    written = [stream for _, stream in table.streams_in(self.model)]

    def example(seed):
      rng = np.random.default_rng(seed)
      beat = rng.integers(4, size=(50, 1)).astype(np.int32)
      tokens = {
          s.name: np.zeros((200, s.num_quantizers), np.int32) for s in written
      }
      return str(seed), {
          **tokens,
          'beat': beat,
          'semantic': 100 * np.repeat(beat, 2, axis=0),
          'mulan': np.ones((1, 128), np.float32),
          'mulan_text': np.ones((1, 128), np.float32),
          'captions': ['slow piano'],
          'caption_weights': np.ones(1, np.float32),
          'id': str(seed),
          'work': str(seed),
      }

    splits = {'train': range(64), 'validation': range(64, 72)}
    datasets.write_dataset(
        token_dataset.NAME,
        self.data,
        {name: [example(i) for i in rows] for name, rows in splits.items()},
        token_dataset.features(written, {'mulan': 128}),
        metadata={
            'lineage': tokenizers.hashes,
            'streams': [s.to_json() for s in written],
            'hummed': [],
            'mulan_window_seconds': 4.0,
        },
        arrays={'mulan_codebooks': tokenizers['mulan'].codebooks},
    )

  def train(self):
    argv = (
        '--gin_file=stages/semantic.gin', '--gin_file=sizes/tiny.gin',
        "--gin.semantic/stages.get_stage.inputs=('mulan', 'melody?', 'beat?')",
        '--gin.semantic/stages.get_stage.crop_seconds=4.0',
        '--gin.transformer.TransformerConfig.num_layers=1',
        f'--gin.TRAIN_STEPS={STEPS}', '--gin.TENSORBOARD=False',
        '--gin.semantic/optimizers.adamw.warmup_steps=10',
        f'--gin.DATA_DIR={str(self.data)!r}',
        f'--gin.MODEL_DIR={str(self.folder / "run")!r}',
    )  # fmt: skip
    run('train', *argv)
    run('export', '--output', self.model, *argv)

  def semantic(self, model, beat, scale=1.0):
    config = choosing.GenerationConfig().changed(guidance_scale=scale)
    piece = timeline.Timeline('slow piano', 2, conditions={'beat': beat})
    [take] = model.takes([piece], config=config)
    return take.tokens['semantic'][0, :50, 0]

  @pytest.mark.slow
  def test_is_trained_followed_and_dropped_by_guidance(self):
    self.write_tokens()
    self.train()
    model = musiclm_jax.MusicLM.from_pretrained(self.model, 'float32')
    rng = np.random.default_rng(7)
    one, other = rng.integers(4, size=(2, 25, 1))
    made = self.semantic(model, one)
    asked = 100 * np.repeat(one[:, 0], 2)
    self.assertGreater(np.mean(made == asked), 0.8)
    self.assertLess(np.mean(made == 100 * np.repeat(other[:, 0], 2)), 0.5)
    # A scale of 0 asks for what comes without conditions: without any.
    dropped = [self.semantic(model, beat, 0.0) for beat in (one, other)]
    np.testing.assert_array_equal(*dropped)
    self.assertLess(np.mean(dropped[0] == asked), 0.5)

  def test_is_written_beside_the_others(self):
    tokenizers = table.Tokenizers(self.model)
    rng = np.random.default_rng(0)
    clip = clips.Clip(
        audio=rng.uniform(-1, 1, 4 * 24000).astype(np.float32),
        captions=('slow piano',), id='a/0', work='a', title='a', source='noise',
    )  # fmt: skip
    [record] = records.tokenize_clips([clip.to_example()], tokenizers, 24000)
    self.assertEqual(record['beat'].shape, (50, 1))
    self.assertEqual(records.lineage_of(tokenizers)['beat'],
                     tokenizers['beat'].sha256)  # fmt: skip
    self.assertIn((LINE, beats.STREAM), list(table.streams_in(self.model)))
    self.assertNotIn(beats.STREAM, base.PAPER)


@pytest.mark.slow
class CodecTest(headline_test.HeadlineCase):
  """A codec of 32 kHz and 25 Hz, and the cascade of two stages that it asks."""

  def test_recipe_to_sound(self):
    headline_test.write_recordings(self.data)
    codec = pathlib.Path(__file__).with_name('codec_32khz.gin')
    told = self.run_recipe(f'--gin_file={codec}')
    stages = ('semantic', 'acoustic')
    for step in ('soundstream', 'tokens', *stages, 'sample', 'evaluation'):
      self.assertIn(f'{step}: done in', told)
    self.assertRegex(told, r'(?m)^acoustic +nats per token +\d')
    audio, rate = soundfile.read(self.output / 'sample.wav')
    self.assertEqual((rate, len(audio)), (32000, 320000))
    info = json.loads((self.model / 'soundstream.json').read_text())['config']
    self.assertEqual(info['streams'], [['acoustic', 1]])
    model = musiclm_jax.MusicLM.from_pretrained(self.model, 'float32')
    made = np.concatenate([*model.stream('a calm piece', seconds=2)])
    whole = model.generate(['a calm piece'], seconds=2)
    np.testing.assert_allclose(made, whole[0], atol=1e-4)
    self.assertEqual(datasets.sample_rate(self.output / 'data'), 32000)


if __name__ == '__main__':
  absltest.main()
