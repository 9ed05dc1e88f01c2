"""The README's path as a user walks it: from a folder to music."""

import contextlib
import io
import json
import pathlib
import tempfile

from absl.testing import absltest
import gin
from musiclm_jax import cli
from musiclm_jax.models import parts
from musiclm_jax.sampling import provenance
import numpy as np
import pytest
import soundfile

from tests.data.scores import synthesis_test
from tests.data.sources import rendered_scores_test

TONES = ('calm', 'bright', 'dark', 'slow', 'fast', 'soft', 'loud', 'warm')
# On top of the size tiny: what compiles and runs in seconds. MuLan trains for
# as long as it takes to be diagnosed. All warm up as in a diagnosis, so that
# this compiles nothing anew.
NANO = """
from __gin__ import dynamic_registration
from musiclm_jax.models import bert
from musiclm_jax.models import discriminators
from musiclm_jax.models import melody as melody_model
from musiclm_jax.models import mulan as mulan_model
from musiclm_jax.models import resnet
from musiclm_jax.models import soundstream as codec
from musiclm_jax.models import transformer
from musiclm_jax.models import w2v_bert as w2v_bert_model
from musiclm_jax.stages import base as stages
from musiclm_jax.training import optimizers

codec.SoundStreamConfig.strides = (20, 24)
codec.SoundStreamConfig.channels = 4
discriminators.DiscriminatorConfig.wave_scales = 1
discriminators.DiscriminatorConfig.stft_window = 128
discriminators.DiscriminatorConfig.stft_hop = 64
resnet.ResNetConfig.stage_sizes = (1, 1)
resnet.ResNetConfig.width = 4
bert.BertConfig.num_layers = 1
w2v_bert_model.W2vBertConfig.contrastive_layers = 1
w2v_bert_model.W2vBertConfig.masked_prediction_layers = 1
melody_model.MelodyConfig.num_layers = 1
transformer.TransformerConfig.num_layers = 1
semantic/stages.get_stage.crop_seconds = 4.0
coarse/stages.get_stage.crop_seconds = 1.0
fine/stages.get_stage.crop_seconds = 0.48
SOUNDSTREAM_CROP_SAMPLES = 4800
W2V_BERT_CROP_SAMPLES = 32000
W2V_BERT_BATCH_SIZE = 4
MULAN_BATCH_SIZE = 4
MELODY_BATCH_SIZE = 4
SOUNDSTREAM_TRAIN_STEPS = 4
SPECTRAL_CODEC_TRAIN_STEPS = 4
W2V_BERT_TRAIN_STEPS = 4
MULAN_TRAIN_STEPS = 101
MELODY_TRAIN_STEPS = 4
SEMANTIC_TRAIN_STEPS = 4
COARSE_TRAIN_STEPS = 4
FINE_TRAIN_STEPS = 4
TENSORBOARD = False
soundstream/optimizers.adamw.warmup_steps = 10
spectral_codec/optimizers.adamw.warmup_steps = 2
w2v_bert/optimizers.adamw.warmup_steps = 10
mulan/optimizers.adamw.warmup_steps = 10
melody/optimizers.adamw.warmup_steps = 10
semantic/optimizers.adamw.warmup_steps = 10
coarse/optimizers.adamw.warmup_steps = 10
fine/optimizers.adamw.warmup_steps = 10
"""
TOKENIZERS = ('soundstream', 'w2v_bert', 'mulan')
STAGES = ('semantic', 'coarse', 'fine')


def write_recordings(folder):
  """Writes eight short pieces with captions."""
  folder.mkdir()
  times = np.arange(8 * 24000) / 24000
  rows = ['path,caption']
  for i, tone in enumerate(TONES):
    # Plucked twice a second, each time on another pitch.
    pitch = np.random.default_rng(i).integers(0, 24, 16)[
        (2 * times).astype(int)
    ]
    wave = np.sin(2 * np.pi * 220 * 2 ** (pitch / 12) * times)
    audio = 0.5 * wave * np.exp(-4 * (times % 0.5))
    soundfile.write(folder / f'{i}.wav', audio, 24000)
    rows.append(f'{i}.wav,a {tone} piece of plucked tones')
  (folder / 'captions.csv').write_text('\n'.join(rows))


class HeadlineCase(absltest.TestCase):
  """A folder of music, and a recipe that runs on it in a minute or two."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (self.folder / 'nano.gin').write_text(NANO)
    self.data, self.output = self.folder / 'my_music', self.folder / 'my_model'
    self.model = self.output / 'model'
    self.addCleanup(gin.clear_config)

  def run_verb(self, *argv):
    """Runs a verb that must succeed; returns what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), self.subTest(argv[0]):
      self.assertEqual(cli.main(list(map(str, argv))), 0)
    return out.getvalue()

  def run_recipe(self, *flags):
    return self.run_verb(
        'recipe', '--gin_file=sizes/tiny.gin',
        f'--gin_file={self.folder}/nano.gin',
        '--data', self.data, '--output', self.output, *flags,
    )  # fmt: skip


