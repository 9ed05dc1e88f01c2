"""Tests of the gin files of the codec in the time-frequency domain."""

from absl.testing import absltest
from absl.testing import parameterized
import gin
from musiclm_jax import errors
from musiclm_jax.training import gin_flags


class SpectralCodecTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  def model(self, *files):
    gin_flags.parse(
        [
            '--gin_file=models/spectral_codec.gin',
            *(f'--gin_file={file}' for file in files),
            '--gin.DATA_DIR="data"',
            '--gin.MODEL_DIR="run"',
        ]
    )
    return gin_flags.value_of('MODEL')

  @parameterized.parameters('tiny', 'laptop')
  def test_has_no_discriminators_by_default(self, size):
    model = self.model(f'sizes/{size}.gin')
    self.assertIsNone(model.discriminators)
    self.assertEqual(model.discriminator_start, 0)

  @parameterized.parameters('tiny', 'laptop')
  def test_discriminators(self, size):
    overlay = 'models/spectral_discriminators.gin'
    model = self.model(f'sizes/{size}.gin', overlay)
    # Those of SoundStream, in the files of a size, are others.
    config = model.discriminators.config
    self.assertEqual(config.wave_scales, 0)
    self.assertEqual((config.stfts, config.patch_windows), ((), (512, 2048)))
    self.assertEqual(model.discriminator_start, 10000)
    weights = model.weights.adversarial, model.weights.feature
    self.assertEqual(weights, (1.0, 10.0))

  def test_a_decoder_begins_from_a_model(self):
    with self.assertRaisesRegex(errors.UserError, 'INITIAL_MODEL must be set'):
      self.model('sizes/tiny.gin', 'models/spectral_decoder.gin')


if __name__ == '__main__':
  absltest.main()
