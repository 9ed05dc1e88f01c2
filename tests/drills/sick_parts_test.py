"""Failures on purpose: the log and the doctor name each of them."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import gin
from musiclm_jax import doctor
from musiclm_jax.models import wordpiece
from musiclm_jax.training import gin_flags
import pytest

from tests import random_model

RUN = """
from __gin__ import dynamic_registration
from musiclm_jax.data import batches
from musiclm_jax.training import optimizers
from musiclm_jax.training import trainer
from tests.drills import sick_parts

OPTIMIZER = @optimizers.adamw()
MIXTURE_OR_TASK_NAME = 'none'
TASK_FEATURE_LENGTHS = None
DATA_DIR = 'none'
TRAIN_STEPS = 120
LOG_PERIOD = 20
TENSORBOARD = False
trainer.train:
  train_batches = @train/batches.Batches()
  eval_batches = @eval/batches.Batches()
  eval_steps = 4
batches.Batches:
  source = @sick_parts.sounds()
  make_example = @sick_parts.make_example
  batch_size = %BATCH_SIZE
train/sick_parts.sounds:
  count = 128
  seed = 0
eval/sick_parts.sounds:
  count = 64
  seed = 1
eval/batches.Batches.shuffle = False
optimizers.adamw.train_steps = %TRAIN_STEPS
"""

CODEC = """
from __gin__ import dynamic_registration
from musiclm_jax.models import discriminators
from musiclm_jax.models import soundstream as codec
from musiclm_jax.training import optimizers
from musiclm_jax.training import soundstream
from tests.drills import sick_parts

MODEL = @{model}()
BATCH_SIZE = 8
{model}:
  config = @codec.SoundStreamConfig()
  discriminator_config = @discriminators.DiscriminatorConfig()
  optimizer_def = %OPTIMIZER
  weights = @soundstream.LossWeights()
codec.SoundStreamConfig:
  strides = (4, 5)
  channels = 4
  embed_dim = 8
  num_quantizers = 3
  codebook_size = 64
discriminators.DiscriminatorConfig:
  stft_channels = 2
  stft_window = 128
  stft_hop = 32
  wave_channels = 4
  wave_scales = 1
soundstream.LossWeights:
  adversarial = 0.1
  feature = 10.0
  waveform = 100.0
sick_parts.sounds:
  samples = 960
  sample_rate = 24000
optimizers.adamw:
  peak_learning_rate = 2e-3
  warmup_steps = 10
  b1 = 0.5
  b2 = 0.9
  weight_decay = 0.0
  clip_norm = None
"""

MULAN = """
from __gin__ import dynamic_registration
from musiclm_jax.models import bert
from musiclm_jax.models import mulan as mulan_model
from musiclm_jax.models import resnet
from musiclm_jax.training import mulan
from musiclm_jax.training import optimizers
from tests.drills import sick_parts

MODEL = @mulan.MuLanModel()
BATCH_SIZE = 16
mulan.MuLanModel:
  config = @mulan_model.MuLanConfig()
  optimizer_def = %OPTIMIZER
  vocab = %VOCAB
mulan_model.MuLanConfig:
  audio = @resnet.ResNetConfig()
  text = @bert.BertConfig()
  embed_dim = 16
  window_seconds = 0.5
  max_time_mask = 4
  max_mel_mask = 2
resnet.ResNetConfig:
  stage_sizes = (1, 1)
  width = 4
  num_groups = 2
bert.BertConfig:
  num_layers = 1
  num_heads = 2
  embed_dim = 16
  mlp_dim = 32
  max_length = 4
  pooling = 'mean'
sick_parts.sounds:
  samples = 8000
  sample_rate = 16000
  captions = 'true'
optimizers.adamw:
  peak_learning_rate = 1e-2
  warmup_steps = 10
"""


def codec(model='soundstream.SoundStreamModel'):
  return CODEC.format(model=model)


@pytest.mark.slow
class SickPartsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    vocab = self.folder / 'vocab.txt'
    wordpiece.WordPiece(random_model.VOCAB).to_file(vocab)
    (self.folder / 'run.gin').write_text(RUN)
    self.vocab = f"--gin.VOCAB='{vocab}'"
    self.addCleanup(gin.clear_config)

  def train(self, part, *flags):
    """Returns the warnings of a run."""
    (self.folder / 'part.gin').write_text(part)
    log = io.StringIO()
    with contextlib.redirect_stderr(log):
      with contextlib.suppress(FloatingPointError):
        gin_flags.train_main(
            [
                f'--gin_file={self.folder}/part.gin',
                f'--gin_file={self.folder}/run.gin',
                f"--gin.MODEL_DIR='{self.folder}/run'",
                self.vocab,
                *flags,
            ]
        )
    lines = log.getvalue().splitlines()
    return [line for line in lines if line.startswith('warning: ')]

  @parameterized.named_parameters(('codec', codec()), ('mulan', MULAN))
  def test_healthy_runs(self, part):
    self.assertEqual(self.train(part), [])
    self.assertEqual(doctor.examine(self.folder / 'run'), 'run: ok')

  @parameterized.named_parameters(
      (
          'learning_rate_of_the_codec_times_100',
          codec(),
          ['--gin.optimizers.adamw.peak_learning_rate=0.2'],
          'divergence: .*learning rate is too high',
      ),
      (
          'shuffled_captions',
          MULAN,
          ["--gin.sick_parts.sounds.captions='shuffled'"],
          'captions that do not match the audio: held-out accuracy',
      ),
      (
          'dead_codebook',
          codec('sick_parts.DeadCodebook'),
          [],
          r'codebook collapse: quantizer 2 uses [\d.]+ codes, should be',
      ),
      (
          'discriminators_off',
          codec('sick_parts.FrozenDiscriminators'),
          [],
          'discriminators off: logits are .*, and discriminator_loss is 2.0',
      ),
  )
  def test_failures(self, part, flags, message):
    warnings = self.train(part, *flags)
    self.assertRegex('\n'.join(warnings), f'(?m)^warning: {message}')
    told = doctor.examine(self.folder / 'run')
    self.assertRegex(told, f'(?m)^run: sick: {message}')


if __name__ == '__main__':
  absltest.main()