@pytest.mark.slow
class HeadlineTest(HeadlineCase):

  def assert_is_music(self, path, seconds):
    audio, rate = soundfile.read(path)
    self.assertEqual(rate, 24000)
    self.assertLen(audio, seconds * rate)
    self.assertGreater(np.std(audio), 0.0)

  def check_recipe(self, told, steps, last='fine'):
    for step in steps:
      self.assertRegex(told, rf'{step}: [a-z].* …\n(.*\n)*{step}: done in')
      record = json.loads((self.output / f'steps/{step}.json').read_text())
      self.assertGreaterEqual(record['seconds'], 0, step)
    self.assertRegex(told, rf'(?m)^{last} +nats per token +\d')
    self.assert_is_music(self.output / 'sample.wav', 10)
    origin, is_whole = provenance.read(self.output / 'sample.wav')
    self.assertTrue(is_whole)
    self.assertEqual(
        origin[provenance.MANIFEST]['parts'],
        provenance.manifest(self.model)['parts'],
    )

  def test_from_recordings_to_music(self):
    write_recordings(self.data)
    (self.data / 'stray.mid').write_bytes(b'MThd')
    told = self.run_recipe()
    self.assertIn('8 recordings; left out: 1 scores, e.g. stray.mid', told)
    trained = (*TOKENIZERS, *STAGES)
    self.check_recipe(told, ('corpus', 'vocab', *trained, 'tokens'))
    for part in trained:
      parts.read_description(self.model, part)
    again = self.run_recipe()
    self.assertIn('fine: done before, in ', again)
    self.assertEqual(again.splitlines()[-13:], told.splitlines()[-13:])
    self.check_use()

  def check_use(self):
    """Uses the model for everything that the README does with one."""
    song = self.folder / 'song.wav'
    self.run_verb(
        'generate', 'a calm piece of plucked tones', '--model', self.model,
        '--seconds', 2, '--output', song,
    )  # fmt: skip
    self.assert_is_music(song, 2)
    prompts = self.folder / 'prompts.txt'
    prompts.write_text('a calm piece\na loud piece of plucked tones\n')
    self.run_verb(
        'batch', prompts, '--model', self.model, '--seconds', 2,
        '--output_dir', self.folder / 'out',
    )  # fmt: skip
    for name in ('000001.wav', '000002.wav'):
      self.assert_is_music(self.folder / 'out' / name, 2)
    table = self.run_verb(
        'evaluate', '--data', self.output / 'data', '--model', self.model
    )
    self.assertRegex(
        table, r'(?m)^mulan +caption to clip recall@1, of 1 +1.000'
    )
    verdict = self.run_verb('doctor', self.output)
    for part in (*TOKENIZERS, *STAGES):
      self.assertRegex(verdict, rf'(?m)^{part}: (ok|sick: )')
    self.assertNotIn('not made', verdict)

  @synthesis_test.NEEDS_FLUIDSYNTH
  def test_from_scores_to_music_that_follows_a_melody(self):
    self.data.mkdir()
    for i in range(4):
      rendered_scores_test.write_song(
          self.data / f'{i}.mid', beats=24, tonic=55 + i
      )
    (self.data / '4.mid').write_bytes(b'MThd')
    told = self.run_recipe(
        '--melody', '--skip_bad', '--soundfont', synthesis_test.SOUNDFONT,
        '--gin_file=cascades/frames.gin',
    )  # fmt: skip
    self.assertIn('5 scores', told)
    stages = ('semantic', 'acoustic')
    made = ('spectral_codec', *TOKENIZERS[1:], 'melody_pairs', 'melody', 'plan')
    steps = ('corpus', 'vocab', *made, 'tokens', *stages)
    self.check_recipe(told, steps, last='acoustic')
    self.assertNotIn('soundstream', told)
    times = np.arange(2 * 24000) / 24000
    hum = self.folder / 'hum.wav'
    soundfile.write(hum, 0.3 * np.sin(2 * np.pi * 220 * times), 24000)
    song = self.folder / 'song.wav'
    self.run_verb(
        'generate', 'a flute', '--melody', hum, '--model', self.model,
        '--seconds', 2, '--output', song, '--bpm', 100, '--chords', 'Am F',
        '--arrange', '0 flute; 1 +piano',
    )  # fmt: skip
    self.assert_is_music(song, 2)
    self.run_verb(
        'evaluate', 'melody', '--data', self.output / 'data',
        '--model', self.model,
    )  # fmt: skip


if __name__ == '__main__':
  absltest.main()
