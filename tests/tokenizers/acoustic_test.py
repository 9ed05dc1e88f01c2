"""Tests for acoustic."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.tokenizers import acoustic
from musiclm_jax.tokenizers import base
import numpy as np

STREAMS = (base.COARSE, base.FINE)


def zeros(num_frames, num_quantizers):
  return np.zeros((1, num_frames, num_quantizers), np.int32)


class AcousticTest(parameterized.TestCase):

  @parameterized.parameters(
      (1, {'coarse': 1}),
      (4, {'coarse': 4}),
      (5, {'coarse': 4, 'fine': 1}),
      (12, {'coarse': 4, 'fine': 8}),
  )
  def test_split_and_join(self, num_quantizers, expected):
    codes = np.random.default_rng(0).integers(0, 1024, (2, 3, num_quantizers))
    codes = codes.astype(np.int32)
    tokens = acoustic.split(codes, STREAMS)
    self.assertEqual({k: v.shape[-1] for k, v in tokens.items()}, expected)
    np.testing.assert_array_equal(acoustic.join(tokens, STREAMS), codes)

  @parameterized.named_parameters(
      ('fine_alone', {'fine': zeros(2, 8)}, "hold 'coarse'"),
      (
          'other_length',
          {'coarse': zeros(2, 4), 'fine': zeros(3, 8)},
          r'fine tokens.*shape \(1, 2, 8\).*but have \(1, 3, 8\)',
      ),
      (
          'gap',
          {'coarse': zeros(2, 3), 'fine': zeros(2, 8)},
          r'coarse tokens.*shape \(1, 2, 4\).*but have \(1, 2, 3\)',
      ),
      ('too_many', {'coarse': zeros(2, 5)}, r'but have \(1, 2, 5\)'),
      ('none', {'coarse': zeros(2, 0)}, r'but have \(1, 2, 0\)'),
      ('no_batch', {'coarse': zeros(2, 4)[0]}, r'but have \(2, 4\)'),
      (
          'ids',
          {'coarse': zeros(2, 4) + 1024},
          r'in \[0, 1024\), but are in \[1024, 1024\]',
      ),
  )
  def test_rejects_tokens(self, tokens, message):
    with self.assertRaisesRegex(ValueError, message):
      acoustic.join(tokens, STREAMS)

  def test_num_quantizers(self):
    self.assertEqual(acoustic.check_num_quantizers(None, STREAMS), 12)
    self.assertEqual(acoustic.check_num_quantizers(3, STREAMS), 3)
    for num_quantizers in (0, 13):
      with self.assertRaisesRegex(
          ValueError, rf'in \[1, 12\], but is {num_quantizers}\.'
      ):
        acoustic.check_num_quantizers(num_quantizers, STREAMS)


if __name__ == '__main__':
  absltest.main()
